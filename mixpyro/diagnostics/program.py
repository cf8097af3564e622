"""Conversion of a user's own Pyro program, with a gate in it, to ArviZ."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyro
import torch
from pyro import poutine
from pyro.infer import config_enumerate
from torch import Tensor

from mixpyro.arguments import integer, outside_contexts
from mixpyro.diagnostics.arviz_versions import ArvizData, Variable, container
from mixpyro.diagnostics.conversion import as_numpy
from mixpyro.diagnostics.draws import Site
from mixpyro.diagnostics.random_numbers import own_random_numbers
from mixpyro.numerics.blocks import rows_per_program, slices
from mixpyro.pyro_internals.plates import DRAWS_PLATE


@outside_contexts
def program_to_arviz(
    model: Callable[..., Any],
    *arguments: Any,  # noqa: ANN401 (whatever the model takes)
    guide: Callable[..., Any] | None = None,
    samples: Mapping[str, Tensor] | None = None,
    max_plate_nesting: int = 1,
    axes: Mapping[str, tuple[str, ...]] | None = None,
    n_draws: int = 1000,
    seed: int = 0,
    **keywords: Any,  # noqa: ANN401
) -> ArvizData:
    """Draw from the posterior of a Pyro model and convert the draws for ArviZ.

    The groups are those of :func:`mixpyro.to_arviz` except ``constant_data``. Discrete sites such as
    ``gate.assignment`` are summed out of ``log_likelihood``.

    Pyro must be able to vectorise the model over a plate, as for its ``Predictive`` with ``parallel=True``, and the
    arguments must be all data, not a minibatch. Latent variables of single objects, as
    :class:`mixpyro.ObjectDirichletGate` has them, are not summed out. Leave-one-out is unreliable with such draws, and
    its k-hat shows it.

    Args:
        model: a Pyro model with one observed site, of one value for each object of its plate.
        *arguments: arguments of model and guide.
        guide: a Pyro guide; its continuous sites are drawn. Auxiliary sites, as automatic guides have, count in
            ``log_q`` only.
        samples: draws by MCMC instead of a guide, ``mcmc.get_samples(group_by_chain=True)``, [chains, draws, …] each.
        max_plate_nesting: depth of the model's nested plates, at least 1.
        axes: names of the axes of a site's value, by the site's name, without those of plates. A gate's weights have
            ``component``.
        n_draws: number of draws from the guide and the prior, at least 1.
        seed: of the draws, at least 0. The global random state is neither used nor changed.
        **keywords: keyword arguments of model and guide.

    Returns:
        An InferenceData in ArviZ 0.23, a DataTree in 1.x.

    Raises:
        ValueError: if there is not exactly one observed site in a plate, a discrete site is not in the same plate, or
            the guide does not sample a continuous site of the model.
    """
    if (guide is None) == (samples is None):
        raise ValueError(f"`guide` or `samples` must be given; got {'neither' if guide is None else 'both'}.")
    n_draws = integer("n_draws", n_draws)
    program = Program(model, arguments, keywords, integer("max_plate_nesting", max_plate_nesting))
    names = axes or {}
    with torch.no_grad(), own_random_numbers(_device([*arguments, *keywords.values()]), seed):
        prior = latent_sites(program.trace(model, n_draws))
        if guide is not None:
            with poutine.block():  # An automatic guide records plates at its first call: the model's, without ours.
                guide(*arguments, **keywords)
            sites, n_chains = latent_sites(program.trace(guide, n_draws)), 1
            drawn = _sites_of_model(sites, prior)
            log_q = as_numpy(log_density(sites.values()))
        else:
            assert samples is not None
            drawn, n_chains = _draws_of_samples(samples, prior)
            log_q = None
        groups = _evaluated_groups(program, drawn, n_chains)
    if log_q is not None:
        groups["sample_stats"]["log_q"] = _variable(log_q, ("chain", "draw"), n_chains)
    groups["posterior"] = {name: _latent(prior[name], values, n_chains, names) for name, values in drawn.items()}
    groups["prior"] = {name: _latent(site, site["value"], 1, names) for name, site in prior.items()}
    return container(groups, {}, {"inference_library": "mixpyro", "n_estimated_parameters": 0})


class Program:
    """A model with its data, run in a plate of draws to the left of its own plates.

    Args:
        model: the Pyro model.
        arguments: of the model.
        keywords: keyword arguments of the model.
        max_plate_nesting: depth of the model's nested plates, at least 1.
    """

    def __init__(
        self, model: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any], max_plate_nesting: int
    ) -> None:
        self.model, self.arguments, self.keywords = model, arguments, keywords
        self.max_plate_nesting = max_plate_nesting

    def trace(self, program: Callable[..., Any], n_draws: int) -> poutine.Trace:
        """Run a program in the plate of draws, and return its trace with log densities.

        Args:
            program: the model, a guide, or the model with handlers around it.
            n_draws: S.
        """

        def vectorised() -> None:
            with pyro.plate(DRAWS_PLATE, n_draws, dim=-1 - self.max_plate_nesting):
                program(*self.arguments, **self.keywords)

        trace = poutine.trace(vectorised).get_trace()
        trace.compute_log_prob()
        return trace

    def enumerated(self, drawn: Mapping[str, Tensor], n_draws: int) -> poutine.Trace:
        """Run the model at given draws, with every discrete site at all its values.

        Args:
            drawn: values of the continuous latent sites [S, …] each, by name.
            n_draws: S.
        """
        conditioned = config_enumerate(poutine.condition(self.model, data=dict(drawn)), default="parallel")
        return self.trace(poutine.enum(conditioned, first_available_dim=-2 - self.max_plate_nesting), n_draws)

    def replicated(self, drawn: Mapping[str, Tensor], n_draws: int) -> poutine.Trace:
        """Run the model at given draws, and draw discrete sites and data again.

        Args:
            drawn: values of the continuous latent sites [S, …] each, by name.
            n_draws: S.
        """
        return self.trace(poutine.condition(poutine.uncondition(self.model), data=dict(drawn)), n_draws)


def is_latent(site: Site) -> bool:
    """Whether a node of a trace is a continuous latent variable.

    Args:
        site: the node.
    """
    return (
        site["type"] == "sample"
        and not site["is_observed"]
        and not poutine.util.site_is_subsample(site)
        and not getattr(site["fn"], "has_enumerate_support", False)
    )


def latent_sites(trace: poutine.Trace) -> dict[str, Site]:
    """Return the continuous latent variables of a program, by name.

    Args:
        trace: of the program.
    """
    return {name: site for name, site in trace.nodes.items() if is_latent(site)}


def log_density(sites: Iterable[Site]) -> Tensor:
    """Return the sum of the sites' log densities for each draw [S] in nats, float64.

    Args:
        sites: nodes of a trace whose log densities are computed.
    """
    parts = [site["log_prob"].double().flatten(1).sum(1) for site in sites]
    return torch.stack(parts).sum(0)


def _evaluated_groups(program: Program, drawn: Mapping[str, Tensor], n_chains: int) -> dict[str, dict[str, Variable]]:
    """Return the groups that follow from the data under every draw, and the data themselves."""
    n_draws = len(next(iter(drawn.values())))
    blocks: list[tuple[Tensor, ...]] = []
    for draws in _blocks(program, drawn, n_draws):
        block = {name: values[draws] for name, values in drawn.items()}
        trace = program.enumerated(block, draws.stop - draws.start)
        name, summed_out = _log_likelihood(trace, drawn, program.max_plate_nesting)
        prior = log_density(trace.nodes[latent] for latent in drawn)
        value: Any = program.replicated(block, draws.stop - draws.start).nodes[name]["value"]
        blocks.append((summed_out, prior, value))
    log_likelihood, log_prior, replicated = (as_numpy(torch.cat(parts)) for parts in zip(*blocks, strict=True))
    observed = as_numpy(trace.nodes[name]["value"])
    event = tuple(f"{name}_dim_{axis}" for axis in range(observed.ndim - 1))
    return {
        "posterior_predictive": {name: _variable(replicated, ("chain", "draw", "object", *event), n_chains)},
        "log_likelihood": {name: _variable(log_likelihood, ("chain", "draw", "object"), n_chains)},
        "sample_stats": {"lp": _variable(log_likelihood.sum(1) + log_prior, ("chain", "draw"), n_chains)},
        "observed_data": {name: (("object", *event), observed)},
    }


def _blocks(program: Program, drawn: Mapping[str, Tensor], n_draws: int) -> Iterator[slice]:
    """Return slices of the draws, small enough for memory to stay constant; one draw is run to measure its size."""
    first = {name: values[:1] for name, values in drawn.items()}
    sites = program.enumerated(first, 1).nodes.values()
    largest = max(site["log_prob"].numel() for site in sites if "log_prob" in site)
    return slices(n_draws, rows_per_program(largest, next(iter(first.values())).device))


def _log_likelihood(trace: poutine.Trace, drawn: Mapping[str, Tensor], max_plate_nesting: int) -> tuple[str, Tensor]:
    """Return the observed site's name, and log p(yᵢ | θ) [S, N] with the discrete sites summed out."""
    sites: dict[str, Site] = {
        name: site for name, site in trace.nodes.items() if site["type"] == "sample" and name not in drawn
    }
    plates = {name: [frame.name for frame in site["cond_indep_stack"]] for name, site in sites.items()}
    data = [name for name, site in sites.items() if site["is_observed"] and len(plates[name]) > 1]
    if len(data) != 1:
        raise ValueError(f"`model` must have one observed site inside a plate; got {', '.join(data) or 'none'}.")
    discrete = [name for name, site in sites.items() if site["infer"].get("_enumerate_dim") is not None]
    outside = [name for name in discrete if set(plates[name]) != set(plates[data[0]])]
    if outside:
        raise ValueError(f"`model` must have its discrete sites in the plate of its data; {outside[0]!r} is not.")
    joint = sum((sites[name]["log_prob"] for name in discrete), sites[data[0]]["log_prob"])
    while joint.ndim > 1 + max_plate_nesting:
        joint = joint.logsumexp(0)
    return data[0], joint.flatten(1)


