"""Structures of a Gaussian's precision Λ: any positive definite matrix, a diagonal, a multiple of the identity."""

import math
from functools import cached_property

import torch
from pyro.distributions import Gamma, Independent, MultivariateNormal, Normal
from torch import Tensor
from torch.distributions import kl_divergence

from mixpyro import arguments
from mixpyro.conjugate.independent_columns import Uncorrelated
from mixpyro.conjugate.normal_wishart import GaussianStatistics, NormalWishart
from mixpyro.distributions.student_t import PreciseStudentT, SharedStudentT
from mixpyro.distributions.wishart_regression import RegressionCoefficients, unpacked
from mixpyro.numerics.cholesky import cholesky, inverted, log_determinants
from mixpyro.numerics.weighted_sums import squared_norms, weighted_gram
from mixpyro.pyro_internals.plates import sample_parameter
from mixpyro.shapes import Responsibilities

# Times the columns and a rounding unit, by how much to raise eigenvalues of correlations so that what was rounded once
# has a Cholesky factor; and how often to go on to eight times that, for what sums of many rows have rounded.
RELATIVE_ERROR = 4.0
N_RAISED = 8


class Full(NormalWishart):
    """Λ ~ Wishart(Ψ⁻¹, ν), ν > P − 1.

    Its Pyro sites are those of an autoregression of the columns, whose parameters are independent Normal-Gammas under
    a Wishart (Bartlett's decomposition): each column's precision given the columns before it, and its coefficients on
    them. Unlike a positive definite matrix, these are parameters that NUTS can move in.
    """

    @staticmethod
    def checked_scale(name: str, value: object, n_outputs: int) -> Tensor:
        """A positive definite matrix [P, P], from a number, P numbers or a matrix."""
        return arguments.positive_definite(name, value, n_outputs)

    @staticmethod
    def least_degrees(n_outputs: int) -> float:
        """P − 1."""
        return n_outputs - 1.0

    @staticmethod
    def n_parameters(n_outputs: int) -> int:
        """P (P + 1) / 2."""
        return n_outputs * (n_outputs + 1) // 2

    @classmethod
    def statistics(cls, r: Responsibilities, columns: Tensor) -> GaussianStatistics:
        """All three sums are parts of Σ r [1, y][1, y]'."""
        sums = weighted_gram(r, torch.cat([torch.ones_like(columns[:1]), columns]).mT)
        return GaussianStatistics(r=sums[:, 0, 0], y=sums[:, 0, 1:], yy=sums[:, 1:, 1:])

    @staticmethod
    def product(a: Tensor, b: Tensor) -> Tensor:
        """½ (a b' + b a') [K, P, P]."""
        outer = a.unsqueeze(-1) * b.unsqueeze(-2)
        return 0.5 * (outer + outer.mT)

    @staticmethod
    def mended(squares: Tensor) -> Tensor:
        """The symmetric part, without negative squares."""
        symmetric = 0.5 * (squares + squares.mT)
        symmetric.diagonal(dim1=-2, dim2=-1).clamp_min_(0.0)
        return symmetric

    @staticmethod
    def representable(scale: Tensor, dtype: torch.dtype) -> Tensor:
        """The scale in a dtype, and where it has no Cholesky factor then, with a little less correlation.

        Many times the prior's scale lies below a rounding error of the data's squares, and so would the smallest
        eigenvalues. They are raised by as many of these errors as it takes, in units of the columns: a small column
        keeps its digits.
        """
        rounded = scale.to(dtype)
        # On a GPU it is cheaper to go on than to wait for the answer.
        if rounded.device.type == "cpu" and not _is_indefinite(rounded).any():
            return rounded
        error = RELATIVE_ERROR * scale.shape[-1] * torch.finfo(dtype).eps
        factors = error * 8.0 ** torch.arange(N_RAISED, dtype=scale.dtype, device=scale.device)
        raised = scale + factors[:, None, None, None] * scale.diagonal(dim1=-2, dim2=-1).diag_embed()
        tries = torch.cat([rounded.unsqueeze(0), raised.to(dtype)])
        first = _is_indefinite(tries).to(torch.uint8).argmin(0)
        return tries[first, torch.arange(len(scale), device=scale.device)]

    @cached_property
    def factor(self) -> Tensor:
        """Lower Cholesky factor of the scale [K, P, P]."""
        return cholesky(self.scale)

    @cached_property
    def half_degrees(self) -> Tensor:
        """(ν − P + 1 + p) / 2 [K, P], p from 0: shapes of the Gammas in Bartlett's decomposition."""
        columns = torch.arange(self.n_outputs, dtype=self.degrees.dtype, device=self.degrees.device)
        return 0.5 * (self.degrees.unsqueeze(-1) - (self.n_outputs - 1) + columns)

    def squared_distances(self, columns: Tensor) -> Responsibilities:
        """|√ν L⁻¹ (y − m)|² with Ψ = L L', of all components by one matrix product."""
        whitening = inverted(self.factor) * self.degrees.sqrt()[:, None, None]
        maps = torch.cat([-whitening @ self.mean.unsqueeze(-1), whitening], dim=-1)
        return squared_norms(maps, torch.cat([torch.ones_like(columns[:1]), columns]))

    def squared_norm(self, vectors: Tensor) -> Tensor:
        """v'Ψ⁻¹v [K]."""
        return torch.linalg.solve_triangular(self.factor, vectors.unsqueeze(-1), upper=False).square().sum((-2, -1))

    @cached_property
    def expected_log_determinant(self) -> Tensor:
        """Σₚ ψ((ν + 1 − p) / 2) + P log 2 − log |Ψ| [K]; Bishop (2006), eq. 10.65."""
        return torch.digamma(self.half_degrees).sum(-1) + self.n_outputs * math.log(2.0) - log_determinants(self.factor)

    def precision_kl_divergence(self, prior: "Full") -> Tensor:
        """KL of the Wishart [K]: Bishop (2006), eq. B.79 and B.82."""
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

    @property
    def lost_degrees(self) -> float:
        """P + 1."""
        return self.n_outputs + 1.0

    @staticmethod
    def matrices(values: Tensor, n_outputs: int) -> Tensor:
        """The values [..., P, P] themselves."""
        return values

    def predictive(self, dtype: torch.dtype) -> SharedStudentT:
        """Student-t of ν − P + 1 degrees of freedom; Bishop (2006), eq. 10.81 and 10.82."""
        degrees = self.degrees - self.n_outputs + 1.0
        widening = ((1.0 + 1.0 / self.mean_precision) / degrees).sqrt()
        root = self.factor * self.per_component(widening)
        return SharedStudentT(degrees.to(dtype), self.mean.to(dtype), root.to(dtype))  # type: ignore[no-untyped-call]

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

    @staticmethod
    def normal(mean: Tensor, spread: Tensor) -> MultivariateNormal:
        """Normal of a lower triangular root."""
        return MultivariateNormal(mean, scale_tril=spread)


