"""Draws of a fit's parameters by linear response, in the form of the mixture's sites."""

import copy
from typing import NamedTuple

from torch import Tensor

from mixpyro.diagnostics.draws import Draws
from mixpyro.diagnostics.estimates import sites_of_estimates
from mixpyro.diagnostics.observations import Observations
from mixpyro.experts.relevance import RelevanceLinearExperts
from mixpyro.fitting.result import FitResult
from mixpyro.gates.conjugate import ConjugateGate
from mixpyro.gates.object_dirichlet import ObjectDirichletGate
from mixpyro.groups import Groups
from mixpyro.intervals.approximate_posterior import approximate_posterior
from mixpyro.intervals.densities import LogJoint
from mixpyro.intervals.linear_response import LinearResponse, NoLinearResponse, linear_response
from mixpyro.intervals.part_densities import column_precision_given
from mixpyro.intervals.shared_weights import integrate_weights
from mixpyro.mixture import MixtureOfExperts
from mixpyro.numerics.random_numbers import nothing_drawn

# Estimated parameters beyond the closed form's, with more of which second derivatives would take minutes.
MOST_ESTIMATED = 200


class Rows(NamedTuple):
    """What was fitted, as the caller gave it."""

    x: Tensor  # [N, D]
    y: Tensor  # [N, P] or [N]
    gate_x: Tensor | None  # [N, G], None for x
    groups: Groups | None  # of the rows; None where every row is an object


class Found(NamedTuple):
    """Draws and what they are evaluated on, or why there are none by linear response."""

    draws: Draws | None
    data: Observations
    why_not: str = ""
    cautions: tuple[str, ...] = ()


def draws_by_response(
    fitted: FitResult | MixtureOfExperts, rows: Rows, data: Observations, n_draws: int, *, by_default: bool
) -> Found:
    """Draw all parameters from a t distribution by linear response, estimated ones too.

    Args:
        fitted: the result, or the mixture.
        rows: that were fitted.
        data: the mixture and these rows.
        n_draws: S.
        by_default: whether nobody asked for it, so that what would take minutes is left.
    """
    n_estimated = sum(p.numel() for p in data.mixture.parameters() if p.requires_grad)
    if by_default and n_estimated > MOST_ESTIMATED:
        return Found(
            None, data, f"{n_estimated} estimated parameters would take long; pass `intervals='linear response'`"
        )
    try:
        with nothing_drawn():
            response = linear_response(fitted, rows.x, rows.y, gate_x=rows.gate_x, groups=rows.groups)
    except NoLinearResponse as error:
        if not by_default:
            raise
        return Found(None, data, str(error))
    drawn = _drawn(response, n_draws)
    sites = {name: values.to(data.x.dtype) for name, values in drawn.sites.items()}
    return Found(drawn._replace(sites=sites), with_integrated_weights(data), cautions=response.cautions)


def with_integrated_weights(data: Observations) -> Observations:
    """Return what draws are evaluated on: a mixture whose gate has no weights of single objects.

    Args:
        data: a mixture and its rows.
    """
    if not isinstance(data.mixture.gate, ObjectDirichletGate):
        return data
    mixture = copy.deepcopy(data.mixture)
    integrate_weights(mixture)
    return data._replace(mixture=mixture, gate_x=data.gate_x[:, :0])


def _drawn(response: LinearResponse, n_draws: int) -> Draws:
    """Draw all parameters, in float64."""
    joint = LogJoint(response.mixture, response.table)
    with nothing_drawn():
        proposal = approximate_posterior(response, joint)
    theta = proposal.sample(n_draws)
    jacobian = joint.parameters.log_jacobian(theta)
    log_q, log_prior = proposal.log_prob(theta) - jacobian, joint.log_prior(theta) - jacobian
    values = joint.parameters.values(theta)
    sites = _sites(response.mixture, values, 1)
    for name, part in _relevance(response.mixture):
        posterior = column_precision_given(part, values)
        sites[name] = posterior.sample()
        density = posterior.log_prob(sites[name]).flatten(1).sum(-1)
        log_q, log_prior = log_q + density, log_prior + density
    return Draws(sites, log_q, log_prior)


def _sites(mixture: MixtureOfExperts, values: dict[str, Tensor], n_leading: int) -> dict[str, Tensor]:
    """Return values by the names of sites, of estimated parameters without what tells them from a site.

    The weight of a single component is no free parameter, but is a site.
    """
    names, gate = sites_of_estimates(mixture), mixture.gate
    found = {names.get(name, name): value for name, value in values.items()}
    if not gate.has_free_weights and isinstance(gate, ConjugateGate) and gate.weights_site == "weights":
        like = next(iter(values.values()))
        found[gate.site(gate.weights_site)] = like.new_ones(*like.shape[:n_leading], 1)
    return found


def _relevance(mixture: MixtureOfExperts) -> list[tuple[str, RelevanceLinearExperts]]:
    """Return the banks with precisions of columns, by the names of these sites."""
    banks = [part for part in mixture.modules() if isinstance(part, RelevanceLinearExperts)]
    return [(part.site("column_precision"), part) for part in banks]


def samples_by_site(mixture: MixtureOfExperts, samples: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return draws [chains, S, …] of free parameters by the names of sites, precisions of columns among them.

    Args:
        mixture: in float64.
        samples: by the names of sites and estimated parameters.
    """
    found = _sites(mixture, samples, 2)
    for name, part in _relevance(mixture):
        flat = {site: value.flatten(0, 1) for site, value in samples.items()}
        n_chains = len(next(iter(samples.values())))
        found[name] = column_precision_given(part, flat).sample().unflatten(0, (n_chains, -1))
    return found
