"""The log density of a single output at one value."""

from typing import Any

import torch
from torch import Tensor

from mixpyro.distributions.censored_normal import CensoredNormal
from mixpyro.distributions.concatenated import Concatenated
from mixpyro.distributions.joined_outputs import JoinedOutputs
from mixpyro.distributions.marginals import log_prob_of_seen


def log_density(distribution: Any, value: float, output: int, *, like: Tensor) -> Tensor:  # noqa: ANN401
    """Return the log density of an output at a value under every component [N, K] in nats, −∞ outside the support.

    Other outputs are integrated out. Of censored outcomes it is that of one that is known.

    Args:
        distribution: of y, batch shape [N, K] and event shape [P].
        value: of the output.
        output: its number, from 0.
        like: a tensor of the dtype and device wanted.

    Raises:
        TypeError: if the family has no density of a single output here.
    """
    if isinstance(distribution, Concatenated):
        parts = [log_density(part, value, output, like=like) for part in distribution.parts]
        return torch.cat([part.expand(*distribution.batch_shape[:-1], -1) for part in parts], dim=-1)
    if isinstance(distribution, JoinedOutputs):
        for part, size in zip(distribution.parts, distribution.sizes, strict=True):
            if output < size:
                return log_density(part, value, output, like=like)
            output -= size
    n_outputs = distribution.event_shape[0]
    y = like.new_full((1, 1, n_outputs), value)
    if n_outputs > 1 and not isinstance(distribution, CensoredNormal):
        y[..., [other for other in range(n_outputs) if other != output]] = torch.nan
        return log_prob_of_seen(distribution, y)
    inside = distribution.support.check(y).expand(distribution.batch_shape)
    # Zero is a number of successes of any number of trials.
    log_prob: Tensor = distribution.log_prob(torch.where(inside.unsqueeze(-1), y, 0.0))
    return log_prob.masked_fill(~inside, -torch.inf)
