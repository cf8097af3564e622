"""The plot of the most likely component over two inputs."""

import numpy as np
import torch
from matplotlib.colors import to_rgb
from torch import nn

from mixpyro import LinearExperts, MixtureOfExperts, NeuralGate, to_arviz
from mixpyro.diagnostics.plots import plot_gate_map
from mixpyro.diagnostics.plots.style import colour
from tests.problems import inputs


def test_colours_are_paler_where_the_weight_is_smaller() -> None:
    """The gate's logits are ±3 x₀: component 0 on the right, component 1 on the left, even weights in the middle."""
    network = nn.Linear(2, 2).double()
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[3.0, 0.0], [-3.0, 0.0]]))
        network.bias.zero_()
    x = torch.cat([inputs(20), torch.tensor([[-4.0, 0.0], [4.0, 0.0]]).double()])
    mixture = MixtureOfExperts(NeuralGate(2, network), LinearExperts(2, 2))
    shades = plot_gate_map(to_arviz(mixture, x, x[:, :1], n_draws=3), mixture, n_points=9).images[0].get_array()
    assert shades is not None
    np.testing.assert_allclose(shades[:, -1], np.tile(to_rgb(colour(0)), (9, 1)), atol=1e-6)
    np.testing.assert_allclose(shades[:, 0], np.tile(to_rgb(colour(1)), (9, 1)), atol=1e-6)
    np.testing.assert_allclose(shades[:, 4], 1.0, atol=1e-6)
