"""Latent sites that a guide has one value for: estimates without a posterior."""

from collections.abc import Callable
from typing import Any

import torch
from pyro.distributions import Delta
from torch import Tensor

from mixpyro import arguments
from mixpyro.diagnostics.draws import Draws
from mixpyro.diagnostics.observations import Observations
from mixpyro.numerics.random_numbers import own_random_numbers
from mixpyro.pyro_internals.plates import objects_plate
from mixpyro.pyro_internals.traces import is_latent, is_of_an_object, traced


def is_point_mass(fn: Any) -> bool:  # noqa: ANN401 (any distribution)
    """Whether a distribution is a point mass, behind whatever reshapes or masks it.

    Args:
        fn: of a site.
    """
    while hasattr(fn, "base_dist") and not isinstance(fn, Delta):
        fn = fn.base_dist
    return isinstance(fn, Delta)


@torch.no_grad()
@arguments.outside_contexts
def point_estimates(guide: Callable[[], Any], module: torch.nn.Module) -> dict[str, Tensor]:
    """Return the value [1, …] of each latent site that a guide has one value for, by name.

    Args:
        guide: a Pyro program without arguments.
        module: whose parameters it uses.
    """
    nodes: dict[str, Any] = dict(traced(guide, module, 1).nodes)
    return {
        name: site["value"].squeeze(1)
        for name, site in nodes.items()
        if is_latent(site) and not is_of_an_object(site) and is_point_mass(site["fn"])
    }


def estimates_of_mixture(data: Observations) -> dict[str, Tensor]:
    """Return the value [1, …] of each latent site of a mixture that is estimated, by name.

    Args:
        data: the mixture and its rows, of which one is read.
    """
    x, gate_x = data.x[:1], data.gate_x[:1]

    def guide() -> None:
        data.mixture.experts.guide(x)
        data.mixture.gate.guide_of_rows(gate_x, (objects_plate(gate_x),))

    with own_random_numbers(0):
        return point_estimates(guide, data.mixture)


def without_point_estimates(drawn: Draws, estimates: dict[str, Tensor]) -> Draws:
    """Return the draws without sites that are at their estimate in all of them.

    Args:
        drawn: of a guide.
        estimates: result of :func:`point_estimates`.
    """
    kept = {
        name: values
        for name, values in drawn.sites.items()
        if name not in estimates or not bool((values == estimates[name].to(values)).all())
    }
    return drawn._replace(sites=kept)