class Diagonal(Uncorrelated):
    """Λ = diag(τ), τₚ ~ Gamma(ν/2, ψₚ/2): the columns of y are independent given the component."""

    @staticmethod
    def checked_scale(name: str, value: object, n_outputs: int) -> Tensor:
        """[P], from a number or P numbers above zero."""
        return arguments.positive_vector(name, value, n_outputs)  # type: ignore[arg-type]

    @staticmethod
    def n_parameters(n_outputs: int) -> int:
        """P."""
        return n_outputs

    @staticmethod
    def squares(columns: Tensor) -> Tensor:
        """y² [P, N]."""
        return columns.square()

    @staticmethod
    def product(a: Tensor, b: Tensor) -> Tensor:
        """a b [K, P]."""
        return a * b

    @property
    def expected_precisions(self) -> Tensor:
        """ν/ψ [K, P]."""
        return self.degrees.unsqueeze(-1) / self.scale

    def squared_norm(self, vectors: Tensor) -> Tensor:
        """Σₚ v² / ψ [K]."""
        return (vectors.square() / self.scale).sum(-1)

    @cached_property
    def expected_log_determinant(self) -> Tensor:
        """Σₚ (ψ(ν/2) − log ψₚ/2) [K]."""
        return (torch.digamma(0.5 * self.degrees).unsqueeze(-1) - (0.5 * self.scale).log()).sum(-1)

    def precision_kl_divergence(self, prior: "Diagonal") -> Tensor:
        """KL of the P Gammas [K]."""
        return kl_divergence(self._gamma(), prior._gamma()).sum(-1)

    @property
    def lost_degrees(self) -> float:
        """2."""
        return 2.0

    @staticmethod
    def matrices(values: Tensor, n_outputs: int) -> Tensor:
        """diag(values)."""
        return values.diag_embed()

    def predictive(self, dtype: torch.dtype) -> Independent:
        """A Student-t of ν degrees of freedom a column; Murphy (2012), eq. 4.144 one column at a time."""
        degrees = self.degrees.unsqueeze(-1)
        variance = self.scale * (1.0 + 1.0 / self.mean_precision).unsqueeze(-1) / degrees
        return PreciseStudentT(degrees.to(dtype), self.mean.to(dtype), variance.sqrt().to(dtype)).to_event(1)

    def sample_spread(self, prefix: str, dtype: torch.dtype) -> Tensor:
        """Sample ``precision`` τ [K, P]."""
        return sample_parameter(f"{prefix}precision", self._gamma(dtype).to_event(2)).rsqrt()

    @staticmethod
    def normal(mean: Tensor, spread: Tensor) -> Independent:
        """Independent Normals."""
        return Normal(mean, spread).to_event(1)

    def _gamma(self, dtype: torch.dtype = torch.float64) -> Gamma:
        shape = (0.5 * self.degrees).unsqueeze(-1).expand_as(self.scale)
        return Gamma(shape.to(dtype), (0.5 * self.scale).to(dtype), validate_args=False)


