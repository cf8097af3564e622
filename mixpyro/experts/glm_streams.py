"""Steps of generalised linear models in a stream of batches."""

import math
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mixpyro.experts.glm_runs import GLMRuns
from mixpyro.experts.glm_states import GLMParametersOfRuns, GLMSums
from mixpyro.experts.scale_steps import in_sets
from mixpyro.fitted_part import State
from mixpyro.numerics.few_parameters import uphill_step
from mixpyro.numerics.newton_sums import NewtonSums
from mixpyro.part import MOST_CHANGE_OF_BATCH
from mixpyro.shapes import Inputs, Targets, Value

# Noises by which the predictor of a row may change in a batch, of a location.
MOST_NOISES = 3.0
# Predictor of a row, in absolute value, up to which a component may be taken over from a few rows: those that separate
# them send it to infinity.
MOST_PREDICTOR = 30.0
# Logarithm of the factor between a scale and that before any fit, from where on a likelihood is flat in it.
FAR_SCALE = math.log(1e4)


class GLMStreams(GLMRuns):
    """How a stream improves :class:`mixpyro.experts.GLMExperts`, from sums over each batch.

    The information is a running average, so that a batch without any in some direction moves no coefficient far.
    """

    @property
    def may_begin_anew(self) -> bool:
        """Whether a component may take rows of a stream: where all it has are estimates of its own."""
        return self.takes_steps and not self.shared

    def are_moderate(self, state: State) -> Bool[Tensor, "R K"] | None:
        """Return which components have finite estimates, and probabilities or rates that rows do not send far.

        Args:
            state: of R runs.
        """
        own = self.of_runs(state)
        are_finite = own.coefficients.isfinite().all(-1).all(-1) & own.scale.isfinite().all(-1)
        if self.family.has_scale:
            return are_finite
        furthest = self.standardisation.furthest(self.standardisation.standardised(own.coefficients))
        return are_finite & (furthest < MOST_PREDICTOR)

    def are_far(self, state: State) -> Bool[Tensor, "R K"] | None:
        """Return which components have probabilities, rates or scales at a limit; as :meth:`FittedPart.are_far`."""
        if not self.takes_steps or self.shared:
            return None
        own = self.of_runs(state)
        return (self._furthest(own) > MOST_PREDICTOR).any(-1) | self._are_far_scales(own).any(-1)

    def taken_back(self, state: State, number: int, shares: Float[Tensor, " R"]) -> State:
        """Return states of a component nearer to unit order; arguments as :meth:`FittedPart.taken_back`."""
        own = self.of_runs(state)
        coefficients, scale = self.standardisation.standardised(own.coefficients), own.scale.clone()
        shares, furthest = shares.to(scale.device), self._furthest(own)[:, number]
        shorter = torch.where(furthest > MOST_PREDICTOR, furthest ** -shares.unsqueeze(-1), 1.0)
        coefficients[:, number] *= shorter.unsqueeze(-1)
        logs, first = scale[:, number].log(), scale.new_tensor(self.family.first_scales).log()
        moved = torch.lerp(logs, first.expand_as(logs), shares.unsqueeze(-1)).exp()
        scale[:, number] = torch.where(self._are_far_scales(own)[:, number], moved, scale[:, number])
        return self._state_of(own, self.standardisation.original(coefficients), scale)

    def _furthest(self, own: GLMParametersOfRuns) -> Float[Tensor, "R K C"]:
        """Return about the largest value of each predictor in any row; 0 for a location, which may be anywhere."""
        if self.family.has_scale or not self._has_free_coefficients:
            return torch.zeros_like(own.coefficients[..., 0])
        coefficients = self.standardisation.standardised(own.coefficients)
        return self.standardisation.furthest(coefficients.unsqueeze(-2))

    def _are_far_scales(self, own: GLMParametersOfRuns) -> Bool[Tensor, "R K S"]:
        """Return which scales are near zero or infinity, but for a noise, which has the unit of y."""
        distance = (own.scale / own.scale.new_tensor(self.family.first_scales)).log().abs()
        are_far = (distance > FAR_SCALE) & self._has_free_scales
        if self.family.has_scale:
            are_far[..., 0] = False
        return are_far

    def meet(self, x: Inputs, y: Targets, weights: Tensor | None = None) -> None:
        """Keep in which columns coefficients are counted, from the first batch, and how far rows reach in them.

        Args:
            x: inputs [N, D] of a batch, or [N, D + 1] with an exposure.
            y: outputs [N, 1].
            weights: how much each row counts [N]; None where each counts once.
        """
        if self.__dict__.get("_standardisation") is None:
            self.centre(x, y, weights)
        else:
            self.__dict__["_standardisation"] = self.standardisation.widened(self._regressors(x))

    def to_average(self, state: State, sums: Value) -> GLMSums:
        """Return sums in units that do not change with a noise: those of a Gaussian in squares of y.

        Args:
            state: of R runs, at which the sums were found.
            sums: as :meth:`sums` returns them.
        """
        if not self._limits.by_moments or not self.family.scale_names:
            return sums
        squared = self.of_runs(state).scale.square()
        gradient, information = sums.coefficients
        scales = sums.scales
        if self._has_free_scales:
            scales = scales._replace(gradient=squared * (scales.gradient + sums.counts.unsqueeze(-1)))
        own = NewtonSums(squared * gradient, squared.unsqueeze(-1) * information)
        return GLMSums(sums.counts, own, scales)

    def streamed(self, state: State, batch: Value, averages: Value, *, size: float, least: float) -> State:
        """Return the state of every run after a step; arguments as :meth:`Part.streamed`."""
        own, held = self.of_runs(state), averages.counts < least
        coefficients = self.standardisation.standardised(own.coefficients)
        if size > 0.0:
            coefficients = coefficients + self._limited_step(own, batch, averages, held, size)
        scale = self._scale_in_stream(own, batch, averages, held, size)
        return self._state_of(own, self.standardisation.original(coefficients), scale)

    def _limited_step(
        self, own: GLMParametersOfRuns, batch: GLMSums, averages: GLMSums, held: Tensor, size: float
    ) -> Float[Tensor, "R K C E"]:
        """Return a share of Newton's step, shortened where predictors of rows would change by much."""
        is_free = ~held.unsqueeze(-1)
        gradient = torch.where(is_free, batch.coefficients.gradient, 0.0)
        information = averages.coefficients.information
        by_moments = self._limits.by_moments and bool(self.family.scale_names)
        if by_moments:
            precision = own.scale.square().reciprocal()
            gradient, information = precision * gradient, precision.unsqueeze(-1) * information
        step = size * self._coefficients_step(own, averages._replace(coefficients=NewtonSums(gradient, information)))
        most: Any = MOST_CHANGE_OF_BATCH
        if self.family.has_scale:
            most = torch.inf if by_moments else MOST_NOISES * own.scale[..., 0]
        change = self.standardisation.furthest(step)
        share = (most / change.clamp_min(torch.finfo(change.dtype).tiny)).clamp_max(1.0)
        if self.shared_coefficients_estimate is not None:
            return share.amin(1)[:, None, None, None] * step
        return torch.where(is_free, share.unsqueeze(-1), 0.0).unsqueeze(-1) * step

    def _scale_in_stream(
        self, own: GLMParametersOfRuns, batch: GLMSums, averages: GLMSums, held: Tensor, size: float
    ) -> Float[Tensor, "R K S"]:
        """Return the scales: the root of the average square of a Gaussian's noise, else a step on the batch."""
        if not self._has_free_scales:
            return own.scale
        limits = self._limits
        if limits.by_moments:
            squares, counts = averages.scales.gradient, averages.counts
            if self.sharing.has_scale:
                squares, counts = (in_sets(one, self.sharing.set_of) for one in (squares, counts))
                held = torch.zeros_like(held)
            found = (squares / counts.unsqueeze(-1)).sqrt().clamp_min(limits.low)
        else:
            low, high = limits.low.log().expand(own.scale.shape), limits.high.log().expand(own.scale.shape)
            point, gradient = own.scale.log().maximum(low).minimum(high), batch.scales.gradient
            at_limit = ((point <= low) & (gradient < 0)) | ((point >= high) & (gradient > 0))
            hessian = averages.scales.hessian
            assert hessian is not None
            step = uphill_step(*(part.flatten(0, 1) for part in (gradient, hessian, at_limit))).reshape(point.shape)
            found = (point + size * step).maximum(low).minimum(high).exp()
        return torch.where(~held.unsqueeze(-1) & found.isfinite(), found, own.scale)
