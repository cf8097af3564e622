"""The density of objects that a mixture was not fitted to, rows of a group taken together."""

import copy

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro.experts.banks import Banks
from mixpyro.experts.base import Experts
from mixpyro.experts.conjugate import ConjugateExperts
from mixpyro.mixture import MixtureOfExperts
from mixpyro.numerics import nested


@torch.no_grad()
def log_prob_of_group(mixture: MixtureOfExperts, x: Tensor, y: Tensor, gate_x: Tensor | None) -> float:
    """Return log Σₖ πₖ p(y₁, …, yₙ | x, k) of the rows of one new group in nats.

    The rows have the same parameters, of which each says something for the next:
    p(y₁, …, yₙ | k) = Πᵢ p(yᵢ | y₁, …, yᵢ₋₁, k), by the conjugate update of component k with one row after the other.

    Args:
        mixture: fitted to other groups.
        x: inputs of the rows [n, D].
        y: outputs [n, P].
        gate_x: what the gate reads [n, G]; None for x.
    """
    if len(x) == 1 or mixture.experts.reads_groups:
        groups = torch.zeros(len(x), dtype=torch.long, device=x.device)
        return float(mixture.log_prob(x, y, gate_x=gate_x, groups=groups))
    x, y, gate_x = (part.double() for part in mixture.check_data(x, y, gate_x))
    log_weights = mixture.gate.predictive_assignment(gate_x[:1]).logits.log_softmax(-1)[0]
    return float((log_weights + _in_turn(copy.deepcopy(mixture.experts).double(), x, y)).logsumexp(0))


def _in_turn(experts: Experts, x: Tensor, y: Tensor) -> Float[Tensor, " K"]:
    """Return log p(y₁, …, yₙ | x, k) of rows that have the same parameters [K]."""
    if isinstance(experts, Banks):
        own = zip(experts.members, experts.of_members(y), strict=True)
        return experts.joined([_in_turn(one, one.select_inputs(x), its_y).unsqueeze(-1) for one, its_y in own])[:, 0]
    if not isinstance(experts, ConjugateExperts):
        return experts.log_prob_of_objects(x, y, None).sum(-1)
    return torch.stack([_of_component(experts, k, x, y) for k in range(experts.n_components)])


def _of_component(experts: ConjugateExperts, k: int, x: Tensor, y: Tensor) -> Tensor:
    """Return log p(y₁, …, yₙ | x, k) of rows of one component."""
    learning = copy.deepcopy(experts)
    certain = torch.eye(experts.n_components, dtype=x.dtype, device=x.device)[k : k + 1]
    total = x.new_zeros(())
    for row in range(len(x)):
        own = x[row : row + 1], y[row : row + 1]
        total = total + learning.log_prob_of_objects(*own, None)[k, 0]
        known = learning.statistics_of_posterior(learning.posterior)
        learning.update(nested.add(known, learning.statistics(*own, certain)))
    return total