class Spherical(Uncorrelated):
    """Λ = τ I, τ ~ Gamma(P ν/2, P ψ/2): one object tells P numbers about the one τ."""

    @staticmethod
    def checked_scale(name: str, value: object, n_outputs: int) -> Tensor:
        """A number above zero."""
        return torch.tensor(arguments.positive_number(name, value), dtype=torch.float64)

    @staticmethod
    def n_parameters(n_outputs: int) -> int:
        """1."""
        return 1

    @staticmethod
    def squares(columns: Tensor) -> Tensor:
        """|y|² [1, N]."""
        return columns.square().sum(0, keepdim=True)

    @classmethod
    def statistics(cls, r: Responsibilities, columns: Tensor) -> GaussianStatistics:
        """Σ r |y|² / P in place of Σ r y²."""
        seen = super().statistics(r, columns)
        return seen._replace(yy=seen.yy[:, 0] / len(columns))

    @staticmethod
    def product(a: Tensor, b: Tensor) -> Tensor:
        """a'b / P [K]."""
        return (a * b).mean(-1)

    @property
    def expected_precisions(self) -> Tensor:
        """ν/ψ [K, 1]."""
        return (self.degrees / self.scale).unsqueeze(-1)

    def squared_norm(self, vectors: Tensor) -> Tensor:
        """|v|² / ψ [K]."""
        return vectors.square().sum(-1) / self.scale

    @cached_property
    def expected_log_determinant(self) -> Tensor:
        """P (ψ(Pν/2) − log Pψ/2) [K]."""
        half = 0.5 * self.n_outputs
        return self.n_outputs * (torch.digamma(half * self.degrees) - (half * self.scale).log())

    def precision_kl_divergence(self, prior: "Spherical") -> Tensor:
        """KL of the Gamma [K]."""
        return kl_divergence(self._gamma(), prior._gamma())

    @property
    def lost_degrees(self) -> float:
        """2 / P."""
        return 2.0 / self.n_outputs

    @staticmethod
    def matrices(values: Tensor, n_outputs: int) -> Tensor:
        """A multiple of the identity each."""
        return values.unsqueeze(-1).expand(*values.shape, n_outputs).diag_embed()

    def predictive(self, dtype: torch.dtype) -> SharedStudentT:
        """Student-t of Pν degrees of freedom with scale matrix (1 + 1/β) ψ/ν I."""
        variance = self.scale * (1.0 + 1.0 / self.mean_precision) / self.degrees
        root = self.matrices(variance.sqrt(), self.n_outputs)
        degrees = self.n_outputs * self.degrees
        return SharedStudentT(degrees.to(dtype), self.mean.to(dtype), root.to(dtype))  # type: ignore[no-untyped-call]

    def sample_spread(self, prefix: str, dtype: torch.dtype) -> Tensor:
        """Sample ``precision`` τ [K]."""
        return sample_parameter(f"{prefix}precision", self._gamma(dtype).to_event(1)).rsqrt()

    @staticmethod
    def normal(mean: Tensor, spread: Tensor) -> Independent:
        """Normals of one spread."""
        return Normal(mean, spread.unsqueeze(-1)).to_event(1)

    def _gamma(self, dtype: torch.dtype = torch.float64) -> Gamma:
        half = 0.5 * self.n_outputs
        return Gamma((half * self.degrees).to(dtype), (half * self.scale).to(dtype), validate_args=False)


def _is_indefinite(matrices: Tensor) -> Tensor:
    """Which of the matrices [..., P, P] have no Cholesky factor in float64."""
    return torch.linalg.cholesky_ex(matrices.double()).info != 0
