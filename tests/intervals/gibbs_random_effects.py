"""A Gibbs sampler of mixtures of regressions with random effects, whose groups have one component."""

import torch
from torch import Tensor
from torch.distributions import Dirichlet, Gamma, MultivariateNormal

from mixpyro.conjugate.random_effects import RandomEffects


class Rows:
    """Products of the rows of each group, by loops over nothing: all groups at once.

    Args:
        x: inputs [N, D].
        y: outputs [N].
        groups: number of the group of each row [N].
        effects: columns of [1, x] that have random effects.
    """

    def __init__(self, x: Tensor, y: Tensor, groups: Tensor, effects: list[int]) -> None:
        self.u, self.y, self.groups = torch.cat([torch.ones_like(x[:, :1]), x], 1), y, groups
        self.z, self.n_groups = self.u[:, effects], int(groups.max()) + 1
        d = torch.cat([self.u, y.unsqueeze(1)], 1)
        self.sizes = torch.bincount(groups).double()
        self.dd, self.zd, self.zz = (
            self._sum(a.unsqueeze(2) * b.unsqueeze(1)) for a, b in ((d, d), (self.z, d), (self.z, self.z))
        )

    def _sum(self, values: Tensor) -> Tensor:
        """Sum over the rows of each group."""
        return values.new_zeros(self.n_groups, *values.shape[1:]).index_add(0, self.groups, values)


def draws(rows: Rows, prior: RandomEffects, z: Tensor, n_draws: int, *, n_first: int = 200) -> dict[str, Tensor]:
    """Draw from the posterior under a flat Dirichlet prior of the weights.

    Args:
        rows: of the groups.
        prior: for x and y as they are, with own noises and covariances.
        z: components of the groups to start from [G].
        n_draws: S.
        n_first: draws that are left out before.

    Returns:
        ``coefficients`` [S, K, E], ``precision`` [S, K], ``covariance`` [S, K, q, q] and ``weights`` [S, K].
    """
    k, q = len(prior.mean), prior.n_effects
    beta = prior.mean.clone()
    tau, omega = torch.ones(k).double(), torch.eye(q).double().repeat(k, 1, 1)
    # From sums of squares of each component about its own line.
    for j in range(k):
        dd = rows.dd[z == j].sum(0)
        beta[j] = torch.linalg.solve(dd[:-1, :-1] + 1e-9 * torch.eye(len(dd) - 1).double(), dd[:-1, -1])
        tau[j] = rows.sizes[z == j].sum() / (dd[-1, -1] - beta[j] @ dd[:-1, -1])
        omega[j] *= tau[j]
    found = []
    for _ in range(n_first + n_draws):
        weights = Dirichlet(1.0 + torch.bincount(z, minlength=k).double()).sample()
        spread = torch.linalg.inv(tau.view(k, 1, 1, 1) * rows.zz + omega.unsqueeze(1))  # [K, G, q, q]
        explained = rows.zd.mT @ spread @ rows.zd
        information = tau.view(k, 1, 1, 1) * rows.dd - tau.square().view(k, 1, 1, 1) * explained
        extended = torch.cat([-beta, torch.ones(k, 1).double()], 1)
        squares = torch.einsum("kc,kgcd,kd->kg", extended, information, extended)
        log_joint = weights.log().unsqueeze(1) + 0.5 * (
            rows.sizes * tau.log().unsqueeze(1) + torch.logdet(omega).unsqueeze(1) + torch.logdet(spread) - squares
        )
        z = torch.distributions.Categorical(logits=log_joint.mT).sample()
        own = information[z, torch.arange(rows.n_groups)]
        for j in range(k):
            total = own[z == j].sum(0)
            precision = prior.precision[j] + total[:-1, :-1]
            target = prior.precision[j] @ prior.mean[j] + total[:-1, -1]
            beta[j] = MultivariateNormal(torch.linalg.solve(precision, target), precision_matrix=precision).sample()
        extended = torch.cat([-beta, torch.ones(k, 1).double()], 1)
        mine = spread[z, torch.arange(rows.n_groups)]
        crossed = (rows.zd @ extended[z].unsqueeze(-1)).squeeze(-1)
        means = tau[z].unsqueeze(1) * (mine @ crossed.unsqueeze(-1)).squeeze(-1)
        b = means + (torch.linalg.cholesky(mine) @ torch.randn(rows.n_groups, q, 1).double()).squeeze(-1)
        of_rows = rows.groups
        residual = rows.y - (rows.u * beta[z[of_rows]]).sum(1) - (rows.z * b[of_rows]).sum(1)
        for j in range(k):
            chosen = z == j
            squares_of = residual[chosen[of_rows]].square().sum()
            tau[j] = Gamma(prior.shape[j] + 0.5 * rows.sizes[chosen].sum(), prior.rate[j] + 0.5 * squares_of).sample()
            scale = prior.scale[j] + b[chosen].mT @ b[chosen]
            omega[j] = _wishart(float(prior.degrees[j] + chosen.sum()), scale)
        found.append((beta.clone(), tau.clone(), torch.linalg.inv(omega), weights))
    kept = zip(*found[n_first:], strict=True)
    return dict(zip(("coefficients", "precision", "covariance", "weights"), map(torch.stack, kept), strict=True))


def _wishart(degrees: float, scale: Tensor) -> Tensor:
    """Draw from Wishart(scale⁻¹, degrees) by Bartlett's decomposition; PyTorch's warns of rounding."""
    size = len(scale)
    shapes = 0.5 * (degrees - torch.arange(size).double())
    root = torch.randn(size, size).double().tril(-1) + (2.0 * Gamma(shapes, 1.0).sample()).sqrt().diag()
    whole = torch.linalg.cholesky(torch.linalg.inv(scale)) @ root
    return whole @ whole.mT
