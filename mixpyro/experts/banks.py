"""What experts that are made of banks of experts have in common."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import pyro
import torch
from jaxtyping import Float
from pyro.nn import pyro_method
from torch import Tensor

from mixpyro import arguments
from mixpyro.arguments.module_contents import unchanged_if_it_raises
from mixpyro.conjugate_part import ConjugatePart
from mixpyro.experts.base import Experts
from mixpyro.fitted_part import Gradient, State
from mixpyro.pyro_internals.names import module_name
from mixpyro.pyro_internals.parameter_store import has_parameters, refuse_shared_parameters
from mixpyro.shapes import Inputs, Outputs, Responsibilities, Scalar, Targets, Value


class Banks(ConjugatePart, Experts):
    """Banks of experts as one bank; each keeps its family, its prior, its update and its Pyro sites.

    A subclass says which responsibilities and outputs are a member's, in :meth:`shares` and :meth:`of_members`, how log
    densities go together, in :meth:`joined`, and writes :meth:`predictive`, :meth:`predict`, :meth:`likelihood`,
    :meth:`noises`, :attr:`prior_kinds` and :meth:`with_components`.

    Args:
        members: checked banks, all different objects. They become parts of this one.
        n_components: K.
        n_outputs: P.
        name: prefix of the Pyro sites.
    """

    def __init__(self, members: Sequence[Experts], n_components: int, n_outputs: int, *, name: str) -> None:
        super().__init__(n_components, max(member.n_features for member in members), n_outputs, name=name)
        self.n_members = len(members)
        self.may_be_infinite = any(member.may_be_infinite for member in members)
        for number, member in enumerate(members):
            setattr(self, str(number), member)
        self.number_components_from(0)

    @property
    def members(self) -> tuple[Experts, ...]:
        """The banks, in order."""
        return tuple(getattr(self, str(j)) for j in range(self.n_members))

    def shares(self, responsibilities: Float[Tensor, "*R K N"]) -> Sequence[Tensor]:
        """Return the responsibilities of each member's components.

        Args:
            responsibilities: [..., K, N].
        """
        raise NotImplementedError

    def of_members(self, y: Targets) -> Sequence[Tensor]:
        """Return the outputs of each member.

        Args:
            y: outputs [N, P] or [N].
        """
        raise NotImplementedError

    def joined(self, log_likelihoods: Sequence[Tensor]) -> Float[Tensor, "*R K N"]:
        """Return the log densities of y from those of the members.

        Args:
            log_likelihoods: [..., Kⱼ, N] of each member.
        """
        raise NotImplementedError

    def prefix(self, number: int) -> str:
        """Return what stands before the names of a member's parameters, and before what it has to say.

        Args:
            number: of the member.
        """
        return ""

    @property
    def effects(self) -> set[str]:
        """Names of the members' parameters whose entries are effects."""
        return {f"{number}.{name}" for number, member in enumerate(self.members) for name in member.effects}

    def parameter_names(self, feature_names: Sequence[str]) -> dict[str, list[str]]:
        """Return a name for every entry of the members' parameters; arguments as :meth:`Part.parameter_names`."""
        return {
            f"{number}.{parameter}": [f"{self.prefix(number)}{name}" for name in names]
            for number, member in enumerate(self.members)
            for parameter, names in member.parameter_names(feature_names).items()
        }

    def check_inputs(self, x: object) -> Tensor:
        """Return x if it fits every member and is finite; arguments as :meth:`Experts.check_inputs`."""
        for member in self.members:
            member.check_inputs(x)
        return arguments.inputs(x)

    def check_data(self, x: object, y: object) -> tuple[Tensor, Tensor]:
        """Return x and y [N, P] if they fit every member; arguments as :meth:`Experts.check_data`."""
        checked, y_checked = super().check_data(x, y)
        for member, own in zip(self.members, self.of_members(y_checked), strict=True):
            member.check_data(checked, own)
        return checked, y_checked

    def spread_of(self, y: Outputs) -> Tensor:
        """Return what shows where y lies to the members; arguments as :meth:`Experts.spread_of`."""
        found = {id(own): member.spread_of(own) for member, own in zip(self.members, self.of_members(y), strict=True)}
        return torch.cat(list(found.values()), dim=1)

    def select_inputs(self, x: Inputs) -> Tensor:
        """Return x: each member selects its own columns."""
        return x

    def centre(self, x: Inputs, y: Targets, weights: Tensor | None = None) -> None:
        """Let every member take what it needs from the data; arguments as :meth:`Experts.centre`."""
        for member, own in zip(self.members, self.of_members(y), strict=True):
            rows = seen_rows(own)
            counts = None if weights is None else weights[rows]
            member.centre(member.select_inputs(x)[rows], own[rows], counts)

    def columns(self, x: Inputs, y: Outputs) -> tuple[Any, ...]:
        """Return what the members' formulas read of the rows; arguments as :meth:`Experts.columns`."""
        pairs = zip(self.members, self.of_members(y), strict=True)
        return tuple(member.columns(member.select_inputs(x), own) for member, own in pairs)

    def log_likelihoods(self, columns: Value, state: State | None = None) -> Float[Tensor, "*R K N"]:
        """Return the members' expected log likelihoods; arguments as :meth:`Experts.log_likelihoods`."""
        members = zip(self.members, columns, self._states(state), strict=True)
        return self.joined([member.log_likelihoods_of_objects(own, one) for member, own, one in members])

    def sums(
        self, columns: Value, responsibilities: Float[Tensor, "*R K N"], state: State | None = None
    ) -> tuple[Value, ...]:
        """Return the members' statistics; arguments as :meth:`Experts.sums`."""
        members = zip(self.members, columns, self.shares(responsibilities), self._states(state), strict=True)
        return tuple(member.sums_of_objects(own, share, one) for member, own, share, one in members)

    def _states(self, state: State | None) -> Sequence[State | None]:
        """Return the state of each member; None for its own."""
        return [None] * self.n_members if state is None else state.posterior

    def statistics(self, x: Inputs, y: Targets, responsibilities: Responsibilities) -> tuple[Any, ...]:
        """Return the members' statistics, () for a member without; arguments as :meth:`ConjugateExperts.statistics`."""
        x, y = self.check_data(x, y)
        r = arguments.responsibilities(responsibilities, self.n_components, len(x))
        return self.sums(self.columns(x, y), r.mT)

    @unchanged_if_it_raises
    def update(self, statistics: tuple[Any, ...], step_size: float = 1.0) -> None:
        """Update the members that have a posterior; arguments as :meth:`ConjugatePart.update`."""
        for member, own in zip(self.members, statistics, strict=True):
            if isinstance(member, ConjugatePart):
                member.update(own, step_size)

    def maximise(  # type: ignore[override]
        self,
        x: Inputs,
        y: Outputs,
        responsibilities: Responsibilities,
        *,
        by_gradient: Gradient,
        n_steps: int = 25,
    ) -> None:
        """Raise every member's partial bound in its parameters; arguments as :meth:`Part.maximise`."""
        for _, member, rows in self.rows_of_members(x, y, responsibilities):
            if has_parameters(member):
                member.maximise(*rows, by_gradient=by_gradient, n_steps=n_steps)

    def noise_sums(self, x: Inputs, y: Outputs, responsibilities: Responsibilities) -> tuple[Value, ...]:
        """Return the members' sums; arguments as :meth:`Experts.noise_sums`."""
        return tuple(member.noise_sums(*rows) for _, member, rows in self.rows_of_members(x, y, responsibilities))

    @unchanged_if_it_raises
    def set_noise(self, sums: tuple[Value, ...]) -> None:
        """Set the members' noises; arguments as :meth:`Experts.set_noise`."""
        for member, own in zip(self.members, sums, strict=True):
            member.set_noise(own)

    @property
    def reads_rows(self) -> bool:
        """Whether an update of any member reads every row."""
        return any(member.reads_rows for member in self.members)

    @property
    def takes_steps(self) -> bool:
        """Whether any member's update is a step that may lower the bound."""
        return any(member.takes_steps for member in self.members)

    @property
    def may_degenerate(self) -> bool:
        """Whether any member's estimates may run to where the likelihood is unbounded."""
        return any(member.may_degenerate for member in self.members)

    def is_near_degeneracy(self, state: State) -> bool:
        """Return whether any member is near one; arguments as :meth:`Part.is_near_degeneracy`."""
        pairs = zip(self.members, state.posterior, strict=True)
        return any(member.is_near_degeneracy(own) for member, own in pairs)

    def part_way(self, before: State, after: State, sizes: Float[Tensor, " R"]) -> State:
        """Return the members' states part of the way along their steps; arguments as :meth:`Part.part_way`."""
        triples = zip(self.members, before.posterior, after.posterior, strict=True)
        return State(tuple(member.part_way(old, new, sizes) for member, old, new in triples), ())

    @property
    def in_lockstep(self) -> bool:
        """Whether all members are updated for all runs at once."""
        return all(member.in_lockstep for member in self.members)

    def fix_prior(self) -> None:
        """Nothing: every member fixes its own prior."""

    def state(self) -> State:
        """Return a copy of what a fit changes, the members' states in place of a posterior."""
        return State(tuple(member.state() for member in self.members), ())

    def hold(self, state: State) -> None:
        """Take over the members' states of one run; arguments as :meth:`Part.hold`."""
        for member, own in zip(self.members, state.posterior, strict=True):
            member.hold(own)

    def divergences(self, state: State) -> Float[Tensor, " R"]:
        """Return the sum of the members' divergences of every run; arguments as :meth:`Part.divergences`."""
        pairs = zip(self.members, state.posterior, strict=True)
        return functools.reduce(lambda total, own: total + own, (member.divergences(own) for member, own in pairs))

    def advanced(
        self,
        state: State,
        statistics: Value,
        rows: tuple[Tensor, ...],
        responsibilities: Tensor | None,
        by_gradient: Gradient,
    ) -> State:
        """Return the members' states of every run after their updates; arguments as :meth:`Part.advanced`."""
        x, y = rows
        shares = [None] * self.n_members if responsibilities is None else self.shares(responsibilities)
        own = zip(self.members, state.posterior, statistics, self.of_members(y), shares, strict=True)
        after = [
            member.advanced(
                its_state,
                sums,
                (member.select_inputs(x)[rows], its_y[rows]),
                None if share is None else share[..., rows],
                by_gradient,
            )
            for member, its_state, sums, its_y, share in own
            # At a start, those that go on from sums read the rows too.
            for rows in [seen_rows(its_y) if member.reads_rows or sums == () else slice(None)]
        ]
        return State(tuple(after), ())

    def degeneracies(self, x: Inputs, y: Targets, responsibilities: Responsibilities) -> list[str]:
        """Return the members' degeneracies; arguments as :meth:`Experts.degeneracies`."""
        return self._said("degeneracies", x, y, responsibilities)

    def separations(self, x: Inputs, y: Targets, responsibilities: Responsibilities) -> list[str]:
        """Return the members' separations; arguments as :meth:`Experts.separations`."""
        return self._said("separations", x, y, responsibilities)

    def prior_warnings(self, x: Inputs, y: Targets, responsibilities: Responsibilities) -> list[str]:
        """Return the members' warnings; arguments as :meth:`Experts.prior_warnings`."""
        return self._said("prior_warnings", x, y, responsibilities)

    def _said(self, method: str, x: Inputs, y: Targets, responsibilities: Responsibilities) -> list[str]:
        """Return all messages of a method of the members."""
        return [
            f"{self.prefix(number)}{message}"
            for number, member, rows in self.rows_of_members(x, y, responsibilities)
            for message in getattr(member, method)(*rows)
        ]

    def meet(self, x: Inputs, y: Outputs, weights: Tensor | None = None) -> None:
        """Let the members take notice of a batch; arguments as :meth:`Experts.centre`."""
        for member, own in zip(self.members, self.of_members(y), strict=True):
            if member.takes_steps:
                rows = seen_rows(own)
                member.meet(member.select_inputs(x)[rows], own[rows], None if weights is None else weights[rows])

    def prior_in_words(self) -> str:
        """Return the members' priors in a few words each."""
        return " | ".join(member.prior_in_words() for member in self.members)

    def cautions(self) -> list[str]:
        """Return the members' cautions."""
        members = enumerate(self.members)
        return [f"{self.prefix(number)}{message}" for number, member in members for message in member.cautions()]

    def kl_divergence(self) -> Scalar:
        """Return the sum of the members' divergences in nats, float64."""
        return functools.reduce(lambda total, own: total + own, (member.kl_divergence() for member in self.members))

    @property
    def n_parameters(self) -> int:
        """Number of free parameters of all members."""
        return sum(member.n_parameters for member in self.members)

    @pyro_method
    def model(self, x: Inputs) -> tuple[Any, ...]:
        """Sample every member's parameters from their prior; arguments as :meth:`Experts.model`."""
        return tuple(member.model(member.select_inputs(x)) for member in self.members)

    @pyro_method
    def guide(self, x: Inputs) -> tuple[Any, ...]:
        """Sample every member's parameters from their posterior; arguments as :meth:`Experts.guide`."""
        return tuple(member.guide(member.select_inputs(x)) for member in self.members)

    @pyro_method
    def objective(self, x: Inputs, y: Outputs, responsibilities: Responsibilities) -> None:  # type: ignore[override]
        """Score the members with parameters as a factor ``<name>.objective``; arguments as :meth:`noise_sums`."""
        refuse_shared_parameters(self)
        triples = self.rows_of_members(x, y, responsibilities)
        bounds = [member.partial_bound(*rows) for _, member, rows in triples if has_parameters(member)]
        pyro.factor(self.site("objective"), functools.reduce(lambda total, own: total + own, bounds))

    def rows_of_members(
        self, x: Inputs, y: Targets, responsibilities: Responsibilities
    ) -> Iterator[tuple[int, Experts, tuple[Tensor, Tensor, Tensor]]]:
        """Yield the number of each member, itself, and its inputs, outputs and responsibilities [N, Kⱼ].

        Args:
            x: inputs [N, D].
            y: outputs [N, P].
            responsibilities: [N, K].
        """
        triples = zip(self.members, self.of_members(y), self.shares(responsibilities.mT), strict=True)
        for number, (member, own, share) in enumerate(triples):
            rows = seen_rows(own)
            yield number, member, (member.select_inputs(x)[rows], own[rows], share.mT[rows])

    def of_members_like(self, members: Sequence[Experts]) -> "Banks":
        """Return experts of this kind and name that are made of other members.

        Args:
            members: their banks.
        """
        kind: Any = type(self)
        made: Banks = kind(members, name=module_name(self))
        return made


def seen_rows(y: Outputs) -> slice | Tensor:
    """Return the rows of which some output was observed: all of them, or their numbers.

    Args:
        y: outputs of a member [N, P], NaN where they were not.
    """
    missing = y.isnan().all(-1) if y.ndim == 2 else y.isnan()
    return (~missing).nonzero().squeeze(-1) if bool(missing.any()) else slice(None)
