"""Gates and experts with conjugate priors, for the exact samplers."""

import torch
from torch import Generator, Tensor

from mixpyro.conjugate.full_covariance import Full
from mixpyro.conjugate.independent_columns import Spherical
from mixpyro.conjugate.normal_gamma import LinearStatistics, NormalGamma
from mixpyro.conjugate.normal_wishart import GaussianStatistics, NormalWishart
from tests.intervals.gibbs import normals


class DirichletWeights:
    """Weights π ~ Dirichlet(α), of which the log ratios to the first are the quantities.

    Args:
        concentration: α [B, K].
    """

    is_estimated, sizes = False, (1,)

    def __init__(self, concentration: Tensor) -> None:
        self.concentration = concentration

    def draw(self, r: Tensor, quantities: Tensor | None, generator: Generator) -> Tensor:
        """Draw from Dirichlet(α + n)."""
        gammas = torch._standard_gamma(self.concentration + r.sum(-1), generator).log()
        return gammas[:, 1:] - gammas[:, :1]

    def log_prior(self, quantities: Tensor) -> Tensor:
        """Return Σ α log π, which includes the Jacobian Π π."""
        return (self.concentration * self.log_density(quantities).squeeze(-1)).sum(-1)

    def log_density(self, quantities: Tensor) -> Tensor:
        """Return log π [B, K, 1]."""
        return torch.cat([torch.zeros_like(quantities[:, :1]), quantities], -1).log_softmax(-1).unsqueeze(-1)


class Lines:
    """Regressions y ~ Normal(w'u, 1/τ) of one output with a Normal-Gamma prior; quantities are w and log τ.

    Args:
        prior: for u and y as they are, with the leading axis B, one noise for each component.
        design: u [B, N, E].
        y: [B, N].
    """

    is_estimated = False

    def __init__(self, prior: NormalGamma, design: Tensor, y: Tensor) -> None:
        self.prior, self.sizes = prior, (design.shape[-1], 1)
        self.products = products(torch.cat([design, y.unsqueeze(-1)], -1))

    def draw(self, r: Tensor, quantities: Tensor | None, generator: Generator) -> Tensor:
        """Draw from the Normal-Gamma posterior; Murphy (2012), eq. 7.69 to 7.73."""
        e = self.sizes[0]
        sums = (r @ self.products).unflatten(-1, (e + 1, e + 1))
        seen = LinearStatistics(r.sum(-1), sums[..., :e, :e], sums[..., :e, e:], sums[..., e, e:])
        q = self.prior.updated(seen)
        precision = torch._standard_gamma(q.shape, generator) / q.rate.squeeze(-1)
        normal = normals(q.mean.mT, generator)
        offset = (q.whitening.mT @ normal).squeeze(-1) / precision.sqrt().unsqueeze(-1)
        return torch.cat([(q.mean.squeeze(-2) + offset).flatten(1), precision.log()], -1)

    def log_prior(self, quantities: Tensor) -> Tensor:
        """Return the density of w and log τ."""
        w, log_precision = self._parts(quantities)
        difference = (w - self.prior.mean.squeeze(-2)).unsqueeze(-2)
        squares = (difference @ self.prior.precision @ difference.mT).flatten(-3)
        shape = self.prior.shape + 0.5 * self.sizes[0]
        rate = self.prior.rate.squeeze(-1) + 0.5 * squares
        return (shape * log_precision - rate * log_precision.exp()).sum(-1)

    def log_density(self, quantities: Tensor) -> Tensor:
        """Return ½ (log τ − τ (y − w'u)²) [B, K, N]."""
        w, log_precision = self._parts(quantities)
        residual = torch.cat([-w, torch.ones_like(w[..., :1])], -1) * (0.5 * log_precision).exp().unsqueeze(-1)
        return 0.5 * (log_precision.unsqueeze(-1) - products(residual) @ self.products.mT)

    def _parts(self, quantities: Tensor) -> tuple[Tensor, Tensor]:
        """Return w [B, K, E] and log τ [B, K]."""
        n_components = quantities.shape[-1] // sum(self.sizes)
        return quantities[:, :-n_components].unflatten(-1, (n_components, -1)), quantities[:, -n_components:]


