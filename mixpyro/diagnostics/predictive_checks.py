"""Does the fitted model make data like those observed?"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from mixpyro.diagnostics.arviz_versions import ArvizData, group

Statistic = Callable[[np.ndarray], np.ndarray]


def _skewness(values: np.ndarray) -> np.ndarray:
    centred = values - values.mean(-1, keepdims=True)
    return np.asarray((centred**3).mean(-1) / values.std(-1) ** 3)


STATISTICS: Mapping[str, Statistic] = MappingProxyType(
    {
        "mean": lambda values: values.mean(-1),
        "standard deviation": lambda values: values.std(-1),
        "skewness": _skewness,
        "minimum": lambda values: values.min(-1),
        "median": lambda values: np.median(values, axis=-1),
        "maximum": lambda values: values.max(-1),
    }
)


class Check(NamedTuple):
    """A statistic of the data beside those of data that the model makes."""

    observed: float
    replicated: np.ndarray  # [S]
    probability: float  # that replicated data have at least the observed value, half of ties counted; far from ½ is bad

    def __str__(self) -> str:
        """One phrase for a person."""
        low, high = np.quantile(self.replicated, [0.05, 0.95])
        return f"observed {self.observed:.4g}, replicated {low:.4g} to {high:.4g}, p = {self.probability:.3f}"


def predictive_checks(
    data: ArvizData, statistics: Mapping[str, Statistic] = STATISTICS, *, output: int = 0
) -> dict[str, Check]:
    """Statistics of y beside those of replicated data, drawn from the posterior predictive distribution.

    Args:
        data: of :func:`mixpyro.to_arviz`.
        statistics: by name; each takes values [..., N] to [...].
        output: which column of y.

    References:
        Gelman, Meng, Stern (1996), Posterior predictive assessment of model fitness via realized discrepancies.
    """
    observed, replicated = observed_and_replicated(data, output)
    found = {}
    for name, statistic in statistics.items():
        value, values = float(statistic(observed)), np.asarray(statistic(replicated))
        probability = float((values > value).mean() + 0.5 * (values == value).mean())
        found[name] = Check(value, values, probability)
    return found


def observed_and_replicated(data: ArvizData, output: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """One column of y [N], and the same of every replicate [S, N]."""
    observed = next(iter(group(data, "observed_data").values())).values
    replicated = next(iter(group(data, "posterior_predictive").values())).values
    rows = replicated.reshape(-1, len(observed), *observed.shape[1:])
    return (observed, rows) if observed.ndim == 1 else (observed[:, output], rows[..., output])
