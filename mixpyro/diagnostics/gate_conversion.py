"""Conversion of a gate alone to ArviZ."""

import torch

from mixpyro import arguments
from mixpyro.arguments.module_contents import refuse_without_values
from mixpyro.diagnostics.arrays import as_numpy
from mixpyro.diagnostics.arviz_versions import ArvizData, container
from mixpyro.diagnostics.draws import draw
from mixpyro.diagnostics.estimates import estimates
from mixpyro.diagnostics.mixture_groups import (
    attributes_of,
    labels_of_gate,
    latent_variables,
)
from mixpyro.diagnostics.names import Named
from mixpyro.diagnostics.point_masses import point_estimates, without_point_estimates
from mixpyro.gates.base import Gate
from mixpyro.numerics.random_numbers import own_random_numbers
from mixpyro.pyro_internals.plates import objects_plate
from mixpyro.shapes import ObjectIndices


def gate_to_arviz(gate: Gate, x: Named, objects: ObjectIndices | None, n_draws: int, seed: int) -> ArvizData:
    """Convert draws of a gate's weights, and their means for every object.

    Args:
        gate: whose weights they are.
        x: what it reads [N, G], with names of the columns.
        objects: which objects of the last update the rows are; new ones where None.
        n_draws: of posterior and prior.
        seed: of the draws.
    """
    refuse_without_values("fitted", gate)
    inputs = arguments.inputs(x.values).detach()
    labels = labels_of_gate(gate, x)

    def guide() -> None:
        gate.guide_of_rows(inputs, (objects_plate(inputs),), objects=objects)

    with own_random_numbers(seed):
        posterior = draw(guide, gate, n_draws)
        prior = draw(lambda: gate.assignment_prior(inputs, plate=objects_plate(inputs)), gate, n_draws)
        kept = without_point_estimates(posterior, point_estimates(guide, gate))
    with torch.no_grad():
        weights = as_numpy(gate.weights(inputs, objects=objects))
    groups = {
        "posterior": latent_variables(kept, 1, gate, labels),
        "prior": latent_variables(prior, 1, gate, labels),
        "constant_data": {
            "x": (("object", "feature"), as_numpy(inputs)),
            gate.site("mean_weights"): (("object", "component"), weights),
            **estimates(gate, labels),
        },
    }
    attributes = attributes_of(gate, kept.sites)
    return container({name: group for name, group in groups.items() if group}, labels, attributes)
