"""What gates and experts have in common: what a fit changes in them, and the sites of a Pyro program."""

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, TypeAlias, TypeVar

import pyro
import torch
from jaxtyping import Float
from pyro.nn import PyroModule, pyro_method
from torch import Tensor

from mixpyro import arguments
from mixpyro.numerics import nested
from mixpyro.pyro_internals.names import site_name
from mixpyro.pyro_internals.parameter_store import (
    has_parameters,
    minus_log_normal_prior,
    numbered_entries,
    refuse_shared_parameters,
)
from mixpyro.shapes import Scalar, Value
from mixpyro.tables.door import first_tensor
from mixpyro.tables.given import numeric_rows
from mixpyro.tables.representation import arguments_of, html_table, line_of

Result = TypeVar("Result")
# Nats by which a batch of a stream may change a predictor that is a logarithm or a logit: sums over one batch say
# little of the likelihood farther away.
MOST_CHANGE_OF_BATCH = 2.0
# Methods that a user calls with rows, as the first argument.
OF_ROWS = (
    "weights",
    "predict",
    "expected_log_weights",
    "logits",
    "predictive",
    "predictors",
    "expected_log_likelihood",
    "model",
    "guide",
    "assignment_guide",
)
# Those and more run outside the caller's contexts: see `mixpyro.arguments.torch_contexts`.
UPDATES = ("update", "update_objects", "sample_weights", "initialise", "centre", "maximise", "partial_bound")
PUBLIC = (*UPDATES, *OF_ROWS[2:])
# Those whose results have a graph only where the rows ask for one.
PREDICTIONS = OF_ROWS[:2]
# A gradient M-step: called with a part and its rows, it raises the part's partial bound.
Gradient: TypeAlias = Callable[..., None]


class State(NamedTuple):
    """What a fit changes in a part. Every tensor has a leading axis of runs where there are several."""

    posterior: Any  # a nest of tensors, () for a part without a posterior
    estimates: tuple[Tensor, ...]  # trainable parameters, then the buffers of networks


class Part(PyroModule):
    """A gate or a bank of experts: K components that a fit updates, and a name for their Pyro sites.

    Args:
        n_components: K, at least one.
        name: prefix of the Pyro sites. A part that is an attribute of a PyroModule takes the attribute's name instead.
    """

    # Methods that a fit does not call, with the formula that it reads instead; see `refuse_unread_overrides`.
    unread: ClassVar[Mapping[str, str]] = {}
    # Axes of a draw of each latent site, by its name without the prefix: component, output, feature, regressor, object.
    site_axes: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    # Whether `maximise` finds the maximum by a method of the part's own: iterations of a fit can be extrapolated then.
    finds_maximum: ClassVar[bool] = False
    # Most steps of `maximise` in an iteration of a fit, where fewer than its default do: the next one goes on.
    steps_of_fit: int | None = None

    def __init_subclass__(cls, **options: Any) -> None:  # noqa: ANN401
        super().__init_subclass__(**options)
        # What a user's constructor makes stays on the default device.
        own = ("__init__",) if cls.__module__.startswith("mixpyro.") else ()
        arguments.guarded(cls, predictions=PREDICTIONS, others=(*PUBLIC, *own))
        arguments.guard(cls, OF_ROWS, _of_rows)
        if {"statistics", "update"} & set(vars(cls)) and not hasattr(cls, "updated"):
            raise TypeError(
                f"`{cls.__name__}` must be a ConjugateGate or ConjugateExperts to have statistics; got none."
            )
        refuse_unread_overrides(cls)

    def __init__(self, n_components: int, *, name: str) -> None:
        super().__init__(name)
        self.n_components = arguments.integer("n_components", n_components)

    @arguments.outside_contexts
    def _apply(self, *args: Any, **kwargs: Any) -> "Part":  # noqa: ANN401 (they are torch's)
        """Convert or move the tensors, as ``to`` does, to some that can be trained, in inference mode too."""
        arguments.make_normal(self)
        return super()._apply(*args, **kwargs)  # type: ignore[no-untyped-call]

    def site(self, name: str) -> str:
        """Return the full name of a site of this part.

        Args:
            name: without the prefix, such as ``weights`` for ``gate.weights``.
        """
        return site_name(self, name)

    @property
    def n_parameters(self) -> int:
        """Number of free parameters, as information criteria count them."""
        raise NotImplementedError

    def kl_divergence(self) -> Scalar:
        """Return KL(q‖p) of the part's own latent variables in nats, float64.

        Estimated parameters enter with minus the log density of their prior, if they have one.
        """
        raise NotImplementedError

    def partial_bound(self, *rows: Tensor) -> Scalar:
        """Return the part's share of the bound in nats, which the gradient M-step maximises.

        Args:
            *rows: what the part reads of N objects, then the responsibilities [N, K].
        """
        raise NotImplementedError

    @pyro_method
    def objective(self, *rows: Tensor) -> None:
        """Score the part's share of the bound as a factor ``<name>.objective``: the Pyro model of the M-step.

        Args:
            *rows: as for :meth:`partial_bound`.
        """
        refuse_shared_parameters(self)
        pyro.factor(self.site("objective"), self.partial_bound(*rows))

    def maximise(self, *rows: Tensor, by_gradient: Gradient, n_steps: int = 25) -> None:
        """Raise :meth:`partial_bound` in the trainable parameters; frozen parameters stay.

        Args:
            *rows: as for :meth:`partial_bound`.
            by_gradient: called with a part and its rows where the part has no method of its own: Pyro's SVI.
            n_steps: most steps of a method of the part's own.
        """
        by_gradient(self, *rows)

    def prior_in_words(self) -> str:
        """Return the prior of the parameters in a few words, for a summary; empty by default."""
        return ""

    def extra_repr(self) -> str:
        """Return the arguments that are not the defaults, for the text of the module."""
        return line_of(self)

    def _repr_html_(self) -> str:
        """Return the arguments and the prior for a notebook."""
        prior = self.prior_in_words()
        return html_table(type(self).__name__, arguments_of(self) | ({"prior": prior} if prior else {}))

    @property
    def effects(self) -> set[str]:
        """Names of the parameters whose entries are effects, which may be tested against zero."""
        return set()

    @property
    def is_estimated(self) -> bool:
        """Whether parameters are estimated, so that the bound is none on the log evidence."""
        return any(parameter.requires_grad and parameter.numel() for parameter in self.parameters())

    @property
    def prior_kinds(self) -> list[tuple[float, ...]]:
        """A label of every component; components of one label have the same prior. By default no two have."""
        return [(float(k),) for k in range(self.n_components)]

    def parameter_names(self, feature_names: Sequence[str]) -> dict[str, list[str]]:
        """Return a name for every entry of every parameter, in the parameter's order; numbers by default.

        Args:
            feature_names: names of the columns of x.
        """
        return numbered_entries(self)

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

    def state(self) -> State:
        """Return a copy of what a fit changes in this part."""
        return State((), tuple(tensor.detach().clone() for tensor in self.estimated_tensors()))

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
        parts = [module for module in self.modules() if isinstance(module, Part)]
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


