"""Parts whose parameters have an analytic posterior."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro import arguments
from mixpyro.fitted_part import Gradient, State
from mixpyro.numerics import nested
from mixpyro.part import Part
from mixpyro.pyro_internals.parameter_store import has_parameters
from mixpyro.shapes import Scalar, Value

# Of the tensors of a posterior, and of those of statistics that have led to it.
Shapes = tuple[list[Any], list[Any]]


class ConjugatePart(Part):
    """A part whose parameters have an analytic posterior, held as buffers.

    A subclass gives :attr:`prior`, and the statistics and formulas of its kind. It registers its first posterior at
    the end of its constructor with :meth:`register_posterior`.
    """

    unread: ClassVar[Mapping[str, str]] = {
        "update": "updated",
        "statistics": "statistics_of",
        "kl_divergence": "kl",
        "expected_log_likelihood": "log_likelihood",
    }
    # Names of the buffers of the posterior's fields, where they are not ``posterior_<field>``.
    posterior_buffers: ClassVar[Mapping[str, str]] = {}

    @property
    def prior(self) -> Value:
        """The prior as a value, a NamedTuple of float64 tensors."""
        raise NotImplementedError

    def fix_prior(self) -> None:
        """Compute the prior once, for a copy whose prior nothing changes; not if it depends on estimates."""
        self._fixed_prior = None if has_parameters(self) else self.prior

    @property
    def fixed_prior(self) -> Value:
        """The prior, computed once after :meth:`fix_prior`."""
        fixed = self.__dict__.get("_fixed_prior")
        return self.prior if fixed is None else fixed

    def prior_given(self, posterior: Value) -> Value:
        """Return the prior that a posterior's natural parameters are counted from: the prior.

        Args:
            posterior: q, with any leading axes of runs; read where a prior has parameters with a posterior.
        """
        return self.fixed_prior

    def statistics_of_posterior(self, posterior: Value) -> Value:
        """Return statistics that lead from the prior to a posterior.

        Args:
            posterior: q, with any leading axes of runs.
        """
        return posterior.statistics_beyond(self.prior_given(posterior))

    @property
    def posterior(self) -> Value:
        """The posterior as a value, a NamedTuple of float64 tensors."""
        buffers: Value = self._buffers
        return self.posterior_kind._make([buffers[name].double() for name in self.posterior_names])

    def register_posterior(self, posterior: Value, like: Tensor) -> None:
        """Register the posterior's buffers.

        Args:
            posterior: a NamedTuple of tensors.
            like: a tensor of the dtype and on the device that the buffers shall have.
        """
        fields = posterior._fields
        self.posterior_kind = type(posterior)
        self.posterior_names = tuple(self.posterior_buffers.get(field, f"posterior_{field}") for field in fields)
        for name, value in zip(self.posterior_names, posterior, strict=True):
            self.register_buffer(name, value.detach().to(like).clone())

    def hold_posterior(self, posterior: Value) -> None:
        """Put a posterior into the buffers, converted to their dtype.

        Args:
            posterior: as :attr:`posterior` gives it. Its tensors may become the buffers.
        """
        # Not as attributes: to find out that a name is a buffer takes a module longer than a small update.
        buffers = self._buffers
        for name, value in zip(self.posterior_names, posterior, strict=True):
            buffers[name] = value.to(buffers[name])

    def forget(self) -> None:
        """Set the posterior to the prior."""
        self.hold_posterior(nested.apply(torch.clone, self.prior))

    def updated(self, statistics: Value, before: Value) -> Value:
        """Return the posterior that is optimal given statistics.

        Args:
            statistics: sums over the rows, with any leading axes of runs.
            before: the posterior to start from, where the optimum is found by iteration.
        """
        return self.fixed_prior.updated(statistics)

    def kl(self, posterior: Value) -> Tensor:
        """Return KL(q‖p) in nats, float64, without the leading axes' sum.

        Args:
            posterior: q, with any leading axes of runs.
        """
        divergence: Tensor = posterior.kl(self.fixed_prior)
        return divergence

    def kl_divergence(self) -> Scalar:
        """Return KL(q‖p) of the part's own latent variables in nats, float64."""
        return self.kl(self.posterior)

    def update(self, statistics: Value, step_size: float = 1.0) -> None:
        """Set the posterior to its optimum given statistics, or go part of the way.

        Args:
            statistics: sums over the rows, as ``statistics`` returns them.
            step_size: in (0, 1], of a step in natural parameters; Hoffman et al. (2013), section 2.4. 1 replaces the
                posterior.

        Raises:
            ValueError: if the statistics lead to no finite posterior, or have another shape than the posterior's; the
                part is unchanged then.
        """
        with torch.no_grad():
            # The common case first: to check a number takes as long as to add a few.
            size = 1.0 if step_size.__class__ is float and step_size == 1.0 else arguments.step_size(step_size)
            before = self.posterior
            shapes = self._checked_shapes(statistics, before)
            if size < 1.0:
                known = self.statistics_of_posterior(before)
                statistics = nested.blend((1.0 - size, known), (size, statistics))
            after = self.updated(statistics, before)
            self.check_posterior(after, before)
            self.hold_posterior(after)
            self.__dict__["_statistics_shapes"] = shapes

    def _checked_shapes(self, statistics: Value, before: Value) -> Shapes:
        """Return the shapes of posterior and statistics, if none would broadcast to those of this part."""
        shapes = _shapes(before), _shapes(statistics)
        if shapes != self.__dict__.get("_statistics_shapes"):
            arguments.same_shapes("statistics", statistics, self.statistics_of_posterior(before))
        return shapes

    def check_posterior(self, after: Value, before: Value) -> None:
        """Raise if statistics that a user passed have led to a posterior of other shapes.

        Args:
            after: the posterior.
            before: a posterior of the right shapes.

        Raises:
            ValueError: if a shape differs.
        """
        for value, own in zip(after, before, strict=True):
            if value.shape != own.shape:
                arguments.posterior(after, like=before)

    def state(self) -> State:
        """Return a copy of the posterior, float64, and of the trainable parameters."""
        return State(nested.apply(torch.clone, self.posterior), super().state().estimates)

    def hold(self, state: State) -> None:
        """Take over the state of one run, converted to this part's dtype.

        Args:
            state: what :meth:`state` returned, without an axis of runs.
        """
        super().hold(state)
        self.hold_posterior(nested.apply(torch.clone, state.posterior))

    def divergences(self, state: State) -> Float[Tensor, " R"]:
        """Return KL(q‖p) of every run in nats, float64.

        Args:
            state: of R runs.
        """
        return super().divergences(state) if state.estimates else self.kl(state.posterior)

    def advanced(
        self,
        state: State,
        statistics: Value,
        rows: tuple[Tensor, ...],
        responsibilities: Tensor | None,
        by_gradient: Gradient,
    ) -> State:
        """Return the state of every run after its update.

        All runs at once where the part has a posterior alone, one by one where it has parameters to estimate too.

        Args:
            state: of R runs.
            statistics: sums over the rows of R runs.
            rows: what the part reads of N objects.
            responsibilities: [R, K, N], times the rows' weights; None if no part of the mixture :attr:`reads_rows`.
            by_gradient: as for :meth:`maximise`.
        """
        if not state.estimates:
            return State(self.updated(statistics, state.posterior), ())

        def advance(run: int) -> State:
            self.hold_posterior(self.updated(nested.select(statistics, run), self.posterior))
            return self.state()

        return super().advanced(
            nested.stack(self.in_each_run(state, advance)), statistics, rows, responsibilities, by_gradient
        )


def _shapes(value: tuple[Any, ...]) -> list[Any]:
    """Return the shapes of a nested value's tensors, nested as they are, and the types of what else it has."""
    return [
        part.shape if isinstance(part, Tensor) else _shapes(part) if isinstance(part, tuple) else type(part)
        for part in value
    ]
