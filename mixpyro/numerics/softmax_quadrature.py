"""E log Σ exp η of Normal variables by fixed nodes, and the weights that they predict."""

import functools

import torch
from torch import Tensor

from mixpyro.numerics.cholesky import cholesky
from mixpyro.numerics.logistic_normal import logistic_normal
from mixpyro.numerics.tilted_softmax import LogNormaliser, log_normaliser

# Nodes for two variables or more; half of them are the other half with their signs changed.
N_NODES = 256


def softmax_quadrature(mean: Tensor, covariance: Tensor) -> LogNormaliser:
    """Return E log(1 + Σₖ exp ηₖ), E softmax(η) and E (diag p − pp'): Bonnet's and Price's identities.

    Of one variable they are by Gauss-Hermite quadrature.

    Args:
        mean: [..., K − 1, N], float64.
        covariance: [..., K − 1, K − 1, N].
    """
    n_variables = mean.shape[-2]
    if n_variables <= 1:
        one = logistic_normal(mean, covariance.squeeze(-3)) if n_variables else None
        if one is None:
            return LogNormaliser(mean.sum(-2), mean, covariance)
        return LogNormaliser(one.log_normaliser.squeeze(-2), one.probability, one.curvature.unsqueeze(-2))
    nodes, root = normal_nodes(n_variables).to(mean.device), _roots(covariance)
    value, probabilities, curvature = torch.zeros_like(mean[..., 0, :]), torch.zeros_like(mean), 0.0
    for node in nodes:
        eta = mean + (root * node[:, None]).sum(-2)
        normaliser = log_normaliser(eta)
        p = (eta - normaliser.unsqueeze(-2)).exp()
        value, probabilities = value + normaliser, probabilities + p
        curvature = curvature - p.unsqueeze(-2) * p.unsqueeze(-3)
    share = 1.0 / len(nodes)
    curvature = share * (curvature + torch.diag_embed(probabilities.movedim(-2, -1)).movedim(-3, -1))
    return LogNormaliser(share * value, share * probabilities, curvature)


def _roots(covariance: Tensor) -> Tensor:
    """Return lower Cholesky factors [..., K − 1, K − 1, N], of matrices that have rounded too."""
    matrices = covariance.movedim(-1, -3)
    largest = matrices.diagonal(dim1=-2, dim2=-1).amax(-1, keepdim=True).clamp_min(1e-200)
    jitter = (1e-13 * largest).expand(matrices.shape[:-1]).diag_embed()
    return cholesky(matrices + jitter).movedim(-3, -1)


@functools.cache
def normal_nodes(n_variables: int, n_nodes: int = N_NODES) -> Tensor:
    """Return fixed nodes [J, Q] with the mean, the covariance and the odd moments of standard Normals, float64.

    Args:
        n_variables: Q, at least 2.
        n_nodes: J, even.
    """
    uniform = torch.quasirandom.SobolEngine(n_variables, scramble=True, seed=0).draw(n_nodes // 2, dtype=torch.float64)
    half = torch.special.ndtri(uniform.clamp(1e-6, 1.0 - 1e-6))
    # Of unit covariance, as the sum over both signs is twice the sum over one.
    half = torch.linalg.solve_triangular(cholesky(half.mT @ half / len(half)), half.mT, upper=False).mT
    return torch.cat([half, -half])
