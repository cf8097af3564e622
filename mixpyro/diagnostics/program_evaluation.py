"""The groups of ArviZ that follow from the draws of a Pyro program."""

from typing import NamedTuple

import numpy as np

from mixpyro.arguments.signals import pass_on
from mixpyro.diagnostics.arrays import as_numpy, with_chains
from mixpyro.diagnostics.arviz_versions import Variable
from mixpyro.diagnostics.estimates import attributes_of_estimates
from mixpyro.diagnostics.log_likelihoods import OF_GUIDE, OF_POSTERIOR
from mixpyro.diagnostics.program_constants import constants, trained
from mixpyro.diagnostics.program_draws import Draws
from mixpyro.diagnostics.program_groups import Names, Rows, axes_of_objects, latent_variable
from mixpyro.diagnostics.program_likelihood import LOG_PRIOR, Likelihood
from mixpyro.diagnostics.program_runs import LOG_DENSITY, Program, Results, results_of
from mixpyro.diagnostics.program_samples import SampledSites

Groups = dict[str, dict[str, Variable]]


class OfProgram(NamedTuple):
    """What a program's draws and data become."""

    groups: Groups
    labels: dict[str, np.ndarray]  # along the axes of the objects
    attributes: dict[str, str | int]


def groups_of_program(likelihood: Likelihood, drawn: Draws, names: Names, n_draws: int) -> OfProgram:
    """Return all groups of a program.

    Args:
        likelihood: of the program.
        drawn: draws of its latent sites.
        names: of the axes of latent sites.
        n_draws: number of draws from the prior.

    Raises:
        ValueError: if masks hide all that is observed.
    """
    model, size = likelihood.model, likelihood.n_together
    # Without latent variables all draws are one.
    results = results_of(model, likelihood, drawn.n_draws if drawn.values else 1, size)
    results = {name: values.expand(drawn.n_draws, *values.shape[1:]) for name, values in results.items()}
    replicated = results_of(model, SampledSites(model, drawn.values, replicate=True), drawn.n_draws, size)
    prior = prior_of_program(model, n_draws, size) if drawn.values else Draws({}, None, 1, n_draws)
    rows = {outcome.name: Rows(model, outcome) for outcome in likelihood.outcomes}
    rows = {name: one for name, one in rows.items() if len(one.kept)}
    if not rows:
        raise ValueError("`model` must have an observed value that no mask hides; got none.")
    axes = axes_of_objects(rows)
    why = _why_left_out(likelihood, drawn, prior, results)
    groups = {
        "posterior": _latents(drawn, drawn.without_estimates, model, names),
        "posterior_predictive": _predictions(rows, axes, replicated, drawn.n_chains),
        "prior": _latents(prior, {name: prior.values[name] for name in drawn.values}, model, names),
        "constant_data": _constants(drawn, model, names, rows, axes),
        **_densities(results, drawn, rows, axes),
        **_observed(rows, axes),
    }
    if "prior_predictive_left_out" not in why:
        groups["prior_predictive"] = _predictions(rows, axes, prior.values, prior.n_chains)
    labels = {axes[name]: one.kept for name, one in rows.items()}
    return OfProgram(groups, labels, {**_attributes(drawn, model), **why})


def prior_of_program(model: Program, n_draws: int, n_together: int) -> Draws:
    """Return draws of a program's latent and observed sites from the prior; of latent ones alone where y has none.

    Args:
        model: the program.
        n_draws: S.
        n_together: how many draws at most to run at once.
    """
    try:
        values = results_of(model, SampledSites(model, {}, replicate=True), n_draws, n_together)
    except (ValueError, RuntimeError) as error:
        pass_on(error)
        values = results_of(model, SampledSites(model, {}), n_draws, n_together)
    return Draws(values, None, 1, n_draws)


def _predictions(rows: dict[str, Rows], axes: dict[str, str], values: Results, n_chains: int) -> dict[str, Variable]:
    """Return draws of what the program observes."""
    return {
        site: with_chains((axes[name], *one.names(site)), one.replicates(site, values[site]), n_chains)
        for name, one in rows.items()
        for site in one.outcome.sites
    }


