"""Points and weights for expectations under a Dirichlet distribution."""

from typing import NamedTuple

import torch
from torch import Tensor

from mixpyro.numerics.digamma import digamma

# Points of Gauss's quadrature for two components; draws for more, for each component at least.
N_POINTS = 24
N_DRAWS = 1024
N_DRAWS_PER_COMPONENT = 16


class DirichletNodes(NamedTuple):
    """Points π of the simplex with weights: E f(π) is the weighted sum, and f is regressed on log π under them.

    The expectation is exact for functions that are linear in log π, and by Gauss's quadrature for two components.
    """

    log_weights: Tensor  # log π [S, K]
    expectation: Tensor  # [S], what E f is linear in
    regression: Tensor  # [K, S]: times f, the coefficients of log π in the least-squares fit of f under the Dirichlet


def dirichlet_nodes(concentration: Tensor, n_draws: int = N_DRAWS) -> DirichletNodes:
    """Return points and weights for a Dirichlet distribution; the same for the same concentration.

    The coefficients of the regression of f on log π are the natural gradient of E f in the concentration: the
    covariance of log π is the Fisher information, and that of log π and f is the gradient.

    Args:
        concentration: m [K], float64.
        n_draws: S for more than two components, at least 16 K.

    References:
        Golub, Welsch (1969), Calculation of Gauss quadrature rules, section 4 (Jacobi polynomials);
        Salimans, Knowles (2013), Fixed-form variational posterior approximation through stochastic linear regression,
        eq. 18.
    """
    device, concentration = concentration.device, concentration.cpu()  # Draws that do not depend on the device.
    if len(concentration) == 1:
        one = torch.ones_like(concentration, device=device)
        return DirichletNodes(torch.zeros_like(one).unsqueeze(1), one, torch.zeros_like(one).unsqueeze(1))
    log_weights, shares = _gauss_jacobi(concentration) if len(concentration) == 2 else _draws(concentration, n_draws)
    expected = digamma(concentration) - digamma(concentration.sum())
    features = torch.cat([torch.ones_like(log_weights[:, :1]), log_weights - expected], 1)
    weighted = shares.unsqueeze(1) * features
    fit = torch.linalg.solve(features.mT @ weighted, weighted.mT)
    # The intercept of the regression is E f, log π being centred: without noise where f is linear in log π.
    return DirichletNodes(log_weights.to(device), fit[0].to(device), fit[1:].to(device))


def _gauss_jacobi(concentration: Tensor) -> tuple[Tensor, Tensor]:
    """Return log π [S, 2] and weights [S] for Beta(a, b), by the eigenvectors of the matrix of the recurrence."""
    a, b = concentration[1] - 1.0, concentration[0] - 1.0  # exponents of (1 − t) and (1 + t), π = (1 + t) / 2
    n = torch.arange(N_POINTS, dtype=concentration.dtype, device=concentration.device)
    total = 2.0 * n + a + b
    diagonal = (b.square() - a.square()) / (total * (total + 2.0))
    diagonal[0] = (b - a) / (a + b + 2.0)
    m = n[1:]
    total = 2.0 * m + a + b
    squared = 4.0 * m * (m + a) * (m + b) * (m + a + b) / (total.square() * (total + 1.0) * (total - 1.0))
    squared[0] = 4.0 * (1.0 + a) * (1.0 + b) / ((2.0 + a + b).square() * (3.0 + a + b))
    off = squared.sqrt()
    points, vectors = torch.linalg.eigh(torch.diag(diagonal) + torch.diag(off, 1) + torch.diag(off, -1))
    share = (0.5 * (1.0 + points)).clamp(1e-300, 1.0 - 1e-16)
    return torch.stack([share.log(), (1.0 - share).log()], 1), vectors[0].square()


def _draws(concentration: Tensor, n_draws: int) -> tuple[Tensor, Tensor]:
    """Return log π [S, K] of draws and equal weights [S]; Gamma draws below one by Stuart's theorem, in logarithms."""
    generator = torch.Generator(device=concentration.device).manual_seed(0)
    n_components = len(concentration)
    shape = (max(n_draws, N_DRAWS_PER_COMPONENT * n_components), n_components)
    gamma = torch._standard_gamma((concentration + 1.0).expand(shape).contiguous(), generator=generator)
    uniform = torch.rand(shape, generator=generator, dtype=concentration.dtype, device=concentration.device)
    logarithms = gamma.log() + uniform.clamp_min(1e-300).log() / concentration
    return logarithms.log_softmax(1), torch.full_like(logarithms[:, 0], 1.0 / len(logarithms))
