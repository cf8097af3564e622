"""Draws of a mixture's parameters, and what each of them says of the data.

A draw is a value for every latent parameter that objects share. Assignments are summed out, and so are the weights that
a gate gives each object for itself: given these no object would say anything on another, and leaving one out could not
be told from leaving none out. What remains of such a gate is its population's weights.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias

import pyro
import torch
from jaxtyping import Float
from pyro import poutine
from torch import Tensor

from mixpyro import arguments
from mixpyro.gates.base import Gate, categorical
from mixpyro.mixture import MixtureOfExperts
from mixpyro.pyro_internals.parameter_store import unregistered
from mixpyro.pyro_internals.plates import DRAWS_PLATE, objects_plate

# Numbers in the largest temporary of a block: 16 MB of float64.
BLOCK_NUMBERS = 2**21
BLOCK_ROWS = 2**14

# A node of a trace, a TypedDict of Pyro most of whose values may be None.
Site: TypeAlias = Any

OBJECTS = objects_plate(torch.empty(1, 0)).name


class Data(NamedTuple):
    """A mixture and its data."""

    mixture: MixtureOfExperts
    x: Tensor  # what the experts see [N, D]
    y: Tensor  # [N, P]
    gate_x: Tensor  # [N, G]

    @classmethod
    def checked(cls, mixture: MixtureOfExperts, x: Tensor, y: Tensor, gate_x: Tensor | None) -> "Data":
        """Raise if the data do not fit the mixture."""
        return cls(mixture, *(part.detach() for part in mixture.check_data(x, y, gate_x)))

    def rows(self, rows: slice) -> "Data":
        """Some of the objects."""
        return Data(self.mixture, self.x[rows], self.y[rows], self.gate_x[rows])

    def blocks(self, n_draws: int) -> Iterator[tuple[slice, slice]]:
        """Slices of the draws and of the objects, small enough for memory to stay flat."""
        for first_row in range(0, len(self.x), BLOCK_ROWS):
            rows = slice(first_row, min(first_row + BLOCK_ROWS, len(self.x)))
            a_draw = (rows.stop - rows.start) * self.mixture.n_components * self.y.shape[1] * (self.x.shape[1] + 1)
            step = max(1, BLOCK_NUMBERS // a_draw)
            for first in range(0, n_draws, step):
                yield slice(first, min(first + step, n_draws)), rows


class Draws(NamedTuple):
    """S draws of the latent parameters, by the names of their sites."""

    sites: dict[str, Tensor]  # each [S, …]
    log_density: Tensor  # under what they were drawn from, parameters of single objects left out [S], nats

    @property
    def n_draws(self) -> int:
        """S."""
        return len(self.log_density)


class Evaluated(NamedTuple):
    """What S draws say of N objects."""

    log_joint: Tensor  # log πᵢₖ + log p(yᵢ | xᵢ, k) [S, N, K], nats
    log_prior: Tensor  # log p(θ) [S], nats
    replicated: Tensor | None  # y of new objects with the same x [S, N, P]

    @property
    def log_likelihood(self) -> Float[Tensor, "S N"]:
        """log p(yᵢ | xᵢ, θ), the assignment summed out."""
        return self.log_joint.logsumexp(-1)

    @property
    def responsibilities(self) -> Float[Tensor, "S N K"]:
        """p(zᵢ = k | yᵢ, θ)."""
        return self.log_joint.softmax(-1)


@contextmanager
def own_random_numbers(device: torch.device, seed: int) -> Iterator[None]:
    """Random numbers from ``seed``; the global state is as before afterwards."""
    seed = arguments.integer("seed", seed, least=0)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        # Not torch.manual_seed: it reseeds every device, also those that are not put back.
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


@torch.no_grad()
def draw(program: Callable[[], Any], module: torch.nn.Module, n_draws: int) -> Draws:
    """Run a program that samples latent sites once, vectorised over the draws."""
    trace = _traced(program, module, n_draws)
    sites: dict[str, Site] = {name: site for name, site in trace.nodes.items() if is_latent(site)}
    shared = [name for name, site in sites.items() if not is_of_an_object(site)]
    values = {name: site["value"].squeeze(1) if name in shared else site["value"] for name, site in sites.items()}
    return Draws(values, _log_density(trace, shared, n_draws))


def draw_from_posterior(data: Data, n_draws: int, *, of_objects: bool) -> Draws:
    """Draws from the analytic posterior; ``of_objects`` says whether of weights that single objects have, too."""
    with_gate = of_objects or not has_weights_of_objects(data.mixture.gate)

    def guide() -> None:
        data.mixture.experts.guide(data.x)
        if with_gate:
            data.mixture.gate.guide(data.gate_x)

    return draw(guide, data.mixture, n_draws)


def draw_from_prior(data: Data, n_draws: int) -> Draws:
    """Draws from the prior of what objects share."""
    with_gate = not has_weights_of_objects(data.mixture.gate)

    def model() -> None:
        data.mixture.experts.model(data.x)
        if with_gate:
            data.mixture.gate.assignment_prior(data.gate_x, plate=objects_plate(data.gate_x))

    return draw(model, data.mixture, n_draws)


class AtDraws(NamedTuple):
    """Gate and experts with their parameters at S draws."""

    parameters: Any  # as the experts' model returns them, with two axes of S and 1 in front
    log_weights: Tensor  # log πᵢₖ, [S, N, K] or what broadcasts to it
    log_prior: Tensor  # log p(θ) [S], nats


@torch.no_grad()
def at_draws(
    mixture: MixtureOfExperts, x: Tensor, gate_x: Tensor, sites: Mapping[str, Tensor], n_draws: int
) -> AtDraws:
    """The model's parameters and weights where its latent sites have the values of the draws, [S, …] each."""
    of_objects = has_weights_of_objects(mixture.gate)
    own = mixture.gate.site("") if of_objects else None
    shared = {name: values.unsqueeze(1) for name, values in sites.items() if own is None or not name.startswith(own)}

    def conditioned() -> tuple[Any, Tensor]:
        parameters = mixture.experts.model(x)
        if of_objects:
            return parameters, categorical(mixture.gate.unseen_weights(gate_x)).logits
        return parameters, mixture.gate.assignment_prior(gate_x, plate=objects_plate(gate_x)).logits

    trace = _traced(poutine.condition(conditioned, data=shared), mixture, n_draws)
    returned: Any = trace.nodes["_RETURN"]["value"]
    parameters, log_weights = returned
    return AtDraws(parameters, log_weights, _log_density(trace, list(shared), n_draws))


