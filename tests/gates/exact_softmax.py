"""The exact posterior of a multinomial regression with known components, by importance sampling."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

# N, K, D, scale of the true coefficients.
PROBLEMS = (
    (100, 3, 1, 1.0),
    (100, 3, 1, 3.0),
    (300, 3, 2, 1.0),
    (300, 3, 2, 3.0),
    (300, 5, 2, 1.0),
    (1000, 5, 2, 2.0),
)
DEGREES = 10.0


class Exact(NamedTuple):
    """Moments of the posterior, and log p(z | x)."""

    mean: Tensor  # [Q]
    deviation: Tensor  # [Q]
    log_evidence: float
    n_effective: float


def problem(number: int) -> tuple[Tensor, Tensor]:
    """x [N, D] and known components [N, K]."""
    n_objects, k, n_features, scale = PROBLEMS[number]
    generator = torch.Generator().manual_seed(number)
    x = torch.randn(n_objects, n_features, generator=generator).double()
    c = scale * torch.randn(k - 1, n_features + 1, generator=generator).double()
    logits = torch.cat([torch.zeros(n_objects, 1), c[:, 0] + x @ c[:, 1:].mT], dim=1)
    z = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    return x, one_hot(z, k).double()


def exact(x: Tensor, r: Tensor, mean: Tensor, covariance: Tensor, scale: float, n_draws: int = 20_000) -> Exact:
    """By Student-t draws around a Normal approximation; the prior is Normal(0, scale²) on each coefficient."""
    torch.manual_seed(0)
    q, root = len(mean), torch.linalg.cholesky(1.2 * covariance)
    shrinking = torch.distributions.Chi2(DEGREES).sample((n_draws, 1)).double() / DEGREES
    z = torch.randn(n_draws, q).double() / shrinking.sqrt()
    draws = mean + z @ root.mT
    log_proposal = (
        math.lgamma(0.5 * (DEGREES + q))
        - math.lgamma(0.5 * DEGREES)
        - 0.5 * q * math.log(DEGREES * math.pi)
        - float(root.diagonal().log().sum())
        - 0.5 * (DEGREES + q) * torch.log1p(z.square().sum(1) / DEGREES)
    )
    log_joint = torch.distributions.Normal(0.0, scale).log_prob(draws).sum(1)
    u = torch.cat([torch.ones(len(x), 1).double(), x], dim=1)
    for rows in range(0, n_draws, 2000):
        c = draws[rows : rows + 2000].unflatten(1, (r.shape[1] - 1, -1))
        logits = torch.einsum("ne,ske->snk", u, c)
        logits = torch.cat([torch.zeros_like(logits[..., :1]), logits], dim=-1)
        log_joint[rows : rows + 2000] += (logits.log_softmax(-1) * r).sum((1, 2))
    log_weights = log_joint - log_proposal
    weights = log_weights.softmax(0)
    centre = weights @ draws
    deviation = (weights @ (draws - centre).square()).sqrt()
    evidence = float(log_weights.logsumexp(0)) - math.log(n_draws)
    return Exact(centre, deviation, evidence, float(1.0 / weights.square().sum()))
