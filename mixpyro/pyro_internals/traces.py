"""Traces of a mixture's programs, run for all draws at once."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import pyro
import torch
from jaxtyping import Float
from pyro import poutine
from torch import Tensor

from mixpyro.pyro_internals.parameter_store import unregistered
from mixpyro.pyro_internals.plates import DRAWS_PLATE, is_objects_plate

# A node of a trace, a TypedDict of Pyro most of whose values may be None.
Site: TypeAlias = Any


def is_latent(site: Site) -> bool:
    """Whether a node of a trace is a latent variable.

    Args:
        site: the node.
    """
    return site["type"] == "sample" and not site["is_observed"] and not poutine.util.site_is_subsample(site)


def is_of_an_object(site: Site) -> bool:
    """Whether a node of a trace is a latent variable inside the plate of the objects.

    Args:
        site: the node.
    """
    return site["type"] == "sample" and is_latent(site) and any(map(_is_over_objects, site["cond_indep_stack"]))


def _is_over_objects(frame: Any) -> bool:  # noqa: ANN401 (a frame of Pyro's)
    """Whether a plate is that of the objects."""
    return is_objects_plate(frame.name)


def traced(program: Callable[[], Any], module: torch.nn.Module, n_draws: int) -> poutine.Trace:
    """Run a program in a plate of draws, left of the objects'; the user's store and handlers do not see it.

    Args:
        program: a Pyro program without arguments.
        module: whose parameters the program uses.
        n_draws: S.
    """

    def vectorised() -> Any:  # noqa: ANN401
        with pyro.plate(DRAWS_PLATE, n_draws, dim=-2):
            return program()

    with unregistered(module), poutine.block():
        return poutine.trace(vectorised).get_trace()


def total_density(log_densities: Mapping[str, Tensor], n_draws: int) -> Float[Tensor, " S"]:
    """Return the sum of log densities [S] in nats; zeros of none.

    Args:
        log_densities: [S] each, by the name of the site.
        n_draws: S.
    """
    total = torch.zeros(n_draws, dtype=torch.float64, device="cpu")
    for log_density in log_densities.values():
        total = total.to(log_density) + log_density
    return total


def log_densities(trace: poutine.Trace, names: list[str], n_draws: int) -> dict[str, Tensor]:
    """Return the log density of each site [S] in nats, float64.

    Args:
        trace: of :func:`traced`.
        names: of the sites.
        n_draws: S.
    """
    trace.compute_log_prob(lambda name, site: name in names)
    return {name: trace.nodes[name]["log_prob"].double().reshape(n_draws, -1).sum(-1) for name in names}
