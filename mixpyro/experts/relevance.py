"""Bayesian linear regressions that find out which inputs matter, by automatic relevance determination."""

from collections.abc import Sequence

import torch
from pyro.distributions import Gamma
from pyro.nn import pyro_method
from torch import Tensor
from torch.distributions import kl_divergence

from mixpyro import arguments
from mixpyro.conjugate.normal_gamma import LinearStatistics
from mixpyro.experts.linear import LinearExperts, LinearParameters
from mixpyro.numerics.cholesky import cholesky, inverted
from mixpyro.pyro_internals.plates import sample_parameter
from mixpyro.shapes import Inputs, Scalar, Targets

# An update goes to and fro between the coefficients and the columns' precisions at most this often: a column without
# effect takes long to be given up, and the next iteration of a fit goes on from there.
MOST_SWEEPS = 3


class RelevanceLinearExperts(LinearExperts):
    """:class:`LinearExperts` that learn a prior precision for each column of x, and so shrink those without effect.

    wₖₑ | τₖ, λₖₑ ~ Normal(m₀, (τₖ λₖₑ)⁻¹) with λₖₑ ~ Gamma(c₀, d₀) for every component k and column e, the intercept
    excepted; several outputs share it. The posterior factorises, q(w, τ) q(λ), and both factors have a closed form:
    the bound is exact and no update lowers it. There may be several optima, a column given up in one of them only.

    With λ integrated out, a coefficient is Student-t of 2c₀ degrees of freedom and scale √(d₀ / c₀) in noise deviations
    a unit of its column: by default a Cauchy distribution that expects next to nothing, 0.014, and shrinks little of
    what is much larger. So x should be of unit order.

    Args:
        n_components: K.
        n_features: D, the number of columns of x, at least one.
        n_outputs: P, the number of columns of y.
        intercept: as of :class:`LinearExperts`, like all arguments that are not named here.
        coefficient_mean: m₀, a number, or numbers [E], [P, E] or [K, P, E], the intercept first.
        coefficient_precision: of the intercept, and where the columns' λ start, a number.
        column_precision_shape: c₀, above zero.
        column_precision_rate: d₀, above zero, in squared units of x.
        noise_per_component: whether every component has its own noise; one for all otherwise.
        noise_per_output: whether every output has its own noise; one for all otherwise.
        noise_shape: a₀, above zero.
        noise_rate: b₀, above zero, in squared units of y.
        name: prefix of the Pyro sites ``<name>.column_precision``, ``<name>.precision``, ``<name>.coefficients`` and
            ``<name>.y``.
        device: where the experts live.
        dtype: of their state; results have the dtype of x.

    Attributes:
        prior_precision: E Λ₀ under q(λ) [K, E, E].

    References:
        Bishop (2006), Pattern Recognition and Machine Learning, section 10.3;
        Drugowitsch (2013), Variational Bayesian inference for linear and logistic regression, arXiv:1310.5438.

    Example:
        >>> x = torch.randn(200, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        >>> experts = RelevanceLinearExperts(1, 2)
        >>> experts.update(experts.statistics(x, 3 * x[:, 0] + x[:, 1].cos(), torch.ones(200, 1).double()))
        >>> experts.column_precisions[0, 1] > 100 * experts.column_precisions[0, 0]
        tensor(True)
    """

    column_prior_shape: Tensor
    column_prior_rate: Tensor

    def __init__(
        self,
        n_components: int,
        n_features: int,
        n_outputs: int = 1,
        *,
        intercept: bool = True,
        coefficient_mean: float | Sequence[float] | Tensor = 0.0,
        coefficient_precision: float = 0.01,
        column_precision_shape: float = 0.5,
        column_precision_rate: float = 1e-4,
        noise_per_component: bool = True,
        noise_per_output: bool = True,
        noise_shape: float = 1.0,
        noise_rate: float = 0.01,
        name: str = "experts",
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__(
            n_components,
            arguments.integer("n_features", n_features),
            n_outputs,
            intercept=intercept,
            coefficient_mean=coefficient_mean,
            coefficient_precision=arguments.positive_number("coefficient_precision", coefficient_precision),
            noise_per_component=noise_per_component,
            noise_per_output=noise_per_output,
            noise_shape=noise_shape,
            noise_rate=noise_rate,
            name=name,
            device=device,
            dtype=dtype,
        )
        for argument, value in (("shape", column_precision_shape), ("rate", column_precision_rate)):
            number = arguments.positive_number(f"column_precision_{argument}", value)
            self.register_buffer(f"column_prior_{argument}", self.prior_rate.new_tensor(number))
        self.coefficient_precision = float(coefficient_precision)
        self.prior_precision = self.prior_precision.repeat(self.n_components, 1, 1)

    @property
    def column_precisions(self) -> Tensor:
        """Posterior mean of the λₖₑ [K, D], large for a column without effect."""
        return self.prior_precision.diagonal(dim1=-2, dim2=-1)[:, self._slopes].double()

    @property
    def column_posterior(self) -> Gamma:
        """q(λ), batch shape [K, D], float64."""
        shape = self.column_prior_shape.double() + 0.5 * self.n_outputs
        return Gamma(shape.expand_as(self.column_precisions), shape / self.column_precisions, validate_args=False)

    @property
    def column_prior(self) -> Gamma:
        """p(λ), batch shape [K, D], float64."""
        shape, rate = self.column_prior_shape.double(), self.column_prior_rate.double()
        return Gamma(shape, rate, validate_args=False).expand(self.column_precisions.shape)

    def centre(self, x: Inputs, y: Targets) -> None:
        """Count x and y from their means, and forget the data seen so far."""
        x, y = self.check_data(x, y)
        self._set_column_precisions(torch.full_like(self.column_precisions, self.coefficient_precision))
        super().centre(x, y)

    def _learn(self, statistics: LinearStatistics) -> None:
        """Both factors by turns, q(w, τ) last, until λ stands still."""
        super()._learn(statistics)
        tolerance = max(1e-10, 64.0 * torch.finfo(self.prior_precision.dtype).eps)
        for _ in range(MOST_SWEEPS):
            before = self.column_precisions
            self._set_column_precisions(self._optimal_column_precisions())
            super()._learn(statistics)
            # On a GPU a sweep too many is cheaper than to wait for the answer.
            moved = (self.column_precisions - before).abs() > tolerance * before
            if moved.device.type == "cpu" and not bool(moved.any()):
                return

    def _optimal_column_precisions(self) -> Tensor:
        """E λ = (c₀ + ½ P) / (d₀ + ½ Σₚ E τ (w − m₀)²); Bishop (2006), eq. 10.93 to 10.95."""
        q = self.posterior
        distance = (q.mean - self.prior_mean.double())[..., self._slopes].square()
        variance = inverted(cholesky(q.precision)).square().sum(-2)[:, self._slopes]
        scaled = torch.einsum("kp,kpd->kd", self._of_each(q.expected_noise_precision), distance)
        shape = self.column_prior_shape.double() + 0.5 * self.n_outputs
        return shape / (self.column_prior_rate.double() + 0.5 * (scaled + self.n_outputs * variance))

    def _set_column_precisions(self, means: Tensor) -> None:
        precision = self.prior_precision.clone()
        precision.diagonal(dim1=-2, dim2=-1)[:, self._slopes] = means.to(precision)
        self.prior_precision = precision

    @property
    def _slopes(self) -> slice:
        """The columns of the design that are columns of x; their coefficients do not depend on the origin."""
        return slice(int(self.intercept), None)

    @property
    def has_separate_components(self) -> bool:
        """No: the sweeps of an update end for all components together."""
        return False

    def kl_divergence(self) -> Scalar:
        """KL(q(w, τ) q(λ) ‖ p(w, τ, λ)) of all components, float64; above zero even without data."""
        q = self.column_posterior
        # What E log λ is short of log E λ: the Normal-Gamma's divergence has been taken at E λ.
        shortfall = self.column_precisions.log() + q.rate.log() - torch.digamma(q.concentration)
        columns = 0.5 * self.n_outputs * shortfall + kl_divergence(q, self.column_prior)
        return super().kl_divergence() + columns.sum()

    @pyro_method
    def model(self, x: Inputs) -> LinearParameters:
        """Sample ``<name>.column_precision``, ``<name>.precision`` and ``<name>.coefficients`` from their prior."""
        columns = self._column_site(self.column_prior, x.dtype).double()
        intercept = self.prior_precision.double()[:, : self._slopes.start, 0].expand(*columns.shape[:-1], -1)
        diagonal = torch.cat([intercept, columns], dim=-1)
        return self._parameter_sites(self.prior_from_zero._replace(precision=diagonal.diag_embed()), x.dtype)

    @pyro_method
    def guide(self, x: Inputs) -> LinearParameters:
        """Sample the same sites from their posterior."""
        self._column_site(self.column_posterior, x.dtype)
        return self._parameter_sites(self.posterior_from_zero, x.dtype)

    def _column_site(self, q: Gamma, dtype: torch.dtype) -> Tensor:
        gamma = Gamma(q.concentration.to(dtype), q.rate.to(dtype)).to_event(2)
        return sample_parameter(self.site("column_precision"), gamma)
