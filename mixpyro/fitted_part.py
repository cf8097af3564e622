"""What a fit does with a part of a mixture: keep its states in many runs, and update them."""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, TypeAlias, TypeVar

import torch
from jaxtyping import Bool, Float
from pyro.nn import PyroModule
from torch import Tensor

from mixpyro import arguments
from mixpyro.numerics import nested
from mixpyro.pyro_internals.parameter_store import has_parameters
from mixpyro.shapes import Scalar, Value

Result = TypeVar("Result")
# A gradient M-step: called with a part and its rows, it raises the part's partial bound.
Gradient: TypeAlias = Callable[..., None]


class State(NamedTuple):
    """What a fit changes in a part. Every tensor has a leading axis of runs where there are several."""

    posterior: Any  # a nest of tensors, () for a part without a posterior
    estimates: tuple[Tensor, ...]  # trainable parameters, then the buffers of networks


class FittedPart(PyroModule):
    """A part with a state, of which a fit has many; :class:`mixpyro.part.Part` is the only subclass."""

    n_components: int
    # Whether `maximise` finds the maximum by a method of the part's own: iterations of a fit can be extrapolated then.
    finds_maximum: ClassVar[bool] = False
    # Most steps of `maximise` in an iteration of a fit, where fewer than its default do: the next one goes on.
    steps_of_fit: int | None = None

    def kl_divergence(self) -> Scalar:
        """Return KL(q‖p) of the part's own latent variables in nats, float64."""
        raise NotImplementedError

    @property
    def reads_rows(self) -> bool:
        """Whether an update reads every row, because sums over the rows are not enough."""
        return has_parameters(self)

    @property
    def in_lockstep(self) -> bool:
        """Whether all runs of a fit are updated at once, which takes little longer than one."""
        return not self.reads_rows

    @property
    def takes_steps(self) -> bool:
        """Whether an update is a step that may lower the bound; a fit shortens it then."""
        return False

    @property
    def may_degenerate(self) -> bool:
        """Whether estimates may run to where the likelihood is unbounded: by default, whether there are any."""
        return has_parameters(self)

    def is_near_degeneracy(self, state: State) -> bool:
        """Return whether the likelihood may be unbounded near a state, so that it is worth looking. True by default.

        Args:
            state: of one run.
        """
        return True

    def part_way(self, before: State, after: State, sizes: Float[Tensor, " R"]) -> State:
        """Return the states of R runs part of the way along steps; those after them of a part that takes no steps.

        Args:
            before: of R runs.
            after: of R runs.
            sizes: share of the step of every run, from 0 to 1.
        """
        if not self.takes_steps:
            return after
        pairs = zip(before.estimates, after.estimates, strict=True)
        shapes = [(-1, *(1 for _ in one.shape[1:])) for one in after.estimates]
        return after._replace(
            estimates=tuple(
                # What overflows is no number even at the beginning of its step.
                torch.where(sizes.reshape(shape) == 0.0, old, torch.lerp(old, new, sizes.to(new).reshape(shape)))
                for (old, new), shape in zip(pairs, shapes, strict=True)
            )
        )

    def meet(self, *rows: Any) -> None:  # noqa: ANN401 (None, or tensors)
        """Take notice of the rows of a batch, of a part that takes steps in a stream. Nothing by default.

        Args:
            *rows: what the part reads of N objects, then their weights, or None, for experts.
        """

    def to_average(self, state: State, sums: Value) -> Value:
        """Return sums over a batch in units that batches have in common, for a stream to average.

        Args:
            state: of R runs, at which the sums were found.
            sums: of R runs.
        """
        return sums

    def streamed(self, state: State, batch: Value, averages: Value, *, size: float, least: float) -> State:
        """Return the state of every run after a step on a batch of a stream; only called if the part takes steps.

        Args:
            state: of R runs.
            batch: its sums at the state, as :meth:`to_average` returns them, as of N objects.
            averages: running averages of such sums, this batch included, as of N objects.
            size: of the step, from 0, for none, to 1.
            least: weight of a component in the averages below which it keeps its estimates.
        """
        raise NotImplementedError

    def are_far(self, state: State) -> Bool[Tensor, "R J"] | None:
        """Return which functions, a component each, have estimates from where steps on batches do not lead back.

        Args:
            state: of R runs.

        Returns:
            None where steps lead back from everywhere, as by default.
        """
        return None

    def taken_back(self, state: State, number: int, shares: Float[Tensor, " R"]) -> State:
        """Return states with the far estimates of one function a part of the way back; only called if any are far.

        Args:
            state: of R runs.
            number: of the function.
            shares: of the way back for each run, from 0 to 1.
        """
        raise NotImplementedError

    def state(self) -> State:
        """Return a copy of what a fit changes in this part."""
        tensors = self.estimated_tensors()
        arguments.refuse_lazy(tensors)
        return State((), tuple(tensor.detach().clone() for tensor in tensors))

    @arguments.declared
    def hold(self, state: State) -> None:
        """Take over the state of one run, converted to this part's dtype.

        Args:
            state: what :meth:`state` returned, without an axis of runs.
        """
        with torch.no_grad():
            for tensor, value in zip(self.estimated_tensors(), state.estimates, strict=True):
                tensor.copy_(value)

    def estimated_tensors(self) -> list[Tensor]:
        """Return trainable parameters, then buffers of networks inside, such as running means."""
        if not self._modules:  # buffers of its own are no estimates
            own_parameters = {id(one): one for one in self._parameters.values() if one is not None}
            return [parameter for parameter in own_parameters.values() if parameter.requires_grad]
        parts = [module for module in self.modules() if isinstance(module, FittedPart)]
        own = {id(buffer) for part in parts for buffer in part.buffers(recurse=False)}
        trainable = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return [*trainable, *(buffer for buffer in self.buffers() if id(buffer) not in own)]

    def fix_prior(self) -> None:
        """Compute the prior once, for a copy whose prior nothing changes. Nothing by default."""

    def in_each_run(self, state: State, function: Callable[[int], Result]) -> list[Result]:
        """Call a function once a run while this part holds that run's state; return the results.

        The part holds the last run's state afterwards. A part without any state is called once, for all runs.

        Args:
            state: of R runs.
            function: takes the number of the run.
        """
        tensors = nested.tensors(state)
        results = []
        for run in range(len(tensors[0]) if tensors else 1):
            self.hold(nested.select(state, run))
            results.append(function(run))
        return results

    def divergences(self, state: State) -> Float[Tensor, " R"]:
        """Return :meth:`kl_divergence` of every run in nats, float64.

        Args:
            state: of R runs.
        """
        return torch.stack(self.in_each_run(state, lambda _: self.kl_divergence()))

    def advanced(
        self,
        state: State,
        statistics: Value,
        rows: tuple[Tensor, ...],
        responsibilities: Tensor | None,
        by_gradient: Gradient,
    ) -> State:
        """Return the state of every run after its update, at the optimum given the responsibilities or nearer to it.

        Args:
            state: of R runs.
            statistics: sums over the rows of R runs.
            rows: what the part reads of N objects.
            responsibilities: [R, K, N], times the rows' weights; None if no part of the mixture :attr:`reads_rows`.
            by_gradient: as for :meth:`maximise`.
        """
        if not has_parameters(self):
            return state

        most = {} if self.steps_of_fit is None else {"n_steps": self.steps_of_fit}

        def advance(run: int) -> State:
            assert responsibilities is not None
            try:
                self.maximise(*rows, responsibilities[run].mT, by_gradient=by_gradient, **most)
            except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
                return _not_a_number(self.state())
            return self.state()

        return nested.stack(self.in_each_run(state, advance))

    def maximise(self, *rows: Tensor, by_gradient: Gradient, n_steps: int = 25) -> None:
        """Raise :meth:`partial_bound` in the trainable parameters; frozen parameters stay.

        Args:
            *rows: as for :meth:`partial_bound`.
            by_gradient: called with a part and its rows where the part has no method of its own: Pyro's SVI.
            n_steps: most steps of a method of the part's own.
        """
        by_gradient(self, *rows)


def _not_a_number(state: State) -> State:
    """Return a state of NaN, of a run whose numbers have overflowed: its bound is no number, and the run ends."""
    return nested.apply(lambda tensor: tensor.fill_(torch.nan) if tensor.is_floating_point() else tensor, state)
