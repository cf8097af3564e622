"""What a family of densities is to generalised linear models."""

from typing import Any, ClassVar

from jaxtyping import Float
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from mixpyro import arguments
from mixpyro.numerics.curvature import Curvature
from mixpyro.shapes import Responsibilities


class Family:
    """Density of y given linear predictors η, with its derivatives.

    In the methods, y is [N, P] and η is [N, K, C]. Results have the dtype of the exposure. η may have a more precise
    one: float32 rows keep the digits of float64 predictors. The scales σ [K, S] of a component are all its parameters
    above 0 that do not depend on x: the noise, if it has one, comes first.

    Attributes:
        n_predictors: C, linear predictors of an expert; of the Gaussian, of each output.
        n_outputs: P, columns of y; of the Gaussian, at least 1.
        scale_names: of the S scales.
        first_scales: what they are before any fit.
        has_scale: whether the first scale is a noise, in the unit of y.
        is_discrete: whether y has probabilities rather than a density.
        has_counts: whether y are counts of events, which have no limit.
        is_finite: whether y must be finite.
        has_moments: whether scales at their maximum have a closed form, that of a Gaussian's noise.
    """

    n_predictors: int = 1
    n_outputs: int = 1
    scale_names: ClassVar[tuple[str, ...]] = ()
    first_scales: ClassVar[tuple[float, ...]] = (1.0,)
    has_scale: ClassVar[bool] = False
    is_discrete: ClassVar[bool] = True
    has_counts: ClassVar[bool] = False
    is_finite: ClassVar[bool] = True
    has_moments: ClassVar[bool] = False

    def __init_subclass__(cls, **options: Any) -> None:  # noqa: ANN401
        """Let the formulas of a class of this library name the tensors of which they fail."""
        super().__init_subclass__(**options)
        if cls.__module__.startswith("mixpyro."):
            _explain(cls)

    def check(self, y: Tensor, exposure: Tensor) -> None:
        """Raise ValueError where y is outside the support of the family. Any y by default.

        Args:
            y: outputs [N, P].
            exposure: to which a count is proportional, or trials of a binomial [N, 1, 1]; 1 without either.
        """

    def log_prob(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """Return log p(y | η) in nats, with every constant.

        Args:
            y: outputs [N, P].
            eta: linear predictors η [N, K, C].
            exposure: to which a count is proportional, or trials of a binomial [N, 1, 1], above 0; 1 without either.
            scale: σ [K, S], above 0; 1 for a family without.

        Returns:
            [N, K].
        """
        raise NotImplementedError

    def saturated(self, y: Tensor, exposure: Tensor) -> Tensor | None:
        """Return the log density of a model that fits every row exactly [N, 1] in nats; None where it is not used.

        It depends on neither η nor σ, and a fit computes it once.

        Args:
            y: outputs [N, P].
            exposure: as for :meth:`log_prob`.
        """
        return None

    def beyond_saturated(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """Return log p(y | η) less :meth:`saturated` [N, K]: minus half the deviance; log p itself without.

        Args:
            y: outputs [N, P].
            eta: as for :meth:`log_prob`.
            exposure: as for :meth:`log_prob`.
            scale: as for :meth:`log_prob`.
        """
        return self.log_prob(y, eta, exposure, scale)

    def score(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """Return the derivative of the log density in η: y − E[y | η] by default.

        Args:
            y: outputs [N, P].
            eta: linear predictors η [N, K, C].
            exposure: as for :meth:`log_prob`.
            scale: as for :meth:`log_prob`.

        Returns:
            [N, K, C].
        """
        # The difference of two large numbers may be small.
        return (y.double().unsqueeze(-1) - self.mean(eta, exposure.double())).to(exposure.dtype)

    def curvature(self, eta: Tensor, exposure: Tensor, scale: Tensor) -> Curvature:
        """Return minus the second derivatives of the log density in η; with a canonical link they do not depend on y.

        Args:
            eta: linear predictors η [N, K, C].
            exposure: as for :meth:`log_prob`.
            scale: as for :meth:`log_prob`.
        """
        raise NotImplementedError

    def observed_curvature(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> Curvature:
        """Return minus the second derivatives at y, or at least as much: those that do not depend on y by default.

        Args:
            y: outputs [N, P].
            eta: linear predictors η [N, K, C].
            exposure: as for :meth:`log_prob`.
            scale: as for :meth:`log_prob`.
        """
        return self.curvature(eta, exposure, scale)

    def score_and_curvature(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> tuple[Tensor, Curvature]:
        """Return :meth:`score` and :meth:`observed_curvature`, which a family may compute together.

        Args:
            y: outputs [N, P].
            eta: linear predictors η [N, K, C].
            exposure: as for :meth:`log_prob`.
            scale: as for :meth:`log_prob`.
        """
        return self.score(y, eta, exposure, scale), self.observed_curvature(y, eta, exposure, scale)

    def scale_by_moments(self, y: Tensor, eta: Tensor, responsibilities: Tensor) -> Tensor | None:
        """Return the scales [K, S] at their maximum, where that has a closed form; None where it has none.

        Args:
            y: outputs [N, P], float64.
            eta: linear predictors η [N, K, C].
            responsibilities: [N, K].
        """
        return None

    def log_scale_derivatives(
        self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor
    ) -> tuple[Tensor, Tensor] | None:
        """Return derivatives of the log density in log σ, [N, K, S] and [N, K, S, S]; None to have them by autograd.

        Args:
            y: outputs [N, P].
            eta: linear predictors η [N, K, C].
            exposure: as for :meth:`log_prob`.
            scale: as for :meth:`log_prob`.
        """
        return None

    def scale_limits(self, y: Tensor, weights: Tensor, smallest: Tensor) -> tuple[Tensor, Tensor]:
        """Return the lowest and highest scales [S] that are estimated, where they have no closed form.

        Args:
            y: outputs [N, P], float64.
            weights: of the rows [N].
            smallest: lowest noise, in the unit of y [1].
        """
        raise NotImplementedError

    def start(self, y: Tensor) -> Tensor | None:
        """Return real numbers [N, 1] whose regression by least squares is a start, where zero is a poor one.

        Args:
            y: outputs [N, P].
        """
        return None

    def common_predictors(self, y: Tensor, exposure: Tensor, responsibilities: Responsibilities) -> Tensor | None:
        """Return predictors [K, C] that are the same for all rows, from where a search for others is short.

        Args:
            y: outputs [N, P].
            exposure: as for :meth:`log_prob`.
            responsibilities: [N, K].

        Returns:
            None where zero serves: predictors are of unit order, whatever the units of the rows.
        """
        return None

    def scales_at_start(self, noise: Tensor) -> Tensor:
        """Return scales [K, S] to start from.

        Args:
            noise: of the regression of :meth:`start` [K].
        """
        raise NotImplementedError

    def beyond_limits(self, y: Tensor, scale: Float[Tensor, " S"], weights: Tensor) -> str:
        """Return in words that a component's scales have their maximum at infinity or zero; empty where they have not.

        Args:
            y: outputs [N, P].
            scale: of the component.
            weights: of the rows in it [N].
        """
        return ""

    def caution(self, scale: Float[Tensor, " S"]) -> str:
        """Return in words what else a component's scales call for a look at; empty for nothing.

        Args:
            scale: of the component.
        """
        return ""

    def spread_of(self, y: Tensor) -> Tensor:
        """Return finite numbers, a column or more, that show where y lies: y itself by default.

        Args:
            y: outputs [N, P].
        """
        return y

    def mean(self, eta: Tensor, exposure: Tensor) -> Tensor:
        """Return the mean of y; for a categorical, the probabilities of all categories.

        Args:
            eta: linear predictors η [N, K, C].
            exposure: as for :meth:`log_prob`.

        Returns:
            [N, K, P].
        """
        raise NotImplementedError

    def distribution(self, eta: Tensor, exposure: Tensor, scale: Tensor) -> TorchDistributionMixin:
        """Return p(y | η) as a Pyro distribution.

        Args:
            eta: linear predictors η [..., C].
            exposure: as for :meth:`log_prob`, broadcastable to η.
            scale: as for :meth:`log_prob`, broadcastable to η.

        Returns:
            Batch shape that of η without its last axis, event shape [P].
        """
        raise NotImplementedError


def _explain(cls: type) -> None:
    """Let the formulas of a class name the tensors of which they fail."""
    arguments.guard(cls, [name for name in vars(cls) if not name.startswith("_")], arguments.explained)


_explain(Family)
