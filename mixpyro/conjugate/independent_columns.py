"""Gaussian densities whose columns are uncorrelated within a component: diagonal and spherical precisions."""

import torch
from jaxtyping import Float
from pyro.distributions import Gamma as PyroGamma
from pyro.distributions import Independent, Normal
from torch import Tensor

from mixpyro import arguments
from mixpyro.conjugate.gamma import Gamma
from mixpyro.conjugate.normal_wishart import GaussianStatistics, NormalWishart
from mixpyro.distributions.checked_values import IndependentOutputs
from mixpyro.distributions.student_t import PreciseStudentT, SharedStudentT
from mixpyro.numerics.blocks import row_slices
from mixpyro.pyro_internals.plates import sample_parameter

# Largest squared distance of a mean from the origin, in variances, for which squared distances are expanded: their
# relative rounding error is this many eps at most. Beyond it they are summed as squares, which takes longer.
MOST_CANCELLED = {torch.float64: 2.0**12, torch.float32: 2.0**6}


class Uncorrelated(NormalWishart):
    """Λ a diagonal: squared distances are sums over columns, τ (y − m)², and precisions have Gamma distributions."""

    @staticmethod
    def squares(y: Tensor) -> Tensor:
        """Return the squares that a component's precisions apply to, [P, N] or [1, N].

        Args:
            y: columns as rows [P, N].
        """
        raise NotImplementedError

    @property
    def precisions(self) -> Gamma:
        """Distributions of the τ, in the form of the scale."""
        raise NotImplementedError

    @property
    def expected_precisions(self) -> Tensor:
        """E τ [..., K, P], or [..., K, 1] where all columns share it."""
        raise NotImplementedError

    @classmethod
    def statistics(cls, columns: Float[Tensor, "F N"], responsibilities: Float[Tensor, "*R K N"]) -> GaussianStatistics:
        """Return Σ r, Σ r y and Σ r :meth:`squares`, by one matrix product for each block of rows."""
        r, n_outputs = responsibilities.flatten(0, -2), len(columns) - 1
        total = torch.zeros((), dtype=torch.float64, device=columns.device)
        for rows in row_slices(columns.shape[1], width=len(r) + 2 * len(columns), device=columns.device):
            exact = columns[:, rows].double()
            total = total + r[:, rows].double() @ torch.cat([exact, cls.squares(exact[1:])]).mT
        sums = total.unflatten(0, responsibilities.shape[:-1])
        return GaussianStatistics(
            r=sums[..., 0], y=sums[..., 1 : n_outputs + 1], yy=cls.in_form(sums[..., n_outputs + 1 :], n_outputs)
        )

    @classmethod
    def statistics_of_gram(cls, sums: Float[Tensor, "*R K F F"]) -> GaussianStatistics:
        """Return its first row and the squares of its diagonal."""
        squares = sums.diagonal(dim1=-2, dim2=-1)[..., 1:]
        return GaussianStatistics(r=sums[..., 0, 0], y=sums[..., 0, 1:], yy=cls.of_squares(squares))

    @staticmethod
    def of_squares(squares: Tensor) -> Tensor:
        """Return sums of squares of each column [..., P] in the form of the scale.

        Args:
            squares: [..., P].
        """
        return squares

    @property
    def root_of_precision(self) -> Tensor:
        """The square roots of E τ on a diagonal [..., K, P, P]."""
        return self.expected_precisions.sqrt().expand_as(self.mean).diag_embed()

    @staticmethod
    def in_form(squares: Tensor, n_outputs: int) -> Tensor:
        """Return sums of :meth:`squares` in the form of the scale.

        Args:
            squares: [..., P] or [..., 1].
            n_outputs: P.
        """
        return squares

    def squared_distances(self, columns: Float[Tensor, "F N"]) -> Float[Tensor, "*R K N"]:
        """Return Σₚ τ (y − m)² [..., K, N], expanded to τ y² − 2 τ m y + τ m² where no digit is lost.

        Objects that a component explains are near its mean, so the loss depends on how many standard deviations the
        mean is from the origin, and not on the objects. Expanded, it is one small matrix product.
        """
        constants = (self.expected_precisions * self.mean.square()).expand_as(self.mean)
        # On a GPU to ask would be to wait, and the squares are cheap.
        on_cpu = columns.device.type == "cpu"
        expanded = on_cpu and bool((constants <= MOST_CANCELLED.get(columns.dtype, 0.0)).all())
        distances = self._expanded(columns, constants) if expanded else self._sums_of_squares(columns)
        return distances.unflatten(0, self.degrees.shape)

    def _expanded(self, columns: Tensor, constants: Tensor) -> Tensor:
        """Return the squared distances [M, N] of all M = … K components from products with [1, y, squares]."""
        precisions = self.expected_precisions
        linear = -2.0 * precisions * self.mean
        maps = torch.cat([constants.sum(-1, keepdim=True), linear, precisions], dim=-1)
        maps = maps.flatten(0, -2).to(columns.dtype)
        slices = row_slices(columns.shape[1], width=len(maps) + 2 * len(columns), device=columns.device)
        blocks = (columns[:, rows] for rows in slices)
        found = [maps @ torch.cat([block, self.squares(block[1:])]) for block in blocks]
        return torch.cat(found, dim=1).clamp_min_(0.0)

    def _sums_of_squares(self, columns: Tensor) -> Tensor:
        """Return the squared distances [M, N] of all M = … K components as sums of squares."""
        root = self.expected_precisions.sqrt()
        centre = (-root * self.mean).flatten(0, -2).unsqueeze(-1).to(columns.dtype)
        stretch = root.flatten(0, -2).unsqueeze(-1).to(columns.dtype)
        y = columns[1:]
        slices = row_slices(y.shape[1], width=centre.numel(), device=y.device)
        return torch.cat([torch.addcmul(centre, y[:, rows], stretch).square_().sum(1) for rows in slices], dim=1)

    def _pyro_gamma(self, dtype: torch.dtype) -> PyroGamma:
        """Return the distributions of the τ for Pyro."""
        shape, rate = (part.to(dtype) for part in torch.broadcast_tensors(*self.precisions))
        return PyroGamma(shape, rate, validate_args=False)


