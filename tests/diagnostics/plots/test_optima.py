"""The plot of the distinct optima."""

import numpy as np
import pytest

from mixpyro import FitResult, Run
from mixpyro.diagnostics.plots import plot_optima
from mixpyro.fitting.outcomes import Optimum
from tests.diagnostics.plots.example import RESULT, remark

RUNS = tuple(Run((bound,), converged=True) for bound in (-80.0, -80.0, -83.0, -84.0))


def _result(*optima: Optimum) -> FitResult:
    return FitResult(RESULT.mixture, RESULT.responsibilities, best=0, runs=RUNS, optima=optima)


def test_each_optimum_has_its_distance_its_runs_and_its_smallest_share() -> None:
    ax = plot_optima(
        _result(
            Optimum(-80.0, (0, 1), True, smallest_share=0.25),
            Optimum(-83.0, (2,), False),
            Optimum(-84.0, (3,), True, ("one row",)),
        )
    )
    places = np.concatenate([np.asarray(points.get_offsets()) for points in ax.collections])
    np.testing.assert_allclose(places, [(0.0, 0), (3.0, 1), (4.0, 2)])
    texts = ["2 runs, smallest share 25%", "1 run, not converged", "1 run, degenerate"]
    assert [text.get_text() for text in ax.texts] == texts
    assert float(ax.collections[0].get_sizes()[0]) > float(ax.collections[1].get_sizes()[0])  # type: ignore[attr-defined]
    assert ax.get_xscale() == "linear"


def test_far_optima_are_on_a_logarithmic_axis_and_some_are_left_out() -> None:
    optima = [Optimum(-80.0 - 30.0 * number, (number % 4,), True) for number in range(5)]
    ax = plot_optima(_result(*optima), n_optima=4)
    assert ax.get_xscale() == "symlog"
    assert [text.get_text() for text in ax.get_xticklabels()] == ["0", "5", "10", "20", "50", "100"]
    assert remark(ax) == "best bound -80.00 nats; 1 more optima are not shown"


def test_a_result_without_optima_is_refused() -> None:
    with pytest.raises(ValueError, match="`result` must be of a fit by restarts, whose optima are known"):
        plot_optima(_result())
