"""Faults of reports and front ends that random calls have found, each as a kind."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import mixpyro
from mixpyro import (
    DirichletGate,
    LinearExperts,
    MixtureOfExperts,
    RandomEffectsExperts,
    SoftmaxGate,
    StickBreakingGate,
    StreamingFit,
    coefficients,
    criteria,
    fit,
    fit_formula,
    fit_minibatches,
    linear_response,
    refine,
    variance_components,
)
from mixpyro.diagnostics import ResponsibilityDraws, plots, to_arviz
from mixpyro.fitting.fewer_components import used_components
from tests.fuzz.made import gamma
from tests.fuzz.targets.fitted import QUICK

ROOT = Path(mixpyro.__file__).parents[1]
pytestmark = [pytest.mark.usefixtures("bad_arguments"), pytest.mark.filterwarnings("ignore::RuntimeWarning")]
WITHOUT_VALUES = torch.ones((), device="meta", dtype=torch.float64)


def rows(n: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.linspace(-1.0, 1.0, n, dtype=torch.float64).unsqueeze(1)
    return x, x[:, 0].abs() + 0.1 * torch.sin(30.0 * x[:, 0])


def result() -> Any:
    return fit(MixtureOfExperts(StickBreakingGate(2), LinearExperts(2, 1)), *rows(), **QUICK)


@pytest.mark.parametrize("report", [refine, variance_components, coefficients, criteria, linear_response])
def test_a_series_of_outputs_alone_has_no_inputs(report: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"`(x|y|result|fitted)` must"):
        report(result(), y=pd.Series([1.0, 2.0]))


@pytest.mark.parametrize("weight", [1e-310, 1e-300, 1e-3, 1e200])
def test_rows_of_any_weight_are_fitted(weight: float) -> None:
    x, y = rows()
    mixture = MixtureOfExperts(StickBreakingGate(2), LinearExperts(2, 1))
    found = fit(mixture, x, y, weights=torch.full_like(y, weight), **QUICK)
    assert np.isfinite(found.bound) and found.n_used >= 1


@pytest.mark.parametrize("weight", [1e-310, 1e-100, 1e-3])
def test_minibatches_of_any_weight_are_fitted(weight: float) -> None:
    x, y = rows()
    mixture = MixtureOfExperts(DirichletGate(2, concentration_prior=gamma()), LinearExperts(2, 1))
    options = {"n_restarts": 1, "n_candidates": 1, "max_iterations": 5, "batch_size": 8, "n_epochs": 2}
    found = fit_minibatches(mixture, x, y, weights=torch.full_like(y, weight), progress=False, **options)  # type: ignore[arg-type]
    assert np.isfinite(found.bound) and bool(torch.isfinite(mixture.gate.weights(x)).all())


def test_a_network_is_no_step_size() -> None:
    mixture = MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1))
    with pytest.raises(TypeError, match=r"`step_size` must be a number in .*got Linear"):
        StreamingFit(mixture, step_size=torch.nn.Linear(1, 1))


def test_a_fit_of_draws_is_a_result_or_a_mixture() -> None:
    fitted = result()
    data = to_arviz(fitted, n_draws=3)
    for odd in (pd.Series([1.0]), "odd", None):
        with pytest.raises(TypeError, match="`fitted` must be"):
            ResponsibilityDraws(data, odd, *rows())  # type: ignore[arg-type]


def test_a_tolerance_may_be_a_tensor_whose_dtype_has_no_arithmetic() -> None:
    tolerance = torch.tensor(0.5).to(torch.float8_e4m3fn)
    mixture = MixtureOfExperts(StickBreakingGate(2), LinearExperts(2, 1))
    assert fit(mixture, *rows(), **{**QUICK, "tolerance": tolerance}).options["tolerance"] == 0.5


def test_weights_whose_sum_is_not_finite_are_refused() -> None:
    x, y = rows()
    mixture = MixtureOfExperts(StickBreakingGate(2), LinearExperts(2, 1))
    for weight, given_x, given_y in ((1e308, x, y), (1e300, x.float(), y.float())):
        weights = torch.full((len(x),), weight, dtype=torch.float64)
        with pytest.raises(ValueError, match="`weights` must have a finite sum"):
            fit(mixture, given_x, given_y, weights=weights, **QUICK)


def test_the_largest_component_is_used_where_none_has_half_an_object() -> None:
    assert used_components(torch.tensor([0.1, 0.3, 0.2])) == [1]


@pytest.mark.parametrize(
    ("argument", "values"),
    [
        ("k", [np.array(2.0), WITHOUT_VALUES, 2.5, "two"]),
        ("weights", [WITHOUT_VALUES, torch.tensor(2.0), np.array(2.0), {"a": 1}, {1, 2}, b"odd"]),
        ("groups", [WITHOUT_VALUES, np.array(2.0), {1, 2}]),
        ("shared", [[["x"]], [1.0], WITHOUT_VALUES]),
        ("choose", [pd.DataFrame(), pd.NA, np.array(["bic", "aic"]), WITHOUT_VALUES]),
        ("data", [{"y": [1.0, 2.0], "x": [1.0]}]),
    ],
)
def test_odd_arguments_of_formulas_are_named(argument: str, values: list[Any]) -> None:
    x, y = rows()
    given: dict[str, Any] = {"data": {"x": x[:, 0].numpy(), "y": y.numpy()}, "k": 1}
    for value in values:
        with pytest.raises((TypeError, ValueError), match=f"`{argument}` must"):
            fit_formula("y ~ x", **{**given, argument: value})


def test_names_and_rows_of_draws_are_named() -> None:
    found = result()
    for odd in (torch.ones(1), torch.ones(1, device="meta")):
        with pytest.raises(TypeError, match="`feature_names` must be a sequence of strings"):
            to_arviz(found, n_draws=3, feature_names=odd)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`x` must have shape"):
        to_arviz(found.mixture, torch.tensor(1.0).double(), rows()[1], n_draws=3)


WAITING = """
import sys, warnings
import torch
from mixpyro import DirichletGate, GaussianExperts, LinearExperts, MixtureOfExperts
from mixpyro.hyper_models import HyperExpertNN
mixture = MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1))
before = list(warnings.filters)
mixture.quantile(torch.zeros(3, 1).double(), 0.5)
assert warnings.filters == before, warnings.filters
assert "sympy" not in sys.modules
x, z = torch.zeros(4, 1), torch.full((4, 2), 0.5)
{}
assert warnings.filters == before, warnings.filters
assert "sympy" in sys.modules
"""


@pytest.mark.parametrize(
    "step", ["HyperExpertNN(1, 2, 2, epochs=1).M_step(x, None, z, {})", "GaussianExperts(2, 2).predictive(x)"]
)
def test_imports_that_wait_leave_the_filters_of_warnings(step: str) -> None:
    """In a process of its own, whose first quantile and then a further step import what they need."""
    subprocess.run([sys.executable, "-c", WAITING.replace("{}", step)], check=True, cwd=ROOT)


@pytest.mark.parametrize("odd", [np.array(["a", "b"]), np.array(2.0), np.ones(2), np.ones((3, 2)), WITHOUT_VALUES])
def test_responsibilities_of_a_picture_are_named(odd: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="`responsibilities` must"):
        plots.plot_expert_lines(result(), responsibilities=odd)


def test_a_gate_without_values_is_refused() -> None:
    with pytest.raises(ValueError, match="`fitted` must have values"):
        to_arviz(SoftmaxGate(2, 1).to("meta"), torch.zeros(4, 1).double(), n_draws=5)


def test_a_batch_whose_squares_leave_float64_names_its_rows() -> None:
    stream = StreamingFit(MixtureOfExperts(DirichletGate(1), RandomEffectsExperts(1, 2)))
    x = torch.linspace(-1.0, 1.0, 24).double().sin().view(12, 2)
    groups = [i // 2 for i in range(12)]
    stream.partial_fit(x, x[:, 0] + x[:, 1].square(), groups=groups)
    with pytest.raises(ValueError, match=r"^`x` "):
        stream.partial_fit(1e300 * x, x[:, 0], groups=groups)
