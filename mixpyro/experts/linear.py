"""Bayesian linear regressions, one a component, with conjugate updates."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import pyro
import torch
from pyro.distributions import Gamma, Independent, MultivariateNormal, Normal, StudentT
from pyro.nn import pyro_method
from pyro.ops.indexing import Vindex
from torch import Tensor
from torch.distributions import kl_divergence

from mixpyro import validation
from mixpyro.experts.base import Experts
from mixpyro.typing import Design, Inputs, Responsibilities, Scalar, Targets


class LinearStatistics(NamedTuple):
    """Sums over objects weighted by responsibilities, float64, for the design matrix u = [1, x] of E columns."""

    r: Tensor  # Σ r [K]
    uu: Tensor  # Σ r u u' [K, E, E]
    uy: Tensor  # Σ r u y' [K, E, P]
    yy: Tensor  # Σ r y² [K, P]


class NormalGamma(NamedTuple):
    """w | τ ~ Normal(mean, (τ precision)⁻¹), τ ~ Gamma(shape, rate), for every component and output, float64."""

    mean: Tensor  # [K, P, E]
    precision: Tensor  # [K, E, E], the same for every output
    shape: Tensor  # [K]
    rate: Tensor  # [K, P]


class LinearParameters(NamedTuple):
    """A draw of every component's parameters."""

    precision: Tensor  # τ [K, P]
    coefficients: Tensor  # w [K, P, E]


