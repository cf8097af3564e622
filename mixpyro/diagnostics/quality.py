"""Is the approximate posterior any good, and which model predicts best?

For draws of a variational posterior r-hat and effective sample sizes mean nothing: the draws are independent whatever
they are drawn from. What can be asked is how far the density that they come from is from the true posterior's, and that
is what k-hat answers.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from mixpyro.diagnostics.arviz_versions import (
    ArvizData,
    Elpd,
    datasets_of,
    from_datasets,
    group,
    leave_one_out,
    pareto_smoothed,
)


def khat(data: ArvizData) -> float:
    """PSIS k-hat of the guide against the model with assignments summed out: how heavy the tail of p(y, θ) / q(θ) is.

    Below 0.5 the draws, reweighted, stand for the true posterior; up to 0.7 they do with many draws; above that the
    guide misses a part of the posterior: its intervals are too narrow, or there is more than one way to explain the
    data. −∞ says that the guide is the posterior itself. Components whose labels can be exchanged do not count against
    it. The figure is one of a tail: between seeds it varies by 0.1 with 4000 draws, by 0.2 with 1000.

    Args:
        data: of :func:`mixpyro.to_arviz`, of draws from a guide.

    Raises:
        ValueError: if nothing was drawn, or the draws are MCMC's.

    References:
        Yao, Vehtari, Simpson, Gelman (2018), Yes, but did it work? Evaluating variational inference, section 2.
    """
    if "log_q" not in group(data, "sample_stats"):
        raise ValueError("`data` must have draws from a guide, with `log_q` in `sample_stats`; got draws without.")
    return float(pareto_smoothed(log_ratios(data)).pareto_k)


def log_ratios(data: ArvizData) -> np.ndarray:
    """log p(y, θ) − log q(θ) of every draw [S], chains one after the other; zeros for draws by MCMC."""
    stats = group(data, "sample_stats")
    if "log_q" not in stats:
        return np.zeros(stats["lp"].size)
    return (stats["lp"] - stats["log_q"]).values.reshape(-1)


def loo(data: ArvizData) -> Elpd:
    """Leave-one-out cross-validation by Pareto smoothed importance sampling, corrected for the approximate posterior.

    The draws of a guide are weighted by p(y, θ) / q(θ) as well as by 1 / p(yᵢ | θ), so that what comes out is the
    true posterior's, as far as the k-hat of each object allows. Parameters that are estimated, such as a neural gate's,
    stay where they are when an object is left out: a model that has them looks better than it is, the more so the more
    there are. :func:`exact_loo` fits anew and has no such preference.

    Args:
        data: of :func:`mixpyro.to_arviz`.

    Raises:
        ValueError: if nothing was drawn, or rows have weights.

    References:
        Vehtari, Gelman, Gabry (2017), Practical Bayesian model evaluation using leave-one-out cross-validation and
        WAIC; Magnusson, Andersen, Jonasson, Vehtari (2019), Bayesian leave-one-out cross-validation for large data.
    """
    datasets = datasets_of(data)
    if "posterior" not in datasets:
        raise ValueError("`data` must have latent parameters to be drawn; got none. Use exact_loo, which fits anew.")
    if "weights" in datasets.get("constant_data", {}):
        raise ValueError("`data` must have rows that count once; got weights. Repeat the rows instead.")
    values = next(iter(group(data, "log_likelihood").values())).values
    return leave_one_out(values.reshape(-1, values.shape[-1]).T, log_ratios(data))


def resample(data: ArvizData, *, seed: int = 0) -> ArvizData:
    """The guide's draws, drawn again by their smoothed importance weights: draws of the true posterior, nearly.

    The guide takes assignments and parameters as independent, so its intervals are too short where components overlap.
    Of 200 intervals of 90 % for a weight, and 800 for coefficients, of two lines on 200 points, there cover the truth
    (``python -m tests.benchmarks.coverage``):

    =========== ============ =============== =============
    lines       median k-hat guide           drawn again
    =========== ============ =============== =============
    apart       −∞           94 %, 90 %      94 %, 90 %
    crossing    0.5          84 %, 86 %      91 %, 88 %
    overlapping 0.8          52 %, 70 %      71 %, 79 %
    =========== ============ =============== =============

    So it mends what :func:`khat` says that it can. Give it many draws, for they repeat.

    Args:
        data: of :func:`mixpyro.to_arviz`, of draws from a guide.
        seed: of the draws.
    """
    weights = np.exp(pareto_smoothed(log_ratios(data)).log_weights)
    chosen = np.random.default_rng(seed).choice(len(weights), size=len(weights), p=weights / weights.sum())
    datasets = datasets_of(data)
    for name in ("posterior", "posterior_predictive", "log_likelihood", "sample_stats"):
        drawn = datasets[name].isel(draw=chosen).assign_coords(draw=np.arange(len(chosen)))
        datasets[name] = drawn.drop_vars("log_q", errors="ignore")
    return from_datasets(datasets)


class Comparison(NamedTuple):
    """One model beside the others; all but counts in nats."""

    elpd: float  # expected log predictive density of as many new objects, the more the better
    standard_error: float
    difference: float  # from the best model's elpd, never above zero
    difference_error: float  # standard error of the difference, the objects being the same
    weight: float  # with which to mix the models' predictions, by stacking
    n_effective: float
    n_untrusted: int  # objects whose k-hat is too high
    n_estimated: int  # parameters without a posterior, which leaving one out by importance sampling does not charge for


def compare_loo(models: Mapping[str, ArvizData | Elpd]) -> dict[str, Comparison]:
    """Several models of the same data by leave-one-out cross-validation, the best first; print with :func:`loo_table`.

    Differences are per object, so they are known far better than the figures themselves. One within twice its error, or
    within four nats, is no difference.

    Args:
        models: by name, as :func:`mixpyro.to_arviz` gives them, or what :func:`loo` or :func:`exact_loo` made of them.

    References:
        Sivula, Magnusson, Matamoros, Vehtari (2020), Uncertainty in Bayesian leave-one-out cross-validation based model
        comparison; Yao, Vehtari, Simpson, Gelman (2018), Using stacking to average Bayesian predictive distributions.
    """
    if not models:
        raise ValueError("`models` must hold at least one model; got none.")
    elpds = {name: model if isinstance(model, Elpd) else loo(model) for name, model in models.items()}
    lengths = {name: len(elpd.pointwise) for name, elpd in elpds.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"`models` must be of the same objects; got {lengths}.")
    order = sorted(elpds, key=lambda name: -elpds[name].elpd)
    weights = stacking_weights(np.stack([elpds[name].pointwise for name in order], 1))
    best = elpds[order[0]].pointwise
    rows = {}
    for name, weight in zip(order, weights, strict=True):
        elpd, differences = elpds[name], elpds[name].pointwise - best
        rows[name] = Comparison(
            elpd=elpd.elpd,
            standard_error=elpd.standard_error,
            difference=float(differences.sum()),
            difference_error=float(np.sqrt(len(best) * differences.var())),
            weight=float(weight),
            n_effective=elpd.n_effective,
            n_untrusted=elpd.n_untrusted,
            n_estimated=_n_estimated(models[name]),
        )
    return rows


def loo_table(rows: Mapping[str, Comparison]) -> str:
    """One line a model, for a person."""
    titles = ("elpd", "± se", "difference", "± se", "weight", "effective", "untrusted", "estimated")
    width = max(map(len, rows), default=0)
    lines = [" ".join([" " * width, *(f"{title:>10}" for title in titles)])]
    for name, row in rows.items():
        values = (f"{value:>10d}" if isinstance(value, int) else f"{value:>10.2f}" for value in row)
        lines.append(" ".join([f"{name:<{width}}", *values]))
    return "\n".join(lines)


def stacking_weights(pointwise: np.ndarray, *, n_iterations: int = 1000) -> np.ndarray:
    """Weights on the simplex [M] with the largest Σᵢ log Σₘ wₘ exp(elpdᵢₘ), for pointwise elpds [N, M].

    The proportions of a mixture of known densities, by the EM algorithm: the sum is concave.

    References:
        Yao, Vehtari, Simpson, Gelman (2018), Using stacking to average Bayesian predictive distributions, eq. 4.
    """
    densities = np.exp(pointwise - pointwise.max(1, keepdims=True))
    weights = np.full(pointwise.shape[1], 1.0 / pointwise.shape[1])
    for _ in range(n_iterations):
        weights = weights * (densities / (densities @ weights)[:, None]).mean(0)
    return weights


def _n_estimated(model: ArvizData | Elpd) -> int:
    if isinstance(model, Elpd):
        return 0
    return int(group(model, "posterior").attrs["n_estimated_parameters"])
