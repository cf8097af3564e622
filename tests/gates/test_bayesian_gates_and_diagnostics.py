"""Plots and labels of gates with a posterior of their coefficients."""

from typing import Any

import numpy as np
import pytest
import torch

from mixpyro import BayesianSoftmaxGate, FitResult, LinearExperts, MixtureOfExperts, TreeGate, fit, to_arviz
from mixpyro.diagnostics import ResponsibilityDraws, align
from mixpyro.diagnostics.arviz_versions import group
from mixpyro.diagnostics.plots import plot_gate_curve, plot_gate_map, plot_weights_forest

GATES: dict[str, Any] = {
    "softmax": lambda d: BayesianSoftmaxGate(2, d),
    "relevance": lambda d: BayesianSoftmaxGate(2, d, relevance=True),
    "tree": lambda d: TreeGate(2, d),
}


def fitted(name: str, n_features: int) -> tuple[FitResult, Any, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    x = torch.randn(90, n_features).double()
    z = torch.rand(90) < torch.sigmoid(3.0 * x[:, 0])
    y = torch.where(z, 2.0 + x[:, 0], -2.0 - x[:, 0]).unsqueeze(1) + 0.3 * torch.randn(90, 1).double()
    result = fit(
        MixtureOfExperts(GATES[name](n_features), LinearExperts(2, n_features)), x, y, n_restarts=2, progress=False
    )
    return result, to_arviz(result, x, y, n_draws=60), x, y


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize("name", GATES)
def test_the_curve_has_the_band_of_its_draws(name: str) -> None:
    result, data, _, _ = fitted(name, 1)
    ax = plot_gate_curve(data, result)
    assert len(ax.collections) == 2
    along = torch.linspace(-2, 2, 5).double().unsqueeze(1)
    draws = torch.as_tensor(group(data, "posterior")["gate.coefficients"].values[0])
    weights = result.mixture.gate.log_weights_at(along, draws).exp().mean(0)
    torch.testing.assert_close(weights, result.mixture.gate.weights(along), rtol=0, atol=0.08)
    line = next(line for line in ax.lines if line.get_label() == "1")
    xs, ys = (np.asarray(part, dtype=float) for part in line.get_data())
    np.testing.assert_allclose(np.interp([-1.0, 1.0], xs, ys), weights[[1, 3], 1], atol=0.08)


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize("name", GATES)
def test_the_map_is_drawn_and_one_weight_for_all_is_not(name: str) -> None:
    result, data, _, _ = fitted(name, 2)
    assert len(plot_gate_map(data, result, n_points=5).images) == 1
    with pytest.raises(ValueError, match="of a gate whose weights depend on x, plot `plot_gate_curve`"):
        plot_weights_forest(data)


@pytest.mark.parametrize("name", GATES)
def test_draws_are_aligned_to_the_fit(name: str) -> None:
    result, data, x, y = fitted(name, 1)
    own = result.responsibilities.numpy()
    found = align(np.stack([own, own[:, ::-1], own]), reference=own)
    assert found.order.tolist() == [[0, 1], [1, 0], [0, 1]]
    draws = group(data, "posterior")["gate.coefficients"].values
    assert draws.shape == (1, 60, 1, 2)
    of_draws = align(ResponsibilityDraws(data, result, x, y), reference=own)
    assert of_draws.order.tolist() == [[0, 1]] * 60
