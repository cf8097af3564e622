"""Posterior predictive checks: statistics of the observed data beside those of replicated data."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from mixpyro import arguments
from mixpyro.diagnostics.arviz_versions import ArvizData, arviz_data, group

# Values [..., N] to [...].
Statistic = Callable[[np.ndarray], np.ndarray]


def _skewness(values: np.ndarray) -> np.ndarray:
    """Return the skewness over the last axis."""
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


def _functions(name: str, value: object) -> Mapping[str, Statistic]:
    """Return functions by name."""
    found = arguments.mapping(name, value)
    for key, one in found.items():
        if not arguments.can_be_called(one):
            raise TypeError(f"`{name}` must hold functions; got {arguments.shown(one)} for {arguments.shown(key)}.")
    return found


class Check(NamedTuple):
    """A statistic of the observed data beside the same of S replicated data sets."""

    observed: float
    replicated: np.ndarray  # [S]
    probability: float  # share of replicates at or above the observed value, ties counted half; misfit near 0 or 1

    def __str__(self) -> str:
        """Summarise the check in one phrase."""
        low, high = np.quantile(self.replicated, [0.05, 0.95])
        return f"observed {self.observed:.4g}, replicated {low:.4g} to {high:.4g}, p = {self.probability:.3f}"


@arguments.with_default_errors
@arguments.checked(data=arviz_data, statistics=_functions, output=arguments.index, site=arguments.text)
def predictive_checks(
    data: ArvizData, statistics: Mapping[str, Statistic] = STATISTICS, *, output: int = 0, site: str | None = None
) -> dict[str, Check]:
    """Compare statistics of y with those of data drawn from the posterior predictive distribution.

    Args:
        data: result of :func:`mixpyro.to_arviz`.
        statistics: functions by name; each takes values [..., N] and returns [...].
        output: number of the column of y, from 0.
        site: name of the observed site, where a program has several.

    Returns:
        One check a statistic, by its name.

    References:
        Gelman, Meng, Stern (1996), Posterior predictive assessment of model fitness via realized discrepancies.
    """
    observed, replicated = observed_and_replicated(data, output, site)
    checks = {}
    for name, statistic in statistics.items():
        value, values = float(statistic(observed)), np.asarray(statistic(replicated))
        probability = float((values > value).mean() + 0.5 * (values == value).mean())
        checks[name] = Check(value, values, probability)
    return checks


def observed_and_replicated(data: ArvizData, output: int = 0, site: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return one column of y [N], and the same of every replicate [S, N], without rows where it is missing.

    Args:
        data: result of :func:`mixpyro.to_arviz` or :func:`~mixpyro.diagnostics.program_to_arviz`.
        output: number of the column of y, from 0; not read where y has one axis.
        site: name of the observed site; by default the only one.

    Raises:
        ValueError: if ``site`` is not one of several.
    """
    variables = group(data, "observed_data").data_vars
    names = list(variables) if site is None else [site]
    if len(names) != 1 or names[0] not in variables:
        raise ValueError(f"`site` must be one of {', '.join(map(str, variables))}; got {site}.")
    observed = variables[names[0]].values
    replicated = group(data, "posterior_predictive")[names[0]].values
    rows = replicated.reshape(-1, len(observed), *observed.shape[1:])
    n_outputs = observed.shape[1] if observed.ndim > 1 else 1
    if output >= n_outputs:
        raise ValueError(f"`output` must be below {n_outputs}, the number of columns of y; got {output}.")
    if observed.ndim > 1:
        observed, rows = observed[:, output], rows[..., output]
    seen = ~np.isnan(observed)
    return observed[seen], rows[:, seen]
