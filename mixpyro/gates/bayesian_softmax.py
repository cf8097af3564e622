"""A gate whose weights are a multinomial logistic regression on the inputs, with a posterior of its coefficients."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from pyro.distributions import Normal, TransformedDistribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor, nn
from torch.distributions.transforms import ReshapeTransform

from mixpyro import arguments
from mixpyro.conjugate.column_relevance import ColumnRelevance
from mixpyro.conjugate.gamma import Gamma
from mixpyro.conjugate.normal import NaturalSums, NormalCoefficients
from mixpyro.distributions.multivariate_normal import multivariate_normal
from mixpyro.distributions.relevance_coefficients import RelevanceCoefficients
from mixpyro.gates.bayesian_logits import BayesianLogitGate
from mixpyro.numerics.cholesky import cholesky
from mixpyro.numerics.last_result import LastResult
from mixpyro.numerics.pairs import pair_indices
from mixpyro.numerics.predictor_moments import DesignRows
from mixpyro.numerics.soft_labels import with_reference
from mixpyro.numerics.softmax_quadrature import softmax_quadrature
from mixpyro.numerics.tilted_softmax import LogNormaliser, tilted_softmax
from mixpyro.shapes import Inputs

# Degrees of freedom over two, and scale in units of the prior's, of a coefficient with its precision integrated out: a
# narrow Cauchy distribution, which shrinks large coefficients little.
RELEVANCE_SHAPE, RELEVANCE_SCALE = 0.5, 0.01


class BayesianSoftmaxGate(BayesianLogitGate):
    """zᵢ ~ Categorical(softmax(0, c₂'uᵢ, …, c_K'uᵢ)) with uᵢ = [1, xᵢ], under q(c) = Normal(m, Λ⁻¹) of all of c.

    The bound on log Σ exp is that of Knowles and Minka, or that of quadrature; either is within a tenth of a nat of the
    exact one where each component has data. The update is a step of Newton's method, as :class:`~mixpyro.SoftmaxGate`
    makes it. Coefficients are per unit of x and the intercept is at x = 0: standardise x, or choose the prior's scale
    in its units.

    Args:
        n_components: K, at least 1.
        n_features: D, the number of columns of x; 0 for weights that do not depend on x.
        prior_scale: s, from 1e-10 to 1e10; see ``symmetric_prior``.
        symmetric_prior: whether the prior is that of differences of scores that are Normal(0, s²) for each component
            and column, the same whichever component is the reference; else it is Normal(0, s²) on each coefficient.
        relevance: whether each column of x has a prior precision of its own, learnt and shared by the components, so
            that columns without effect shrink (automatic relevance determination). The intercept's prior is as without;
            s then gives a column's scale, s / 100: its coefficients are Cauchy of that scale.
        quadrature: whether the bound is that of fixed nodes, closer to the exact one and some 30 times as long; for
            K = 2 it always is, by Gauss-Hermite quadrature. May be set later.
        features: a network, such as the body of a trained :class:`~mixpyro.NeuralGate`; takes x [N, D] in the dtype of
            its parameters, gives the columns [N, E − 1] of the regression in place of x. The gate keeps a copy, in
            evaluation mode and frozen: the coefficients alone have a posterior. Of unit order, as the prior has it.
        name: prefix of the Pyro sites ``<name>.coefficients`` and ``<name>.assignment``.
        device: where the gate lives.
        dtype: of its own state; results have the dtype of x.

    Attributes:
        posterior_mean: m, log odds against the first component [1, (K − 1) (1 + D)], the intercept of each first.
        posterior_precision: Λ [1, (K − 1) (1 + D), (K − 1) (1 + D)].

    References:
        Knowles, Minka (2011), Non-conjugate variational message passing for multinomial and binary regression, sec. 5;
        Khan, Lin (2017), Conjugate-computation variational inference, eq. 10.

    Example:
        >>> gate = BayesianSoftmaxGate(2, n_features=1)
        >>> x = torch.linspace(-1, 1, 200).double().unsqueeze(1)
        >>> responsibilities = torch.cat([x < 0.2, x >= 0.2], dim=1).double()
        >>> gate.maximise(x, responsibilities)
        >>> gate.weights(torch.tensor([[-1.0], [1.0]])).round(decimals=2).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """

    def __init__(
        self,
        n_components: int,
        n_features: int,
        *,
        prior_scale: float = 2.0,
        symmetric_prior: bool = True,
        relevance: bool = False,
        quadrature: bool = False,
        features: nn.Module | None = None,
        name: str = "gate",
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__(n_components, name=name)
        self.n_features = arguments.size("n_features", n_features, least=0)
        self.prior_scale = arguments.moderate_number("prior_scale", prior_scale)
        self.symmetric_prior = arguments.flag("symmetric_prior", symmetric_prior)
        self.relevance = arguments.flag("relevance", relevance)
        self.quadrature = arguments.flag("quadrature", quadrature)
        self.keep_features(features)
        # A step, the bound after it and the next expansion are at one posterior.
        self._last: LastResult[tuple[Tensor, LogNormaliser]] = LastResult()
        like = torch.zeros((), device=arguments.device(device), dtype=arguments.dtype(dtype))
        self.register_posterior(self.prior, like=like)

    @property
    def _between(self) -> Tensor:
        """B [K − 1, K − 1], the prior precision of a column's coefficients in units of 1/s²."""
        k = self.n_components
        between = torch.eye(k, dtype=torch.float64, device=self._device)
        if self.symmetric_prior:
            between = between - 1.0 / k
        return between[1:, 1:].contiguous()

    @property
    def prior(self) -> NormalCoefficients:
        """Normal(0, P₀⁻¹), float64; with ``relevance`` where a fit starts from, all precisions 1/s²."""
        between = self._between
        columns = torch.eye(self.n_columns + 1, dtype=torch.float64, device=between.device)
        precision = torch.kron(between, columns).unsqueeze(0) / self.prior_scale**2
        return NormalCoefficients(precision.new_zeros(precision.shape[:2]), precision)

    @property
    def _relevances(self) -> ColumnRelevance | None:
        """The prior with precisions of the columns to learn; None without."""
        if not self.relevance or self.n_components == 1 or not self.n_columns:
            return None
        between = self._between
        rate = RELEVANCE_SHAPE * (RELEVANCE_SCALE * self.prior_scale) ** 2
        gamma = Gamma(between.new_tensor(RELEVANCE_SHAPE), between.new_tensor(rate))
        return ColumnRelevance(between, between.new_tensor(1.0 / self.prior_scale**2), gamma)

    @property
    def column_precisions(self) -> Float[Tensor, " D"] | None:
        """Posterior means of the columns' prior precisions; large of a column without effect. None if not learnt."""
        own = self._relevances
        return None if own is None else own.precisions(self.posterior)

    def prior_given(self, posterior: NormalCoefficients) -> NormalCoefficients:
        """Return the prior at the columns' expected precisions, those of the best posterior of them.

        Args:
            posterior: q, with any leading axes of runs.
        """
        own = self._relevances
        return self.fixed_prior if own is None else own.given(posterior)

    def updated(self, statistics: NaturalSums, before: NormalCoefficients) -> NormalCoefficients:
        """Return the posterior of given sums, with the columns' precisions before them.

        Args:
            statistics: with any leading axes of runs.
            before: q that the precisions are those of.
        """
        return self.prior_given(before).updated(statistics)

    def kl(self, posterior: NormalCoefficients) -> Tensor:
        """Return KL(q‖p) in nats, the columns' precisions included.

        Args:
            posterior: q, with any leading axes of runs.
        """
        own = self._relevances
        return posterior.kl(self.fixed_prior) if own is None else own.kl(posterior)

    def prior_distribution(self, dtype: torch.dtype) -> TorchDistributionMixin:
        """Return the prior of the coefficients, the columns' precisions integrated out.

        Args:
            dtype: of its draws.
        """
        own = self._relevances
        if own is None:
            return super().prior_distribution(dtype)
        between, intercept, shape, rate = (part.to(dtype) for part in (own.between, own.intercept, *own.columns))
        return RelevanceCoefficients(between, intercept, shape, rate, self.n_columns)

    @property
    def _device(self) -> torch.device | None:
        """Where the gate lives."""
        own = self._buffers.get("posterior_mean")
        return None if own is None else own.device

    @property
    def covariance(self) -> Tensor:
        """Posterior covariance of the coefficients, those of a component side by side [Q, Q], Q = (K − 1) (1 + D)."""
        return self.posterior.covariance.squeeze(0)

    def _matrix(self, flat: Tensor) -> Tensor:
        """Return coefficients [..., 1, Q] as [..., K − 1, 1 + D]."""
        return flat.squeeze(-2).unflatten(-1, self.coefficients_shape)

    def _normaliser(
        self, rows: DesignRows, posterior: NormalCoefficients, *, quadrature: bool
    ) -> tuple[Tensor, LogNormaliser]:
        """Return the means of the linear predictors [..., K − 1, N], and E log Σ exp of them."""
        given = (rows.columns, posterior.mean, posterior.precision)
        return self._last.of(given, lambda: self._evaluated(rows, posterior, quadrature=quadrature), key=quadrature)

    def _evaluated(
        self, rows: DesignRows, posterior: NormalCoefficients, *, quadrature: bool
    ) -> tuple[Tensor, LogNormaliser]:
        """Return what :meth:`_normaliser` does."""
        means = rows.means(self._matrix(posterior.mean))
        size, n_columns = self.coefficients_shape
        covariance = posterior.covariance.squeeze(-3).unflatten(-1, (size, n_columns)).unflatten(-3, (size, n_columns))
        first, second = pair_indices(size, means.device)
        by_pair = rows.variances(covariance.movedim(-3, -2)[..., first, second, :, :])
        place = torch.empty(size, size, dtype=torch.long, device=means.device)
        place[first, second] = place[second, first] = torch.arange(len(first), device=means.device)
        between = by_pair[..., place, :]
        function = softmax_quadrature if quadrature or self.n_components == 2 else tilted_softmax
        return means, function(means, between)

    def expected_log(self, rows: DesignRows, posterior: NormalCoefficients) -> Float[Tensor, "*R K N"]:
        """Return μₖ − B, a lower bound on E_q[log πₖ]; arguments as :meth:`BayesianLogitGate.expected_log`."""
        means, normaliser = self._normaliser(rows, posterior, quadrature=bool(self.quadrature))
        return (
            torch.cat([torch.zeros_like(means[..., :1, :]), means], dim=-2) - normaliser.value.unsqueeze(-2)
            if (self.n_components > 1)
            else -normaliser.value.unsqueeze(-2)
        )

    def expansion(
        self, rows: DesignRows, responsibilities: Float[Tensor, "*R K N"], posterior: NormalCoefficients
    ) -> NaturalSums:
        """Return Σ (r − w p̃) ⊗ u + Hm and H = Σ w P̃ ⊗ uu'; arguments as :meth:`BayesianLogitGate.expansion`."""
        _, found = self._normaliser(rows, posterior, quadrature=bool(self.quadrature))
        totals = responsibilities.sum(-2, keepdim=True)
        residuals = responsibilities[..., 1:, :] - totals * found.probabilities
        gradient = (residuals @ rows.columns.mT).flatten(-2)
        size = self.n_components - 1
        first, second = pair_indices(size, residuals.device)
        by_pair = rows.grams(totals * found.curvature[..., first, second, :])
        place = torch.empty(size, size, dtype=torch.long, device=residuals.device)
        place[first, second] = place[second, first] = torch.arange(len(first), device=residuals.device)
        precision = by_pair[..., place, :, :].movedim(-2, -3).flatten(-2).flatten(-3, -2)
        linear = gradient + (precision @ posterior.mean.squeeze(-2).unsqueeze(-1)).squeeze(-1)
        return NaturalSums(linear.unsqueeze(-2), precision.unsqueeze(-3))

    def weights_of_rows(self, rows: DesignRows, posterior: NormalCoefficients) -> Float[Tensor, "K N"]:
        """Return E_q[π] by quadrature; arguments as :meth:`BayesianLogitGate.weights_of_rows`."""
        _, found = self._normaliser(rows, posterior, quadrature=True)
        return torch.cat([1.0 - found.probabilities.sum(-2, keepdim=True), found.probabilities], dim=-2)

    def log_weights_at(self, x: Inputs, coefficients: Float[Tensor, "*S M E"]) -> Float[Tensor, "*S N K"]:
        """Return log softmax of the logits; arguments as :meth:`BayesianLogitGate.log_weights_at`."""
        return with_reference(self.design(x) @ coefficients.double().mT).log_softmax(-1)

    def weights_distribution(self, posterior: NormalCoefficients, dtype: torch.dtype) -> TorchDistributionMixin:
        """Return the distribution of the coefficients, event shape [K − 1, 1 + D].

        Args:
            posterior: a prior or posterior, without leading axes of runs.
            dtype: of its draws.
        """
        if self.n_components == 1:
            return Normal(posterior.mean.new_zeros(self.coefficients_shape, dtype=dtype), 1.0).to_event(2)
        root = cholesky(posterior.covariance.squeeze(-3))
        flat = multivariate_normal(posterior.mean.squeeze(-2).to(dtype), scale_tril=root.to(dtype))
        return TransformedDistribution(flat, [ReshapeTransform(flat.event_shape, torch.Size(self.coefficients_shape))])

    def prior_in_words(self) -> str:
        """Return the prior of the coefficients in a few words."""
        if self._relevances is not None:
            scale = RELEVANCE_SCALE * self.prior_scale
            return f"Cauchy of scale {scale:.6g} for each column, Normal(0, {self.prior_scale:.6g}²) on intercepts"
        of_what = "each score" if self.symmetric_prior else "each coefficient"
        return f"Normal(0, {self.prior_scale:.6g}²) on {of_what}"

    def coefficient_names(self, feature_names: Sequence[str]) -> list[str]:
        """Return names such as ``component 1 against 0, intercept``.

        Args:
            feature_names: names of the columns of x.
        """
        given = feature_names[: self.n_features]
        made = [f"feature {column}" for column in range(self.n_columns)]
        columns = ["intercept", *(given if self.features is None else made)]
        return [f"component {k} against 0, {column}" for k in range(1, self.n_components) for column in columns]

    @property
    def prior_kinds(self) -> list[tuple[float, ...]]:
        """One label where the prior is the same whichever component is the reference, else one for the reference."""
        alike = self.symmetric_prior or self.n_components <= 2
        return [() if alike else (float(k > 0),) for k in range(self.n_components)]
