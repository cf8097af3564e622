"""A mixture's model at given draws of its parameters."""

import functools
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from pyro import poutine
from torch import Tensor

from mixpyro import arguments
from mixpyro.diagnostics.estimated_draws import model_of, with_parameters
from mixpyro.gates.base import Gate, categorical
from mixpyro.mixture import MixtureOfExperts
from mixpyro.numerics.random_numbers import own_random_numbers
from mixpyro.pyro_internals.plates import objects_plate
from mixpyro.pyro_internals.traces import is_of_an_object, log_densities, traced


class Conditioned(NamedTuple):
    """A mixture's model with its latent parameters at S draws."""

    parameters: Any  # as the experts' model returns them, with leading axes of S and 1
    log_weights: Tensor  # log πᵢₖ in nats, broadcastable to [S, N, K]
    log_priors: dict[str, Tensor]  # log density of each site [S], nats


def conditioned_in_turn(
    mixture: MixtureOfExperts, x: Tensor, gate_x: Tensor, sites: Mapping[str, Tensor], n_draws: int
) -> Iterator[tuple[Conditioned, int]]:
    """Yield the model's parameters and weights at given draws of its parameters, and how many draws they are of.

    All draws are in one, unless estimated parameters have draws that the model has no site for: then each is by itself.

    Args:
        mixture: the model.
        x: what the experts read [N, D].
        gate_x: what the gate reads [N, G].
        sites: [S, …] each, by name, those of estimated parameters among them. Weights of single objects are not read.
        n_draws: S.
    """
    model = model_of(mixture, sites)
    own = {name: values for name, values in sites.items() if name not in model.swapped}
    if not model.swapped:
        yield conditioned_on(model.mixture, x, gate_x, own, n_draws, flat=model.flat), n_draws
        return
    of_objects = has_weights_of_objects(model.mixture.gate)
    for draw in range(n_draws):
        one = {name: values[draw : draw + 1] for name, values in own.items()}
        parameters = {name: sites[site][draw] for site, name in model.swapped.items()}
        conditioned = functools.partial(
            conditioned_on, model.mixture, x, gate_x, one, 1, flat=model.flat, of_objects=of_objects
        )
        yield with_parameters(model.mixture, parameters, conditioned), 1


@torch.no_grad()
@arguments.outside_contexts
def conditioned_on(
    mixture: MixtureOfExperts,
    x: Tensor,
    gate_x: Tensor,
    sites: Mapping[str, Tensor],
    n_draws: int,
    *,
    flat: Collection[str] = (),
    of_objects: bool | None = None,
) -> Conditioned:
    """Return the model's parameters and weights at given draws of its latent sites.

    Args:
        mixture: the model.
        x: what the experts read [N, D].
        gate_x: what the gate reads [N, G].
        sites: [S, …] each, by name. Weights of single objects are not read.
        n_draws: S.
        flat: names of sites whose prior does not count.
        of_objects: whether the gate samples weights for each object, where that is known: to find out takes as long as
            all else.
    """
    of_objects = has_weights_of_objects(mixture.gate) if of_objects is None else of_objects
    own = mixture.gate.site("") if of_objects else None
    shared = {name: values.unsqueeze(1) for name, values in sites.items() if own is None or not name.startswith(own)}

    def model() -> tuple[Any, Tensor]:
        parameters = mixture.experts.model(x)
        if of_objects:
            return parameters, categorical(mixture.gate.weights(gate_x)).logits
        return parameters, mixture.gate.assignment_prior(gate_x, plate=objects_plate(gate_x)).logits

    # What the programs draw beside the given sites is not read.
    with own_random_numbers(0):
        trace = traced(poutine.condition(model, data=shared), mixture, n_draws)
    returned: Any = trace.nodes["_RETURN"]["value"]
    parameters, log_weights = returned
    counted = [name for name in shared if name not in flat]
    return Conditioned(parameters, log_weights, log_densities(trace, counted, n_draws))


def components_of(mixture: MixtureOfExperts, x: Tensor) -> Tensor:
    """Return the number of every component [K, 1, 1], left of the draws and the objects.

    Args:
        mixture: of K components.
        x: a tensor on the device wanted.
    """
    return torch.arange(mixture.n_components, device=x.device).reshape(-1, 1, 1)


def has_weights_of_objects(gate: Gate) -> bool:
    """Whether a gate samples weights for each object, inside the plate of the objects.

    Args:
        gate: any gate.
    """
    empty = torch.empty(0, dtype=torch.float32, device="cpu")
    like = next((tensor for tensor in (*gate.parameters(), *gate.buffers())), empty)
    x = torch.zeros(1, getattr(gate, "n_features", 0), dtype=like.dtype, device=like.device)
    with own_random_numbers(0):
        trace = traced(lambda: gate.guide_of_rows(x, (objects_plate(x),)), gate, 1)
    return any(is_of_an_object(site) for site in trace.nodes.values())
