"""Which columns a gate with a prior reads in units of their spread."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

# A column is read as it is if its spread is of unit order, and its mean within some spreads of zero. The prior of a
# BayesianSoftmaxGate is Normal(0, 2²) per unit of a column and for the intercept, where all columns are zero.
LEAST_SPREAD, MOST_SPREAD, FARTHEST_MEAN = 0.2, 5.0, 3.0


def scales_of(columns: "pd.DataFrame", weights: np.ndarray | None = None) -> dict[str, tuple[float, float]]:
    """Return mean and standard deviation of the columns whose numbers a prior of unit scale does not suit.

    Others are left as they are, and so are those of a category, 0 and 1.

    Args:
        columns: of a design.
        weights: how much each row counts [N].

    Example:
        >>> import pandas as pd
        >>> scales_of(pd.DataFrame({"year": [1990.0, 2010.0], "is_late": [0.0, 1.0], "z": [-1.0, 1.0]}))
        {'year': (2000.0, 10.0)}
    """
    found = {}
    for name in columns.columns:
        values = columns[name].to_numpy()
        counts = np.isfinite(values) & (True if weights is None else weights > 0)
        seen = values[counts]
        if not len(seen) or np.isin(seen, (0.0, 1.0)).all():
            continue
        own = None if weights is None else weights[counts]
        mean = float(np.average(seen, weights=own))
        spread = float(np.sqrt(np.average((seen - mean) ** 2, weights=own)))
        suits = LEAST_SPREAD <= spread <= MOST_SPREAD and abs(mean) <= FARTHEST_MEAN * spread
        if spread > 0.0 and not suits:
            found[str(name)] = (mean, spread)
    return found
