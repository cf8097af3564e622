"""Draws of a fit's parameters: by linear response, from the analytic posterior, or a user's samples."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from mixpyro.arguments import shown
from mixpyro.diagnostics.conditioning import has_weights_of_objects
from mixpyro.diagnostics.draws import draw_from_posterior, draws_of_samples
from mixpyro.diagnostics.log_likelihoods import OF_GUIDE, OF_POSTERIOR
from mixpyro.diagnostics.mixture_groups import Chains
from mixpyro.diagnostics.observations import Observations
from mixpyro.diagnostics.point_masses import estimates_of_mixture, without_point_estimates
from mixpyro.diagnostics.response_draws import Rows, draws_by_response, with_integrated_weights
from mixpyro.fitting.result import FitResult
from mixpyro.mixture import MixtureOfExperts
from mixpyro.shapes import ObjectIndices

# What draws can be by.
LINEAR_RESPONSE, MEAN_FIELD = INTERVALS = ("linear response", "mean field")


def chosen_draws(
    fitted: FitResult | MixtureOfExperts,
    rows: Rows,
    data: Observations,
    n_draws: int,
    *,
    intervals: str | None,
    samples: Mapping[str, Tensor] | None,
    all_rows: bool,
    objects: ObjectIndices | None,
    of_objects: bool,
) -> tuple[Chains, Observations, dict[str, str]]:
    """Return draws of the parameters, what they are evaluated on, and attributes that say by what they are.

    Args:
        fitted: a fit's result, or a mixture.
        rows: the user's.
        data: the same, checked.
        n_draws: number of draws, where none are given.
        intervals: what the draws shall be by, one of ``INTERVALS``; None for the default.
        samples: draws that the user gave instead, or None.
        all_rows: whether the rows are all that were fitted.
        objects: which objects of the last update the rows are; new ones where None.
        of_objects: whether to keep draws of weights of single objects.

    Raises:
        ValueError: if the arguments do not go together, or ``samples`` do not fit the mixture.
    """
    asked = _asked(fitted, intervals, samples, all_rows=all_rows)
    if samples is None:
        return _drawn(fitted, rows, data, n_draws, asked, objects, of_objects=of_objects)
    if data.mixture.gate.site("coefficients") in samples:
        data = with_integrated_weights(data)
    drawn, n_chains = draws_of_samples(samples, data)
    return Chains(drawn, drawn, n_chains, OF_POSTERIOR), data, {}


class _Asked(NamedTuple):
    """By what the draws shall be, and whether that is the default."""

    intervals: str
    by_default: bool


def _asked(fitted: FitResult | MixtureOfExperts, intervals: str | None, samples: object, *, all_rows: bool) -> _Asked:
    """Return by what the draws shall be: for a fit's own rows linear response by default."""
    if intervals is not None and samples is not None:
        raise ValueError(f"`intervals` must be None where `samples` are given; got {shown(intervals)}.")
    if intervals is not None and intervals not in INTERVALS:
        raise ValueError(f"`intervals` must be one of {', '.join(map(repr, INTERVALS))}; got {shown(intervals)}.")
    if intervals is not None:
        return _Asked(intervals, False)
    return _Asked(LINEAR_RESPONSE if isinstance(fitted, FitResult) and all_rows else MEAN_FIELD, True)


def _drawn(
    fitted: FitResult | MixtureOfExperts,
    rows: Rows,
    data: Observations,
    n_draws: int,
    asked: _Asked,
    objects: ObjectIndices | None,
    *,
    of_objects: bool,
) -> tuple[Chains, Observations, dict[str, str]]:
    """Return draws of the parameters, what they are evaluated on, and attributes that say by what they are."""
    about, of_objects = {"intervals": MEAN_FIELD}, of_objects and has_weights_of_objects(data.mixture.gate)
    if of_objects and asked.intervals == LINEAR_RESPONSE:
        if not asked.by_default:
            raise ValueError("`weights_of_objects` must be False for linear response, which has none; got True.")
        about["no_linear_response"] = "weights of single objects are kept"
    elif asked.intervals == LINEAR_RESPONSE:
        found = draws_by_response(fitted, rows, data, n_draws, by_default=asked.by_default)
        if found.draws is not None:
            cautions = {"cautions": " ".join(found.cautions)} if found.cautions else {}
            return Chains(found.draws, found.draws, 1, OF_GUIDE), found.data, {"intervals": LINEAR_RESPONSE} | cautions
        about["no_linear_response"] = found.why_not
    drawn = draw_from_posterior(data, n_draws, objects=objects, of_objects=of_objects)
    kept = without_point_estimates(drawn, estimates_of_mixture(data))
    return Chains(drawn, kept, 1, OF_GUIDE), data, about
