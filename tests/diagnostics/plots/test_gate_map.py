"""The plot of the most likely component over two inputs."""

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from torch import nn

from mixpyro import LinearExperts, MixtureOfExperts, NeuralGate, to_arviz
from mixpyro.diagnostics.plots import plot_gate_map
from mixpyro.diagnostics.plots.style import colour
from tests.problems import inputs


def _map() -> Axes:
    """Plot a gate with logits ±3 x₀: component 0 on the right, component 1 on the left, even weights in the middle."""
    network = nn.Linear(2, 2).double()
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[3.0, 0.0], [-3.0, 0.0]]))
        network.bias.zero_()
    x = torch.cat([inputs(20), torch.tensor([[-4.0, 0.0], [4.0, 0.0]]).double()])
    mixture = MixtureOfExperts(NeuralGate(2, network), LinearExperts(2, 2))
    return plot_gate_map(mixture, data=to_arviz(mixture, x, x[:, :1], n_draws=3), n_points=9)


def test_colours_are_paler_where_the_weight_is_smaller() -> None:
    shades = _map().images[0].get_array()
    assert shades is not None
    np.testing.assert_allclose(shades[:, -1], np.tile(to_rgb(colour(0)), (9, 1)), atol=1e-6)
    np.testing.assert_allclose(shades[:, 0], np.tile(to_rgb(colour(1)), (9, 1)), atol=1e-6)
    np.testing.assert_allclose(shades[:, 4], 1.0, atol=1e-6)


def test_a_border_is_where_two_weights_are_equal() -> None:
    borders = _map().collections[0].get_paths()
    np.testing.assert_allclose(np.concatenate([path.vertices for path in borders])[:, 0], 0.0, atol=1e-9)


def test_the_legend_has_the_shades_of_the_map() -> None:
    legend = _map().get_legend()
    assert legend is not None
    assert legend.get_title().get_text() == "Likeliest component,\nweight 0.65, 0.82, 1"
    colours = [np.array(to_rgb(patch.get_facecolor())) for patch in legend.findobj(Rectangle)]
    for k in range(2):
        full = np.array(to_rgb(colour(k)))
        for number, strength in enumerate((0.3, 0.65, 1.0)):
            np.testing.assert_allclose(colours[3 * k + number], 1.0 - strength * (1.0 - full), atol=1 / 255)
