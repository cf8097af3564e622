"""Steps of a softmax gate in a stream of batches."""

from mixpyro.fitted_part import State
from mixpyro.gates.softmax_runs import SoftmaxRuns
from mixpyro.numerics.newton_sums import NewtonSums
from mixpyro.part import MOST_CHANGE_OF_BATCH
from mixpyro.shapes import Inputs, Value


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
