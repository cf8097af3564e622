"""Steps of a softmax gate in a stream of batches."""

from jaxtyping import Bool, Float
from torch import Tensor

from mixpyro.fitted_part import State
from mixpyro.gates.softmax_runs import SoftmaxRuns
from mixpyro.numerics.newton_sums import NewtonSums
from mixpyro.part import MOST_CHANGE_OF_BATCH
from mixpyro.shapes import Inputs, Value

# Log odds of a row, in absolute value, from where a likelihood is flat.
MOST_LOG_ODDS = 30.0


class SoftmaxStreams(SoftmaxRuns):
    """How a stream improves :class:`mixpyro.SoftmaxGate`; see :class:`~mixpyro.experts.glm_streams.GLMStreams`."""

    def meet(self, x: Inputs) -> None:
        """Keep in which columns coefficients are counted, from the first batch, and how far rows reach in them.

        Args:
            x: gate inputs [N, D] of a batch.
        """
        if self.__dict__.get("_standardisation") is None:
            self.centre(x)
        else:
            self.__dict__["_standardisation"] = self.standardisation.widened(x[:, : self.n_features])

    def are_far(self, state: State) -> Bool[Tensor, "R J"] | None:
        """Return which components have log odds beyond ``MOST_LOG_ODDS``; arguments as :meth:`FittedPart.are_far`."""
        if not self.takes_steps or self._are_shares:
            return None
        return self._furthest(state) > MOST_LOG_ODDS

    def taken_back(self, state: State, number: int, shares: Float[Tensor, " R"]) -> State:
        """Return states with smaller log odds of a component; arguments as :meth:`FittedPart.taken_back`."""
        (own,) = state.estimates
        factor = self._furthest(state)[:, number] ** -shares.to(own.device)
        coefficients = own.clone()
        coefficients[:, number] *= factor.to(own).unsqueeze(-1)
        return State((), (coefficients,))

    def _furthest(self, state: State) -> Float[Tensor, "R J"]:
        """Return about the largest log odds of any row."""
        standardised = self.standardisation.standardised(state.estimates[0])
        return self.standardisation.furthest(standardised.unsqueeze(-2))

    def streamed(self, state: State, batch: Value, averages: Value, *, size: float, least: float) -> State:
        """Return the state of every run after a step; arguments as :meth:`Part.streamed`."""
        (own,) = state.estimates
        before = own.double()
        if self._are_shares:
            return State((), (self._after_step(before, averages).to(own),))
        sums = averages._replace(
            coefficients=NewtonSums(batch.coefficients.gradient, averages.coefficients.information)
        )
        after = self._after_step(before, sums)
        step = size * (self.standardisation.standardised(after) - self.standardisation.standardised(before))
        change = self.standardisation.furthest(step)
        step = (MOST_CHANGE_OF_BATCH / change.clamp_min(MOST_CHANGE_OF_BATCH))[:, None, None] * step
        after = self.standardisation.original(self.standardisation.standardised(before) + step)
        return State((), (after.to(own),))
