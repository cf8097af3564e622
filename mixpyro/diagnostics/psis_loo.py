"""Leave-one-out cross-validation by Pareto smoothed importance sampling (PSIS-LOO)."""

from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from mixpyro import arguments
from mixpyro.diagnostics.arrays import GROUP_NUMBER
from mixpyro.diagnostics.arviz_versions import ArvizData, arviz_data, datasets_of, elpd_data
from mixpyro.diagnostics.estimates import n_estimated, warn_of_estimates
from mixpyro.diagnostics.importance_sampling import log_ratios, pareto_smoothed
from mixpyro.diagnostics.log_likelihoods import log_likelihoods
from mixpyro.numerics.blocks import rows_per_program, slices


class Elpd(NamedTuple):
    """Expected log predictive density of new data, estimated by leave-one-out cross-validation."""

    elpd: float  # nats, larger is better
    standard_error: float  # nats
    n_effective: float  # effective number of parameters, p_loo
    pointwise: np.ndarray  # each object's part of elpd [N], nats
    pareto_k: np.ndarray  # k-hat [N], −∞ where no weights were needed
    n_draws: int  # 0 where nothing was drawn
    observed: np.ndarray | None = None  # y, by which models of other data are told; None where it is not known
    n_estimated: int = 0  # number of parameters that kept their estimates when an object was left out
    groups: np.ndarray | None = None  # number of each row's object in `observed`; None where every row is one

    @property
    def good_k(self) -> float:
        """Largest k-hat at which an object's value is reliable with this number of draws, at most 0.7."""
        return min(1.0 - 1.0 / float(np.log10(self.n_draws)), 0.7) if self.n_draws else 0.7

    @property
    def n_untrusted(self) -> int:
        """Number of objects whose k-hat is above :attr:`good_k`."""
        return int((self.pareto_k > self.good_k).sum())

    def __str__(self) -> str:
        """Summarise the result in one sentence."""
        estimate = f"elpd {self.elpd:.2f} ± {self.standard_error:.2f} nats, {self.n_effective:.1f} effective parameters"
        kept = f"; {self.n_estimated} point estimates taken as known" if self.n_estimated else ""
        return f"{estimate}; k-hat above {self.good_k:.2f} for {self.n_untrusted} of {len(self.pareto_k)} objects{kept}"


of_loo = arguments.one_of_kinds("a result of `loo` or `exact_loo`", Elpd)


@arguments.with_default_errors
@arguments.checked(data=arviz_data, site=arguments.text)
def loo(data: ArvizData, *, site: str | None = None) -> Elpd:
    """Estimate leave-one-out cross-validation from draws, corrected for the approximate posterior.

    The draws of a guide are weighted by p(y, θ) / q(θ) as well as by 1 / p(yᵢ | θ). The estimate is that of the true
    posterior, as far as the k-hat of each object allows.

    Parameters that are estimated, such as a neural gate's, keep their values when an object is left out. A model that
    has them looks better than it is, the more so the more there are. :func:`~mixpyro.diagnostics.exact_loo` fits the
    model again without each object and does not favour such models.

    Args:
        data: result of :func:`mixpyro.to_arviz` or :func:`~mixpyro.diagnostics.program_to_arviz`.
        site: name of the log likelihood, where a program has several.

    Raises:
        ValueError: if the data have fewer than 25 draws, their rows have weights, or ``site`` is not one of several.

    Warns:
        RuntimeWarning: if parameters are point estimates.

    References:
        Vehtari, Gelman, Gabry (2017), Practical Bayesian model evaluation using leave-one-out cross-validation and
        WAIC; Magnusson, Andersen, Jonasson, Vehtari (2019), Bayesian leave-one-out cross-validation for large data.
    """
    found = estimated_loo(data, site)
    warn_of_estimates(data, "loo")
    return found


