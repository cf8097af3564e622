"""A Pyro program of one's own, which holds a gate, as ArviZ has it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyro
import torch
from pyro import poutine
from pyro.infer import config_enumerate
from torch import Tensor

from mixpyro.arguments import integer
from mixpyro.diagnostics.arviz_versions import ArvizData, Variable, container
from mixpyro.diagnostics.conversion import as_numpy
from mixpyro.diagnostics.draws import BLOCK_NUMBERS, Site, own_random_numbers
from mixpyro.pyro_internals.plates import DRAWS_PLATE


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
    """Draws from the posterior of a Pyro model that holds a gate, and what they say of its data, for ArviZ.

    Groups as :func:`mixpyro.to_arviz`, but for ``constant_data``. Discrete sites such as ``gate.assignment`` are summed
    out of ``log_likelihood``. The model must be one that Pyro can vectorise over a plate, as its ``Predictive`` with
    ``parallel=True`` asks for, with all its data, not a minibatch. Latent variables of single objects, as
    :class:`mixpyro.ObjectDirichletGate` has them, are not summed out: leave-one-out asks of such draws more than they
    can give, as its k-hat then says.

    Args:
        model: with one observed site, of one value for each object of its plate.
        *arguments: of model and guide.
        guide: draws come from its continuous sites; auxiliary ones, as automatic guides have, count in ``log_q`` alone.
        samples: draws by MCMC instead of a guide, ``mcmc.get_samples(group_by_chain=True)``, [chains, draws, …] each.
        max_plate_nesting: how many plates of the model stand in each other.
        axes: names of the axes of a site's value, those of plates left out; a gate's weights have ``component``.
        n_draws: how many draws from the guide and the prior.
        seed: of the draws, at least 0; the global random state is neither used nor changed.
        **keywords: of model and guide.

    Raises:
        ValueError: if there is not one observed site in a plate, a discrete site is not in the same plate, or the guide
            does not sample a continuous site of the model.
    """
    if (guide is None) == (samples is None):
        raise ValueError(f"`guide` or `samples` must be given; got {'neither' if guide is None else 'both'}.")
    n_draws = integer("n_draws", n_draws)
    program = Program(model, arguments, keywords, integer("max_plate_nesting", max_plate_nesting))
    names = axes or {}
    with torch.no_grad(), own_random_numbers(_device([*arguments, *keywords.values()]), seed):
        prior = latent_sites(program.trace(model, n_draws))
        if guide is not None:
            with poutine.block():  # An automatic guide's first call is where it learns of the model's plates, not ours.
                guide(*arguments, **keywords)
            sites, n_chains = latent_sites(program.trace(guide, n_draws)), 1
            drawn = _of_model(sites, prior)
            log_q = as_numpy(log_density(sites.values()))
        else:
            assert samples is not None
            drawn, n_chains = _given(samples, prior)
            log_q = None
        groups = _said_of_data(program, drawn, n_chains)
    if log_q is not None:
        groups["sample_stats"]["log_q"] = _variable(log_q, ("chain", "draw"), n_chains)
    groups["posterior"] = {name: _latent(prior[name], values, n_chains, names) for name, values in drawn.items()}
    groups["prior"] = {name: _latent(site, site["value"], 1, names) for name, site in prior.items()}
    return container(groups, {}, {"inference_library": "mixpyro", "n_estimated_parameters": 0})


class Program:
    """A model with its data, run in a plate of draws to the left of its own.

    Args:
        model: the Pyro model.
        arguments: its arguments.
        keywords: its keyword arguments.
        max_plate_nesting: how many plates of the model stand in each other.
    """

    def __init__(
        self, model: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any], max_plate_nesting: int
    ) -> None:
        self.model, self.arguments, self.keywords = model, arguments, keywords
        self.max_plate_nesting = max_plate_nesting

    def trace(self, program: Callable[..., Any], n_draws: int) -> poutine.Trace:
        """Run the model, a guide, or the model with effects around it."""

        def vectorised() -> None:
            with pyro.plate(DRAWS_PLATE, n_draws, dim=-1 - self.max_plate_nesting):
                program(*self.arguments, **self.keywords)

        trace = poutine.trace(vectorised).get_trace()
        trace.compute_log_prob()
        return trace

    def enumerated(self, drawn: Mapping[str, Tensor], n_draws: int) -> poutine.Trace:
        """The model at the draws, every discrete site at all its values."""
        conditioned = config_enumerate(poutine.condition(self.model, data=dict(drawn)), default="parallel")
        return self.trace(poutine.enum(conditioned, first_available_dim=-2 - self.max_plate_nesting), n_draws)

    def replicated(self, drawn: Mapping[str, Tensor], n_draws: int) -> poutine.Trace:
        """The model at the draws, with discrete sites and data drawn anew."""
        return self.trace(poutine.condition(poutine.uncondition(self.model), data=dict(drawn)), n_draws)


def is_latent(site: Site) -> bool:
    """Whether this is a continuous latent variable."""
    return (
        site["type"] == "sample"
        and not site["is_observed"]
        and not poutine.util.site_is_subsample(site)
        and not getattr(site["fn"], "has_enumerate_support", False)
    )


def latent_sites(trace: poutine.Trace) -> dict[str, Site]:
    """The continuous latent variables of a program, by name."""
    return {name: site for name, site in trace.nodes.items() if is_latent(site)}


def log_density(sites: Iterable[Site]) -> Tensor:
    """Σ of the sites' log densities, a value for each draw [S], float64."""
    parts = [site["log_prob"].double().flatten(1).sum(1) for site in sites]
    return torch.stack(parts).sum(0)


