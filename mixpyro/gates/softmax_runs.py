"""The iterations of a fit of a softmax gate: all runs at once, one step of Newton's method each."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro.fitted_part import Gradient, State
from mixpyro.gates.logits import LogitGate
from mixpyro.numerics.columns_of_fit import HasColumnsOfFit
from mixpyro.numerics.linear_predictors import LinearPredictors
from mixpyro.numerics.newton import MOST_DENSE, maximised
from mixpyro.numerics.newton_sums import NewtonSums, Standardisation
from mixpyro.numerics.soft_labels import SoftLabels
from mixpyro.part import overrides
from mixpyro.pyro_internals.parameter_store import has_parameters
from mixpyro.shapes import Inputs, ObjectIndices, Value

# Least weight of a component without objects whose weight does not depend on x; its logit stays a number.
LEAST_COUNT = 1e-300
# Steps of Newton's method of a start, from where a fit goes on.
MOST_STEPS = 4
# What the formulas of many runs stand for. A subclass that overrides any is fitted run by run, by its own.
FORMULAS = frozenset(
    {
        "logits",
        "_logits",
        "expected_log_weights",
        "kl_divergence",
        "parameters_under_prior",
        "partial_bound",
        "maximise",
        "coefficients",
        "coefficients_estimate",
    }
)
PARAMETERS = frozenset({"coefficients_estimate"})


class SoftmaxSums(NamedTuple):
    """Sums over the rows of R runs, float64."""

    counts: Tensor  # Σ r [R, K]
    coefficients: NewtonSums | None  # of Σ r log π in the (K − 1) E coefficients of u; None where not needed


class SoftmaxRuns(LogitGate, HasColumnsOfFit):
    """How a fit iterates :class:`mixpyro.SoftmaxGate`, without a look at the rows between two E-steps.

    See :class:`~mixpyro.experts.glm_runs.GLMRuns`. Weights that do not depend on x, without a prior, are the shares of
    the components, and no step.
    """

    n_features: int
    coefficients_estimate: torch.nn.Parameter

    def centre(self, x: Inputs) -> None:
        """Keep in which columns a fit counts its coefficients.

        Args:
            x: gate inputs [N, D].
        """
        self.__dict__["_standardisation"] = Standardisation.of(x[:, : self.n_features])

    @property
    def _is_free(self) -> bool:
        """Whether there are coefficients to estimate."""
        return bool(self.n_components > 1 and self._parameter("coefficients_estimate").requires_grad)

    @property
    def _are_shares(self) -> bool:
        """Whether the weights are the shares of the components, which sums over the rows give without a step."""
        return not self.n_features and self.prior_scale is None

    @property
    def reads_rows(self) -> bool:
        """Whether an update reads every row: where there are many coefficients, or a subclass has its own formulas."""
        if self._has_own_formulas:
            return has_parameters(self)
        return self._is_free and self._parameter("coefficients_estimate").numel() > MOST_DENSE

    @property
    def _has_own_formulas(self) -> bool:
        """Whether a user's subclass has formulas or parameters of its own, which those of many runs know nothing of."""
        return overrides(type(self), FORMULAS) or bool(self._modules) or not PARAMETERS >= self._parameters.keys()

    @property
    def takes_steps(self) -> bool:
        """Whether an update is a step that may lower the bound."""
        return self._is_free and not self.reads_rows

    @property
    def may_degenerate(self) -> bool:
        """False but for a user's subclass that says so: a softmax of any coefficients is a probability."""
        return overrides(type(self), frozenset({"degeneracies"})) and super().may_degenerate

    def is_near_degeneracy(self, state: State) -> bool:
        """Return False: a softmax is a probability; arguments as :meth:`Part.is_near_degeneracy`."""
        return False

    def divergences(self, state: State) -> Float[Tensor, " R"]:
        """Return minus the log density of every run's coefficients under their prior; as :meth:`Part.divergences`."""
        return self._minus_log_priors(state.estimates) if self.takes_steps else super().divergences(state)

    def log_weights(self, x: Inputs, state: State | None = None, *, objects: ObjectIndices | None = None) -> Tensor:
        """Return log π of all runs at once, [R, K, N], or [R, K, 1] where it does not depend on x.

        Args:
            x: gate inputs [N, D].
            state: of R runs; by default the gate's own, with its gradient.
            objects: not read.
        """
        if state is None or not self.takes_steps:
            return super().log_weights(x, state, objects=objects)
        return self._of_last_block((x, *state.estimates), lambda: self._log_weights(x, state))[0].to(x.dtype)

    def _log_weights(self, x: Inputs, state: State) -> tuple[Tensor, Tensor]:
        """Return log π of R runs [R, K, N], float64, and the design [E, N]; N is 1 where neither depends on x."""
        coefficients = state.estimates[0].double()
        if self.n_features:
            design = self._design(x, x[:, : self.n_features].mT)
            predictors = (self._of_standardised(coefficients).flatten(0, 1) @ design).unflatten(
                0, coefficients.shape[:2]
            )
        else:
            design, predictors = coefficients.new_ones(1, 1), coefficients
        logits = torch.cat([predictors.new_zeros(len(predictors), 1, design.shape[1]), predictors], dim=1)
        return logits.log_softmax(1), design

    def sums(self, x: Inputs, responsibilities: Float[Tensor, "R K N"], state: State | None = None) -> Value:
        """Return derivatives of Σ r log π of R runs at their coefficients; an empty tuple without a state.

        Args:
            x: gate inputs [N, D].
            responsibilities: [R, K, N].
            state: of R runs.
        """
        if state is None or not self.takes_steps:
            return ()
        log_weights, design = self._of_last_block((x, *state.estimates), lambda: self._log_weights(x, state))
        counts = responsibilities.sum(-1, dtype=torch.float64)
        if self._are_shares:
            return SoftmaxSums(counts, None)
        r = responsibilities if self.n_features else counts.unsqueeze(-1)
        labels = SoftLabels(r.double().permute(2, 0, 1))
        return SoftmaxSums(counts, NewtonSums.of(*labels.derivatives_at(log_weights.exp().permute(2, 0, 1)), design))

    def advanced(
        self,
        state: State,
        statistics: Value,
        rows: tuple[Tensor, ...],
        responsibilities: Tensor | None,
        by_gradient: Gradient,
    ) -> State:
        """Return the state of every run after a step of Newton's method; at the maximum where there are no statistics.

        Args:
            state: of R runs.
            statistics: sums over the rows of R runs, at the state; empty at a start.
            rows: the gate's inputs.
            responsibilities: [R, K, N], times the rows' weights; read where there are no statistics.
            by_gradient: not called.
        """
        if not self.takes_steps and not self.reads_rows:
            return state
        if not self.takes_steps:
            return super().advanced(state, statistics, rows, responsibilities, by_gradient)
        (own,) = state.estimates
        if type(statistics) is SoftmaxSums:
            after = self._after_step(own.double(), statistics)
        else:
            assert responsibilities is not None
            (x,) = rows
            after = self._at_maximum(own, x, responsibilities)
        return State((), (after.to(own),))

    def _after_step(self, coefficients: Float[Tensor, "R C E"], statistics: SoftmaxSums) -> Tensor:
        """Return coefficients of [1, x] after a step of Newton's method."""
        if self._are_shares:
            counts = statistics.counts.clamp_min(LEAST_COUNT)
            return (counts[:, 1:].log() - counts[:, :1].log()).unsqueeze(-1)
        sums, standardisation = statistics.coefficients, self.standardisation
        assert sums is not None
        if self.prior_scale is not None:
            transform, precision = standardisation.transform, self.prior_scale**-2
            penalty = precision * transform.mT @ transform
            identity = torch.eye(self.n_components - 1, dtype=penalty.dtype, device=penalty.device)
            sums = NewtonSums(
                sums.gradient - precision * (coefficients @ transform).flatten(1),
                sums.information + torch.kron(identity, penalty),
            )
        step = sums.step(statistics.counts.sum(-1), standardisation).unflatten(-1, coefficients.shape[1:])
        return coefficients + self._original(step)

    def _at_maximum(self, own: Tensor, x: Inputs, responsibilities: Tensor) -> Tensor:
        """Return coefficients of [1, x] of R runs at the maximum of Σ r log π and their prior, or near to it."""
        if self._are_shares:
            counts = responsibilities.sum(-1, dtype=torch.float64)
            return self._after_step(own.double(), SoftmaxSums(counts, None))
        functions = LinearPredictors(
            x[:, : self.n_features],
            SoftLabels(responsibilities.double().permute(2, 0, 1)),
            n_predictors=self.n_components - 1,
            prior_scale=self.prior_scale,
        )
        found = functions.standardised_coefficients(own)
        found = maximised(functions, found, n_steps=MOST_STEPS, bounded=functions.bounded)
        return functions.original_coefficients(found)
