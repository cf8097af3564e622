"""Numbers of components and names of columns that do not fit are refused by every gate and all experts."""

import inspect
from typing import Any

import numpy as np
import pytest
import torch

from mixpyro import LinearExperts, SoftmaxGate
from mixpyro.arguments import components
from tests.products import EXPERTS, GATES

pytestmark = pytest.mark.usefixtures("bad_arguments")
NO_COMPONENTS: list[Any] = [
    *([0.0, 1.0], [2], [-1], {0, 1}, [], [0, 0], "ab", None, 1, [True], [10**30], range(10**12), iter([0])),
    *(torch.tensor([0.5]), torch.tensor([2]), torch.tensor(0), np.array([2]), np.array([0.5])),
]
NO_NAMES: list[Any] = [["a"], [1, 2], "ab", None, 5, torch.ones(2), iter(["a", "b"])]


def parts() -> list[Any]:
    """Return every gate and experts of every family, of two components."""
    return [make() for make in (*GATES.values(), *EXPERTS.values())]


@pytest.mark.parametrize("kept", [[1, 0], (1, 0), np.array([1, 0]), torch.tensor([1, 0]), range(1, -1, -1)])
def test_components_are_read_from_any_sequence(kept: Any) -> None:
    assert components("kept", kept, 2) == [1, 0]


def test_no_components_are_refused_by_every_part() -> None:
    for part in parts():
        for kept in NO_COMPONENTS:
            with pytest.raises((TypeError, ValueError), match=r"^`kept` must"):
                part.with_components(kept)


def test_names_that_are_no_names_of_the_columns_are_refused_by_every_part() -> None:
    for part in parts():
        for method in ("parameter_names", "coefficient_names"):
            reads_names = hasattr(part, method) and getattr(part, "n_features", None)
            for names in NO_NAMES if reads_names else ():
                with pytest.raises((TypeError, ValueError), match=r"^`feature_names` must"):
                    getattr(part, method)(names)


def test_standard_errors_and_designs_name_their_rows() -> None:
    x, r = torch.randn(6, 2).double(), torch.full((6, 2), 0.5).double()
    for own_x, own_r, name in (
        *((x[:, :1], r, "x"), (x * torch.nan, r, "x"), ("odd", r, "x"), (x.to("meta"), r, "x")),
        *((x, r[:3], "responsibilities"), (x, -r, "responsibilities"), (x, None, "responsibilities")),
    ):
        with pytest.raises((TypeError, ValueError), match=f"^`{name}` must"):
            SoftmaxGate(2, 2).standard_errors(own_x, own_r)  # type: ignore[arg-type]
        if own_x is not x:
            with pytest.raises((TypeError, ValueError), match=r"^`x` must"):
                LinearExperts(2, 2).design(own_x)  # type: ignore[arg-type]


def test_what_is_no_posterior_is_refused() -> None:
    for name in ("dirichlet", "sticks", "softmax"):
        for posterior in (1, "odd", (1, 2), torch.ones(2), object()):
            gate: Any = GATES[name]()
            if "posterior" in inspect.signature(gate.expected_log_weights).parameters:
                with pytest.raises(TypeError, match=r"^`posterior` must"):
                    gate.expected_log_weights(torch.zeros(3, 2).double(), posterior=posterior)
