"""Which linear response belongs to which posterior."""

from collections.abc import Callable

import torch
from torch import Tensor

from mixpyro.conjugate.dirichlet import Dirichlet
from mixpyro.conjugate.full_covariance import Full
from mixpyro.conjugate.independent_columns import Diagonal, Spherical, Uncorrelated
from mixpyro.conjugate.normal import NormalCoefficients
from mixpyro.conjugate.normal_gamma import LinearStatistics, NormalGamma
from mixpyro.conjugate.normal_wishart import GaussianStatistics
from mixpyro.conjugate.random_effects import RandomEffects
from mixpyro.conjugate.relevance import Relevance, RelevancePrior
from mixpyro.conjugate.responses.base import Features, Response
from mixpyro.conjugate.responses.dirichlet import DirichletResponse
from mixpyro.conjugate.responses.full_covariance import FullResponse
from mixpyro.conjugate.responses.normal import NormalResponse
from mixpyro.conjugate.responses.normal_gamma import NormalGammaResponse
from mixpyro.conjugate.responses.random_effects import RandomEffectsResponse
from mixpyro.conjugate.responses.sticks import SticksResponse
from mixpyro.conjugate.responses.tied_covariance import TiedResponse
from mixpyro.conjugate.sticks import LearntSticks, Sticks
from mixpyro.conjugate.tied_covariance import Tied
from mixpyro.numerics.design_matrix import Origin
from mixpyro.shapes import Value


class UncorrelatedResponse(NormalGammaResponse):
    """Gaussian densities of uncorrelated columns: regressions on the constant alone.

    Args:
        value: diagonal or spherical, without leading axes.
        origin: from which y is counted.
    """

    def __init__(self, value: Uncorrelated, origin: Origin) -> None:
        super().__init__(as_regressions(value), origin)
        self.is_spherical = isinstance(value, Spherical)

    def totals(self, statistics: GaussianStatistics) -> Features:  # type: ignore[override]
        """Return sums of features; arguments as :meth:`Response.totals`."""
        r = statistics.r
        yy = statistics.yy.reshape(self.n_components, -1).expand(-1, self.n_outputs)
        return self._totals(LinearStatistics(r, r[:, None, None], statistics.y.unsqueeze(1), yy))

    def statistics(self, sums: Features) -> GaussianStatistics:  # type: ignore[override]
        """Return the statistics of sums of features; arguments as :meth:`Response.statistics`."""
        found = super().statistics(sums)
        yy = found.yy.mean(-1) if self.is_spherical else found.yy
        return GaussianStatistics(found.r, found.uy.squeeze(1), yy)

    def of_prior(self, prior: Uncorrelated) -> Features:  # type: ignore[override]
        """Return the features of a prior; arguments as :meth:`Response.of_prior`."""
        return super().of_prior(as_regressions(prior))

    def expected_log_prior(self, prior: Uncorrelated) -> Tensor:  # type: ignore[override]
        """Return E_q[log p]; arguments as :meth:`Response.expected_log_prior`."""
        return super().expected_log_prior(as_regressions(prior))


class RelevanceResponse(NormalGammaResponse):
    """Regressions with a learnt prior precision for each column, which is a parameter beside the statistics.

    Args:
        value: without leading axes.
        origin: from which x and y are counted.
    """

    is_closed = False

    def __init__(self, value: Relevance, origin: Origin) -> None:
        super().__init__(value.regression, origin)
        self.column_precision = value.column_precision

    def expected_log_prior(self, prior: RelevancePrior) -> Tensor:  # type: ignore[override]
        """Return E log p(w, τ, λ); arguments as :meth:`Response.expected_log_prior`."""
        columns = prior.columns_with_mean(self.column_precision)
        of_columns = (prior.columns.shape - 1.0 + 0.5 * self.n_outputs) * columns.expected_log
        of_columns = of_columns - prior.columns.rate * self.column_precision
        return super().expected_log_prior(prior.given(self.column_precision)) + of_columns.sum()


def as_regressions(value: Uncorrelated) -> NormalGamma:
    """Return the same distribution of means and precisions as that of regressions on the constant.

    Args:
        value: diagonal or spherical, without leading axes.
    """
    gamma = value.precisions
    rate = gamma.rate.reshape(len(value.mean), -1)
    shape = gamma.shape.reshape(len(value.mean), -1)[:, 0]
    return NormalGamma(value.mean.unsqueeze(-1), value.mean_precision[:, None, None], shape, rate)


def response_of(value: Value, origin: Origin | None = None) -> Response | None:
    """Return the linear response of a posterior; None for a kind that has none.

    Args:
        value: a posterior without leading axes, counted from the origin.
        origin: of x and y; zero by default.
    """
    make: Callable[..., Response] | None = {
        Dirichlet: lambda: DirichletResponse(value),
        NormalCoefficients: lambda: NormalResponse(value),
        Sticks: lambda: SticksResponse(value),
        LearntSticks: lambda: SticksResponse(value),
        NormalGamma: lambda: NormalGammaResponse(value, _or_zero(origin, value)),
        RandomEffects: lambda: RandomEffectsResponse(value),
        Relevance: lambda: RelevanceResponse(value, _or_zero(origin, value.regression)),
        Diagonal: lambda: UncorrelatedResponse(value, _constant(origin, value)),
        Spherical: lambda: UncorrelatedResponse(value, _constant(origin, value)),
        Full: lambda: FullResponse(value, _constant(origin, value).y),
        Tied: lambda: TiedResponse(value, _constant(origin, value).y),
    }.get(type(value))
    return None if make is None else make()


def _or_zero(origin: Origin | None, value: NormalGamma) -> Origin:
    """Return the origin, or zero for regressions with an intercept as for those without."""
    if origin is not None:
        return origin
    mean = value.mean
    return Origin(mean.new_zeros(mean.shape[-1]), mean.new_zeros(mean.shape[-2]), intercept=False)


def _constant(origin: Origin | None, value: Value) -> Origin:
    """Return the origin of y, or zero, for regressions on the constant."""
    mean = value.mean
    y = torch.zeros_like(mean[0]) if origin is None else origin.y
    return Origin(mean.new_zeros(0), y, intercept=True)
