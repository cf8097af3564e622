"""The plot of the restarts' bounds."""

import numpy as np

from mixpyro import FitResult, Run
from mixpyro.diagnostics.plots import plot_bound_traces
from tests.diagnostics.plots.example import RESULT, lines_by_label, remark

RUNS = (
    Run((-90.0, -80.0), converged=True),
    Run((-95.0, -70.0, -60.0), converged=True, degeneracies=("one row",)),
    Run((-99.0, -85.0), converged=True),
    Run((-99.0, -86.0), converged=True),
    Run((-91.0, -80.00001), converged=True),
)


def test_runs_are_drawn_by_their_kind_as_distances_from_the_best() -> None:
    ax = plot_bound_traces(FitResult(RESULT.mixture, RESULT.responsibilities, best=0, runs=RUNS))
    lines = lines_by_label(ax)
    # Within a thousandth of a nat bounds are the same.
    np.testing.assert_allclose(lines["reached the best bound (2)"].get_ydata(), [10.0, 1e-3])
    np.testing.assert_allclose(lines["ended elsewhere (2)"].get_ydata(), [19.0, 5.0])
    np.testing.assert_allclose(lines["degenerate (1)"].get_ydata(), [15.0, np.nan, np.nan])
    assert lines["degenerate (1)"].get_linestyle() == ":"
    assert ax.get_yscale() == "log" and ax.yaxis_inverted()
    assert remark(ax) == "best bound -80.00 nats"
    legend = ax.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        "reached the best bound (2)",
        "ended elsewhere (2)",
        "degenerate (1)",
    ]


def test_many_iterations_are_on_a_logarithmic_axis() -> None:
    long = Run(tuple(-100.0 / (t + 1) for t in range(100)), converged=False)
    ax = plot_bound_traces(FitResult(RESULT.mixture, RESULT.responsibilities, best=0, runs=(long,)))
    assert ax.get_xscale() == "log"
