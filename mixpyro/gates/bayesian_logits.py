"""Gates whose weights are functions of x with Normal coefficients, under a Normal posterior of full covariance."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro import arguments
from mixpyro.conjugate.normal import NaturalSums, NormalCoefficients
from mixpyro.fitted_part import Gradient, State
from mixpyro.gates.coefficients_program import CoefficientsProgram
from mixpyro.gates.natural_steps import converged, improved
from mixpyro.gates.normal_prior import refuse_far_columns, warnings_of_normal_prior
from mixpyro.numerics import nested
from mixpyro.numerics.blocks import row_slices
from mixpyro.numerics.predictor_moments import DesignRows
from mixpyro.shapes import Inputs, ObjectIndices, Responsibilities

# A posterior that is still the prior is expanded about as if it were so much narrower: a wide prior's own expansion is
# flat, and a step from there overshoots.
NARROWER = 1e12


class BayesianLogitGate(CoefficientsProgram):
    """A gate with coefficients c ~ Normal(m₀, P₀⁻¹) in B blocks of Q, under q(c) = Π Normal(m, Λ⁻¹).

    Its statistics are the sums of a quadratic that touches the rows' share of the bound at the present posterior. To
    update by them is one step of Newton's method; to update part of the way, one of the natural gradient. A fit halves
    the step of each run until its bound does not fall.

    A subclass writes ``prior``, :meth:`expected_log`, :meth:`expansion`, :meth:`weights_of_rows`,
    :meth:`log_weights_at` and :meth:`weights_distribution`, and calls ``register_posterior(prior, like=tensor)`` at the
    end of its constructor.

    References:
        Khan, Lin (2017), Conjugate-computation variational inference, eq. 10.
    """

    prior_scale: float

    def expected_log(self, rows: DesignRows, posterior: NormalCoefficients) -> Float[Tensor, "*R K N"]:
        """Return E_q[log π], or a lower bound on it that the bound of a fit is made of, float64.

        Args:
            rows: of the design [1, x].
            posterior: q, with any leading axes of runs.
        """
        raise NotImplementedError

    def expansion(
        self, rows: DesignRows, responsibilities: Float[Tensor, "*R K N"], posterior: NormalCoefficients
    ) -> NaturalSums:
        """Return what the rows add to the natural parameters, by derivatives of Σ r E_q[log π] in q's moments.

        With g its gradient in the mean and −H/2 that in the covariance: H, and g + Hm.

        Args:
            rows: of the design [1, x].
            responsibilities: float64.
            posterior: q, with any leading axes of runs.
        """
        raise NotImplementedError

    def weights_of_rows(self, rows: DesignRows, posterior: NormalCoefficients) -> Float[Tensor, "K N"]:
        """Return E_q[π], float64.

        Args:
            rows: of the design [1, x].
            posterior: q.
        """
        raise NotImplementedError

    def coefficient_names(self, feature_names: Sequence[str]) -> list[str]:
        """Return a name for every coefficient, in the order of the posterior's mean.

        Args:
            feature_names: names of the columns of x.
        """
        raise NotImplementedError

    @property
    def coefficients_shape(self) -> tuple[int, int]:
        """Shape of the site of the coefficients, K − 1 functions of 1 + D columns."""
        return self.n_components - 1, self.n_columns + 1

    @property
    def coefficients(self) -> Tensor:
        """Posterior mean of the coefficients [K − 1, 1 + D], each function's intercept first."""
        own: Any = self._buffers["posterior_mean"]
        return own.reshape(self.coefficients_shape)

    @property
    def reads_rows(self) -> bool:
        """Whether an update reads every row: True, to see that the bound does not fall."""
        return True

    @property
    def in_lockstep(self) -> bool:
        """Whether all runs are updated at once: True."""
        return True

    @property
    def n_parameters(self) -> int:
        """Number of coefficients."""
        return int(self.prior.n_parameters)

    def width(self, n_runs: int) -> int:
        """Return how many numbers a row takes in the largest temporary.

        Args:
            n_runs: R.
        """
        n_columns = self.n_columns + 1
        return int(max(n_runs * self.n_components**2, n_columns * (n_columns + 1) // 2))

    def centre(self, x: Inputs) -> None:
        """Raise if a column is too far from zero to fit its coefficient; nothing is computed in other columns.

        Args:
            x: gate inputs [N, D].

        Raises:
            ValueError: if one is more than 1e7 of its standard deviations from zero.
        """
        if self.n_components > 1:
            refuse_far_columns(self.design(x)[:, 1:])

    def blocks_of(self, x: Inputs, n_runs: int = 1) -> Iterator[tuple[slice, DesignRows]]:
        """Yield blocks of rows and their design.

        Args:
            x: gate inputs [N, D].
            n_runs: R.
        """
        for rows in row_slices(len(x), width=self.width(n_runs), device=x.device) if len(x) else [slice(None)]:
            yield rows, DesignRows.of(self.design(x[rows]))

    def expected_log_weights(
        self, x: Inputs, *, objects: ObjectIndices | None = None, posterior: NormalCoefficients | None = None
    ) -> Float[Tensor, "*R N K"]:
        """Return E_q[log π], or the lower bound on it, in x's dtype.

        Args:
            x: gate inputs [N, D].
            objects: not read: a row's weights depend on x alone.
            posterior: q, with any leading axes of runs; the gate's own by default.
        """
        q = self.posterior_or_own(posterior)
        found = [self.expected_log(rows, q).to(x.dtype) for _, rows in self.blocks_of(x, q.mean.shape[:-2].numel())]
        return (found[0] if len(found) == 1 else torch.cat(found, dim=-1)).mT

    def weights(self, x: Inputs, *, objects: ObjectIndices | None = None) -> Responsibilities:
        """Return E_q[π] [N, K] in x's dtype, by quadrature.

        Args:
            x: gate inputs [N, D].
            objects: not read: a row's weights depend on x alone.
        """
        q = self.posterior
        return torch.cat([self.weights_of_rows(rows, q).mT.to(x.dtype) for _, rows in self.blocks_of(x)])

    def statistics_of(
        self,
        x: Inputs,
        responsibilities: Float[Tensor, "*R N K"],
        *,
        posterior: NormalCoefficients | None = None,
    ) -> NaturalSums:
        """Return what the rows add to the natural parameters, as seen from a posterior, float64.

        Args:
            x: gate inputs [N, D].
            responsibilities: [..., N, K], with any leading axes of runs.
            posterior: q to expand about, with the same leading axes or none; the gate's own by default.
        """
        self.refuse_huge(x)
        point = self.expanded_about(self.posterior_or_own(posterior))
        total: NaturalSums | None = None
        n_runs = responsibilities.shape[:-2].numel()
        for rows, design in self.blocks_of(x, n_runs):
            found = self.expansion(design, responsibilities[..., rows, :].mT.double(), point)
            total = found if total is None else nested.add(total, found)
        assert total is not None
        return total

    def sums(self, x: Inputs, responsibilities: Float[Tensor, "R K N"], state: State | None = None) -> NaturalSums:
        """Return the statistics of R runs.

        Args:
            x: gate inputs [N, D].
            responsibilities: [R, K, N].
            state: of R runs, which each is expanded about; the gate's own by default.
        """
        return self.statistics_of(x, responsibilities.mT, posterior=None if state is None else state.posterior)

    def expanded_about(self, posterior: NormalCoefficients) -> NormalCoefficients:
        """Return the posterior to expand about: all but a point where it is the prior.

        Args:
            posterior: q, with any leading axes of runs.
        """
        is_prior = self.is_prior(posterior)[..., None, None, None]
        narrower = torch.where(is_prior, posterior.precision * NARROWER, posterior.precision)
        return posterior._replace(precision=narrower)

    def is_prior(self, posterior: NormalCoefficients) -> Tensor:
        """Return whether each run's posterior is still the prior [...]."""
        prior = self.fixed_prior
        return (posterior.mean == prior.mean).flatten(-2).all(-1) & (posterior.precision == prior.precision).flatten(
            -3
        ).all(-1)

    def shares(
        self, x: Inputs, responsibilities: Float[Tensor, "R K N"], posterior: NormalCoefficients
    ) -> Float[Tensor, " R"]:
        """Return the share of the bound of each run in nats, Σ r E_q[log π] − KL(q‖p), float64.

        Args:
            x: gate inputs [N, D].
            responsibilities: [R, K, N].
            posterior: q of R runs.
        """
        total = -self.kl(posterior)
        for rows, design in self.blocks_of(x, len(responsibilities)):
            total = total + (responsibilities[..., rows] * self.expected_log(design, posterior)).sum((-2, -1))
        return total

    def advanced(
        self,
        state: State,
        statistics: NaturalSums,
        rows: tuple[Tensor, ...],
        responsibilities: Tensor | None,
        by_gradient: Gradient,
    ) -> State:
        """Return the state of every run after a step of Newton's method, halved while the run's bound falls.

        Args:
            state: of R runs.
            statistics: sums over the rows of R runs, expanded about the state.
            rows: the gate's inputs x [N, D].
            responsibilities: [R, K, N], times the rows' weights.
            by_gradient: not called.
        """
        assert responsibilities is not None
        (x,) = rows
        return State(improved(self, x, responsibilities, state.posterior, statistics), ())

    @torch.no_grad()
    def maximise(  # type: ignore[override]
        self, x: Inputs, responsibilities: Responsibilities, *, by_gradient: Gradient | None = None, n_steps: int = 25
    ) -> None:
        """Set the posterior to the maximum of :meth:`partial_bound`, by steps of Newton's method.

        Args:
            x: gate inputs [N, D].
            responsibilities: [N, K], non-negative; a row that does not sum to one carries a weight.
            by_gradient: not called.
            n_steps: most steps, at least 1. They end where a step gains less than a millionth of a nat.
        """
        checked = arguments.responsibilities(responsibilities, self.n_components, len(x))
        most = arguments.integer("n_steps", n_steps)
        found = converged(self, x, checked.mT.unsqueeze(0), nested.stack([self.posterior]), n_steps=most)
        self.hold_posterior(nested.select(found, 0))

    @torch.no_grad()
    def prior_warnings(self, x: Inputs, responsibilities: Responsibilities) -> list[str]:
        """Return whether the prior has moved the coefficients far from what the data say.

        Args:
            x: gate inputs [N, D].
            responsibilities: [N, K].
        """
        return warnings_of_normal_prior(self, x, responsibilities)