def _of_rows(method: Callable[..., Result]) -> Callable[..., Result]:
    """Decorate a method to take a table for rows, its first argument, and refuse what is no tensor, in words."""

    @functools.wraps(method)
    def with_rows(self: Part, *args: Any, **kwargs: Any) -> Result:  # noqa: ANN401 (they are the method's)
        if not args and "x" in kwargs:
            args = (kwargs.pop("x"),)
        if args:
            if not isinstance(args[0], Tensor):  # To look for a tensor of the part takes 10 µs.
                args = (numeric_rows("x", args[0], like=first_tensor(self)), *args[1:])
            x = arguments.a_tensor("x", args[0])
            if not x.is_floating_point():  # Results have the dtype of x, and weights as integers are all zero.
                raise TypeError(f"`x` must have a floating dtype; got {x.dtype}. Use x.double() or x.float().")
        return method(self, *args, **kwargs)

    return with_rows


@functools.cache
def overrides(cls: type, names: frozenset[str]) -> bool:
    """Return whether a user's class, or any between it and one of this library, has members of some names.

    Args:
        cls: of a part.
        names: of members that a faster formula stands for.
    """
    return any(not names.isdisjoint(vars(one)) for one in cls.__mro__ if not one.__module__.startswith("mixpyro."))


def refuse_unread_overrides(cls: Any) -> None:  # noqa: ANN401
    """Raise if a user's class overrides a method that a fit does not call: it would fit another model.

    Args:
        cls: with ``unread``, which maps such methods to the formulas that a fit reads.

    Raises:
        TypeError: if it overrides the method and not the formula.
    """
    own = set(vars(cls))
    for method, formula in cls.unread.items():
        if method in own and formula not in own and not cls.__module__.startswith("mixpyro."):
            raise TypeError(f"`{cls.__name__}` must override `{formula}`, which a fit reads; got `{method}` alone.")


class EstimatedPart(Part):
    """A part whose parameters are estimated, by maximum likelihood or with the density of a Normal prior."""

    # Scale of a Normal(0, s²) prior on the parameters; None for maximum likelihood.
    prior_scale: float | None = None

    def parameters_under_prior(self) -> Iterable[Tensor]:
        """Return the parameters that ``prior_scale`` speaks of: all trainable ones by default."""
        return (parameter for parameter in self.parameters() if parameter.requires_grad)

    def kl_divergence(self) -> Scalar:
        """Return minus the log density of the parameters under their prior in nats, zero without one; float64."""
        return minus_log_normal_prior(self.parameters_under_prior(), self.prior_scale)

    def prior_in_words(self) -> str:
        """Return the prior of the parameters in a few words."""
        return "none" if self.prior_scale is None else f"Normal(0, {self.prior_scale:.6g}²) on each coefficient"

    def _minus_log_priors(self, values: Sequence[Tensor]) -> Float[Tensor, " R"]:
        """Return minus the log density of R runs' parameters under their prior in nats, zero without one; float64."""
        if self.prior_scale is None:
            return values[0].new_zeros(len(values[0]), dtype=torch.float64)
        scale = self.prior_scale
        theta = torch.cat([value.flatten(1) for value in values], dim=1).double() / scale
        constant = theta.shape[1] * math.log(scale * math.sqrt(2.0 * math.pi))
        return 0.5 * theta.square().sum(1) + constant

    @property
    def n_parameters(self) -> int:
        """Number of trainable parameters."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)


def _not_a_number(state: State) -> State:
    """Return a state of NaN, of a run whose numbers have overflowed: its bound is no number, and the run ends."""
    return nested.apply(lambda tensor: tensor.fill_(torch.nan) if tensor.is_floating_point() else tensor, state)
