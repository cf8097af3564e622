"""The iterations of a fit of generalised linear models: all runs at once, one step of Newton's method each."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro.experts.exponential_family import smallest_scale
from mixpyro.experts.glm_estimates import GLMEstimates
from mixpyro.experts.scale_estimates import maximised_all
from mixpyro.experts.scale_steps import ScaleLimits, ScaleSums, in_sets
from mixpyro.experts.weighted_likelihood import WeightedLikelihood
from mixpyro.numerics.last_block import LastBlock
from mixpyro.numerics.linear_predictors import LinearPredictors, Predictors
from mixpyro.numerics.newton import MOST_DENSE
from mixpyro.numerics.newton_sums import NewtonSums, Standardisation
from mixpyro.part import Gradient, State
from mixpyro.pyro_internals.parameter_store import has_parameters
from mixpyro.shapes import Inputs, Targets, Value


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


class GLMRuns(GLMEstimates):
    """How a fit iterates :class:`mixpyro.experts.GLMExperts`, without a look at the rows between two E-steps.

    An E-step sums the derivatives of the likelihood at the present estimates, beside everything else; an update is one
    step of Newton's method from there. A step that lowers the bound is shortened by the fit. Beyond
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
        self.__dict__["_limits_of_scales"] = ScaleLimits.of(self.family, y, own)

    @property
    def standardisation(self) -> Standardisation:
        """The columns in which a fit counts its coefficients; x itself before :meth:`centre`."""
        own: Standardisation | None = self.__dict__.get("_standardisation")
        return Standardisation.none(self.n_features, self.coefficients_estimate.device) if own is None else own

    @property
    def _limits(self) -> ScaleLimits:
        """Limits of the scales; none before :meth:`centre`."""
        own: ScaleLimits | None = self.__dict__.get("_limits_of_scales")
        return ScaleLimits.none(self.family, self.coefficients_estimate.device) if own is None else own

    @property
    def _last_block(self) -> LastBlock:
        """What was computed of the last block of rows."""
        own: LastBlock = self.__dict__.setdefault("_last_block_of_runs", LastBlock())
        return own

    @property
    def reads_rows(self) -> bool:
        """Whether an update reads every row: where there are many coefficients."""
        n_of_one = self.family.n_predictors * (1 + self.n_features)
        n_together = self.n_parameters if self.shared_coefficients_estimate is not None else n_of_one
        return has_parameters(self) and n_together > MOST_DENSE

    @property
    def takes_steps(self) -> bool:
        """Whether an update is a step that may lower the bound."""
        return has_parameters(self) and not self.reads_rows

    @property
    def may_degenerate(self) -> bool:
        """Whether a noise is estimated, which may collapse."""
        return self.family.has_scale and self._has_free_scales

    def of_runs(self, state: State) -> GLMParametersOfRuns:
        """Return the estimates of R runs.

        Args:
            state: of R runs.
        """
        given = iter(state.estimates)
        n_runs = len(state.estimates[0])
        named = {
            name: next(given) if parameter.requires_grad else parameter.detach().expand(n_runs, *parameter.shape)
            for name, parameter in self.named_parameters()
        }
        coefficients = self._joined(named["coefficients_estimate"], named.get("shared_coefficients_estimate"))
        n_scales = len(self.family.scale_names)
        if not n_scales:
            scale = coefficients.new_ones(n_runs, self.n_components, 1)
        else:
            scale = named["log_scale"].exp().reshape(n_runs, -1, n_scales)
            scale = scale[:, self.sharing.set_of] if self.sharing.has_scale else scale
        return GLMParametersOfRuns(coefficients.double(), scale.double(), named)

    def divergences(self, state: State) -> Float[Tensor, " R"]:
        """Return minus the log density of every run's coefficients under their prior; as :meth:`Part.divergences`."""
        if not state.estimates:
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
        eta = self._last_block.of((x, *state.estimates), lambda: self._predictors_of(x, own))[0]
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
        eta, design = self._last_block.of((x, *state.estimates), lambda: self._predictors_of(x, own))
        shape, r = responsibilities.shape[:-1], responsibilities.flatten(0, -2).mT
        likelihood = WeightedLikelihood(self.family, y.mT, self._exposures(x.mT), r, own.scale.flatten(0, 1))
        found = NewtonSums.of(*likelihood.derivatives(eta), design)
        own_coefficients = self._has_free_coefficients
        scales = ScaleSums.of(likelihood, eta, wanted=self._has_free_scales)
        return GLMSums(
            responsibilities.sum(-1, dtype=torch.float64),
            NewtonSums(*(part.unflatten(0, shape) for part in found)) if own_coefficients else NewtonSums(*found),
            ScaleSums(*(part.unflatten(0, shape) for part in scales)),
        )

    @property
    def _has_free_scales(self) -> bool:
        """Whether scales are estimated."""
        return bool(self.family.scale_names) and self.log_scale.requires_grad

    def _predictors_of(self, x: Float[Tensor, "D N"], own: GLMParametersOfRuns) -> tuple[Predictors, Tensor]:
        """Return linear predictors η of rows, runs times components as B, and their design [E, N]; float64."""
        design = self.standardisation.design(x[: self.n_features])
        matrices = self.standardisation.standardised(own.coefficients)
        flat = matrices.flatten(0, 2) @ design
        return flat.unflatten(0, (-1, matrices.shape[2])).permute(2, 0, 1), design

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
            rows: x and y.
            responsibilities: [R, K, N], times the rows' weights; read where there are no statistics.
            by_gradient: not called.
        """
        if type(statistics) is not GLMSums:
            if not self.takes_steps:
                return super().advanced(state, statistics, rows, responsibilities, by_gradient)
            assert responsibilities is not None
            return self._at_maximum(state, *rows, responsibilities)
        own = self.of_runs(state)
        step = self._coefficients_step(own, statistics)
        coefficients = self.standardisation.original(self.standardisation.standardised(own.coefficients) + step)
        scale = own.scale
        if self._has_free_scales:
            sets = self.sharing.set_of if self.sharing.has_scale else None
            scale = statistics.scales.scale_after(
                own.scale, statistics.counts, statistics.coefficients, step.flatten(-2), self._limits, sets=sets
            )
        return self._state_of(own, coefficients, scale)

    def _at_maximum(self, state: State, x: Tensor, y: Tensor, responsibilities: Tensor) -> State:
        """Return the state of R runs at the maximum of their partial bounds, or near to it.

        What components share is the mean of what each would have by itself, by their weights: a start needs no more.
        """
        own, shape = self.of_runs(state), responsibilities.shape[:2]
        r = responsibilities.flatten(0, 1).mT
        likelihood = WeightedLikelihood(self.family, y, self._exposures(x), r, own.scale.flatten(0, 1))
        options = {"n_predictors": self.family.n_predictors, "prior_scale": self.prior_scale}
        functions = LinearPredictors(self._regressors(x), likelihood, **options)
        found = maximised_all(
            functions,
            likelihood,
            functions.standardised_coefficients(own.coefficients.flatten(0, 1)),
            smallest_scale(self.family.spread_of(y), r.sum(-1)),
            moves_coefficients=self._has_free_coefficients,
            moves_scales=self._has_free_scales,
            n_steps=self.steps_of_fit or 25,
        )
        coefficients = functions.original_coefficients(found).unflatten(0, shape)
        scale = likelihood.scale.unflatten(0, shape)
        if self.shared:
            counts = responsibilities.sum(-1, dtype=torch.float64)
            coefficients, scale = (self._shared_means(one, counts) for one in (coefficients, scale))
        return self._state_of(own, coefficients, scale)

    def _shared_means(self, values: Float[Tensor, "R K ..."], counts: Float[Tensor, "R K"]) -> Tensor:
        """Return the mean of every component's set, in proportion to the counts."""
        weights = counts.clamp_min(torch.finfo(counts.dtype).tiny).reshape(
            *counts.shape, *(1 for _ in values.shape[2:])
        )
        return in_sets(weights * values, self.sharing.set_of) / in_sets(weights, self.sharing.set_of)

    def _coefficients_step(self, own: GLMParametersOfRuns, statistics: GLMSums) -> Float[Tensor, "R K C E"]:
        """Return a step of Newton's method in coefficients of standardised columns."""
        if not self._has_free_coefficients:
            return torch.zeros_like(own.coefficients)
        if self.shared_coefficients_estimate is not None:
            return self._tied_step(own, statistics)
        sums, c = statistics.coefficients, self.family.n_predictors
        if self.prior_scale is not None:
            transform, precision = self.standardisation.transform, self.prior_scale**-2
            pull = precision * own.coefficients @ transform
            penalty = precision * transform.mT @ transform
            sums = NewtonSums(
                sums.gradient - pull.flatten(-2),
                sums.information + torch.kron(torch.eye(c, dtype=penalty.dtype, device=penalty.device), penalty),
            )
        return sums.step(statistics.counts, self.standardisation).unflatten(-1, (c, -1))

    def _tied_step(self, own: GLMParametersOfRuns, statistics: GLMSums) -> Float[Tensor, "R K C E"]:
        """Return the same where components share some coefficients: one step for all components."""
        common = self.shared_coefficients_estimate
        assert common is not None
        free = {"own": self.coefficients_estimate.requires_grad, "common": common.requires_grad}
        selection = self.sharing.selection(**free, like=own.coefficients)
        maps = torch.linalg.solve_triangular(self.standardisation.transform, selection, upper=True)
        basis, root = torch.linalg.qr(maps.flatten(0, 1))
        basis = basis.unflatten(0, maps.shape[:2])
        c = self.family.n_predictors
        blocks = torch.stack([torch.block_diag(*[one] * c) for one in basis])  # [K, M, Q]
        sums = statistics.coefficients
        gradient = (sums.gradient.unsqueeze(-2) @ blocks).squeeze(-2).sum(1)
        information = (blocks.mT @ sums.information @ blocks).sum(1)
        if self.prior_scale is not None:
            precision, identity = self.prior_scale**-2, torch.eye(len(root), dtype=root.dtype, device=root.device)
            inverse = torch.linalg.solve_triangular(root, identity, upper=True)
            # Entries φ of [1, x], each once: θ = root φ.
            entries = torch.einsum("kef,rkce->rcf", selection, own.coefficients) / selection.sum((0, 1))
            gradient = gradient - precision * (entries @ inverse).flatten(-2)
            information = information + torch.block_diag(*[precision * inverse.mT @ inverse] * c)
        step = NewtonSums(gradient, information).step(
            statistics.counts.sum(-1), self.standardisation._replace(reach=self._reach_of(basis))
        )
        return (blocks @ step.unsqueeze(1).unsqueeze(-1)).squeeze(-1).unflatten(-1, (c, -1))

    def _reach_of(self, basis: Float[Tensor, "K E F"]) -> Float[Tensor, " F"]:
        """Return the largest change of a predictor that each coordinate of a basis can make, by a unit of it."""
        return (basis.abs() * self.standardisation.reach.unsqueeze(-1)).sum(1).amax(0)

    def _state_of(self, own: GLMParametersOfRuns, coefficients: Tensor, scale: Tensor) -> State:
        """Return the state of R runs with other coefficients and scales; frozen parameters are not in it."""
        parts = self.sharing.parted(coefficients)
        scale = scale[:, self.sharing.firsts] if self.sharing.has_scale else scale
        named = dict(zip(("coefficients_estimate", "shared_coefficients_estimate"), parts, strict=True))
        if "log_scale" in own.named:
            named["log_scale"] = scale.log() if self.family.scale_names else own.named["log_scale"]
        estimates = [
            named[name].reshape(own.named[name].shape).to(own.named[name])
            for name, parameter in self.named_parameters()
            if parameter.requires_grad
        ]
        return State((), tuple(estimates))