class Densities:
    """Gaussian densities with a conjugate prior.

    Quantities are means; log precisions of each column, if full given those before it; and if full the coefficients φ
    of the regressions of each column on those before it. A spherical density has one log precision.

    Args:
        prior: for y as it is, with the leading axis B.
        y: [B, N, P].
    """

    is_estimated = False

    def __init__(self, prior: NormalWishart, y: Tensor) -> None:
        p = y.shape[-1]
        self.prior, self.n_outputs, self.below = prior, p, torch.tril_indices(p, p, -1)
        self.sizes = (p, 1 if isinstance(prior, Spherical) else p, p * (p - 1) // 2 if isinstance(prior, Full) else 0)
        self.products = products(torch.cat([torch.ones_like(y[..., :1]), y], -1))

    def draw(self, r: Tensor, quantities: Tensor | None, generator: Generator) -> Tensor:
        """Draw from the posterior; Bishop (2006), eq. 10.59 to 10.63, and Bartlett's decomposition if full."""
        p = self.n_outputs
        sums = (r @ self.products).unflatten(-1, (p + 1, p + 1))
        q = self.prior.updated(GaussianStatistics(r.sum(-1), sums[..., 0, 1:], self._in_form(sums[..., 1:, 1:])))
        shape, rate = self._gammas(q)
        precision = torch._standard_gamma(shape, generator) / rate
        kinds, root = [precision.log()], precision.expand(q.mean.shape).sqrt().diag_embed()
        if isinstance(q, Full):
            degrees = q.degrees.unsqueeze(-1) - torch.arange(p, dtype=q.degrees.dtype)
            lower = normals(q.scale, generator).tril(-1)
            lower = lower + (2.0 * torch._standard_gamma(0.5 * degrees, generator)).sqrt().diag_embed()
            bartlett = torch.linalg.solve_triangular(torch.linalg.cholesky(q.scale).mT, lower, upper=True)
            factor = torch.linalg.cholesky(torch.linalg.inv(bartlett @ bartlett.mT))
            deviation = factor.diagonal(dim1=-2, dim2=-1)
            regression = -deviation.unsqueeze(-1) * torch.linalg.inv(factor)
            kinds, root = (
                [-2.0 * deviation.log(), regression[..., self.below[0], self.below[1]]],
                torch.linalg.inv(factor),
            )
        normal = normals(q.mean, generator) / q.mean_precision.sqrt().unsqueeze(-1)
        mean = q.mean + torch.linalg.solve(root, normal.unsqueeze(-1)).squeeze(-1)
        return torch.cat([mean.flatten(1), *(kind.flatten(1) for kind in kinds)], -1)

    def log_prior(self, quantities: Tensor) -> Tensor:
        """Return the density of means, log precisions and regressions."""
        mean, log_precision, root = self._parts(quantities)
        shape, rate = self._gammas(self.prior)
        found = (shape * log_precision - rate * log_precision.exp()).sum(-1)
        distance = (root @ (mean - self.prior.mean).unsqueeze(-1)).square().sum((-2, -1))
        log_determinant = root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        found = found + log_determinant - 0.5 * self.prior.mean_precision * distance
        for p in range(1, self.n_outputs if isinstance(self.prior, Full) else 1):
            before, cross = self.prior.scale[..., :p, :p], self.prior.scale[..., :p, p]
            precision = log_precision[..., p].exp()
            slopes = -root[..., p, :p] / precision.sqrt().unsqueeze(-1) - torch.linalg.solve(before, cross)
            squares = (slopes.unsqueeze(-2) @ before @ slopes.unsqueeze(-1)).flatten(-3)
            found = found + 0.5 * p * log_precision[..., p] - 0.5 * precision * squares
        return found.sum(-1)

    def log_density(self, quantities: Tensor) -> Tensor:
        """Return ½ log |Λ| − ½ (y − μ)'Λ(y − μ) [B, K, N]."""
        mean, _, root = self._parts(quantities)
        maps = torch.cat([-(root @ mean.unsqueeze(-1)), root], -1)
        squares = (maps.mT @ maps).flatten(-2) @ self.products.mT
        return root.diagonal(dim1=-2, dim2=-1).log().sum(-1, keepdim=True) - 0.5 * squares

    def _parts(self, quantities: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return means [B, K, P], log precisions [B, K, P or 1], and R with Λ = R'R, lower triangular [B, K, P, P]."""
        k = quantities.shape[-1] // sum(self.sizes)
        mean, log_precision, slopes = (
            kind.unflatten(-1, (k, size)) for kind, size in zip(self._kinds(quantities, k), self.sizes, strict=True)
        )
        unit = torch.eye(self.n_outputs, dtype=mean.dtype).expand(*mean.shape, -1).clone()
        if isinstance(self.prior, Full):
            unit[..., self.below[0], self.below[1]] = -slopes
        return mean, log_precision, (0.5 * log_precision.expand(mean.shape)).exp().unsqueeze(-1) * unit

    def _kinds(self, quantities: Tensor, k: int) -> tuple[Tensor, ...]:
        """Return the kinds of quantities."""
        return quantities.split([k * size for size in self.sizes], -1)

    def _in_form(self, squares: Tensor) -> Tensor:
        """Return sums of products [B, K, P, P] in the form of the scale."""
        if isinstance(self.prior, Full):
            return squares
        diagonal = squares.diagonal(dim1=-2, dim2=-1)
        return diagonal.mean(-1) if isinstance(self.prior, Spherical) else diagonal

    def _gammas(self, q: NormalWishart) -> tuple[Tensor, Tensor]:
        """Return shape and rate of each precision, if full given the columns before it [B, K, P or 1]."""
        p, degrees = self.n_outputs, q.degrees.unsqueeze(-1)
        if isinstance(q, Spherical):
            return 0.5 * p * degrees, 0.5 * p * q.scale.unsqueeze(-1)
        if not isinstance(q, Full):
            return 0.5 * degrees.expand(q.scale.shape), 0.5 * q.scale
        shape = 0.5 * (degrees - (p - 1) + torch.arange(p, dtype=degrees.dtype))
        return shape, 0.5 * torch.linalg.cholesky(q.scale).diagonal(dim1=-2, dim2=-1).square()


def products(vectors: Tensor) -> Tensor:
    """Return all products of two entries [..., F²] of vectors [..., F]."""
    return (vectors.unsqueeze(-1) * vectors.unsqueeze(-2)).flatten(-2)