def estimated_loo(data: ArvizData, site: str | None) -> Elpd:
    """Estimate leave-one-out cross-validation, without a warning of estimates."""
    datasets = datasets_of(data)
    if "posterior" not in datasets:
        raise ValueError("`data` must have latent parameters to be drawn; got none. Use exact_loo, which fits again.")
    if "weights" in datasets.get("constant_data", {}):
        raise ValueError("`data` must have rows that count once; got weights. Repeat the rows instead.")
    variables = log_likelihoods(data).data_vars
    names = list(variables) if site is None else [site]
    if len(names) != 1 or names[0] not in variables:
        raise ValueError(f"`site` must be one of {', '.join(map(str, variables))}; got {site}.")
    values = variables[names[0]].values
    observed = _observed(datasets, names[0], values.shape[-1])
    elpd = leave_one_out(values.reshape(-1, values.shape[-1]).T, log_ratios(data))
    number = datasets.get("constant_data", {}).get(GROUP_NUMBER)
    groups = None if number is None else np.asarray(number.values)
    return elpd._replace(observed=observed, n_estimated=n_estimated(data), groups=groups)


def _observed(datasets: Mapping[str, Any], site: Hashable, n_objects: int) -> np.ndarray | None:
    """Return what is observed of each object [N, …]: of one site, or of all that are in a joint log likelihood."""
    variables = datasets["observed_data"].data_vars if "observed_data" in datasets else {}
    if site in variables:
        return np.asarray(variables[site].values)
    parts = [np.asarray(v.values) for v in variables.values() if v.shape[:1] == (n_objects,)]
    return np.concatenate([part.reshape(n_objects, -1) for part in parts], 1) if parts else None


def leave_one_out(log_likelihood: np.ndarray, log_ratios: np.ndarray) -> Elpd:
    """Compute PSIS-LOO from the pointwise log likelihood of draws from an approximate posterior.

    It equals ``loo_approximate_posterior`` of ArviZ 1.x, and works with ArviZ 0.23 too.

    Args:
        log_likelihood: log p(yᵢ | θₛ) [N, S], in nats.
        log_ratios: log p(y, θₛ) − log q(θₛ) [S] in nats, up to a constant; zeros for draws of the exact posterior.

    References:
        Magnusson, Andersen, Jonasson, Vehtari (2019), Bayesian leave-one-out cross-validation for large data, eq. 7.
    """
    n_objects, n_draws = log_likelihood.shape
    pointwise, in_sample, pareto_k = np.empty(n_objects), np.empty(n_objects), np.empty(n_objects)
    for rows in slices(n_objects, rows_per_program(n_draws, torch.device("cpu"))):
        own = np.asarray(log_likelihood[rows], dtype=np.float64)
        smoothed = pareto_smoothed(log_ratios - own)
        pareto_k[rows] = smoothed.pareto_k
        pointwise[rows] = np.logaddexp.reduce(smoothed.log_weights + own, axis=-1)
        # Not reweighted, as in ArviZ.
        in_sample[rows] = np.logaddexp.reduce(own, axis=-1) - np.log(n_draws)
    return Elpd(
        elpd=float(pointwise.sum()),
        standard_error=float(np.sqrt(len(pointwise) * pointwise.var())),
        n_effective=float((in_sample - pointwise).sum()),
        pointwise=pointwise,
        pareto_k=pareto_k,
        n_draws=log_likelihood.shape[-1],
    )


@arguments.with_default_errors
@arguments.checked(elpd=of_loo)
def as_arviz(elpd: Elpd) -> Any:  # noqa: ANN401 (each version of ArviZ has its own class)
    """Convert a result to ArviZ's own class, for its tables and plots.

    Args:
        elpd: result of :func:`loo` or :func:`~mixpyro.diagnostics.exact_loo`.
    """
    return elpd_data(
        elpd=elpd.elpd,
        standard_error=elpd.standard_error,
        n_effective=elpd.n_effective,
        n_draws=elpd.n_draws,
        good_k=elpd.good_k,
        pointwise=elpd.pointwise,
        pareto_k=elpd.pareto_k,
    )
