"""The distinct optima of a fit as a table."""

from typing import Any

from mixpyro.fitting.result import FitResult
from mixpyro.reports.named_rows import pandas


def optima_frame(result: FitResult) -> Any:  # noqa: ANN401 (a pandas DataFrame)
    """Return the distinct optima as a DataFrame, a row for each, that of the best run first.

    Args:
        result: of a fit.

    Returns:
        ``bound`` in nats, ``runs`` that ended there, ``converged``, ``smallest_share`` of the objects in a component,
        ``noise_ratio``, the smallest noise of a component over the largest, and ``cautions`` in words.
    """
    rows = [
        {
            "bound": one.bound,
            "runs": one.n_runs,
            "converged": one.converged,
            "smallest_share": one.smallest_share,
            "noise_ratio": one.noise_ratio,
            "cautions": "; ".join([*one.degeneracies, *one.cautions]),
        }
        for one in result.optima
    ]
    columns = ["bound", "runs", "converged", "smallest_share", "noise_ratio", "cautions"]
    frame = pandas().DataFrame.from_records(rows, columns=columns)
    frame.index.name = "optimum"
    return frame
