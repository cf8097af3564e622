"""Conversion of a user's own Pyro program, with a gate in it, to ArviZ."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from pyro.infer import SVI
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from mixpyro.arguments import integer, outside_contexts
from mixpyro.diagnostics.arviz_versions import ArvizData, Variable, container
from mixpyro.diagnostics.conversion import GROUPS, as_numpy
from mixpyro.diagnostics.draws import Site
from mixpyro.diagnostics.program_constants import constants, n_trained
from mixpyro.diagnostics.program_groups import Names, Rows, axes_of_objects, checked_axes, latent_variable, with_chains
from mixpyro.diagnostics.program_likelihood import Likelihood
from mixpyro.diagnostics.program_runs import LOG_DENSITY, Program, is_latent, results_of
from mixpyro.diagnostics.program_samples import SampledSites, point_estimates
from mixpyro.diagnostics.random_numbers import own_random_numbers
from mixpyro.programs.conjugate_svi import ConjugateSVI

Groups = dict[str, dict[str, Variable]]


@outside_contexts
def program_to_arviz(
    model: Callable[..., Any] | SVI,
    *arguments: Any,  # noqa: ANN401 (whatever the model takes)
    guide: Callable[..., Any] | None = None,
    samples: Mapping[str, Tensor] | None = None,
    max_plate_nesting: int = 1,
    axes: Mapping[str, tuple[str, ...]] | None = None,
    n_draws: int = 1000,
    seed: int = 0,
    **keywords: Any,  # noqa: ANN401
) -> ArvizData:
    """Draw from the posterior of a Pyro program and convert the draws for ArviZ.

    The groups are those of :func:`mixpyro.to_arviz`. Discrete sites such as ``gate.assignment`` are summed out of
    ``log_likelihood`` and of ``lp``, exactly. ``constant_data`` has the tensors among the arguments that are not
    observed, and the parameters of the model.

    Observed sites that depend on the same discrete variable have one log likelihood, that of all of them together,
    named ``y1+y2``: what an object leaves out when it is left out is all of it, and p(y1, y2 | θ) is no product where
    z is summed out. Sites that share no variable have one each. Pass its name as ``var_name`` of ``az.loo``, or as
    ``site`` of :func:`mixpyro.diagnostics.loo`. Where an object has several values, in an inner plate, its log
    likelihood is that of all of them. A component that a gate knows, by ``mask``, is data of its object, too: its
    weight is in the object's log likelihood. ``posterior_predictive`` and ``observed_data`` are by site in any case.

    A row that ``poutine.mask`` hides says nothing. It is left out of ``log_likelihood``, ``posterior_predictive`` and
    ``observed_data``, whose coordinate ``object`` has the numbers of the rows that are left.

    The model is run for many draws at once, in a plate to the left of its own. Where that fails, or gives other numbers
    than a run of one draw, it is run for each draw, with a warning. Arguments must be all data, not a minibatch.
    Continuous latent variables of single objects, as :class:`mixpyro.ObjectDirichletGate` has them, are not summed out.
    Leave-one-out is unreliable with such draws, and its k-hat shows it.

    Args:
        model: a :class:`mixpyro.ConjugateSVI`, whose model and ``full_guide`` are taken; or a Pyro model with an
            observed site in a plate.
        *arguments: arguments of model and guide.
        guide: a Pyro guide; its continuous sites are drawn. Auxiliary sites, as automatic guides have, count in
            ``log_q`` only. Sites with one value, as of AutoDelta, count as estimated parameters, with a warning.
        samples: draws by MCMC instead of a guide, ``mcmc.get_samples(group_by_chain=True)``, [chains, draws, …] each.
        max_plate_nesting: depth of the model's nested plates at least, at least 1; deeper ones are found.
        axes: names of the axes of a site's value, by the site's name, without those of plates; and a plate's, by the
            plate's name. A gate's weights have ``component``, and so has a plate of that name or ``components``.
            :func:`mixpyro.diagnostics.relabel` needs that name wherever an axis is of the components.
        n_draws: number of draws from the guide and the prior, at least 1.
        seed: of the draws, at least 0. The global random state is neither used nor changed.
        **keywords: keyword arguments of model and guide.

    Returns:
        An InferenceData in ArviZ 0.23, a DataTree in 1.x. Without a continuous latent variable it has neither
        ``posterior`` nor ``prior``.

    Raises:
        ValueError: if there is no observed site in a plate, a discrete site is not in the plate of its data, a plate is
            subsampled, the guide does not sample a continuous site of the model, or ``samples`` or ``axes`` do not fit.
        TypeError: if the names of ``axes`` are not tuples.

    Warns:
        RuntimeWarning: if the model or the guide is run for each draw alone, or the guide has one value for a site.

    Example:
        >>> import pyro
        >>> from pyro.distributions import Normal
        >>> def model(y):
        ...     mean = pyro.sample("mean", Normal(0.0, 1.0))
        ...     with pyro.plate("objects", len(y)):
        ...         pyro.sample("y", Normal(mean, 1.0), obs=y)
        >>> data = program_to_arviz(model, torch.zeros(3), guide=lambda y: pyro.sample("mean", Normal(0.0, 0.5)))
        >>> data["log_likelihood"]["y"].dims
        ('chain', 'draw', 'object')
    """
    function, guide = _model_and_guide(model, guide, samples)
    n_draws, depth = integer("n_draws", n_draws), integer("max_plate_nesting", max_plate_nesting)
    device = device_of([*arguments, *keywords.values()])
    with torch.no_grad(), own_random_numbers(device, seed):
        with own_random_numbers(device, seed):  # Draws of the guide are the same, whatever runs the model needs.
            program = checked_program(function, arguments, keywords, depth)
        if samples is not None:
            drawn = draws_of_samples(samples, program)
        else:
            assert guide is not None
            # As deep as the model: a guide may run plates of the model in which it samples nothing.
            depth = program.max_plate_nesting
            drawn = _draws_of_guide(Program("guide", guide, arguments, keywords, depth), program, n_draws)
        given_axes = checked_axes(axes or {}, {name: program.layouts[name] for name in drawn.values})
        likelihood = Likelihood(program, drawn.values)
        groups, labels = _evaluated_groups(likelihood, drawn)
        prior = Draws({}, None, 1, n_draws)
        if drawn.values:
            sampled = results_of(program, SampledSites(program, {}), n_draws, likelihood.n_together)
            prior = prior._replace(values={name: sampled[name] for name in drawn.values})
    names = Names(given_axes, [name for name in drawn.values if name.endswith(".weights")])
    groups |= {"posterior": _latents(drawn, program, names), "prior": _latents(prior, program, names)}
    attributes = {
        "inference_library": "mixpyro",
        "n_estimated_parameters": drawn.n_estimated + n_trained(program.first),
        "axes_not_named": ",".join(sorted(names.not_given)),
    }
    return container({name: groups[name] for name in GROUPS if groups[name]}, labels, attributes)


class Draws(NamedTuple):
    """Draws of the continuous latent sites of a model, S in all, in chains one after the other."""

    values: dict[str, Tensor]  # [S, …] each, shaped as in one run, by name
    log_q: Tensor | None  # log density of the guide [S] in nats; None without a guide
    n_chains: int
    n_draws: int  # S
    n_estimated: int = 0  # number of values that the guide estimates by one number each


def checked_program(
    model: Callable[..., Any], arguments: tuple[Any, ...], keywords: Mapping[str, Any], max_plate_nesting: int
) -> Program:
    """Return a model with its data, if these are all data.

    Args:
        model: the Pyro model.
        arguments: of the model.
        keywords: keyword arguments of the model.
        max_plate_nesting: depth of nested plates at least.

    Raises:
        ValueError: if a plate has a subsample.
    """
    program = Program("model", model, arguments, keywords, max_plate_nesting)
    sites: dict[str, Site] = dict(program.first.nodes)
    for name, site in sites.items():
        if site["type"] == "sample" and site_is_subsample(site) and len(site["value"]) < site["fn"].size:
            raise ValueError(
                f"`model` must run on all data; got {len(site['value'])} of the {site['fn'].size} objects of the plate "
                f"{name!r}. Pass all rows, and make the plate without a subsample."
            )
    return program


def latent_names(model: Program) -> list[str]:
    """Return the names of a model's continuous latent sites.

    Args:
        model: the program.
    """
    return [name for name, site in model.first.nodes.items() if is_latent(site)]


def draws_of_samples(samples: Mapping[str, Tensor], model: Program, argument: str = "samples") -> Draws:
    """Return draws [chains, draws, …] of a model, shaped as in one run and with the chains one after the other.

    Args:
        samples: by the name of the site.
        model: the program.
        argument: the caller's name for them.

    Raises:
        ValueError: if they are not of the model's latent sites, or not of their shape.
    """
    latent = latent_names(model)
    if set(samples) != set(latent):
        raise ValueError(
            f"`{argument}` must hold {', '.join(latent) or 'nothing'}; got {', '.join(samples) or 'nothing'}."
        )
    given = {name: torch.as_tensor(samples[name]) for name in latent}
    n_chains, n_draws = (*next(iter(given.values())).shape[:2], 0, 0)[:2] if given else (1, 1)
    values = {}
    for name, drawn in given.items():
        layout = model.layouts[name]
        if drawn.shape[:2] != (n_chains, n_draws) or drawn.shape[2:].numel() != layout.shape.numel():
            raise ValueError(
                f"`{argument}` must have [chains, draws, {', '.join(map(str, layout.shape))}] for {name}; got "
                f"{list(drawn.shape)}. Use mcmc.get_samples(group_by_chain=True)."
            )
        values[name] = drawn.to(layout.device).reshape(n_chains * n_draws, *layout.shape)
    return Draws(values, None, n_chains, n_chains * n_draws)


def model_of(model: Callable[..., Any] | SVI) -> Callable[..., Any]:
    """Return the model of an SVI, or the model itself.

    Args:
        model: either.
    """
    return model.model if isinstance(model, SVI) else model


def _model_and_guide(
    model: Callable[..., Any] | SVI, guide: Callable[..., Any] | None, samples: Mapping[str, Tensor] | None
) -> tuple[Callable[..., Any], Callable[..., Any] | None]:
    """Return a model, and its guide unless there are samples."""
    if isinstance(model, SVI) and guide is None and samples is None:
        return model.model, model.full_guide if isinstance(model, ConjugateSVI) else model.guide
    if (guide is None) == (samples is None):
        raise ValueError(f"`guide` or `samples` must be given; got {'neither' if guide is None else 'both'}.")
    return model_of(model), guide


def _draws_of_guide(guide: Program, model: Program, n_draws: int) -> Draws:
    """Return a guide's draws of the model's latent variables."""
    latent = latent_names(model)
    missing = [name for name in latent if name not in guide.layouts]
    if missing:
        raise ValueError(
            f"`guide` must sample every continuous site that the model does not observe; got no {missing[0]!r}. To "
            "draw weights of gates, pass the ConjugateSVI in place of the model, without `guide`."
        )
    if not latent:
        return Draws({}, None, 1, n_draws)
    results = results_of(guide, SampledSites(guide, {}), n_draws, n_draws)
    values = {name: results[name].reshape(n_draws, *model.layouts[name].shape) for name in latent}
    estimated = point_estimates(values, guide, model)
    return Draws(values, results[LOG_DENSITY], 1, n_draws, sum(values[name][0].numel() for name in estimated))


def _evaluated_groups(likelihood: Likelihood, drawn: Draws) -> tuple[Groups, dict[str, np.ndarray]]:
    """Return the groups that follow from the data under every draw, and the numbers of the objects in them."""
    model, n_draws = likelihood.model, drawn.n_draws
    # Without latent variables all draws are one.
    results = results_of(model, likelihood, n_draws if drawn.values else 1, likelihood.n_together)
    replicated = results_of(model, SampledSites(model, drawn.values, replicate=True), n_draws, likelihood.n_together)
    results = {name: values.expand(n_draws, *values.shape[1:]) for name, values in results.items()}
    rows = {outcome.name: Rows(model, outcome) for outcome in likelihood.outcomes}
    rows = {name: one for name, one in rows.items() if len(one.kept)}
    if not rows:
        raise ValueError("`model` must have an observed value that no mask hides; got none.")
    axes = axes_of_objects(rows)
    groups: Groups = {name: {} for name in GROUPS}
    groups["sample_stats"]["lp"] = with_chains((), as_numpy(results[LOG_DENSITY]), drawn.n_chains)
    if drawn.log_q is not None:
        groups["sample_stats"]["log_q"] = with_chains((), as_numpy(drawn.log_q), drawn.n_chains)
    for name, one in rows.items():
        values = as_numpy(results[name])[:, one.kept]
        groups["log_likelihood"][name] = with_chains((axes[name],), values, drawn.n_chains)
        for site in one.outcome.sites:
            names = (axes[name], *one.names(site))
            replicates = one.replicates(site, replicated[site])
            groups["posterior_predictive"][site] = with_chains(names, replicates, drawn.n_chains)
            groups["observed_data"][site] = names, one.values(site)
    first = next(iter(rows.values()))
    groups["constant_data"] = constants(model, int(np.prod(first.outcome.sizes)), axes[first.outcome.name])
    return groups, {axes[name]: one.kept for name, one in rows.items()}


def _latents(drawn: Draws, model: Program, names: Names) -> dict[str, Variable]:
    """Return the latent variables with the names of their axes."""
    layouts = {name: model.layouts[name] for name in drawn.values}
    return {
        name: latent_variable(drawn.values[name], layout, names.of(name, layout), drawn.n_chains)
        for name, layout in layouts.items()
    }


def device_of(arguments: Iterable[object]) -> torch.device:
    """Return the first device of the arguments that is not the CPU, else the CPU.

    Args:
        arguments: of any kind.
    """
    devices = [argument.device for argument in arguments if isinstance(argument, Tensor)]
    return next((device for device in devices if device.type != "cpu"), torch.device("cpu"))
