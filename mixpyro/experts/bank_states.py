"""How a fit updates experts that are made of banks of experts."""

import functools
from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from mixpyro.conjugate_part import ConjugatePart
from mixpyro.experts.base import Experts
from mixpyro.fitted_part import Gradient, State
from mixpyro.shapes import Inputs, Outputs, Targets, Value


class BankStates(ConjugatePart, Experts):
    """Banks of experts as one bank, as the updates of a fit see them: values of all members, with any leading axes.

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

    def select_inputs(self, x: Inputs) -> Tensor:
        """Return x: each member selects its own columns."""
        return x

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


def seen_rows(y: Outputs) -> slice | Tensor:
    """Return the rows of which some output was observed: all of them, or their numbers.

    Args:
        y: outputs of a member [N, P], NaN where they were not.
    """
    missing = y.isnan().all(-1) if y.ndim == 2 else y.isnan()
    return (~missing).nonzero().squeeze(-1) if bool(missing.any()) else slice(None)
