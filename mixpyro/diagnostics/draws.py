"""Draws of a mixture's parameters, and the log joint of the data under each of them.

A draw is a value of every latent parameter that the objects share. Assignments are summed out, and so are weights that
a gate keeps for each object: given these the objects would be independent, and leaving one out would change nothing for
the others. Such a gate contributes its population's weights.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pyro
import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro import arguments
from mixpyro.diagnostics.conditioning import Conditioned, components_of, conditioned_in_turn, has_weights_of_objects
from mixpyro.diagnostics.observations import Observations
from mixpyro.pyro_internals.plates import objects_plate
from mixpyro.pyro_internals.traces import Site, is_latent, is_of_an_object, log_densities, total_density, traced
from mixpyro.shapes import ObjectIndices


class Draws(NamedTuple):
    """S draws of the latent parameters."""

    sites: dict[str, Tensor]  # [S, …] each, by the name of its site
    log_density: Tensor  # of the parameters that objects share, under the distribution drawn from [S], nats
    log_prior: Tensor | None = None  # of all parameters [S] in nats, where that is known; else the sum over the sites

    @property
    def n_draws(self) -> int:
        """S."""
        return len(self.log_density)


class Evaluation(NamedTuple):
    """The log joint of N objects, and replicated data, under S draws."""

    log_joint: Tensor  # log πᵢₖ + log p(yᵢ | xᵢ, k) [S, N, K], nats, of a group summed over its rows
    log_priors: dict[str, Tensor]  # log density of each site [S] in nats; they sum to log p(θ)
    replicated: Tensor | None  # y of new objects with the same x [S, rows, P]

    @classmethod
    def joined(cls, parts: "Sequence[Evaluation]") -> "Evaluation":
        """Return evaluations under one draw after the other as one.

        Args:
            parts: at least one.
        """
        first = parts[0]
        return cls(
            torch.cat([part.log_joint for part in parts]),
            {name: torch.cat([part.log_priors[name] for part in parts]) for name in first.log_priors},
            None if first.replicated is None else torch.cat([p.replicated for p in parts if p.replicated is not None]),
        )

    @property
    def log_prior(self) -> Float[Tensor, " S"]:
        """log p(θ) [S] in nats."""
        return total_density(self.log_priors, len(self.log_joint))

    @property
    def log_likelihood(self) -> Float[Tensor, "S N"]:
        """log p(yᵢ | xᵢ, θ) [S, N] in nats, the assignment summed out."""
        return self.log_joint.logsumexp(-1)

    @property
    def responsibilities(self) -> Float[Tensor, "S N K"]:
        """p(zᵢ = k | yᵢ, θ) [S, N, K]."""
        return self.log_joint.softmax(-1)


@torch.no_grad()
@arguments.outside_contexts
def draw(program: Callable[[], Any], module: torch.nn.Module, n_draws: int) -> Draws:
    """Run a program that samples latent sites once, vectorised over the draws.

    Args:
        program: a Pyro program without arguments.
        module: whose parameters the program uses; the user's parameter store does not see them.
        n_draws: S.
    """
    trace = traced(program, module, n_draws)
    sites: dict[str, Site] = {name: site for name, site in trace.nodes.items() if is_latent(site)}
    shared = [name for name, site in sites.items() if not is_of_an_object(site)]
    values = {name: site["value"].squeeze(1) if name in shared else site["value"] for name, site in sites.items()}
    return Draws(values, total_density(log_densities(trace, shared, n_draws), n_draws))


def draw_from_posterior(data: Observations, n_draws: int, *, objects: ObjectIndices | None, of_objects: bool) -> Draws:
    """Draw from the analytic posterior.

    Args:
        data: the mixture and its rows.
        n_draws: S.
        objects: which objects of the last update the rows are; None for new ones.
        of_objects: whether to draw weights that a gate keeps for each object too.
    """
    with_gate = of_objects or not has_weights_of_objects(data.mixture.gate)

    def guide() -> None:
        data.mixture.experts.guide(data.x)
        if with_gate:
            data.mixture.gate.guide_of_rows(data.gate_x, (objects_plate(data.gate_x),), objects=objects)

    return draw(guide, data.mixture, n_draws)


def draw_from_prior(data: Observations, n_draws: int) -> Draws:
    """Draw from the prior of the parameters that objects share.

    Args:
        data: the mixture and its rows.
        n_draws: S.
    """
    with_gate = not has_weights_of_objects(data.mixture.gate)

    def model() -> None:
        data.mixture.experts.model(data.x)
        if with_gate:
            data.mixture.gate.assignment_prior(data.gate_x, plate=objects_plate(data.gate_x))

    return draw(model, data.mixture, n_draws)


def draws_of_samples(samples: Mapping[str, Tensor], data: Observations) -> tuple[Draws, int]:
    """Return draws by MCMC, chains one after the other, and the number of chains.

    Args:
        samples: [chains, draws, …] each, by the name of the site.
        data: the mixture and its rows.

    Raises:
        ValueError: if a site is missing, or a shape does not fit.
    """
    wanted = draw_from_prior(data, 1).sites
    missing = ", ".join(name for name in wanted if name not in samples)
    if missing:
        raise ValueError(f"`samples` must hold every latent site of the mixture's model; {missing} is missing.")
    sites = {}
    for name, values in samples.items():
        shape = wanted[name].shape[1:] if name in wanted else values.shape[2:]
        if values.shape[2:] != shape:
            raise ValueError(
                f"`samples` must have [chains, draws, {', '.join(map(str, shape))}] for {name}; got "
                f"{list(values.shape)}. Use mcmc.get_samples(group_by_chain=True)."
            )
        sites[name] = values.flatten(0, 1).to(data.x.device)
    if not sites:
        raise ValueError("`samples` must hold at least one latent site; got none.")
    n_chains, n_draws = next(iter(samples.values())).shape[:2]
    return Draws(sites, torch.full((n_chains * n_draws,), torch.nan, dtype=torch.float64, device="cpu")), n_chains


@torch.no_grad()
@arguments.outside_contexts
def evaluate(data: Observations, sites: Mapping[str, Tensor], n_draws: int, *, replicate: bool = False) -> Evaluation:
    """Evaluate the log joint of all rows under all draws at once; pass blocks of both.

    Args:
        data: the mixture and its rows.
        sites: draws of the latent sites, [S, …] each, by name.
        n_draws: S.
        replicate: whether to draw y of new objects with the same x too.
    """
    found = [
        _evaluated(data, model, n, replicate)
        for model, n in conditioned_in_turn(data.mixture, data.x, data.gate_x, sites, n_draws)
    ]
    return found[0] if len(found) == 1 else Evaluation.joined(found)


def _evaluated(data: Observations, model: Conditioned, n_draws: int, replicate: bool) -> Evaluation:
    """Evaluate the log joint of all rows under draws that the model is at."""
    log_likelihood = _log_likelihood(data, model)
    if log_likelihood.ndim == 2:  # of parameters that are no site, without an axis of draws
        log_likelihood = log_likelihood.unsqueeze(1)
    shape = n_draws, data.n_objects, data.mixture.n_components
    log_joint = (model.log_weights + log_likelihood.movedim(0, -1)).expand(shape)
    replicated = _replicated(data, model, n_draws) if replicate else None
    return Evaluation(log_joint, model.log_priors, replicated)


def _log_likelihood(data: Observations, model: Conditioned) -> Tensor:
    """Return log p(y | x, k) of the objects [K, S, N] in nats, or [K, N] of parameters without an axis of draws."""
    experts, components = data.mixture.experts, components_of(data.mixture, data.x)
    if data.segments is not None:
        return experts.log_likelihood_of_groups(data.x, data.y, data.groups, model.parameters, components)
    found: Tensor = experts.likelihood(data.x, model.parameters, components).log_prob(data.y)
    return found


@torch.no_grad()
@arguments.outside_contexts
def draw_outcomes(data: Observations, sites: Mapping[str, Tensor], n_draws: int) -> Tensor:
    """Return y of new objects with the same x under all draws at once [S, rows, P]; pass blocks of both.

    Args:
        data: the mixture and its rows; y is not read.
        sites: draws of the latent sites, [S, …] each, by name.
        n_draws: S.
    """
    models = conditioned_in_turn(data.mixture, data.x, data.gate_x, sites, n_draws)
    return torch.cat([_replicated(data, model, n) for model, n in models])


def _replicated(data: Observations, model: Conditioned, n_draws: int) -> Tensor:
    """Draw an assignment of each object, and then y [S, rows, P]."""
    # Not by torch's Categorical: its weights of all objects take longer than all else, and a shared gate has one row.
    reached = model.log_weights.double().softmax(-1).cumsum(-1)[..., :-1]
    uniform = torch.rand(n_draws, data.n_objects, 1, dtype=torch.float64, device=data.x.device)
    assignment = (uniform > reached).sum(-1)
    if data.segments is not None:
        plate = pyro.plate("rows of new objects", len(data.x), dim=-1)
        # So that latents of groups are drawn anew for each draw of the parameters.
        with pyro.plate("draws of new objects", n_draws, dim=-2):
            return data.mixture.experts.sample_rows_of_groups(data.x, data.groups, model.parameters, assignment, plate)
    drawn: Tensor = data.mixture.experts.likelihood(data.x, model.parameters, assignment).sample()
    return drawn
