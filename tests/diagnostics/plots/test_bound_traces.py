"""The plot of the restarts' bounds."""

import numpy as np

from mixpyro import FitResult, Run
from mixpyro.diagnostics.plots import plot_bound_traces
from tests.diagnostics.plots.example import RESULT, lines_by_label


def test_runs_are_drawn_by_their_kind() -> None:
    runs = (
        Run((-90.0, -80.0), converged=True),
        Run((-95.0, -70.0, -60.0), converged=True, degeneracies=("one row",)),
        Run((-99.0, -85.0), converged=True),
        Run((-99.0, -86.0), converged=True),
    )
    result = FitResult(RESULT.mixture, RESULT.responsibilities, best=0, runs=runs)
    ax = plot_bound_traces(result)
    lines = lines_by_label(ax)
    np.testing.assert_array_equal(lines["best"].get_ydata(), runs[0].trace)
    assert lines["degenerate"].get_linestyle() == ":"
    assert lines["other restarts"].get_linestyle() == "-"
    legend = ax.get_legend()
    assert legend is not None
    assert {text.get_text() for text in legend.get_texts()} == {"best", "degenerate", "other restarts"}
