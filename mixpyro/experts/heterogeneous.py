"""Experts of several families in one mixture: a line beside a constant, a Poisson regression beside zeros."""

import functools
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import pyro
import torch
from jaxtyping import Float
from pyro.distributions import MaskedMixture
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.nn import pyro_method
from torch import Tensor

from mixpyro import arguments
from mixpyro.conjugate_part import ConjugatePart
from mixpyro.distributions.concatenated import Concatenated
from mixpyro.experts.base import Experts
from mixpyro.experts.members import checked_members
from mixpyro.part import Gradient, State
from mixpyro.pyro_internals.parameter_store import has_parameters, refuse_shared_parameters
from mixpyro.shapes import Inputs, Outputs, Responsibilities, Scalar, Targets, Value


class HeterogeneousExperts(ConjugatePart, Experts):
    """Banks of experts of several families as one bank of K = Σ Kⱼ, their components one after another.

    Each member keeps its family, its prior and its update: closed form where it is conjugate, its own method or SVI
    where its parameters are estimated. All read the same x, or no column of it, and have densities of the same y, which
    must lie in the support of every family. Sites take the member's number, as in ``experts.0.coefficients``.

    Args:
        members: banks of experts of P outputs each, all different objects. They become parts of this one.
        name: prefix of the Pyro sites.

    Raises:
        ValueError: if there is no member, one is given twice, they differ in P, or only some have densities.

    References:
        Grün, Leisch (2008), FlexMix version 2: finite mixtures with concomitant variables and varying and constant
        parameters, section 2 (component specific models); Lambert (1992), Zero-inflated Poisson regression.

    Example:
        >>> from mixpyro.experts import LinearExperts
        >>> line_and_constants = HeterogeneousExperts([LinearExperts(1, n_features=1), LinearExperts(2, n_features=0)])
        >>> line_and_constants.predict(torch.zeros(4, 1)).shape
        torch.Size([4, 3, 1])
    """

    def __init__(self, members: Sequence[Experts], *, name: str = "experts") -> None:
        members = checked_members(members)
        n_components = sum(member.n_components for member in members)
        n_features = max(member.n_features for member in members)
        super().__init__(n_components, n_features, members[0].n_outputs, name=name)
        self.n_members, self.is_discrete = len(members), members[0].is_discrete
        for number, member in enumerate(members):
            setattr(self, str(number), member)
        self.number_components_from(0)

    @property
    def members(self) -> tuple[Experts, ...]:
        """The banks, in order."""
        return tuple(getattr(self, str(j)) for j in range(self.n_members))

    @property
    def first_components(self) -> list[int]:
        """Number of each member's first component in this bank, counted from zero."""
        return list(accumulate([0, *(member.n_components for member in self.members[:-1])]))

    @property
    def prior_kinds(self) -> list[tuple[float, ...]]:
        """What tells the priors of the members apart, and each component's label there."""
        kinds = [(type(member).__name__, member.prior_in_words(), member.is_estimated) for member in self.members]
        numbers = [kinds.index(kind) if not kind[2] else j for j, kind in enumerate(kinds)]
        pairs = zip(numbers, self.members, strict=True)
        return [(float(number), *kind) for number, member in pairs for kind in member.prior_kinds]

    def number_components_from(self, first: int) -> None:
        """Number the members' components one after another; arguments as :meth:`Experts.number_components_from`."""
        super().number_components_from(first)
        for member, offset in zip(self.members, self.first_components, strict=True):
            member.is_member = True
            member.number_components_from(first + offset)

    @property
    def effects(self) -> set[str]:
        """Names of the members' parameters whose entries are effects."""
        return {f"{number}.{name}" for number, member in enumerate(self.members) for name in member.effects}

    def parameter_names(self, feature_names: Sequence[str]) -> dict[str, list[str]]:
        """Return a name for every entry of the members' parameters; arguments as :meth:`Part.parameter_names`."""
        return {
            f"{number}.{parameter}": names
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
        for member in self.members:
            member.check_data(checked, y_checked)
        return checked, y_checked

    def select_inputs(self, x: Inputs) -> Tensor:
        """Return x: each member selects its own columns."""
        return x

    def centre(self, x: Inputs, y: Targets, weights: Tensor | None = None) -> None:
        """Let every member take what it needs from the data; arguments as :meth:`Experts.centre`."""
        for member in self.members:
            member.centre(member.select_inputs(x), y, weights)

    def columns(self, x: Inputs, y: Outputs) -> tuple[Any, ...]:
        """Return what the members' formulas read of the rows; arguments as :meth:`Experts.columns`."""
        return tuple(member.columns(member.select_inputs(x), y) for member in self.members)

    def log_likelihoods(self, columns: Value, state: State | None = None) -> Float[Tensor, "*R K N"]:
        """Return the members' expected log likelihoods; arguments as :meth:`Experts.log_likelihoods`."""
        members = zip(self.members, columns, self._states(state), strict=True)
        parts = [member.log_likelihoods(own, one) for member, own, one in members]
        # A member without a state has no axis of runs of its own.
        runs = torch.broadcast_shapes(*(part.shape[:-2] for part in parts))
        return torch.cat([part.expand(*runs, *part.shape[-2:]) for part in parts], dim=-2)

    def sums(
        self, columns: Value, responsibilities: Float[Tensor, "*R K N"], state: State | None = None
    ) -> tuple[Value, ...]:
        """Return the members' statistics; arguments as :meth:`Experts.sums`."""
        shares, states = self._shares(responsibilities), self._states(state)
        return tuple(
            member.sums(own, share, one) for (member, share), own, one in zip(shares, columns, states, strict=True)
        )

    def _states(self, state: State | None) -> Sequence[State | None]:
        """Return the state of each member; None for its own."""
        return [None] * self.n_members if state is None else state.posterior

    def statistics(self, x: Inputs, y: Targets, responsibilities: Responsibilities) -> tuple[Any, ...]:
        """Return the members' statistics, () for a member without; arguments as :meth:`ConjugateExperts.statistics`."""
        x, y = self.check_data(x, y)
        r = arguments.responsibilities(responsibilities, self.n_components, len(x))
        return self.sums(self.columns(x, y), r.mT)

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
        for member, share in self._shares(responsibilities.mT):
            if has_parameters(member):
                member.maximise(member.select_inputs(x), y, share.mT, by_gradient=by_gradient, n_steps=n_steps)

    def noise_sums(self, x: Inputs, y: Outputs, responsibilities: Responsibilities) -> tuple[Value, ...]:
        """Return the members' sums; arguments as :meth:`Experts.noise_sums`."""
        shares = self._shares(responsibilities.mT)
        return tuple(member.noise_sums(member.select_inputs(x), y, share.mT) for member, share in shares)

    def set_noise(self, sums: tuple[Value, ...]) -> None:
        """Set the members' noises; arguments as :meth:`Experts.set_noise`."""
        for member, own in zip(self.members, sums, strict=True):
            member.set_noise(own)

    @property
    def reads_rows(self) -> bool:
        """Whether an update of any member reads every row."""
        return any(member.reads_rows for member in self.members)

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
        parts = [member.divergences(own) for member, own in zip(self.members, state.posterior, strict=True)]
        return functools.reduce(torch.add, parts)

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
        shares = [None] * self.n_members if responsibilities is None else responsibilities.split(self._sizes, dim=-2)
        after = [
            member.advanced(own, sums, (member.select_inputs(x), y), share, by_gradient)
            for member, own, sums, share in zip(self.members, state.posterior, statistics, shares, strict=True)
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
        shares = self._shares(responsibilities.mT)
        said = (getattr(member, method)(member.select_inputs(x), y, share.mT) for member, share in shares)
        return [message for messages in said for message in messages]

    def prior_in_words(self) -> str:
        """Return the members' priors in a few words each."""
        return " | ".join(member.prior_in_words() for member in self.members)

    def cautions(self) -> list[str]:
        """Return the members' cautions."""
        return [message for member in self.members for message in member.cautions()]

    def noises(self) -> Float[Tensor, "K P"]:
        """Return the members' noises where they have one for every output."""
        known = torch.full((self.n_components, self.n_outputs), torch.nan, dtype=torch.float64, device="cpu")
        for own, rows in zip((member.noises() for member in self.members), known.split(self._sizes), strict=True):
            rows.copy_(own if own is not None and own.shape == rows.shape else rows)
        return known

    def kl_divergence(self) -> Scalar:
        """Return the sum of the members' divergences in nats, float64."""
        return functools.reduce(torch.add, (member.kl_divergence() for member in self.members))

    @property
    def n_parameters(self) -> int:
        """Number of free parameters of all members."""
        return sum(member.n_parameters for member in self.members)

    def predictive(self, x: Inputs) -> Concatenated:
        """Return the members' predictive distributions as one; arguments as :meth:`Experts.predictive`."""
        return Concatenated([member.predictive(member.select_inputs(x)) for member in self.members])

    def predict(self, x: Inputs) -> Tensor:
        """Return every expert's predictive mean of y; arguments as :meth:`Experts.predict`."""
        return torch.cat([member.predict(member.select_inputs(x)) for member in self.members], dim=1)

    @pyro_method
    def model(self, x: Inputs) -> tuple[Any, ...]:
        """Sample every member's parameters from their prior; arguments as :meth:`Experts.model`."""
        return tuple(member.model(member.select_inputs(x)) for member in self.members)

    @pyro_method
    def guide(self, x: Inputs) -> tuple[Any, ...]:
        """Sample every member's parameters from their posterior; arguments as :meth:`Experts.guide`."""
        return tuple(member.guide(member.select_inputs(x)) for member in self.members)

    def likelihood(self, x: Inputs, parameters: tuple[Any, ...], assignment: Tensor) -> TorchDistributionMixin:
        """Return the likelihood of the member that z belongs to; arguments as :meth:`Experts.likelihood`."""
        chosen, *own = [
            member.likelihood(member.select_inputs(x), drawn, (assignment - first).clamp(0, member.n_components - 1))
            for member, drawn, first in zip(self.members, parameters, self.first_components, strict=True)
        ]
        for likelihood, first in zip(own, self.first_components[1:], strict=True):
            chosen = MaskedMixture(assignment >= first, chosen, likelihood)
        return chosen

    @pyro_method
    def objective(self, x: Inputs, y: Outputs, responsibilities: Responsibilities) -> None:  # type: ignore[override]
        """Score the members with parameters as a factor ``<name>.objective``; arguments as :meth:`noise_sums`."""
        refuse_shared_parameters(self)
        pairs = [pair for pair in self._shares(responsibilities.mT) if has_parameters(pair[0])]
        bounds = [member.partial_bound(member.select_inputs(x), y, share.mT) for member, share in pairs]
        pyro.factor(self.site("objective"), torch.stack(bounds).sum())

    @property
    def _sizes(self) -> list[int]:
        """Number of components of each member."""
        return [member.n_components for member in self.members]

    def _shares(self, responsibilities: Tensor) -> Iterator[tuple[Experts, Tensor]]:
        """Pair each member with its share [..., Kⱼ, N] of the responsibilities."""
        return zip(self.members, responsibilities.split(self._sizes, dim=-2), strict=True)
