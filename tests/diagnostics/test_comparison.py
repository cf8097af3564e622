"""Comparison of models by leave-one-out, and stacking."""

import numpy as np
import pytest
from torch import Tensor

from mixpyro import LinearExperts, MixtureOfExperts, SoftmaxGate, fit, to_arviz
from mixpyro.diagnostics import Elpd, compare_loo, exact_loo, loo, loo_table
from mixpyro.diagnostics.comparison import stacking_weights
from tests.diagnostics.fits import fitted, two_lines


def elpd_of(pointwise: list[float]) -> Elpd:
    """Return a result of leave-one-out with these values."""
    values = np.array(pointwise)
    return Elpd(float(values.sum()), 1.0, 1.0, values, np.zeros(len(values)), 1000)


def test_the_better_number_of_components_comes_first(ethanol: tuple[Tensor, Tensor]) -> None:
    x, y = ethanol
    models = {f"K = {k}": to_arviz(two_lines(x, y, k), x, y, n_draws=500) for k in (1, 2)}
    rows = compare_loo(models)
    assert list(rows) == ["K = 2", "K = 1"]
    assert rows["K = 2"].difference == rows["K = 2"].difference_error == 0.0
    assert rows["K = 1"].difference < -5 * rows["K = 1"].difference_error
    assert rows["K = 2"].weight > 0.9
    first, second = loo(models["K = 2"]).pointwise, loo(models["K = 1"]).pointwise
    assert rows["K = 1"].difference == pytest.approx((second - first).sum())
    table = loo_table(rows).splitlines()
    assert len({len(line) for line in table}) == 1
    assert table[1].split()[:3] == ["K", "=", "2"]


def test_estimated_parameters_are_counted() -> None:
    _, x, y = fitted(n_objects=14)
    result = fit(MixtureOfExperts(SoftmaxGate(2, 1, prior_scale=1.0), LinearExperts(2, 1)), x, y, progress=False)
    exact = exact_loo(result, x, y, progress=False)
    rows = compare_loo({"estimated": to_arviz(result, x, y, n_draws=50), "refits": exact})
    assert rows["estimated"].n_estimated == 2
    assert rows["refits"].n_estimated == 0
    assert rows["refits"].elpd < rows["estimated"].elpd


def test_stacking_weights_are_the_best_of_a_grid() -> None:
    """The first model is right about three objects of four, the second about the fourth."""
    right, wrong = np.log(0.9), np.log(0.1)
    table = np.array([(right, wrong), (right, wrong), (right, wrong), (wrong, right)])
    weights = stacking_weights(table)
    grid = np.linspace(0, 1, 10001)
    best = grid[np.log(np.exp(table) @ np.stack([grid, 1 - grid])).sum(0).argmax()]
    assert weights[0] == pytest.approx(best, abs=1e-3)
    np.testing.assert_allclose(stacking_weights(np.array([[0.0, -9.0], [0.0, -9.0]])), [1.0, 0.0], atol=1e-6)


def test_models_of_different_objects_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`models` must be of the same objects; got \{'a': 2, 'b': 3\}"):
        compare_loo({"a": elpd_of([0.0, 0.0]), "b": elpd_of([0.0, 0.0, 0.0])})
    with pytest.raises(ValueError, match="`models` must hold at least one model"):
        compare_loo({})