def _device(arguments: Iterable[object]) -> torch.device:
    """Return the first device of the arguments that is not the CPU, else the CPU."""
    devices = [argument.device for argument in arguments if isinstance(argument, Tensor)]
    return next((device for device in devices if device.type != "cpu"), torch.device("cpu"))


def _sites_of_model(sites: Mapping[str, Site], prior: Mapping[str, Site]) -> dict[str, Tensor]:
    """Return a guide's draws of the model's latent variables."""
    missing = [name for name in prior if name not in sites]
    if missing:
        raise ValueError(
            f"`guide` must sample every continuous site that the model does not observe; got no {missing[0]!r}."
        )
    return {name: sites[name]["value"] for name in prior}


def _draws_of_samples(samples: Mapping[str, Tensor], prior: Mapping[str, Site]) -> tuple[dict[str, Tensor], int]:
    """Return draws by MCMC, in the shapes of the model in a plate of draws, and the number of chains."""
    if set(samples) != set(prior):
        raise ValueError(f"`samples` must hold {', '.join(prior)}; got {', '.join(samples)}.")
    n_chains, n_draws = next(iter(samples.values())).shape[:2]
    shaped = {
        name: values.reshape(n_chains * n_draws, *prior[name]["value"].shape[1:]) for name, values in samples.items()
    }
    return shaped, n_chains


def _latent(site: Site, values: Tensor, n_chains: int, axes: Mapping[str, tuple[str, ...]]) -> Variable:
    """Return a latent variable with the names of its plates and then of its own axes."""
    n_batch = values.ndim - site["fn"].event_dim
    plates = {n_batch + frame.dim: frame.name for frame in site["cond_indep_stack"]}
    batch = [axis for axis in range(1, n_batch) if axis in plates]
    event_shape = values.shape[n_batch:]
    default = ("component",) if site["name"].endswith(".weights") else ()
    known = axes.get(site["name"], default)
    numbered = tuple(f"{site['name']}_dim_{axis}" for axis in range(len(event_shape)))
    names = known if len(known) == len(event_shape) else numbered
    shaped = as_numpy(values).reshape(len(values), *(values.shape[axis] for axis in batch), *event_shape)
    return _variable(shaped, ("chain", "draw", *(plates[axis] for axis in batch), *names), n_chains)


def _variable(values: np.ndarray, names: tuple[str, ...], n_chains: int) -> Variable:
    """Split the first axis of an array into chains and draws."""
    return names, values.reshape(n_chains, -1, *values.shape[1:])
