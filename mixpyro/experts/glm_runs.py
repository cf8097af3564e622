"""The iterations of a fit of generalised linear models: all runs at once, one step of Newton's method each."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro.distributed import sums as over_blocks
from mixpyro.experts.exponential_family import smallest_scale
from mixpyro.experts.glm_states import GLMParametersOfRuns, GLMStates, GLMSums
from mixpyro.experts.scale_estimates import maximised_all
from mixpyro.experts.sharing import Sharing
from mixpyro.experts.weighted_likelihood import WeightedLikelihood
from mixpyro.fitted_part import Gradient, State
from mixpyro.numerics.curvature import total_of
from mixpyro.numerics.linear_predictors import LinearPredictors
from mixpyro.numerics.newton_sums import NewtonSums, Standardisation
from mixpyro.numerics.segments import Grouped
from mixpyro.shapes import Value

# Steps of a start, from where a fit goes on; where components share coefficients, also halvings of a step, and nats
# that the last of them gains.
MOST_STEPS, MOST_HALVINGS, LEAST_GAIN = 4, 12, 1e-3


class TiedColumns(NamedTuple):
    """Directions of the coefficients of all components that components share, orthonormal in standardised columns."""

    selection: Tensor  # which coefficient is which number to estimate [K, E, F]
    root: Tensor  # coordinates in the directions are this times the numbers to estimate [F, F]
    blocks: Tensor  # coefficients of standardised columns of each component are this times coordinates [K, C E, C F]
    reach: Tensor  # the largest change of a predictor by a unit of each coordinate [F]


class GLMRuns(GLMStates):
    """How a fit iterates :class:`mixpyro.experts.GLMExperts`, without a look at the rows between two E-steps.

    An update is one step of Newton's method from the sums of an E-step; one that lowers the bound is shortened by the
    fit.
    """

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
            x, y = over_blocks.everywhere(*rows)
            return self._at_maximum(state, x, y, *over_blocks.everywhere(responsibilities, dim=-1))
        own = self.of_runs(state)
        step = self._coefficients_step(own, statistics)
        coefficients, scale = own.coefficients + self._original(step), own.scale
        if self._has_free_scales:
            sets = self.sharing.set_of if self.sharing.has_scale else None
            scale = statistics.scales.scale_after(
                own.scale, statistics.counts, statistics.coefficients, step.flatten(-2), self._limits, sets=sets
            )
        return self._state_of(own, coefficients, scale)

    def with_noise_of_nearest(self, state: State, blocks: Iterable[Value], wanted: Sequence[bool]) -> State:
        """Return starts whose components have one noise; arguments as :meth:`ExpertFormulas.with_noise_of_nearest`.

        Its square is the mean square of the objects' distances from their nearest lines, of a noise that has moments.
        """
        if not (any(wanted) and self.takes_steps and self._has_free_scales and self.family.has_moments):
            return state
        own, sums = self.of_runs(state), list[Tensor]()
        n_runs, n_rows = own.scale.shape[0], 0
        for block in blocks:
            x, y, *_ = block.columns if isinstance(block, Grouped) else block
            eta, _ = self._predictors_of(x, own)
            squares = (y.mT.double().unsqueeze(-1) - eta).square().squeeze(-1).mT.unflatten(0, (n_runs, -1))
            squares = block.segments.sum(squares) if isinstance(block, Grouped) else squares
            sums.append(squares.amin(1).sum(-1))
            n_rows += x.shape[1]
        noise = (total_of(sums) / n_rows).sqrt()[:, None, None].clamp_min(self._limits.low)
        taken = torch.tensor(wanted, device="cpu").to(noise.device)[:, None, None] & noise.isfinite()
        scale = torch.where(taken, noise, own.scale)
        return self._state_of(own, own.coefficients, scale)

    def _at_maximum(self, state: State, x: Tensor, y: Tensor, responsibilities: Tensor) -> State:
        """Return the state of R runs at the maximum of their partial bounds, or near to it.

        Where components share coefficients or a noise, all of them take steps together.
        """
        if self.shared:
            return self._converged(state, x, y, responsibilities)
        own, shape = self.of_runs(state), responsibilities.shape[:2]
        r = responsibilities.flatten(0, 1).mT
        likelihood = WeightedLikelihood(self.family, y, self._exposures(x), r, own.scale.flatten(0, 1))
        functions = LinearPredictors(
            self._regressors(x), likelihood, n_predictors=self.family.n_predictors, prior_scale=self.prior_scale
        )
        found = maximised_all(
            functions,
            likelihood,
            functions.standardised_coefficients(own.coefficients.flatten(0, 1)),
            smallest_scale(self.family.spread_of(y), r.sum(-1)),
            moves_coefficients=self._has_free_coefficients,
            moves_scales=self._has_free_scales,
            n_steps=self.steps_of_fit or MOST_STEPS,
        )
        coefficients = functions.original_coefficients(found).unflatten(0, shape)
        scale = likelihood.scale.unflatten(0, shape)
        return self._state_of(own, coefficients, scale)

    def _converged(self, state: State, x: Tensor, y: Tensor, responsibilities: Tensor) -> State:
        """Return the state of R runs after steps for all components together, until none gains anything."""
        columns = self.columns(x, y)
        values = self._values(state, columns, responsibilities)
        # Far out a likelihood can be too flat to find a way back.
        other = self._common_start(state, x, y, responsibilities)
        is_lower = ~(values >= self._values(other, columns, responsibilities))
        state = self.part_way(state, other, is_lower.double())
        values = self._values(state, columns, responsibilities)
        for _ in range(MOST_STEPS):
            after = self.advanced(state, self.sums(columns, responsibilities, state), (x, y), None, _no_gradient)
            before, sizes = values, torch.ones_like(values)
            for _ in range(MOST_HALVINGS):
                reached = self.part_way(state, after, sizes)
                values = self._values(reached, columns, responsibilities)
                low = ~(values >= before)
                if not bool(low.any()):
                    break
                sizes = torch.where(low, 0.5 * sizes, sizes)
            kept = torch.where(low, 0.0, sizes)
            state, values = self.part_way(state, after, kept), torch.where(low, before, values)
            if not bool((values - before > LEAST_GAIN).any()):
                break
        return state

    def _common_start(self, state: State, x: Tensor, y: Tensor, responsibilities: Tensor) -> State:
        """Return the state of R runs whose predictors are the same for all rows of a component, or of all components.

        They are zero where the family says nothing else.
        """
        own, is_one = self.of_runs(state), 0 in self.sharing.columns or self.sharing.has_scale
        r = responsibilities.sum(1, keepdim=True).expand_as(responsibilities) if is_one else responsibilities
        coefficients, scale = torch.zeros_like(own.coefficients), own.scale
        response = self.family.start(y)
        if response is not None:
            found, noise = _common_location_scale(response.double().squeeze(-1), r.double())
            coefficients[..., 0] = found.unsqueeze(-1)
            scale = self.family.scales_at_start(noise.maximum(self._limits.low[0]))
            scale = scale if self._has_free_scales else own.scale
        else:
            common = self.family.common_predictors(y, self._exposures(x), r.flatten(0, 1).mT)
            if common is not None:
                coefficients[..., 0] = common.unflatten(0, r.shape[:2])
        return self._state_of(own, coefficients, scale)

    def _values(self, state: State, columns: Value, responsibilities: Tensor) -> Float[Tensor, " R"]:
        """Return the partial bounds of R runs in nats."""
        log_likelihoods = self.log_likelihoods(columns, state).double()
        fit = torch.where(responsibilities != 0, responsibilities * log_likelihoods, 0.0).sum((-2, -1))
        return fit - self.divergences(state)

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
        tied = self._tied_columns(own.coefficients)
        blocks, root, c = tied.blocks, tied.root, self.family.n_predictors
        sums = statistics.coefficients
        gradient = (sums.gradient.unsqueeze(-2) @ blocks).squeeze(-2).sum(1)
        information = (blocks.mT @ sums.information @ blocks).sum(1)
        if self.prior_scale is not None:
            precision, identity = self.prior_scale**-2, torch.eye(len(root), dtype=root.dtype, device=root.device)
            inverse = torch.linalg.solve_triangular(root, identity, upper=True)
            # Entries φ of [1, x], each once: θ = root φ.
            entries = torch.einsum("kef,rkce->rcf", tied.selection, own.coefficients) / tied.selection.sum((0, 1))
            gradient = gradient - precision * (entries @ inverse).flatten(-2)
            information = information + torch.block_diag(*[precision * inverse.mT @ inverse] * c)
        step = NewtonSums(gradient, information).step(
            statistics.counts.sum(-1), self.standardisation._replace(reach=tied.reach)
        )
        return (blocks @ step.unsqueeze(1).unsqueeze(-1)).squeeze(-1).unflatten(-1, (c, -1))

    def _tied_columns(self, like: Tensor) -> TiedColumns:
        """Return the directions of the coefficients that components share, computed once for the columns of a fit."""
        common = self.shared_coefficients_estimate
        assert common is not None
        of, free = (
            (self.standardisation, self.sharing),
            (self.coefficients_estimate.requires_grad, common.requires_grad),
        )
        kept: tuple[tuple[Standardisation, Sharing], tuple[bool, bool], TiedColumns] | None
        kept = self.__dict__.get("_tied_columns_of_fit")
        if kept is None or kept[0][0] is not of[0] or kept[0][1] is not of[1] or kept[1] != free:
            kept = of, free, self._new_tied_columns(like, own=free[0], common=free[1])
            self.__dict__["_tied_columns_of_fit"] = kept
        return kept[2]

    def _new_tied_columns(self, like: Tensor, *, own: bool, common: bool) -> TiedColumns:
        """Return the same, computed."""
        selection = self.sharing.selection(own=own, common=common, like=like)
        maps = torch.linalg.solve_triangular(self.standardisation.transform, selection, upper=True)
        basis, root = torch.linalg.qr(maps.flatten(0, 1))
        basis = basis.unflatten(0, maps.shape[:2])
        blocks = torch.stack([torch.block_diag(*[one] * self.family.n_predictors) for one in basis])
        # The largest change of a predictor that each coordinate can make, by a unit of it.
        reach = (basis.abs() * self.standardisation.reach.unsqueeze(-1)).sum(1).amax(0)
        return TiedColumns(selection, root, blocks, reach)


def _no_gradient(*_: object) -> None:
    """Do nothing: a step of Newton's method leaves nothing to a gradient."""


def _common_location_scale(
    response: Float[Tensor, " N"], responsibilities: Float[Tensor, "R K N"]
) -> tuple[Float[Tensor, "R K"], Float[Tensor, "R K"]]:
    """Return mean and standard deviation of a response in every component, those of all rows where it has none."""
    counts = responsibilities.sum(-1, keepdim=True)
    shares = torch.where(counts > 0, responsibilities / counts, 1.0 / len(response))
    mean = shares @ response
    return mean, (shares * (response - mean.unsqueeze(-1)).square()).sum(-1).sqrt()