class LinearExperts(Experts):
    """y | x, z = k ~ Normal(wₖ'u, 1/τₖ) with u = [1, x] and a conjugate Normal-Gamma prior on (wₖ, τₖ).

    wₖ | τₖ ~ Normal(0, (τₖ Λ₀)⁻¹), τₖ ~ Gamma(a₀, b₀); several outputs are independent given z, each with its own w
    and τ.
    The prior speaks of y on the scale it comes in: b₀ / a₀ is roughly the noise variance expected.

    Args:
        n_components: K.
        n_features: D, the number of columns of x; zero for a constant.
        n_outputs: P, the number of columns of y.
        intercept: whether u has a leading column of ones; then E = D + 1, else E = D.
        coefficient_precision: Λ₀, a number, E of them for a diagonal, or a positive definite matrix [E, E].
        noise_shape: a₀, above zero.
        noise_rate: b₀, above zero, in squared units of y.
        name: prefix of the Pyro sites ``<name>.precision``, ``<name>.coefficients`` and ``<name>.y``.
        device: where the experts live.
        dtype: of their state; results have the dtype of x.

    Attributes:
        coefficients: posterior mean of the wₖ [K, P, E], the intercept first.
        posterior_precision: Λ of w | τ ~ Normal(m, (τΛ)⁻¹) [K, E, E].
        posterior_shape: a [K].
        posterior_rate: b [K, P].

    References:
        Bishop (2006), Pattern Recognition and Machine Learning, section 3.3 and eq. 10.60 (the same algebra for a
        density);
        Murphy (2012), Machine Learning: a Probabilistic Perspective, eq. 7.69 to 7.73.

    Example:
        >>> experts = LinearExperts(1, 1, coefficient_precision=1e-6)
        >>> x = torch.tensor([[0.0], [1.0], [2.0]])
        >>> experts.update(experts.statistics(x, 1 + 2 * x, torch.ones(3, 1)))
        >>> [round(value, 3) for value in experts.coefficients[0, 0].tolist()]
        [1.0, 2.0]
    """

    prior_precision: Tensor
    prior_shape: Tensor
    prior_rate: Tensor
    coefficients: Tensor
    posterior_precision: Tensor
    posterior_shape: Tensor
    posterior_rate: Tensor

    def __init__(
        self,
        n_components: int,
        n_features: int,
        n_outputs: int = 1,
        *,
        intercept: bool = True,
        coefficient_precision: float | Sequence[float] | Tensor = 0.01,
        noise_shape: float = 1.0,
        noise_rate: float = 0.01,
        name: str = "experts",
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__(n_components, n_features, n_outputs, name=name)
        self.intercept = intercept
        n_columns = self.n_features + int(intercept)
        if n_columns == 0:
            raise ValueError("`n_features` must be at least 1 without an intercept; got 0.")
        place = torch.empty(0, device=validation.device(device), dtype=dtype)
        precision = _precision_matrix(coefficient_precision, n_columns)
        shape = torch.tensor(validation.positive_number("noise_shape", noise_shape))
        rate = torch.tensor(validation.positive_number("noise_rate", noise_rate))
        self.register_buffer("prior_precision", precision.to(place))
        self.register_buffer("prior_shape", shape.to(place))
        self.register_buffer("prior_rate", rate.to(place))
        self.register_buffer("coefficients", place.new_zeros(self.n_components, self.n_outputs, n_columns))
        self.register_buffer("posterior_precision", self.prior_precision.repeat(self.n_components, 1, 1))
        self.register_buffer("posterior_shape", self.prior_shape.repeat(self.n_components))
        self.register_buffer("posterior_rate", self.prior_rate.repeat(self.n_components, self.n_outputs))

    def design(self, x: Inputs) -> Design:
        """u = [1, x] [N, E], or x itself without an intercept."""
        return torch.cat([x.new_ones(len(x), 1), x], dim=1) if self.intercept else x

    def expected_log_likelihood(self, x: Inputs, y: Targets) -> Responsibilities:
        """½ Σₚ (E log τ − log 2π − E τ (y − m'u)²) − ½ P u'Λ⁻¹u [N, K]; Bishop (2006), eq. 10.64 for a regression."""
        x, y = self.check_data(x, y)
        u = self.design(x)
        q = self.posterior
        squared = (y.unsqueeze(1) - self._means(u)).square_()
        precision = (q.shape.unsqueeze(-1) / q.rate).to(x.dtype)
        expected_log_precision = torch.digamma(q.shape).unsqueeze(-1) - q.rate.log() - math.log(2 * math.pi)
        constant = 0.5 * expected_log_precision.sum(-1).to(x.dtype)
        return (
            constant - 0.5 * torch.einsum("nkp,kp->nk", squared, precision) - 0.5 * self.n_outputs * self._leverage(u)
        )

    def statistics(self, x: Inputs, y: Targets, responsibilities: Responsibilities) -> LinearStatistics:
        """Σ r, Σ r u u', Σ r u y' and Σ r y².

        Args:
            x: [N, D].
            y: [N, P].
            responsibilities: [N, K], non-negative; a row that does not sum to one carries a weight.

        Raises:
            ValueError: if a shape does not fit, or a value is negative or not finite.
        """
        x, y = self.check_data(x, y)
        r = validation.responsibilities(responsibilities, self.n_components, len(x))
        u = self.design(x)
        weighted = torch.einsum("nk,ne->kne", r, u)
        return LinearStatistics(
            r=r.sum(0, dtype=torch.float64),
            uu=(weighted.mT @ u).double(),
            uy=(weighted.mT @ y).double(),
            yy=(r.mT @ y.square()).double(),
        )

    def update(self, statistics: LinearStatistics, step_size: float = 1.0) -> None:
        """Normal-Gamma posterior; Murphy (2012), eq. 7.70 to 7.73, reached in natural parameters."""
        size = validation.step_size(step_size)
        prior = self._natural(self.prior)
        optimum = LinearStatistics(
            r=prior.r + statistics.r / 2,
            uu=prior.uu + statistics.uu,
            uy=prior.uy + statistics.uy,
            yy=prior.yy + statistics.yy / 2,
        )
        if size < 1.0:
            old = self._natural(self.posterior)
            optimum = LinearStatistics(*(torch.lerp(a, b, size) for a, b in zip(old, optimum, strict=True)))
        self._set_posterior(optimum)

    def kl_divergence(self) -> Scalar:
        """KL of the Normal-Gamma posteriors from their prior, summed over components and outputs, float64."""
        q, p = self.posterior, self.prior
        shift = q.mean - p.mean
        expected_precision = q.shape.unsqueeze(-1) / q.rate
        distance = torch.einsum("kpe,kef,kpf->kp", shift, p.precision, shift)
        trace = torch.linalg.solve(q.precision, p.precision).diagonal(dim1=-2, dim2=-1).sum(-1)
        log_ratio = torch.logdet(q.precision) - torch.logdet(p.precision)
        normal = 0.5 * (expected_precision * distance + (trace - shift.shape[-1] + log_ratio).unsqueeze(-1))
        noise = kl_divergence(Gamma(q.shape.unsqueeze(-1), q.rate), Gamma(p.shape.unsqueeze(-1), p.rate))
        return (normal + noise).sum()

    def predictive(self, x: Inputs) -> StudentT:
        """Student-t of 2a degrees of freedom, location m'u, scale² (1 + u'Λ⁻¹u) b / a; Murphy (2012), eq. 7.76."""
        u = self.design(x)
        q = self.posterior
        variance = (q.rate / q.shape.unsqueeze(-1)).to(x.dtype) * (1.0 + self._leverage(u)).unsqueeze(-1)
        return StudentT(2.0 * q.shape.to(x.dtype).unsqueeze(-1), self._means(u), variance.sqrt())

    def predict(self, x: Inputs) -> Tensor:
        """m'u [N, K, P], in x's dtype."""
        return self._means(self.design(x))

    @property
    def coefficient_standard_deviations(self) -> Tensor:
        """Posterior standard deviations of the coefficients [K, P, E]; infinite where a ≤ 1."""
        q = self.posterior
        variance = torch.linalg.inv(q.precision).diagonal(dim1=-2, dim2=-1).unsqueeze(1)
        return (self._noise_variance().unsqueeze(-1) * variance).sqrt()

    @property
    def noise_standard_deviations(self) -> Tensor:
        """Square root of the posterior mean of the noise variance 1/τ [K, P]; infinite where a ≤ 1."""
        return self._noise_variance().sqrt()

    def _noise_variance(self) -> Tensor:
        excess = (self.posterior.shape - 1.0).clamp_min(0.0).unsqueeze(-1)
        return self.posterior.rate / excess

    @pyro_method
    def model(self, x: Inputs) -> LinearParameters:
        """Sample ``<name>.precision`` and ``<name>.coefficients`` from their prior."""
        return self._parameter_sites(self.prior, x.dtype)

    @pyro_method
    def guide(self, x: Inputs) -> LinearParameters:
        """Sample ``<name>.precision`` and ``<name>.coefficients`` from their posterior."""
        return self._parameter_sites(self.posterior, x.dtype)

    def likelihood(self, x: Inputs, parameters: LinearParameters, assignment: Tensor) -> Independent:
        """Normal(w_z'u, 1/τ_z) of all outputs; see :meth:`Experts.likelihood`."""
        coefficients = Vindex(parameters.coefficients)[..., assignment, :, :]
        precision = Vindex(parameters.precision)[..., assignment, :]
        mean = (coefficients * self.design(x).unsqueeze(-2)).sum(-1)
        return Normal(mean, precision.rsqrt()).to_event(1)

    def _parameter_sites(self, q: NormalGamma, dtype: torch.dtype) -> LinearParameters:
        noise = Gamma(q.shape.unsqueeze(-1).expand_as(q.rate).to(dtype), q.rate.to(dtype)).to_event(2)
        precision = pyro.sample(self.site("precision"), noise)
        matrices = precision[..., None, None] * q.precision.to(dtype).unsqueeze(1)
        normal = MultivariateNormal(q.mean.to(dtype), precision_matrix=matrices).to_event(2)
        return LinearParameters(precision, pyro.sample(self.site("coefficients"), normal))

    @property
    def prior(self) -> NormalGamma:
        """The prior of every component and output, float64."""
        shape, precision = self.coefficients.shape, self.prior_precision.double()
        return NormalGamma(
            mean=torch.zeros(shape, dtype=torch.float64, device=precision.device),
            precision=precision.expand(self.n_components, -1, -1),
            shape=self.prior_shape.double().expand(self.n_components),
            rate=self.prior_rate.double().expand(shape[:2]),
        )

    @property
    def posterior(self) -> NormalGamma:
        """The posterior of every component and output, float64."""
        state = (self.coefficients, self.posterior_precision, self.posterior_shape, self.posterior_rate)
        return NormalGamma(*(part.double() for part in state))

    def _natural(self, q: NormalGamma) -> LinearStatistics:
        """Natural parameters, laid out as the statistics that move them."""
        uy = torch.einsum("kef,kpf->kep", q.precision, q.mean)
        energy = q.rate + 0.5 * torch.einsum("kep,kpe->kp", uy, q.mean)
        return LinearStatistics(q.shape, q.precision, uy, energy)

    def _set_posterior(self, natural: LinearStatistics) -> None:
        mean = torch.cholesky_solve(natural.uy, torch.linalg.cholesky(natural.uu)).mT
        # Rounding may take more than all of the residual away where an expert fits its points exactly; the prior's
        # part stays.
        residual = natural.yy - 0.5 * torch.einsum("kep,kpe->kp", natural.uy, mean)
        rate = torch.maximum(residual, self.prior_rate.double())
        names = ("coefficients", "posterior_precision", "posterior_shape", "posterior_rate")
        for name, value in zip(names, (mean, natural.uu, natural.r, rate), strict=True):
            setattr(self, name, value.to(self.prior_precision.dtype))

    def _means(self, u: Design) -> Tensor:
        """m'u [N, K, P]."""
        return torch.einsum("ne,kpe->nkp", u, self.coefficients.to(u.dtype))

    def _leverage(self, u: Design) -> Responsibilities:
        """u'Λ⁻¹u [N, K], as a sum of squares so that it is never negative."""
        factor = torch.linalg.cholesky(self.posterior_precision.double())
        identity = torch.eye(u.shape[1], dtype=factor.dtype, device=factor.device)
        whitening = torch.linalg.solve_triangular(factor, identity, upper=False).to(u.dtype)
        return torch.einsum("ne,kfe->nkf", u, whitening).square_().sum(-1)


def _precision_matrix(value: float | Sequence[float] | Tensor, n_columns: int) -> Tensor:
    """Λ₀ as a positive definite float64 matrix [E, E]."""
    matrix = torch.as_tensor(value, dtype=torch.float64).detach()
    if matrix.ndim < 2:
        return torch.diag(validation.positive_vector("coefficient_precision", matrix, n_columns))
    if matrix.shape != (n_columns, n_columns):
        raise ValueError(
            f"`coefficient_precision` must be a number, {n_columns} numbers or a matrix [{n_columns}, {n_columns}]; "
            f"got shape {list(matrix.shape)}."
        )
    if not torch.equal(matrix, matrix.mT) or int(torch.linalg.cholesky_ex(matrix).info) != 0:
        raise ValueError(f"`coefficient_precision` must be symmetric positive definite; got {matrix.tolist()}.")
    return matrix.clone()
