"""Gaussian densities whose precision is any positive definite matrix."""

import math
from functools import cached_property

import torch
from jaxtyping import Float
from pyro.distributions import Gamma, Independent, MultivariateNormal
from torch import Tensor

from mixpyro import arguments
from mixpyro.conjugate.normal_wishart import GaussianStatistics, NormalWishart
from mixpyro.distributions.multivariate_normal import multivariate_normal
from mixpyro.distributions.student_t import SharedStudentT
from mixpyro.distributions.wishart_regression import RegressionCoefficients, unpacked
from mixpyro.numerics.cholesky import cholesky, inverted, log_determinants
from mixpyro.numerics.weighted_sums import squared_norms, weighted_gram
from mixpyro.pyro_internals.plates import sample_parameter

# The smallest relative jitter of a scale matrix without a Cholesky factor is RELATIVE_ERROR · P · eps, in units of its
# diagonal: about what one rounding leaves. Sums over many rows have rounded more, so N_RAISED jitters are tried, each
# eight times the one before; beyond the last the matrix is left as it is, and the bound is not finite.
RELATIVE_ERROR = 4.0
N_RAISED = 8


class Full(NormalWishart):
    """Λ ~ Wishart(Ψ⁻¹, ν), ν > P − 1.

    Its Pyro sites are those of an autoregression of the columns, whose parameters are independent Normal-Gammas under
    a Wishart (Bartlett's decomposition): each column's precision given the columns before it, and its coefficients on
    them. Unlike a positive definite matrix, these are parameters that NUTS can move in.
    """

    @property
    def n_parameters(self) -> int:
        """K P, and P (P + 1) / 2 for each Λ."""
        return self.mean.numel() + self.degrees.numel() * self.n_outputs * (self.n_outputs + 1) // 2

    @staticmethod
    def checked_scale(name: str, value: object, n_outputs: int) -> Tensor:
        """Return a positive definite matrix [P, P], from a number, P numbers or a matrix."""
        return arguments.positive_definite(name, value, n_outputs)

    @staticmethod
    def least_degrees(n_outputs: int) -> float:
        """Return P − 1."""
        return n_outputs - 1.0

    @property
    def degrees_without_covariance(self) -> float:
        """P + 1."""
        return self.n_outputs + 1.0

    @staticmethod
    def product(a: Tensor, b: Tensor) -> Tensor:
        """Return ½ (a b' + b a') [..., P, P]."""
        outer = a.unsqueeze(-1) * b.unsqueeze(-2)
        return 0.5 * (outer + outer.mT)

    @staticmethod
    def mended(squares: Tensor) -> Tensor:
        """Return the symmetric part, without negative squares."""
        symmetric = 0.5 * (squares + squares.mT)
        symmetric.diagonal(dim1=-2, dim2=-1).clamp_min_(0.0)
        return symmetric

    @staticmethod
    def representable(scale: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the scale in a dtype, with a little less correlation where it has no Cholesky factor then.

        Where the prior's scale lies below a rounding error of the data's squares, so may the smallest eigenvalues. They
        are raised by as many of these errors as it takes, in units of the columns: a small column keeps its digits.

        Args:
            scale: [..., K, P, P], float64.
            dtype: a floating one.
        """
        rounded = scale.to(dtype)
        # On a GPU it is cheaper to go on than to wait for the answer.
        if rounded.device.type == "cpu" and not _is_indefinite(rounded).any():
            return rounded
        error = RELATIVE_ERROR * scale.shape[-1] * torch.finfo(dtype).eps
        factors = error * 8.0 ** torch.arange(N_RAISED, dtype=scale.dtype, device=scale.device)
        jitter = scale.diagonal(dim1=-2, dim2=-1).diag_embed()
        raised = scale + factors.reshape(-1, *(1 for _ in scale.shape)) * jitter
        tries = torch.cat([rounded.unsqueeze(0), raised.to(dtype)])
        first = _is_indefinite(tries).to(torch.uint8).argmin(0)
        return torch.take_along_dim(tries, first[None, ..., None, None], 0).squeeze(0)

    @staticmethod
    def matrices(values: Tensor, n_outputs: int) -> Tensor:
        """Return the values [..., P, P] themselves."""
        return values

    @staticmethod
    def normal(mean: Tensor, spread: Tensor) -> MultivariateNormal:
        """Return the Normal of a lower triangular root of Λ⁻¹."""
        return multivariate_normal(mean, scale_tril=spread)

    @classmethod
    def statistics(cls, columns: Float[Tensor, "F N"], responsibilities: Float[Tensor, "*R K N"]) -> GaussianStatistics:
        """Return the three sums, all parts of Σ r [1, y][1, y]'."""
        sums = weighted_gram(responsibilities.flatten(0, -2).mT, columns.mT).unflatten(0, responsibilities.shape[:-1])
        return cls.statistics_of_gram(sums)

    @classmethod
    def statistics_of_gram(cls, sums: Float[Tensor, "*R K F F"]) -> GaussianStatistics:
        """Return its parts."""
        return GaussianStatistics(r=sums[..., 0, 0], y=sums[..., 0, 1:], yy=sums[..., 1:, 1:])

    @property
    def root_of_precision(self) -> Tensor:
        """√ν L⁻¹ [..., K, P, P], with Ψ = L L'."""
        return inverted(self.factor) * self.degrees.sqrt()[..., None, None]

    @cached_property
    def factor(self) -> Tensor:
        """Lower Cholesky factor of the scale [..., K, P, P]."""
        return cholesky(self.scale)

    @cached_property
    def half_degrees(self) -> Tensor:
        """(ν − P + 1 + p) / 2 [..., K, P], p from 0: shapes of the Gammas in Bartlett's decomposition."""
        columns = torch.arange(self.n_outputs, dtype=self.degrees.dtype, device=self.degrees.device)
        return 0.5 * (self.degrees.unsqueeze(-1) - (self.n_outputs - 1) + columns)

    def squared_distances(self, columns: Float[Tensor, "F N"]) -> Float[Tensor, "*R K N"]:
        """Return |√ν L⁻¹ (y − m)|² with Ψ = L L', of all components by one matrix product."""
        whitening = self.root_of_precision
        maps = torch.cat([-whitening @ self.mean.unsqueeze(-1), whitening], dim=-1)
        return squared_norms(maps.flatten(0, -3), columns).mT.unflatten(0, self.degrees.shape)

    def squared_norm(self, vectors: Tensor) -> Tensor:
        """Return v'Ψ⁻¹v [..., K]."""
        return torch.linalg.solve_triangular(self.factor, vectors.unsqueeze(-1), upper=False).square().sum((-2, -1))

    @cached_property
    def expected_log_determinant(self) -> Tensor:
        """Σₚ ψ((ν + 1 − p) / 2) + P log 2 − log |Ψ| [..., K]; Bishop (2006), eq. 10.65."""
        return torch.digamma(self.half_degrees).sum(-1) + self.n_outputs * math.log(2.0) - log_determinants(self.factor)

    def precision_kl(self, prior: "Full") -> Tensor:
        """Return KL of the Wishart [..., K]; Bishop (2006), eq. B.79 and B.82."""
        digamma, (lgamma, prior_lgamma) = (
            torch.digamma(self.half_degrees).sum(-1),
            (torch.lgamma(q.half_degrees).sum(-1) for q in (self, prior)),
        )
        trace = torch.linalg.solve_triangular(self.factor, prior.factor, upper=False).square().sum((-2, -1))
        log_ratio = log_determinants(self.factor) - log_determinants(prior.factor)
        return (
            0.5 * (self.degrees - prior.degrees) * digamma
            + 0.5 * (prior.degrees * log_ratio + self.degrees * (trace - self.n_outputs))
            + prior_lgamma
            - lgamma
        )

    def predictive(self, dtype: torch.dtype) -> SharedStudentT:
        """Return a Student-t of ν − P + 1 degrees of freedom; Bishop (2006), eq. 10.81 and 10.82."""
        degrees = self.degrees - self.n_outputs + 1.0
        widening = ((1.0 + 1.0 / self.mean_precision) / degrees).sqrt()
        root = self.factor * self.per_component(widening)
        return SharedStudentT(degrees.to(dtype), self.mean.to(dtype), root.to(dtype))

    def sample_spread(self, prefix: str, dtype: torch.dtype) -> Tensor:
        """Sample ``conditional_precision`` [K, P] and, of several columns, ``regression`` [K, P (P − 1) / 2].

        The lower triangular root of Λ⁻¹ that they make is that of an autoregression: (I − Φ)⁻¹ D^(−½).
        """
        rate = 0.5 * self.factor.diagonal(dim1=-2, dim2=-1).square()
        gamma = Gamma(self.half_degrees.to(dtype), rate.to(dtype)).to_event(2)
        precision = sample_parameter(f"{prefix}conditional_precision", gamma)
        if self.n_outputs == 1:
            return precision.rsqrt().unsqueeze(-1)
        normal = Independent(RegressionCoefficients(self.factor.to(dtype), precision), 1)
        coefficients = unpacked(sample_parameter(f"{prefix}regression", normal), self.n_outputs)
        identity = torch.eye(self.n_outputs, dtype=dtype, device=coefficients.device)
        root = torch.linalg.solve_triangular(identity - coefficients, identity, upper=False, unitriangular=True)
        return root * precision.rsqrt().unsqueeze(-2)


def _is_indefinite(matrices: Tensor) -> Tensor:
    """Return which of the matrices [..., P, P] have no Cholesky factor in float64."""
    return torch.linalg.cholesky_ex(matrices.double()).info != 0
