"""Bayesian linear regressions that find out which inputs matter, by automatic relevance determination."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from pyro.distributions import Gamma as PyroGamma
from pyro.nn import pyro_method
from torch import Tensor

from mixpyro import arguments
from mixpyro.conjugate.gamma import Gamma
from mixpyro.conjugate.normal_gamma import LinearStatistics, NormalGamma
from mixpyro.conjugate.relevance import Relevance, RelevancePrior
from mixpyro.experts.linear import LinearExperts, LinearParameters
from mixpyro.experts.linear_prior import GIVEN_PRECISION
from mixpyro.experts.weak_prior import COEFFICIENT_PRECISION, DataScales, words
from mixpyro.numerics import nested
from mixpyro.pyro_internals.plates import sample_parameter
from mixpyro.shapes import Inputs

# Prior of a column's precision, in units of the scale of the column: the shape, and the rate times its square.
COLUMN_SHAPE, COLUMN_RATE = 0.5, 1e-4


class RelevanceLinearExperts(LinearExperts):
    """:class:`LinearExperts` that learn a prior precision for each column of x, and so shrink those without effect.

    wₖₑ | τₖ, λₖₑ ~ Normal(m₀, (τₖ λₖₑ)⁻¹) with λₖₑ ~ Gamma(c₀, d₀) for every component k and column e, the intercept
    excepted; several outputs share it. The posterior factorises, q(w, τ) q(λ), and both factors have a closed form:
    the bound is exact and no update lowers it. There may be several optima, with a coefficient near zero in some only.

    With λ integrated out, a coefficient is Student-t of 2c₀ degrees of freedom. Its scale is √(d₀ / c₀), in standard
    deviations of the noise for each unit of its column: by default a Cauchy distribution of scale 0.014 for each scale
    of its column, which shrinks large coefficients little. What you leave out of the priors is on the location and
    scale of the data, as for :class:`LinearExperts`.

    Args:
        n_components: K.
        n_features: D, the number of columns of x, at least one.
        n_outputs: P, the number of columns of y.
        intercept: as of :class:`LinearExperts`, like all arguments that are not named here.
        coefficient_mean: m₀, a number, or numbers [E], [P, E] or [K, P, E], the intercept first.
        coefficient_precision: of the intercept, and the λ that an update starts from, a number.
        column_precision_shape: c₀, above zero; ½ by default.
        column_precision_rate: d₀, above zero, in squared units of 1/x, a number or D of them; 10⁻⁴ if only the shape is
            given, on the scale of x if neither is.
        noise_per_component: whether every component has its own noise; one for all otherwise.
        noise_per_output: whether every output has its own noise; one for all otherwise.
        noise_shape: a₀, above zero.
        noise_rate: b₀, above zero, in squared units of y.
        scales: location and scale of x, then of y, for what is left out of the priors.
        name: prefix of the Pyro sites ``<name>.column_precision``, ``<name>.precision``, ``<name>.coefficients`` and
            ``<name>.y``.
        device: of the experts' state.
        dtype: of their state; results have the dtype of x.

    Attributes:
        prior_precision: E Λ₀ under q(λ) [K, E, E].
        column_start: λ that an update starts from [D].

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

    column_precision_shape: float | None
    column_precision_rate: float | Sequence[float] | Tensor | None
    column_prior_shape: Tensor
    column_prior_rate: Tensor
    column_start: Tensor

    site_axes: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **LinearExperts.site_axes,
        "column_precision": ("component", "feature"),
    }

    def __init__(
        self,
        n_components: int,
        n_features: int,
        n_outputs: int = 1,
        *,
        intercept: bool = True,
        coefficient_mean: float | Sequence[float] | Tensor | None = None,
        coefficient_precision: float | None = None,
        column_precision_shape: float | None = None,
        column_precision_rate: float | Sequence[float] | Tensor | None = None,
        noise_per_component: bool = True,
        noise_per_output: bool = True,
        noise_shape: float | None = None,
        noise_rate: float | Sequence[float] | Tensor | None = None,
        scales: DataScales | None = None,
        name: str = "experts",
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        # Read by the constructor below. Pyro's modules take tensors as attributes only after it.
        vars(self).update(column_precision_shape=column_precision_shape, column_precision_rate=column_precision_rate)
        if coefficient_precision is not None:
            coefficient_precision = arguments.positive_number("coefficient_precision", coefficient_precision)
        super().__init__(
            n_components,
            arguments.size("n_features", n_features),
            n_outputs,
            intercept=intercept,
            coefficient_mean=coefficient_mean,
            coefficient_precision=coefficient_precision,
            noise_per_component=noise_per_component,
            noise_per_output=noise_per_output,
            noise_shape=noise_shape,
            noise_rate=noise_rate,
            scales=scales,
            name=name,
            device=device,
            dtype=dtype,
        )
        self._repeat_precision()

    @property
    def component_tensors(self) -> tuple[str, ...]:
        """Those of :class:`LinearExperts`, and the precision."""
        return (*super().component_tensors, "prior_precision")

    @property
    def has_given_columns(self) -> bool:
        """Whether the user gave a prior of the columns' precisions."""
        return self.column_precision_shape is not None or self.column_precision_rate is not None

    def _priors_as_given(self) -> dict[str, Tensor]:
        """Return the prior's buffers, for data of location 0 and scale 1 where the user gave nothing."""
        buffers = super()._priors_as_given()
        shape = COLUMN_SHAPE if self.column_precision_shape is None else self.column_precision_shape
        rate = COLUMN_RATE if self.column_precision_rate is None else self.column_precision_rate
        number = arguments.positive_number("column_precision_shape", shape)
        return buffers | {
            "column_prior_shape": torch.tensor(number, dtype=torch.float64, device="cpu"),
            "column_prior_rate": arguments.positive_vector("column_precision_rate", rate, self.n_features),
            "column_start": buffers["prior_precision"].diagonal()[int(self.intercept) :].clone(),
        }

    def _scale_prior(self, scales: DataScales) -> None:
        """Set what the user did not give of the priors."""
        super()._scale_prior(scales)
        squares = scales.x.scale.square()
        self.prior_precision = self.prior_precision.diagonal(dim1=-2, dim2=-1).diag_embed()
        if not self.has_given_coefficients:
            self.column_start = (COEFFICIENT_PRECISION * squares).to(self.column_start)
        if not self.has_given_columns:
            self.column_prior_rate = (COLUMN_RATE / squares).to(self.column_prior_rate)
        self._repeat_precision()

    def _repeat_precision(self) -> None:
        """Give every component a prior precision of its own."""
        if self.prior_precision.ndim == 2:
            self.prior_precision = self.prior_precision.repeat(self.n_components, 1, 1)

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *others: Any) -> None:  # noqa: ANN401
        """Take over a state, also of a file from before columns had a rate and a start each."""
        name = f"{prefix}column_prior_rate"
        if f"{prefix}column_start" not in state and name in state:
            start: Any = GIVEN_PRECISION if self.coefficient_precision is None else self.coefficient_precision
            state[f"{prefix}column_start"] = torch.full_like(self.column_start, start)
            self.column_precision_rate = state[name]
            state[name] = state[name].expand_as(self.column_prior_rate).clone()
        super()._load_from_state_dict(state, prefix, *others)

    @property
    def prior(self) -> RelevancePrior:  # type: ignore[override]
        """The prior of coefficients, noises and precisions of the columns, float64, counted from the origin."""
        without = torch.zeros_like(self.prior_precision, dtype=torch.float64)
        without[:, : self._first, : self._first] = self.prior_precision[:, : self._first, : self._first]
        regression = self._own_prior._replace(precision=without).from_origin(self._from_prior_origin)
        return RelevancePrior(regression, Gamma(self.column_prior_shape.double(), self.column_prior_rate.double()))

    @property
    def posterior(self) -> Relevance:
        """The posterior of coefficients, noises and precisions of the columns, float64, counted from the origin."""
        return Relevance(self.regression, self.column_precisions)

    @property
    def regression(self) -> NormalGamma:
        """The posterior of coefficients and noises, float64, counted from the origin."""
        regression: NormalGamma = super().posterior
        return regression

    def prior_in_words(self) -> str:
        """Return the priors of columns, coefficients and noises in a few words; numbers as for x and y as they are."""
        columns = f"λ Gamma({float(self.column_prior_shape):.4g}, {words(self.column_prior_rate)})"
        intercept = f", intercept Normal(·, σ² / {float(self.prior_precision[0, 0, 0]):.4g})" if self.intercept else ""
        noise = f"1/σ² Gamma({float(self.prior_shape):.4g}, {words(self.prior_rate)})"
        return f"coefficients Normal({words(self.prior_mean[0])}, σ² / λ), {columns}{intercept}, {noise}"

    @property
    def _prior_of_regression(self) -> NormalGamma:
        """The prior that the regression's posterior was updated from."""
        return self.prior.given(self.column_precisions)

    @property
    def _n_given_columns(self) -> int:
        """Number of columns of the design, the first ones, whose prior precision is not learnt."""
        return self._first

    @property
    def column_precisions(self) -> Tensor:
        """Posterior mean of the λₖₑ [K, D], large for a column without effect."""
        return self.prior_precision.diagonal(dim1=-2, dim2=-1)[:, self._first :].double()

    @property
    def column_posterior(self) -> PyroGamma:
        """q(λ), batch shape [K, D], float64."""
        return self._pyro_gamma(self.prior.columns_with_mean(self.column_precisions), torch.float64)

    @property
    def column_prior(self) -> PyroGamma:
        """p(λ), batch shape [K, D], float64."""
        return self._pyro_gamma(self.prior.columns, torch.float64)

    def hold_posterior(self, posterior: Relevance) -> None:
        """Put a posterior into the buffers, converted to their dtype.

        Args:
            posterior: as :attr:`posterior` gives it. Its tensors may become the buffers.
        """
        super().hold_posterior(posterior.regression)
        precision = self.prior_precision.clone()
        precision.diagonal(dim1=-2, dim2=-1)[:, self._first :] = posterior.column_precision.to(precision)
        self.prior_precision = precision

    def forget(self) -> None:
        """Set q(w, τ) to its prior at the λ that updates start from."""
        start = self.column_start.double().expand(self.n_components, -1)
        self.hold_posterior(nested.apply(torch.clone, Relevance(self.prior.given(start), start)))

    def updated(self, statistics: LinearStatistics, before: Relevance) -> Relevance:
        """Return the posterior after sweeps over q(λ) and q(w, τ).

        Args:
            statistics: sums over the rows, with any leading axes of runs.
            before: the posterior to start from, with the same leading axes.
        """
        return self.fixed_prior.updated(statistics, before)

    def log_likelihood(self, columns: Float[Tensor, "F N"], posterior: Relevance) -> Float[Tensor, "*R K N"]:  # type: ignore[override]
        """Return E_q[log p(yᵢ | xᵢ, k)] in nats.

        Args:
            columns: of N rows, as :meth:`columns` returns them.
            posterior: q, with any leading axes of runs.
        """
        return super().log_likelihood(columns, posterior.regression)

    @pyro_method
    def model(self, x: Inputs) -> LinearParameters:
        """Sample ``<name>.column_precision``, ``<name>.precision`` and ``<name>.coefficients`` from their prior.

        Args:
            x: inputs [N, D].
        """
        columns = self._column_site(self.prior.columns, x.dtype).double()
        intercept = self.prior_precision.double()[:, : self._first, 0].expand(*columns.shape[:-1], -1)
        diagonal = torch.cat([intercept, columns], dim=-1)
        prior = self._own_prior._replace(precision=diagonal.diag_embed())
        return self._parameter_sites(prior.from_zero(self._prior_origin), x.dtype)

    def sample(self, posterior: Relevance, dtype: torch.dtype) -> LinearParameters:  # type: ignore[override]
        """Sample precisions of the columns, then τ and the coefficients for x and y as they are.

        Args:
            posterior: counted from the origin.
            dtype: of the draws.
        """
        self._column_site(self.prior.columns_with_mean(posterior.column_precision), dtype)
        return super().sample(posterior.regression, dtype)

    def _column_site(self, columns: Gamma, dtype: torch.dtype) -> Tensor:
        """Sample λ [K, D]."""
        return sample_parameter(self.site("column_precision"), self._pyro_gamma(columns, dtype).to_event(2))

    def _pyro_gamma(self, columns: Gamma, dtype: torch.dtype) -> PyroGamma:
        """Return distributions of λ, batch shape [K, D], for Pyro."""
        shape, rate = (part.to(dtype).expand(self.n_components, self.n_features) for part in columns)
        return PyroGamma(shape, rate, validate_args=False)

    @property
    def _first(self) -> int:
        """The first column of the design that is a column of x; its coefficients do not depend on the origin."""
        return int(self.intercept)