class Diagonal(Uncorrelated):
    """Λ = diag(τ), τₚ ~ Gamma(ν/2, ψₚ/2): the columns of y are independent given the component."""

    @staticmethod
    def checked_scale(name: str, value: object, n_outputs: int) -> Tensor:
        """Return numbers above zero [P], from a number or P of them."""
        return arguments.positive_vector(name, value, n_outputs)

    @property
    def degrees_without_covariance(self) -> float:
        """2."""
        return 2.0

    @staticmethod
    def product(a: Tensor, b: Tensor) -> Tensor:
        """Return a b [..., P]."""
        return a * b

    @staticmethod
    def squares(y: Tensor) -> Tensor:
        """Return y² [P, N]."""
        return y.square()

    @property
    def precisions(self) -> Gamma:
        """Distributions of the τ [..., K, P]."""
        return Gamma(0.5 * self.degrees.unsqueeze(-1), 0.5 * self.scale)

    @property
    def expected_precisions(self) -> Tensor:
        """ν/ψ [..., K, P]."""
        return self.degrees.unsqueeze(-1) / self.scale

    def squared_norm(self, vectors: Tensor) -> Tensor:
        """Return Σₚ v² / ψ [..., K]."""
        return (vectors.square() / self.scale).sum(-1)

    @property
    def expected_log_determinant(self) -> Tensor:
        """Σₚ E log τₚ [..., K]."""
        return self.precisions.expected_log.sum(-1)

    def precision_kl(self, prior: "Diagonal") -> Tensor:
        """Return KL of the P Gammas [..., K]."""
        return self.precisions.kl(prior.precisions).sum(-1)

    @staticmethod
    def matrices(values: Tensor, n_outputs: int) -> Tensor:
        """Return diag(values)."""
        return values.diag_embed()

    @staticmethod
    def normal(mean: Tensor, spread: Tensor) -> Independent:
        """Return independent Normals."""
        return Normal(mean, spread).to_event(1)

    def predictive(self, dtype: torch.dtype) -> Independent:
        """Return a Student-t of ν degrees of freedom for each column; Murphy (2012), eq. 4.144 for one column."""
        degrees = self.degrees.unsqueeze(-1)
        variance = self.scale * (1.0 + 1.0 / self.mean_precision).unsqueeze(-1) / degrees
        return IndependentOutputs(PreciseStudentT(degrees.to(dtype), self.mean.to(dtype), variance.sqrt().to(dtype)))

    def sample_spread(self, prefix: str, dtype: torch.dtype) -> Tensor:
        """Sample ``precision`` τ [K, P]."""
        return sample_parameter(f"{prefix}precision", self._pyro_gamma(dtype).to_event(2)).rsqrt()


