"""The classes of gate and experts reach the result: mypy checks the assertions of types, which do nothing when run."""

from pathlib import Path
from typing import assert_type

import pytest
import torch
from torch import Tensor

from mixpyro import (
    BayesianSoftmaxGate,
    DirichletGate,
    FitResult,
    GLMExperts,
    LinearExperts,
    MixtureOfExperts,
    fit,
    fit_minibatches,
    load,
    save,
)
from mixpyro.experts.base import Experts
from mixpyro.experts.families import Poisson
from mixpyro.gates.base import Gate

X = torch.linspace(0, 1, 20).double().unsqueeze(1)


def takes_any(mixture: MixtureOfExperts, result: FitResult) -> float:
    """A mixture and a result of any parts, as most functions take them."""
    assert_type(mixture.gate, Gate)
    assert_type(result.mixture.experts, Experts)
    return result.bound


def takes_lines(result: FitResult[DirichletGate, LinearExperts]) -> Tensor:
    """A result of given parts."""
    return result.mixture.experts.coefficients


def test_types_of_parts_reach_the_result() -> None:
    mixture = MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1))
    result = fit(mixture, X, X.cos(), n_restarts=1)
    assert_type(mixture.gate, DirichletGate)
    assert_type(result.mixture.experts, LinearExperts)
    assert_type(result.mixture.experts.coefficients, Tensor)
    assert_type(result.optimum(0).mixture.gate, DirichletGate)
    assert_type(result.at(0).experts, LinearExperts)
    assert takes_any(mixture, result) == result.bound
    assert torch.equal(takes_lines(result), mixture.experts.coefficients)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # two epochs are few
def test_other_parts_and_wrong_names_are_errors_of_types() -> None:
    mixture = MixtureOfExperts(DirichletGate(2), GLMExperts(2, 1, Poisson()))
    result = fit_minibatches(mixture, X, X.round(), batch_size=10, n_epochs=2, n_restarts=1)
    assert_type(result.mixture.experts, GLMExperts)
    assert takes_lines(result).shape == (2, 1, 2)  # type: ignore[arg-type]
    assert not hasattr(DirichletGate(2), "coefficients")


def test_brackets_give_the_class_itself() -> None:
    assert MixtureOfExperts[DirichletGate, LinearExperts] is MixtureOfExperts
    assert FitResult[DirichletGate, LinearExperts].__name__ == "FitResult"


def test_a_subclass_of_a_mixture_of_given_parts_is_fitted_and_saved(tmp_path: Path) -> None:
    class Lines(MixtureOfExperts[BayesianSoftmaxGate, LinearExperts]):
        pass

    result = fit(Lines(BayesianSoftmaxGate(2, 1), LinearExperts(2, 1)), X, X.cos(), n_restarts=2)
    assert type(result.at(0)) is Lines
    save(MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1)), tmp_path / "plain.model")
    assert isinstance(load(tmp_path / "plain.model").experts, LinearExperts)
