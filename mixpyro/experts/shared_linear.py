"""Bayesian linear regressions that have some slopes and the noise in common, with conjugate updates."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from pyro.distributions import Gamma
from torch import Tensor

from mixpyro.conjugate.normal_gamma import LinearStatistics, NormalGamma
from mixpyro.conjugate.stacked_regressions import StackedNormalGamma, Stacking
from mixpyro.distributions.multivariate_normal import multivariate_normal
from mixpyro.experts.linear import LinearExperts, LinearParameters
from mixpyro.experts.sharing import Sharing
from mixpyro.experts.weak_prior import DataScales
from mixpyro.numerics.design_matrix import StackedOrigin
from mixpyro.pyro_internals.plates import sample_parameter


class SharedLinearExperts(LinearExperts):
    """y | x, z = k ~ Normal(wₖ'u, 1/τ) as of LinearExperts, with some slopes the same for all k, and one noise τ.

    Given the assignments this is one regression on columns side by side: those of component k, which are zero in the
    rows of the others, and the common ones. So its Normal-Gamma posterior is exact, q(w, τ) of all coefficients
    together. With a noise for each component no such posterior is exact: GLMExperts of the Gaussian family have own
    noises and shared coefficients, by maximum likelihood or with a prior.

    Every component's coefficients have the prior that they have in LinearExperts; own ones of two components are
    independent given those that they share.

    Args:
        n_components: K.
        n_features: D, the number of columns of x.
        n_outputs: P, the number of columns of y, each with slopes of its own.
        shared: numbers of the columns of x whose slopes all components share, at least one. To share an intercept,
            leave ``intercept`` out and share a column of ones.
        intercept: whether u has a leading column of ones, whose coefficients are each component's own.
        coefficient_mean: m₀ as of LinearExperts, the same for all components where they share a slope.
        coefficient_precision: Λ₀ as of LinearExperts.
        noise_per_output: whether every output has its own noise; one for all otherwise.
        noise_shape: a₀ as of LinearExperts.
        noise_rate: b₀ as of LinearExperts.
        scales: as of LinearExperts.
        name: prefix of the Pyro sites ``<name>.precision``, ``<name>.coefficients`` of what is not shared,
            ``<name>.shared_coefficients`` and ``<name>.y``.
        device: of the experts' state.
        dtype: of their state; results have the dtype of x.

    Attributes:
        posterior_mean: of the stacked coefficients counted from the origin [1, P, Q], those of component 0 first, the
            shared ones last; ``coefficients`` [K, P, E] has each component's, for x and y as they are.
        posterior_precision: Λ of the same [1, Q, Q].
        posterior_shape: a [1].
        posterior_rate: b [1, P], or [1, 1] with one noise for all outputs.

    References:
        Grün, Leisch (2008), FlexMix version 2: finite mixtures with concomitant variables and varying and constant
        parameters; Murphy (2012), Machine Learning: a Probabilistic Perspective, eq. 7.69 to 7.73.

    Example:
        >>> x = torch.arange(6.0).double().unsqueeze(-1)
        >>> y = torch.tensor([0.0, 1.0, 2.0, 13.0, 14.0, 15.0]).double() + 0.1 * torch.cos(9 * x[:, 0])
        >>> experts = SharedLinearExperts(2, 1, shared=[0], coefficient_precision=1e-6)
        >>> experts.update(experts.statistics(x, y, torch.eye(2).double().repeat_interleave(3, dim=0)))
        >>> experts.coefficients[:, 0, 1].round(decimals=1).tolist()
        [1.0, 1.0]
    """

    posterior_buffers: ClassVar[Mapping[str, str]] = {}
    site_axes: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "precision": ("component", "output"),
        "coefficients": ("component", "output", "own_regressor"),
        "shared_coefficients": ("component_set", "output", "shared_regressor"),
    }

    def __init__(
        self,
        n_components: int,
        n_features: int,
        n_outputs: int = 1,
        *,
        shared: Sequence[int],
        intercept: bool = True,
        coefficient_mean: float | Sequence[float] | Tensor | None = None,
        coefficient_precision: float | Sequence[float] | Tensor | None = None,
        noise_per_output: bool = True,
        noise_shape: float | None = None,
        noise_rate: float | Sequence[float] | Tensor | None = None,
        scales: DataScales | None = None,
        name: str = "experts",
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__(
            n_components,
            n_features,
            n_outputs,
            intercept=intercept,
            coefficient_mean=coefficient_mean,
            coefficient_precision=coefficient_precision,
            noise_per_component=False,
            noise_per_output=noise_per_output,
            noise_shape=noise_shape,
            noise_rate=noise_rate,
            scales=scales,
            name=name,
            device=device,
            dtype=dtype,
        )
        self.stacking = self._checked_stacking(shared)
        # In place of that of each component.
        self.register_posterior(self.prior, like=self.prior_mean)

    def _checked_stacking(self, shared: Sequence[int]) -> Stacking:
        """Return which columns are shared, and keep the argument."""
        sharing = Sharing(
            shared,
            None,
            n_components=self.n_components,
            n_features=self.n_features,
            has_scale=False,
            intercept=self.intercept,
        )
        if not sharing.columns or "intercept" in sharing.shared:
            raise ValueError(
                f"`shared` must be numbers of columns of x, at least one; got {list(shared)}. To share an "
                "intercept, set intercept=False and share a column of ones; to share a noise alone, take LinearExperts."
            )
        self.shared = sharing.shared
        offset = 0 if self.intercept else 1
        own, columns = ([c - offset for c in part] for part in (sharing.own_columns, sharing.columns))
        common = self.prior_mean[..., columns]
        if not bool((common == common[:1]).all()):
            raise ValueError("`coefficient_mean` must be the same for all components where they share a slope.")
        return Stacking(own, columns, self.n_components)

    @property
    def component_tensors(self) -> tuple[str, ...]:
        """The prior means: the posterior is of all components together."""
        return ("prior_mean",)

    def with_components(self, kept: Sequence[int]) -> "SharedLinearExperts":
        """Return a new bank of some of the components; arguments as :meth:`Experts.with_components`."""
        fewer = super().with_components(kept)
        assert isinstance(fewer, SharedLinearExperts)
        fewer.stacking = Stacking(self.stacking.own, self.stacking.common, len(kept))
        mean, precision, *noise = self.regression
        fewer.hold_posterior(fewer.stacking.stacked(NormalGamma(mean[list(kept)], precision[list(kept)], *noise)))
        return fewer

    @property
    def prior(self) -> StackedNormalGamma:
        """The prior of all coefficients, float64, counted from the origin as the posterior is."""
        return self.stacking.stacked(self._prior_of_regression)

    @property
    def regression(self) -> NormalGamma:
        """The posterior of each component's coefficients and of the noise, float64, counted from the origin."""
        return self.stacking.each(self.posterior)

    @property
    def _prior_of_regression(self) -> NormalGamma:
        """The prior of each component's coefficients and of the noise."""
        return self._own_prior.from_origin(self._from_prior_origin)

    def _distance_from(self, before: NormalGamma) -> Tensor:
        """Return how far coefficients are from their prior mean, those in common once; ``before`` is not read."""
        return self.posterior.distance_from(self.prior)

    def updated(self, statistics: LinearStatistics, before: StackedNormalGamma) -> StackedNormalGamma:
        """Return the posterior that is optimal given statistics.

        Args:
            statistics: sums over the rows of each component, with any leading axes of runs.
            before: not read.
        """
        after: StackedNormalGamma = self.fixed_prior.updated(self.stacking.statistics(statistics))
        return after

    def statistics_of_posterior(self, posterior: StackedNormalGamma) -> LinearStatistics:
        """Return sums of each component that lead to a posterior; arguments as of the base class."""
        return self.stacking.divided(super().statistics_of_posterior(posterior))

    def log_likelihood(  # type: ignore[override]
        self, columns: Float[Tensor, "F N"], posterior: StackedNormalGamma
    ) -> Float[Tensor, "*R K N"]:
        """Return E_q[log p(yᵢ | xᵢ, k)]; arguments as :meth:`LinearExperts.log_likelihood`."""
        return super().log_likelihood(columns, self.stacking.each(posterior))

    def sample(self, posterior: StackedNormalGamma, dtype: torch.dtype) -> LinearParameters:  # type: ignore[override]
        """Sample τ and the coefficients for x and y as they are; arguments as :meth:`ConjugateExperts.sample`."""
        return self._parameter_sites(self.stacking.each(posterior).from_zero(self._origin), dtype)

    def _parameter_sites(self, q: NormalGamma, dtype: torch.dtype) -> LinearParameters:
        """Sample τ, shared coefficients, and own ones given these, from a distribution for x and y as they are."""
        noise = Gamma(q.shape.unsqueeze(-1).expand_as(q.rate).to(dtype), q.rate.to(dtype)).to_event(2)
        precision = self._of_each(sample_parameter(self.site("precision"), noise))
        mean = q.mean[:1, :, self.stacking.common].to(dtype)
        matrices = precision[..., :1, :, None, None] * self.stacking.precision_of_common(q).to(dtype)
        normal = multivariate_normal(mean, precision_matrix=matrices).to_event(2)
        common = sample_parameter(self.site("shared_coefficients"), normal)
        of_own, slopes = (part.to(dtype) for part in self.stacking.own_given_common(q))
        own_mean = q.mean[..., self.stacking.own].to(dtype) - (common - mean) @ slopes.mT
        normal = multivariate_normal(own_mean, precision_matrix=precision[..., None, None] * of_own.unsqueeze(-3))
        own = sample_parameter(self.site("coefficients"), normal.to_event(2))
        return LinearParameters(precision, self.stacking.joined(own, common))

    @property
    def stacked_origin(self) -> StackedOrigin:
        """Where x and y of the stacked coefficients are counted from."""
        of_each, n_own = self._origin, len(self.stacking.own)
        mean = self._buffers["posterior_mean"]
        assert mean is not None
        size = mean.shape[-1]
        shift, offset = torch.eye(size, dtype=torch.float64, device=mean.device), torch.zeros_like(mean[0]).double()
        if self.intercept:
            row = of_each.shift[0]
            for k in range(self.n_components):
                own = slice(k * n_own, (k + 1) * n_own)
                shift[k * n_own, own] = row[self.stacking.own]
                shift[k * n_own, self.n_components * n_own :] = row[self.stacking.common]
                offset[:, k * n_own] = of_each.y.double()
        return StackedOrigin(shift, offset, self.intercept)

    def axis_labels(self, feature_names: Sequence[str]) -> dict[str, list[str]]:
        """Return labels along the axes of own and of shared coefficients.

        Args:
            feature_names: names of the columns of x.
        """
        columns = [*(["intercept"] if self.intercept else []), *feature_names[: self.n_features]]
        return {
            "own_regressor": [columns[column] for column in self.stacking.own],
            "shared_regressor": [columns[column] for column in self.stacking.common],
            "component_set": [self.named_together()],
        }
