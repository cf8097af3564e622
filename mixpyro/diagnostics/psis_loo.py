"""Leave-one-out cross-validation by Pareto smoothed importance sampling (PSIS-LOO)."""

import itertools
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
    found = _loo(data, site)
    warn_of_estimates(data, "loo")
    return found


def _loo(data: ArvizData, site: str | None) -> Elpd:
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


class Comparison(NamedTuple):
    """One model's row in a comparison."""

    elpd: float  # expected log predictive density of N new objects in nats, larger is better
    standard_error: float  # of elpd, nats
    difference: float  # from the best model's elpd in nats, at most zero
    difference_error: float  # standard error of the difference in nats, from differences object by object
    weight: float  # of this model in a stacked prediction, from 0 to 1
    n_effective: float  # effective number of parameters
    n_untrusted: int  # number of objects whose k-hat is too high
    n_estimated: int  # number of parameters without a posterior, which importance sampling does not penalise


@arguments.with_default_errors
@arguments.checked(models=arguments.mapping)
def compare_loo(models: Mapping[str, ArvizData | Elpd]) -> dict[str, Comparison]:
    """Compare models of the same data by leave-one-out cross-validation, the best first.

    Differences are computed object by object, so they are known more precisely than the elpds themselves. A difference
    below four nats or below twice its standard error is no evidence for either model. Print the rows with
    :func:`loo_table`.

    Args:
        models: by name; each a result of :func:`mixpyro.to_arviz`, :func:`~mixpyro.diagnostics.loo` or
            :func:`~mixpyro.diagnostics.exact_loo`.

    Returns:
        One row a model, by its name, in descending order of elpd.

    Raises:
        ValueError: if there are no models, or they have different objects: another number of them, rows grouped
            otherwise, or another y.

    References:
        Sivula, Magnusson, Matamoros, Vehtari (2020), Uncertainty in Bayesian leave-one-out cross-validation based model
        comparison; Yao, Vehtari, Simpson, Gelman (2018), Using stacking to average Bayesian predictive distributions.
    """
    if not models:
        raise ValueError("`models` must hold at least one model; got none.")
    elpds = {
        name: model if isinstance(model, Elpd) else _loo(arviz_data(f"models[{name!r}]", model), None)
        for name, model in models.items()
    }
    lengths = {name: len(elpd.pointwise) for name, elpd in elpds.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"`models` must be of the same objects; got {lengths}.")
    _refuse_other_groups(elpds)
    _refuse_other_y(elpds)
    order = sorted(elpds, key=lambda name: -elpds[name].elpd)
    weights = stacking_weights(np.stack([elpds[name].pointwise for name in order], 1))
    best = elpds[order[0]]
    return {name: _comparison(elpds[name], best, float(weight)) for name, weight in zip(order, weights, strict=True)}


one_comparison = arguments.one_of_kinds("what `compare_loo` returns", Comparison)


def _comparisons(name: str, value: object) -> Mapping[str, Comparison]:
    """Return rows of a comparison."""
    for row in arguments.mapping(name, value).values():
        one_comparison(name, row)
    return value  # type: ignore[return-value]


@arguments.checked(rows=_comparisons)
def loo_table(rows: Mapping[str, Comparison]) -> str:
    """Format a comparison as a text table with one line a model.

    Args:
        rows: result of :func:`compare_loo`.
    """
    titles = ("elpd", "± se", "difference", "± se", "weight", "effective", "untrusted", "estimated")
    width = max(map(len, rows), default=0)
    lines = [" ".join([" " * width, *(f"{title:>10}" for title in titles)])]
    for name, row in rows.items():
        cells = (f"{value:>10d}" if isinstance(value, int) else f"{value:>10.2f}" for value in row)
        lines.append(" ".join([f"{name:<{width}}", *cells]))
    return "\n".join(lines)


def stacking_weights(pointwise: np.ndarray, *, n_iterations: int = 1000) -> np.ndarray:
    """Return the weights of a mixture of models that predicts left-out objects best.

    They maximise Σᵢ log Σₘ wₘ exp(elpdᵢₘ) over the simplex, a concave function, by the EM algorithm for the proportions
    of a mixture of known densities.

    Args:
        pointwise: elpdᵢₘ [N, M] of N objects under M models, in nats.
        n_iterations: number of EM iterations, at least 0.

    Returns:
        Weights [M], which sum to one.

    References:
        Yao, Vehtari, Simpson, Gelman (2018), Using stacking to average Bayesian predictive distributions, eq. 4.
    """
    densities = np.exp(pointwise - pointwise.max(1, keepdims=True))
    weights = np.full(pointwise.shape[1], 1.0 / pointwise.shape[1])
    for _ in range(n_iterations):
        weights = weights * (densities / (densities @ weights)[:, None]).mean(0)
    return weights


def _refuse_other_groups(elpds: Mapping[str, Elpd]) -> None:
    """Raise if an object is a row in one model and a group of rows in another, or another group."""
    numbers = {
        name: np.arange(len(elpd.pointwise)) if elpd.groups is None else elpd.groups for name, elpd in elpds.items()
    }
    for (first, one), (second, other) in itertools.pairwise(numbers.items()):
        if not np.array_equal(one, other):
            raise ValueError(
                f"`models` must leave out the same objects; got rows grouped otherwise in {first!r} and {second!r}. "
                "Fit both with the same `groups`."
            )


def _refuse_other_y(elpds: Mapping[str, Elpd]) -> None:
    """Raise if two models have other y, or y in another order or unit, as far as it is known."""
    known = {
        name: elpd.observed.reshape(len(elpd.observed), -1) for name, elpd in elpds.items() if elpd.observed is not None
    }
    for (first, one), (second, other) in itertools.pairwise(known.items()):
        # Half the digits of float32: the same y may come in either dtype.
        if one.shape != other.shape or not np.allclose(
            one, other, rtol=3e-4, atol=3e-4 * float(np.nanstd(one)), equal_nan=True
        ):
            raise ValueError(
                f"`models` must be of the same y in the same order; got others in {first!r} and {second!r}."
            )


def _comparison(elpd: Elpd, best: Elpd, weight: float) -> Comparison:
    """Return a model's row."""
    differences = elpd.pointwise - best.pointwise
    return Comparison(
        elpd=elpd.elpd,
        standard_error=elpd.standard_error,
        difference=float(differences.sum()),
        difference_error=float(np.sqrt(len(differences) * differences.var())),
        weight=weight,
        n_effective=elpd.n_effective,
        n_untrusted=elpd.n_untrusted,
        n_estimated=elpd.n_estimated,
    )
