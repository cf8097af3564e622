"""Grids over inputs."""

import numpy as np
import pytest
import torch

from mixpyro import LinearExperts, MixtureOfExperts, to_arviz
from mixpyro.diagnostics.plots.grid import grid, has_draws
from tests.diagnostics.fits import gate
from tests.diagnostics.plots.example import DATA, X
from tests.problems import lines


def test_a_grid_covers_the_range_of_a_feature() -> None:
    points = grid(DATA, [0], 5, of_gate=False)
    np.testing.assert_allclose(points.values[0], np.linspace(float(X.min()), float(X.max()), 5))
    torch.testing.assert_close(points.x[:, 0], torch.tensor(points.values[0]))
    assert points.labels == ["dose"]


def test_other_inputs_are_at_their_medians() -> None:
    x, y, _ = lines(40, 2)
    mixture = MixtureOfExperts(gate("neural"), LinearExperts(2, 1))
    points = grid(to_arviz(mixture, x, y, gate_x=2.0 * x, n_draws=3), [0], 4, of_gate=True)
    np.testing.assert_allclose(points.x, np.median(x))
    np.testing.assert_allclose(points.gate_x[:, 0], np.linspace(2.0 * float(x.min()), 2.0 * float(x.max()), 4))


def test_a_missing_column_is_refused() -> None:
    with pytest.raises(ValueError, match="`feature` must be below 1, the number of columns; got 4"):
        grid(DATA, [4], 5, of_gate=True)


def test_sites_are_found_by_their_prefix() -> None:
    assert has_draws(DATA, "gate.")
    assert not has_draws(DATA, "other.")
