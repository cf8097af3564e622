"""Comparison of models by leave-one-out cross-validation, and the weights of a stacked prediction."""

import itertools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from mixpyro import arguments
from mixpyro.diagnostics.arviz_versions import ArvizData, arviz_data
from mixpyro.diagnostics.psis_loo import Elpd, estimated_loo


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
        name: model if isinstance(model, Elpd) else estimated_loo(arviz_data(f"models[{name!r}]", model), None)
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
