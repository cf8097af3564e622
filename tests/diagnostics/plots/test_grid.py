"""Grids over inputs of the gate."""

import numpy as np
import pytest
import torch
from torch import nn

from mixpyro import LinearExperts, MixtureOfExperts, NeuralGate, to_arviz
from mixpyro.diagnostics.plots.grid import gate_grid, listed
from mixpyro.diagnostics.plots.source import source_of
from tests.diagnostics.fits import gate
from tests.diagnostics.plots.example import DATA, RESULT, X
from tests.problems import lines


def test_a_grid_covers_the_range_of_a_feature() -> None:
    points = gate_grid(source_of(RESULT, data=DATA), ["dose"], 5)
    np.testing.assert_allclose(points.values[0], np.linspace(float(X.min()), float(X.max()), 5))
    torch.testing.assert_close(points.gate_x[:, 0], torch.tensor(points.values[0]))
    assert (points.labels, points.held) == (["dose"], "the gate reads no inputs")


def test_other_inputs_are_at_their_medians() -> None:
    x, y, _ = lines(40, 2)
    gate_x = torch.cat([2.0 * x, x.square(), x.exp()], 1)
    mixture = MixtureOfExperts(NeuralGate(2, nn.Linear(3, 2).double()), LinearExperts(2, 1))
    points = gate_grid(source_of(mixture, data=to_arviz(mixture, x, y, gate_x=gate_x, n_draws=3)), [0], 4)
    np.testing.assert_allclose(points.gate_x[:, 0], np.linspace(2.0 * float(x.min()), 2.0 * float(x.max()), 4))
    np.testing.assert_allclose(points.gate_x[:, 1:], np.median(gate_x[:, 1:], axis=0)[None].repeat(4, 0))
    assert points.held == "g1 and g2 at their medians"


def test_an_input_that_does_not_vary_has_a_range() -> None:
    x, y, _ = lines(40, 2)
    mixture = MixtureOfExperts(gate("neural"), LinearExperts(2, 1))
    data = to_arviz(mixture, x, y, gate_x=torch.ones_like(x), n_draws=3)
    np.testing.assert_allclose(gate_grid(source_of(mixture, data=data), [0], 3).values[0], [0.5, 1.0, 1.5])


def test_many_names_are_a_number() -> None:
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed(list("abcd")) == "the other 4 inputs"


def test_a_missing_column_is_refused() -> None:
    source = source_of(RESULT, data=DATA)
    with pytest.raises(ValueError, match=r"`feature` must be below 1, the number of columns \(dose\); got 4"):
        gate_grid(source, [4], 5)
    with pytest.raises(ValueError, match="`feature` must be one of the columns that the gate reads, dose; got 'age'"):
        gate_grid(source, ["age"], 5)
