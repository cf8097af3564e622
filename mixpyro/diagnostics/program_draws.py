"""Draws of the continuous latent sites of a Pyro program."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from mixpyro.diagnostics.program_runs import LOG_DENSITY, Program, is_latent, results_of
from mixpyro.diagnostics.program_samples import SampledSites, point_estimates


class Draws(NamedTuple):
    """Draws of the continuous latent sites of a model, S in all, in chains one after the other."""

    values: dict[str, Tensor]  # [S, …] each, shaped as in one run, by name
    log_q: Tensor | None  # log density of the guide [S] in nats; None without a guide
    n_chains: int
    n_draws: int  # S
    estimated: tuple[str, ...] = ()  # names of the sites that the guide has one value for

    by_mcmc: bool = False  # whether they are of the exact posterior

    @property
    def without_estimates(self) -> dict[str, Tensor]:
        """The draws of the other sites."""
        return {name: values for name, values in self.values.items() if name not in self.estimated}


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
    return Draws(values, None, n_chains, n_chains * n_draws, by_mcmc=bool(values))


def draws_of_guide(guide: Program, model: Program, n_draws: int) -> Draws:
    """Return a guide's draws of the model's latent variables.

    Args:
        guide: the program.
        model: the program that it is a guide of.
        n_draws: S.

    Raises:
        ValueError: if the guide does not sample a continuous site of the model.
    """
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
    return Draws(values, results[LOG_DENSITY], 1, n_draws, tuple(point_estimates(values, guide, model)))
