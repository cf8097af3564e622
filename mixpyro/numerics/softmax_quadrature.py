"""E log Σ exp η of Normal variables by fixed nodes, and the weights that they predict."""

import functools

import torch
from torch import Tensor

from mixpyro.numerics.cholesky import cholesky
from mixpyro.numerics.logistic_normal import gauss_hermite, logistic_normal
from mixpyro.numerics.tilted_softmax import LogNormaliser, log_normaliser

# Nodes of Gauss-Hermite quadrature along each variable, by their number. Of more, they are quasi-random.
ALONG_EACH = {2: 24, 3: 9, 4: 5}
# Quasi-random nodes; half of them are the other half with their signs changed.
N_NODES = 512
# Weight below which a node is left out.
LEAST_WEIGHT = 1e-10


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
    nodes, shares = (part.to(mean.device) for part in normal_nodes(n_variables))
    root = _roots(covariance)
    value, probabilities = torch.zeros_like(mean[..., 0, :]), torch.zeros_like(mean)
    curvature = torch.zeros_like(root)
    for node, share in zip(nodes, shares.tolist(), strict=True):
        eta = mean + (root * node[:, None]).sum(-2)
        normaliser = log_normaliser(eta)
        p = (eta - normaliser.unsqueeze(-2)).exp()
        value, probabilities = value + share * normaliser, probabilities + share * p
        curvature = curvature - share * (p.unsqueeze(-2) * p.unsqueeze(-3))
    curvature = curvature + torch.diag_embed(probabilities.movedim(-2, -1)).movedim(-3, -1)
    return LogNormaliser(value, probabilities, curvature)


def _roots(covariance: Tensor) -> Tensor:
    """Return lower Cholesky factors [..., K − 1, K − 1, N], of matrices that have rounded too."""
    matrices = covariance.movedim(-1, -3)
    largest = matrices.diagonal(dim1=-2, dim2=-1).amax(-1, keepdim=True).clamp_min(1e-200)
    jitter = (1e-13 * largest).expand(matrices.shape[:-1]).diag_embed()
    return cholesky(matrices + jitter).movedim(-3, -1)


@functools.cache
def normal_nodes(n_variables: int) -> tuple[Tensor, Tensor]:
    """Return fixed nodes [J, Q] and weights [J] that have the mean, covariance and odd moments of standard Normals.

    Args:
        n_variables: Q, at least 2.
    """
    if n_variables in ALONG_EACH:
        along, weights = (
            torch.tensor(part, dtype=torch.float64, device="cpu") for part in gauss_hermite(ALONG_EACH[n_variables])
        )
        nodes = torch.cartesian_prod(*(along for _ in range(n_variables)))
        shares = torch.cartesian_prod(*(weights for _ in range(n_variables))).prod(-1)
        kept = shares > LEAST_WEIGHT
        return nodes[kept], shares[kept] / shares[kept].sum()
    sobol = torch.quasirandom.SobolEngine(n_variables, scramble=True, seed=0)
    half = torch.special.ndtri(sobol.draw(N_NODES // 2, dtype=torch.float64).clamp(1e-6, 1.0 - 1e-6))
    # Of unit covariance, as the sum over both signs is twice the sum over one.
    half = torch.linalg.solve_triangular(cholesky(half.mT @ half / len(half)), half.mT, upper=False).mT
    return torch.cat([half, -half]), torch.full((N_NODES,), 1.0 / N_NODES, dtype=torch.float64, device="cpu")
