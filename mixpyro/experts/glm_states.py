"""Generalised linear models at the estimates of many runs of a fit: likelihoods, and sums over the rows."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro.experts.glm_estimates import GLMEstimates
from mixpyro.experts.scale_steps import ScaleLimits, ScaleSums, has_own_scales
from mixpyro.experts.weighted_likelihood import WeightedLikelihood
from mixpyro.fitted_part import State
from mixpyro.numerics import nested
from mixpyro.numerics.columns_of_fit import HasColumnsOfFit
from mixpyro.numerics.curvature import Predictors
from mixpyro.numerics.newton import MOST_DENSE
from mixpyro.numerics.newton_sums import NewtonSums, Standardisation
from mixpyro.part import overrides
from mixpyro.pyro_internals.parameter_store import has_parameters
from mixpyro.shapes import Inputs, Targets, Value

# A noise this many times the smallest that is estimated is not said to have collapsed.
NEAR_COLLAPSE = 20.0

# What the formulas of many runs stand for. A subclass that overrides any is fitted run by run, by its own.
FORMULAS = frozenset(
    {
        "predictors",
        "log_likelihood",
        "predictive",
        "kl_divergence",
        "parameters_under_prior",
        "partial_bound",
        "maximise",
        "coefficients",
        "coefficients_estimate",
        "scale",
        "log_scale",
        "_noise",
        "_joined",
        "_regressors",
        "_exposures",
    }
)
PARAMETERS = frozenset({"coefficients_estimate", "shared_coefficients_estimate", "log_scale"})


class GLMSums(NamedTuple):
    """Sums over the rows of R runs, float64: derivatives of Σ r log p at the present estimates."""

    counts: Tensor  # Σ r [R, K]
    coefficients: NewtonSums  # in the coefficients of standardised columns, C E of every component
    scales: ScaleSums  # in the logarithms of the scales


class GLMParametersOfRuns(NamedTuple):
    """Estimates of R runs."""

    coefficients: Tensor  # of [1, x], [R, K, C, E], float64
    scale: Tensor  # σ [R, K, S], float64; 1 for a family without
    named: dict[str, Tensor]  # the parameters by their names, those that are not estimated too


class GLMStates(GLMEstimates, HasColumnsOfFit):
    """What a fit reads of :class:`mixpyro.experts.GLMExperts` at the estimates of R runs at once.

    An E-step sums the derivatives of the likelihood at the present estimates, beside everything else. Beyond
    ``MOST_DENSE`` coefficients of a function the sums would be larger than the rows, which are read instead.
    """

    def centre(self, x: Inputs, y: Targets, weights: Tensor | None = None) -> None:
        """Keep in which columns a fit counts its coefficients, and the limits of its scales.

        Args:
            x: inputs [N, D], or [N, D + 1] with an exposure.
            y: outputs [N, 1].
            weights: how much each row counts [N]; None where each counts once.
        """
        own = x.new_ones(len(x)) if weights is None else weights
        self.__dict__["_standardisation"] = Standardisation.of(self._regressors(x))
        if not self._has_own_formulas:
            self.__dict__["_limits_of_scales"] = ScaleLimits.of(self.family, y, own)

    @property
    def _limits(self) -> ScaleLimits:
        """Limits of the scales; none before :meth:`centre`."""
        own: ScaleLimits | None = self.__dict__.get("_limits_of_scales")
        return ScaleLimits.none(self.family, self.coefficients_estimate.device) if own is None else own

    @property
    def reads_rows(self) -> bool:
        """Whether an update reads every row: where there are many coefficients, or a subclass has its own formulas."""
        n_of_one = self.family.n_predictors * (1 + self.n_features)
        n_together = self.n_parameters if self.shared_coefficients_estimate is not None else n_of_one
        return has_parameters(self) and (n_together > MOST_DENSE or self._has_own_formulas)

    @property
    def _has_own_formulas(self) -> bool:
        """Whether a user's subclass has formulas or parameters of its own, which those of many runs know nothing of."""
        own_formulas = overrides(type(self), FORMULAS) or has_own_scales(self.family)
        return own_formulas or bool(self._modules) or not PARAMETERS >= self._parameters.keys()

    @property
    def takes_steps(self) -> bool:
        """Whether an update is a step that may lower the bound."""
        return has_parameters(self) and not self.reads_rows

    @property
    def may_degenerate(self) -> bool:
        """Whether a noise is estimated, which may collapse."""
        if self._says_degeneracies:
            return super().may_degenerate
        return self.family.has_scale and self._has_free_scales

    @property
    def _says_degeneracies(self) -> bool:
        """Whether a user's subclass may degenerate in a way of its own."""
        return self._has_own_formulas or overrides(type(self), frozenset({"degeneracies"}))

    def is_near_degeneracy(self, state: State) -> bool:
        """Return whether a noise has all but collapsed; arguments as :meth:`Part.is_near_degeneracy`."""
        if not self.may_degenerate or self._says_degeneracies or "_limits_of_scales" not in self.__dict__:
            return self.may_degenerate
        names = [name for name, one in self._own_parameters() if one.requires_grad]
        scale = state.estimates[names.index("log_scale")].exp()
        noise = scale.reshape(-1, len(self.family.scale_names))[:, :1]
        return not bool((noise > NEAR_COLLAPSE * self._limits.low[:1]).all())

    def of_runs(self, state: State) -> GLMParametersOfRuns:
        """Return the estimates of R runs.

        Args:
            state: of R runs.
        """
        given = iter(state.estimates)
        n_runs = len(state.estimates[0])
        named = {
            name: next(given) if parameter.requires_grad else parameter.detach().expand(n_runs, *parameter.shape)
            for name, parameter in self._own_parameters()
        }
        coefficients = self._joined(named["coefficients_estimate"], named.get("shared_coefficients_estimate"))
        n_scales = len(self.family.scale_names)
        if not n_scales:
            scale = coefficients.new_ones(n_runs, self.n_components, 1)
        else:
            scale = named["log_scale"].exp().reshape(n_runs, -1, n_scales)
            scale = scale[:, self.sharing.set_of] if self.sharing.has_scale else scale
        return GLMParametersOfRuns(coefficients.double(), scale.double(), named)

    def _own_parameters(self) -> list[tuple[str, torch.nn.Parameter]]:
        """Return names and parameters, in the order of a state; a module's own search takes longer than a small sum."""
        return [(name, one) for name, one in self._parameters.items() if one is not None]

    def divergences(self, state: State) -> Float[Tensor, " R"]:
        """Return minus the log density of every run's coefficients under their prior; as :meth:`Part.divergences`."""
        if not self.takes_steps:
            return super().divergences(state)
        named = self.of_runs(state).named
        names = ("coefficients_estimate", "shared_coefficients_estimate")
        return self._minus_log_priors([named[name] for name in names if name in named])

    def log_likelihoods(self, columns: Value, state: State | None = None) -> Float[Tensor, "*R K N"]:
        """Return log p(yᵢ | xᵢ, k) in nats of all runs at once; arguments as :meth:`ExpertFormulas.log_likelihoods`."""
        if state is None or not self.takes_steps:
            return super().log_likelihoods(columns, state)
        own = self.of_runs(state)
        x, y, *saturated = columns
        eta = self._of_last_block((x, *state.estimates), lambda: self._predictors_of(x, own))[0]
        scale = own.scale.flatten(0, 1)
        found = self.family.beyond_saturated(y.mT, eta, self._exposures(x.mT), scale).mT
        found = saturated[0] + found if saturated else found
        return found.to(x.dtype).unflatten(0, own.scale.shape[:2])

    def sums(self, columns: Value, responsibilities: Float[Tensor, "*R K N"], state: State | None = None) -> Value:
        """Return derivatives of the likelihood of R runs at their estimates; an empty tuple without a state.

        Args:
            columns: as for :meth:`log_likelihoods`.
            responsibilities: [R, K, N].
            state: of R runs.
        """
        if state is None or not self.takes_steps:
            return ()
        own, (x, y) = self.of_runs(state), columns[:2]
        eta, design = self._of_last_block((x, *state.estimates), lambda: self._predictors_of(x, own))
        shape, r = responsibilities.shape[:-1], responsibilities.flatten(0, -2).mT
        likelihood = WeightedLikelihood(self.family, y.mT, self._exposures(x.mT), r, own.scale.flatten(0, 1))
        score, curvature = likelihood.derivatives(eta)
        found = NewtonSums.of(score, curvature, design)
        scales = ScaleSums.of(likelihood, eta, score, wanted=self._has_free_scales)
        return GLMSums(
            responsibilities.sum(-1, dtype=torch.float64),
            NewtonSums(*(part.unflatten(0, shape) for part in found)),
            nested.apply(lambda part: part.unflatten(0, shape), scales),
        )

    @property
    def _has_free_scales(self) -> bool:
        """Whether scales are estimated."""
        return bool(self.family.scale_names) and self._parameter("log_scale").requires_grad

    def _predictors_of(self, x: Float[Tensor, "D N"], own: GLMParametersOfRuns) -> tuple[Predictors, Tensor]:
        """Return linear predictors η of rows, runs times components as B, and their design [E, N]; float64."""
        design = self._design(x, x[: self.n_features])
        matrices = self._of_standardised(own.coefficients)
        flat = matrices.flatten(0, 2) @ design
        return flat.unflatten(0, (-1, matrices.shape[2])).permute(2, 0, 1), design

    def _state_of(self, own: GLMParametersOfRuns, coefficients: Tensor, scale: Tensor) -> State:
        """Return the state of R runs with other coefficients and scales; frozen parameters are not in it."""
        parts = self.sharing.parted(coefficients)
        scale = scale[:, self.sharing.firsts] if self.sharing.has_scale else scale
        named = dict(zip(("coefficients_estimate", "shared_coefficients_estimate"), parts, strict=True))
        if "log_scale" in own.named:
            named["log_scale"] = scale.log() if self.family.scale_names else own.named["log_scale"]
        estimates = [
            named[name].reshape(own.named[name].shape).to(own.named[name])
            for name, parameter in self._own_parameters()
            if parameter.requires_grad
        ]
        return State((), tuple(estimates))