@torch.no_grad()
def evaluate(data: Data, sites: Mapping[str, Tensor], n_draws: int, *, replicate: bool = False) -> Evaluated:
    """What S draws, [S, …] each, say of the data. All at once: pass blocks of both."""
    experts = data.mixture.experts
    at = at_draws(data.mixture, data.x, data.gate_x, sites, n_draws)
    log_likelihood = experts.likelihood(data.x, at.parameters, components_of(data.mixture, data.x)).log_prob(data.y)
    shape = n_draws, len(data.x), data.mixture.n_components
    log_joint = (at.log_weights + log_likelihood.movedim(0, -1)).expand(shape)
    replicated = None
    if replicate:
        assignment = torch.distributions.Categorical(logits=at.log_weights.expand(shape)).sample()
        replicated = experts.likelihood(data.x, at.parameters, assignment).sample()
    return Evaluated(log_joint, at.log_prior, replicated)


def components_of(mixture: MixtureOfExperts, x: Tensor) -> Tensor:
    """Every component's number [K, 1, 1], left of the draws and the objects."""
    return torch.arange(mixture.n_components, device=x.device).reshape(-1, 1, 1)


def has_weights_of_objects(gate: Gate) -> bool:
    """Whether the gate samples weights inside the plate of the objects."""
    x = torch.zeros(1, getattr(gate, "n_features", 0))
    trace = _traced(lambda: gate.guide(x), gate, 1)
    return any(is_of_an_object(site) for site in trace.nodes.values())


def is_latent(site: Site) -> bool:
    """Whether this is a site of a latent variable."""
    return site["type"] == "sample" and not site["is_observed"] and not poutine.util.site_is_subsample(site)


def is_of_an_object(site: Site) -> bool:
    """Whether this is a latent variable inside the plate of the objects."""
    return site["type"] == "sample" and is_latent(site) and any(f.name == OBJECTS for f in site["cond_indep_stack"])


def _traced(program: Callable[[], Any], module: torch.nn.Module, n_draws: int) -> poutine.Trace:
    """Run a program in a plate of draws, left of the objects'; the user's store and handlers see nothing of it."""

    def vectorised() -> Any:  # noqa: ANN401
        with pyro.plate(DRAWS_PLATE, n_draws, dim=-2):
            return program()

    with unregistered(module), poutine.block():
        return poutine.trace(vectorised).get_trace()


def _log_density(trace: poutine.Trace, names: list[str], n_draws: int) -> Tensor:
    """Σ of the sites' log densities [S], float64."""
    trace.compute_log_prob(lambda name, site: name in names)
    total = torch.zeros(n_draws, dtype=torch.float64)
    for name in names:
        log_prob = trace.nodes[name]["log_prob"].double()
        total = total.to(log_prob) + log_prob.reshape(n_draws, -1).sum(-1)
    return total
