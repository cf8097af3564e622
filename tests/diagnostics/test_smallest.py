"""Draws and plots of the smallest fits, and of every family."""

from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from mixpyro import (
    BayesianSoftmaxGate,
    DirichletGate,
    FitResult,
    LinearExperts,
    MixtureOfExperts,
    SoftmaxGate,
    TreeGate,
    fit,
    to_arviz,
)
from mixpyro.diagnostics import plots
from mixpyro.gates import Gate
from tests.products import EXPERTS, data
from tests.products import GATES as GATES_OF_TWO

pytestmark = [pytest.mark.usefixtures("without_type_checks"), pytest.mark.filterwarnings("ignore::RuntimeWarning")]
SHORT: dict[str, Any] = {"n_restarts": 1, "max_iterations": 3, "n_gradient_steps": 2, "progress": False}
# Gates of one component that read D inputs.
GATES: dict[str, Callable[[int], Gate]] = {
    "dirichlet": lambda d: DirichletGate(1),
    "softmax": lambda d: SoftmaxGate(1, d),
    "softmax, prior": lambda d: SoftmaxGate(1, d, prior_scale=2.0),
    "bayesian": lambda d: BayesianSoftmaxGate(1, d),
    "tree": lambda d: TreeGate(1, d),
}


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize(("n_rows", "n_columns"), [(12, 1), (1, 1), (1, 0)])
def test_one_component_has_draws_of_weight_one(gate: str, n_rows: int, n_columns: int) -> None:
    x = torch.linspace(-1, 1, n_rows * n_columns).reshape(n_rows, n_columns).double()
    y = torch.linspace(0, 1, n_rows).double().unsqueeze(1)
    result = fit(MixtureOfExperts(GATES[gate](n_columns), LinearExperts(1, n_columns)), x, y, **SHORT)
    drawn = to_arviz(result, n_draws=4, progress=False)
    assert np.isfinite(drawn["log_likelihood_of_guide"]["experts.y"].values).all()
    of_gate = to_arviz(result.mixture.gate, x, n_draws=4)
    assert (of_gate["constant_data"]["gate.mean_weights"].values == 1.0).all()
    assert result.sample(2).y.shape == (2, n_rows, 1)


# Every plot that reads experts; those of gates do not know the family.
PLOTS: dict[str, Callable[[FitResult], Any]] = {
    "densities": plots.plot_component_densities,
    "lines": lambda result: plots.plot_expert_lines(result, n_points=9),
}


def has_finite_marks(ax: Any) -> bool:
    """Whether the axes have lines or bars, of finite numbers."""
    lines = [np.asarray(line.get_ydata(), dtype=float) for ax in np.atleast_1d(ax).flat for line in ax.lines]
    bars = [patch.get_height() for ax in np.atleast_1d(ax).flat for patch in ax.patches if hasattr(patch, "get_height")]
    return bool(lines or bars) and all(np.isfinite(line).any() for line in lines) and bool(np.isfinite(bars).all())


@pytest.mark.parametrize("experts", EXPERTS)
def test_every_family_has_its_plots(experts: str) -> None:
    """A picture of finite numbers, and the random state as it was."""
    x, y = data(experts)
    result = fit(MixtureOfExperts(GATES_OF_TWO["softmax, prior"](), EXPERTS[experts]()), x, y, **SHORT)
    before = torch.get_rng_state()
    for name, plot in PLOTS.items():
        assert has_finite_marks(plot(result)), name
        plt.close("all")
    assert torch.equal(torch.get_rng_state(), before)