class Spherical(Uncorrelated):
    """Λ = τ I, τ ~ Gamma(P ν/2, P ψ/2): an object contributes P squares to the one τ."""

    @staticmethod
    def checked_scale(name: str, value: object, n_outputs: int) -> Tensor:
        """Return a number above zero, as a scalar."""
        return torch.tensor(arguments.positive_number(name, value), dtype=torch.float64, device="cpu")

    @property
    def degrees_without_covariance(self) -> float:
        """2 / P."""
        return 2.0 / self.n_outputs

    @staticmethod
    def product(a: Tensor, b: Tensor) -> Tensor:
        """Return a'b / P."""
        return (a * b).mean(-1)

    @staticmethod
    def squares(y: Tensor) -> Tensor:
        """Return |y|² [1, N]."""
        return y.square().sum(0, keepdim=True)

    @staticmethod
    def of_squares(squares: Tensor) -> Tensor:
        """Return their mean over columns."""
        return squares.mean(-1)

    @staticmethod
    def in_form(squares: Tensor, n_outputs: int) -> Tensor:
        """Return the mean over columns, from sums over columns [..., 1]."""
        return squares.squeeze(-1) / n_outputs

    @property
    def precisions(self) -> Gamma:
        """Distributions of the τ [..., K]."""
        half = 0.5 * self.n_outputs
        return Gamma(half * self.degrees, half * self.scale)

    @property
    def expected_precisions(self) -> Tensor:
        """ν/ψ [..., K, 1]."""
        return (self.degrees / self.scale).unsqueeze(-1)

    def squared_norm(self, vectors: Tensor) -> Tensor:
        """Return |v|² / ψ [..., K]."""
        return vectors.square().sum(-1) / self.scale

    @property
    def expected_log_determinant(self) -> Tensor:
        """P E log τ [..., K]."""
        return self.n_outputs * self.precisions.expected_log

    def precision_kl(self, prior: "Spherical") -> Tensor:
        """Return KL of the Gamma [..., K]."""
        return self.precisions.kl(prior.precisions)

    @staticmethod
    def matrices(values: Tensor, n_outputs: int) -> Tensor:
        """Return multiples of the identity."""
        return values.unsqueeze(-1).expand(*values.shape, n_outputs).diag_embed()

    @staticmethod
    def normal(mean: Tensor, spread: Tensor) -> Independent:
        """Return Normals of one standard deviation."""
        return Normal(mean, spread.unsqueeze(-1)).to_event(1)

    def predictive(self, dtype: torch.dtype) -> SharedStudentT:
        """Return a Student-t of Pν degrees of freedom with scale matrix (1 + 1/β) ψ/ν I."""
        variance = self.scale * (1.0 + 1.0 / self.mean_precision) / self.degrees
        root = self.matrices(variance.sqrt(), self.n_outputs)
        degrees = self.n_outputs * self.degrees
        return SharedStudentT(degrees.to(dtype), self.mean.to(dtype), root.to(dtype))

    def sample_spread(self, prefix: str, dtype: torch.dtype) -> Tensor:
        """Sample ``precision`` τ [K]."""
        return sample_parameter(f"{prefix}precision", self._pyro_gamma(dtype).to_event(1)).rsqrt()