def _densities(results: Results, drawn: Draws, rows: dict[str, Rows], axes: dict[str, str]) -> Groups:
    """Return log likelihoods, log densities of latent sites, log p(y, θ), and log q(θ) of a guide."""
    totals = {"lp": results[LOG_DENSITY]} | ({} if drawn.log_q is None else {"log_q": drawn.log_q})
    priors = {name: LOG_PRIOR + name for name in drawn.without_estimates if LOG_PRIOR + name in results}
    log_likelihoods = {
        name: with_chains((axes[name],), as_numpy(results[name])[:, one.kept], drawn.n_chains)
        for name, one in rows.items()
    }
    return {
        OF_POSTERIOR if drawn.by_mcmc else OF_GUIDE: log_likelihoods,
        "log_prior": {name: with_chains((), as_numpy(results[own]), drawn.n_chains) for name, own in priors.items()},
        "sample_stats": {name: with_chains((), as_numpy(one), drawn.n_chains) for name, one in totals.items()},
    }


def _observed(rows: dict[str, Rows], axes: dict[str, str]) -> Groups:
    """Return what the program observes."""
    sites = [(axes[name], one, site) for name, one in rows.items() for site in one.outcome.sites]
    return {"observed_data": {site: ((axis, *one.names(site)), one.values(site)) for axis, one, site in sites}}


def _constants(
    drawn: Draws, model: Program, names: Names, rows: dict[str, Rows], axes: dict[str, str]
) -> dict[str, Variable]:
    """Return the arguments and parameters, and the value of each latent site that a guide has one for."""
    name, first = next(iter(rows.items()))
    values = {site: drawn.values[site][:1] for site in drawn.estimated}
    sites = _latents(drawn._replace(n_chains=1), values, model, names)
    estimates: dict[str, Variable] = {site: (one[0][2:], one[1][0, 0]) for site, one in sites.items()}
    return estimates | constants(model, int(np.prod(first.outcome.sizes)), axes[name])


def _latents(drawn: Draws, values: Results, model: Program, names: Names) -> dict[str, Variable]:
    """Return latent variables with the names of their axes."""
    layouts = {name: model.layouts[name] for name in values}
    return {
        name: latent_variable(values[name], layout, names.of(name, layout), drawn.n_chains)
        for name, layout in layouts.items()
    }


def _attributes(drawn: Draws, model: Program) -> dict[str, str | int]:
    """Return how many parameters have no posterior, and which."""
    sites = {name: drawn.values[name][0].numel() for name in drawn.estimated}
    return attributes_of_estimates(sites | trained(model.first))


def _why_left_out(likelihood: Likelihood, drawn: Draws, prior: Draws, results: Results) -> dict[str, str]:
    """Return in words what is not in the groups ``log_prior`` and ``prior_predictive``, nothing of those in full."""
    model = likelihood.model
    parameters = ", ".join(trained(model.first))
    observed = [site for outcome in likelihood.outcomes for site in outcome.sites]
    too_large = [site for site in observed if site in prior.values and not bool(prior.values[site].isfinite().all())]
    dependent = [name for name in drawn.without_estimates if LOG_PRIOR + name not in results]
    left_out = [*drawn.estimated, *trained(model.first)]
    why = {
        "prior_predictive_left_out": "no latent variables"
        if not drawn.values
        else f"no draws from a prior of {parameters}"
        if parameters
        else "the prior gives values of y that cannot be drawn, or are too large for a number"
        if too_large or not all(site in prior.values for site in observed)
        else "",
        "log_prior_left_out": "; ".join(
            [
                *([f"point estimates: {', '.join(left_out)}"] if left_out else []),
                *([f"depend on discrete variables: {', '.join(dependent)}"] if dependent else []),
            ]
        ),
    }
    return {name: reason for name, reason in why.items() if reason}
