"""The fuzzer tells results that do not agree with related ones, and errors in words that the caller cannot know."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mixpyro import DirichletGate, LinearExperts, MixtureOfExperts, fit
from tests.fuzz.call import Call
from tests.fuzz.judge import judged
from tests.fuzz.made import EXPERTS, GATES, Size, rows
from tests.fuzz.relations import unfitted, unrelated
from tests.fuzz.targets.fitted import QUICK

X, Y = rows("linear", Size(2, 2, 12), seed=5)


def mixture() -> MixtureOfExperts:
    """A mixture that has seen no data."""
    return MixtureOfExperts(DirichletGate(2), LinearExperts(2, 2))


def related(name: str, function: Callable[..., Any], owner: Any = None, **given: Any) -> list[str]:
    """What does not hold of a call."""
    call = Call(name, function, {"x": X, **given}, owner=owner, is_related=True)
    before = unfitted(call)
    return unrelated(call, call(), before)


def test_a_result_of_a_row_that_depends_on_its_place_is_found() -> None:
    def predict(x: Tensor) -> Tensor:
        return x[:, :1] + torch.arange(len(x)).to(x).unsqueeze(1)

    assert related("MixtureOfExperts.predict", mixture().predict) == []
    assert "in another order" in related("MixtureOfExperts.predict", predict)[0]


def test_a_result_that_single_precision_changes_is_found() -> None:
    def predict(x: Tensor) -> Tensor:
        return x[:, :1] + (x.dtype == torch.float32)

    assert "in single precision" in related("MixtureOfExperts.predict", predict)[0]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("wrong", [0.0, 3.0])
def test_a_bound_that_is_not_the_one_of_pyro_is_found(wrong: float) -> None:
    own = mixture()
    fit(own, X, Y, **QUICK)
    found = related("MixtureOfExperts.bound", lambda x, y: own.bound(x, y) + wrong, own, y=Y)
    assert bool(found) == (wrong > 0.0)
    assert not found or "the mean of draws" in found[0]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("gate", ["dirichlet", "dirichlet, learnt", "object", "bayesian", "bayesian, relevance"])
@pytest.mark.parametrize("bank", ["linear", "relevance", "shared", "gaussian", "tied"])
def test_fits_do_not_depend_on_the_numbers_of_components(gate: str, bank: str) -> None:
    x, y = rows(bank, Size(2, 2, 12), seed=5)
    made = MixtureOfExperts(GATES[gate](2, 2, torch.float64), EXPERTS[bank](2, 2, torch.float64))
    shares = torch.softmax(torch.randn(12, 2, generator=torch.Generator().manual_seed(0)).double(), -1)
    given = {**QUICK, "max_iterations": 3, "initial_responsibilities": shares}
    assert related("fit", fit, mixture=made, x=x, y=y, **given) == []


def names_another(value: object) -> None:
    raise ValueError("`inner` must be right.")


def is_of_no_documented_type(value: object) -> None:
    """Raise an error.

    Raises:
        ValueError: never.
    """
    raise NotImplementedError("`value` must be right.")


@pytest.mark.parametrize(
    ("function", "words"), [(names_another, "names inner"), (is_of_no_documented_type, "is not documented")]
)
def test_errors_that_a_caller_cannot_know_are_obscure(function: Callable[..., Any], words: str) -> None:
    outcome = judged(Call("name", function, {"value": []}, replaced={"value": "odd"}))
    assert outcome.kind == "obscure"
    assert words in outcome.words


def test_what_the_owner_was_made_of_may_be_named() -> None:
    def raises(name: str) -> Callable[..., Any]:
        def call(value: object) -> None:
            raise ValueError(f"`{name}` must be right.")

        return call

    for name, owner, kind in (
        ("prior_scale", mixture(), "obscure"),
        ("n_features", mixture(), "clear"),
        ("experts", mixture(), "clear"),
        ("x", mixture(), "obscure"),
        ("experts", None, "obscure"),
    ):
        call = Call("name", raises(name), {"value": []}, owner=owner, replaced={"value": "odd"})
        assert judged(call).kind == kind, name
