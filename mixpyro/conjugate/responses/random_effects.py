"""Linear response of regressions with random effects, by automatic differentiation."""

from functools import cached_property

import torch
from torch import Tensor

from mixpyro.conjugate.random_effects import RandomEffects
from mixpyro.conjugate.responses.base import Response
from mixpyro.conjugate.responses.full_covariance import FullResponse
from mixpyro.numerics.cholesky import cholesky, inverted


class RandomEffectsResponse(Response):
    """Quantities β [K, E], then log τ, then log precisions and regressions of the effects on those before them.

    The last two are those of :class:`~mixpyro.conjugate.responses.full_covariance.FullResponse`, in the shape of the
    covariance. What a group says is no polynomial in the parameters.

    Args:
        value: for x and y as they are, without leading axes.
    """

    is_closed = False

    def __init__(self, value: RandomEffects) -> None:
        self.value = value
        self.n_components = len(value.mean)
        self.n_common, self.n_own = 0, 0
        self._of_effects = FullResponse(value.effects, value.scale.new_zeros(value.n_effects))
        self._n_means = value.degrees.numel() * value.n_effects  # of the effects, which are zero

    @property
    def quantities(self) -> Tensor:
        """E β, E log τ, and those of the effects [Q]."""
        effects = self._of_effects.quantities[self._n_means :]
        return torch.cat([self.value.mean.flatten(), self.value.noise.expected_log, effects])

    @cached_property
    def covariance(self) -> Tensor:
        """Cov_q of the quantities [Q, Q]."""
        root = inverted(cholesky(self.value.precision))
        of_noise = torch.polygamma(1, self.value.shape).diag_embed()
        effects = self._of_effects.covariance[self._n_means :, self._n_means :]
        return torch.block_diag(*(root.mT @ root), of_noise, effects)

    @property
    def covariance_beyond(self) -> Tensor:
        """Zero, but for the quantities of the effects, which are no statistics of the Wishart distribution."""
        effects = self._of_effects.covariance_beyond[self._n_means :, self._n_means :]
        rest = self.value.mean.numel() + self.value.shape.numel()
        return torch.block_diag(effects.new_zeros(rest, rest), effects)

    def expected_log_prior(self, prior: RandomEffects) -> Tensor:
        """Return E log p(β, τ, Ω), up to a constant.

        Args:
            prior: for x and y as they are, without leading axes.
        """
        q = self.value
        deviation = (q.mean - prior.mean).unsqueeze(-1)
        root = inverted(cholesky(q.precision))
        distance = (prior.precision * (deviation @ deviation.mT + root.mT @ root)).sum()
        of_noise = ((prior.shape - 1.0) * q.noise.expected_log - prior.rate * q.noise.mean).sum()
        log_determinant = (prior.degrees - q.n_effects - 1.0) * q.effects.expected_log_determinant
        trace = (prior.scale * q.effect_precision).sum((-2, -1))
        return of_noise - 0.5 * distance + 0.5 * (log_determinant - trace).sum()