def _said_of_data(program: Program, drawn: Mapping[str, Tensor], n_chains: int) -> dict[str, dict[str, Variable]]:
    n_draws = len(next(iter(drawn.values())))
    found: list[tuple[Any, ...]] = []
    for draws in _blocks(program, drawn, n_draws):
        block = {name: values[draws] for name, values in drawn.items()}
        trace = program.enumerated(block, draws.stop - draws.start)
        name, summed_out = _log_likelihood(trace, drawn, program.max_plate_nesting)
        prior = log_density(trace.nodes[latent] for latent in drawn)
        value = program.replicated(block, draws.stop - draws.start).nodes[name]["value"]
        found.append((summed_out, prior, value))
    log_likelihood, log_prior, replicated = (as_numpy(torch.cat(parts)) for parts in zip(*found, strict=True))
    observed = as_numpy(trace.nodes[name]["value"])
    event = tuple(f"{name}_dim_{axis}" for axis in range(observed.ndim - 1))
    return {
        "posterior_predictive": {name: _variable(replicated, ("chain", "draw", "object", *event), n_chains)},
        "log_likelihood": {name: _variable(log_likelihood, ("chain", "draw", "object"), n_chains)},
        "sample_stats": {"lp": _variable(log_likelihood.sum(1) + log_prior, ("chain", "draw"), n_chains)},
        "observed_data": {name: (("object", *event), observed)},
    }


def _blocks(program: Program, drawn: Mapping[str, Tensor], n_draws: int) -> Iterator[slice]:
    """Slices of the draws, so that memory stays flat: one draw says how much it takes."""
    one = program.enumerated({name: values[:1] for name, values in drawn.items()}, 1)
    largest = max(site["log_prob"].numel() for site in one.nodes.values() if "log_prob" in site)
    step = max(1, BLOCK_NUMBERS // largest)
    return (slice(first, min(first + step, n_draws)) for first in range(0, n_draws, step))


def _log_likelihood(trace: poutine.Trace, drawn: Mapping[str, Tensor], max_plate_nesting: int) -> tuple[str, Tensor]:
    """Name of the observed site, and log p(yᵢ | θ) [S, N] with the discrete sites summed out."""
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
    """Where any of the data are that are not on the CPU."""
    devices = [argument.device for argument in arguments if isinstance(argument, Tensor)]
    return next((device for device in devices if device.type != "cpu"), torch.device("cpu"))


def _of_model(sites: Mapping[str, Site], prior: Mapping[str, Site]) -> dict[str, Tensor]:
    """A guide's draws of the model's latent variables."""
    missing = [name for name in prior if name not in sites]
    if missing:
        raise ValueError(
            f"`guide` must sample every continuous site that the model does not observe; got no {missing[0]!r}."
        )
    return {name: sites[name]["value"] for name in prior}


def _given(samples: Mapping[str, Tensor], prior: Mapping[str, Site]) -> tuple[dict[str, Tensor], int]:
    """Draws by MCMC, shaped as the model in a plate of draws has them, and how many chains there are."""
    if set(samples) != set(prior):
        raise ValueError(f"`samples` must hold {', '.join(prior)}; got {', '.join(samples)}.")
    n_chains, n_draws = next(iter(samples.values())).shape[:2]
    shaped = {
        name: values.reshape(n_chains * n_draws, *prior[name]["value"].shape[1:]) for name, values in samples.items()
    }
    return shaped, n_chains


def _latent(site: Site, values: Tensor, n_chains: int, axes: Mapping[str, tuple[str, ...]]) -> Variable:
    """A latent variable with the names of its plates, then its own axes."""
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
    return names, values.reshape(n_chains, -1, *values.shape[1:])
