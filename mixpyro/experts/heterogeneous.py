"""Unlike experts side by side in one mixture: a line beside a constant, a Poisson regression beside zeros."""

import functools
from collections.abc import Iterator, Sequence
from itertools import accumulate, islice
from typing import Any

import pyro
import torch
from pyro.distributions import MaskedMixture
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.nn import pyro_method
from torch import Tensor

from mixpyro import arguments
from mixpyro.distributions.concatenated import Concatenated
from mixpyro.experts.base import Experts
from mixpyro.pyro_internals.parameter_store import has_parameters, refuse_shared_parameters
from mixpyro.shapes import Inputs, Responsibilities, Scalar, Targets


class HeterogeneousStatistics(tuple[Tensor, ...]):
    """The members' statistics, one tensor after another, which know whose they are."""

    members: tuple[Any, ...]

    @classmethod
    def of(cls, members: Sequence[tuple[Tensor, ...]]) -> "HeterogeneousStatistics":
        """Those of the members, in their order."""
        flat = cls(tensor for member in members for tensor in member)
        flat.members = tuple(members)
        return flat

    def _make(self, tensors: Iterator[Tensor]) -> "HeterogeneousStatistics":
        """Other tensors in the same places, as a NamedTuple's ``_make`` has it."""
        tensors = iter(tensors)
        return self.of([member._make(islice(tensors, len(member))) for member in self.members])


class HeterogeneousExperts(Experts):
    """Banks of experts of unlike families as one bank of K = Σ Kⱼ, their components one after another.

    Each member keeps its family, its prior and its update: closed form where it is conjugate, its own method or SVI
    where its parameters are estimated. All see the same x, a member without inputs takes any, and explain the same y:
    it must be a value of every family among them. Sites take the member's number, as in ``experts.0.coefficients``.

    Args:
        members: banks of experts of P outputs each, all different objects. They become parts of this one.
        name: prefix of the Pyro sites.

    Raises:
        TypeError: if a member is no bank of experts.
        ValueError: if there is no member, one stands there twice, or they differ in P.

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
        members = _checked_members(members)
        n_components = sum(member.n_components for member in members)
        n_features = max(member.n_features for member in members)
        super().__init__(n_components, n_features, members[0].n_outputs, name=name)
        self.n_members = len(members)
        for number, member in enumerate(members):
            setattr(self, str(number), member)
        self.number_components_from(0)

    @property
    def members(self) -> tuple[Experts, ...]:
        """The banks, in order."""
        return tuple(getattr(self, str(number)) for number in range(self.n_members))

    @property
    def first_components(self) -> list[int]:
        """Number of each member's first component in this bank, counted from zero."""
        return list(accumulate([0, *(member.n_components for member in self.members[:-1])]))

    @property
    def is_discrete(self) -> bool:
        """As all members are."""
        return self.members[0].is_discrete

    def number_components_from(self, first: int) -> None:
        """As :meth:`Experts.number_components_from`, the members one after another."""
        super().number_components_from(first)
        for member, offset in zip(self.members, self.first_components, strict=True):
            member.number_components_from(first + offset)

    @property
    def effects(self) -> set[str]:
        """Every member's own."""
        return {f"{number}.{name}" for number, member in enumerate(self.members) for name in member.effects}

    def parameter_names(self, feature_names: Sequence[str]) -> dict[str, list[str]]:
        """Every member's own."""
        return {
            f"{number}.{parameter}": names
            for number, member in enumerate(self.members)
            for parameter, names in member.parameter_names(feature_names).items()
        }

    def check_inputs(self, x: object) -> Tensor:
        """Return x if it fits every member and is finite."""
        for member in self.members:
            member.check_inputs(x)
        return arguments.inputs(x)

    def check_data(self, x: object, y: object) -> tuple[Tensor, Tensor]:
        """Return x and y [N, P] if they fit every member and its family."""
        checked, y_checked = super().check_data(x, y)
        for member in self.members:
            member.check_data(checked, y_checked)
        return checked, y_checked

    def expected_log_likelihood(self, x: Inputs, y: Targets) -> Responsibilities:
        """The members' own, one after another [N, K]."""
        return torch.cat([member.expected_log_likelihood(x, y) for member in self.members], dim=-1)

    def centre(self, x: Inputs, y: Targets) -> None:
        """Every member's own."""
        for member in self.members:
            member.centre(x, y)

    def statistics(self, x: Inputs, y: Targets, responsibilities: Responsibilities) -> HeterogeneousStatistics:
        """The members' own, each for its part of the responsibilities; arguments as :meth:`Experts.statistics`."""
        x, y = self.check_data(x, y)
        r = arguments.responsibilities(responsibilities, self.n_components, len(x))
        return HeterogeneousStatistics.of([member.statistics(x, y, part) for member, part in self._shares(r)])

    @torch.no_grad()
    def update(self, statistics: HeterogeneousStatistics, step_size: float = 1.0) -> None:
        """Every member's own."""
        for member, part in zip(self.members, statistics.members, strict=True):
            member.update(part, step_size)

    def maximise(self, x: Inputs, y: Targets, responsibilities: Responsibilities, *, n_steps: int = 25) -> bool:
        """Every member's own; what has none, and only that, is left for SVI.

        Returns:
            Whether every member with parameters has a method of its own. Else SVI finds the others at their maximum.
        """
        done = [
            member.maximise(x, y, part, n_steps=n_steps)
            for member, part in self._shares(responsibilities)
            if has_parameters(member)
        ]
        return all(done)

    def degeneracies(self, x: Inputs, y: Targets, responsibilities: Responsibilities) -> list[str]:
        """Every member's own, components numbered as in this bank."""
        found = [member.degeneracies(x, y, part) for member, part in self._shares(responsibilities)]
        return [said for member in found for said in member]

    def cautions(self) -> list[str]:
        """Every member's own."""
        return [said for member in self.members for said in member.cautions()]

    def kl_divergence(self) -> Scalar:
        """Sum of the members' own."""
        return functools.reduce(torch.add, (member.kl_divergence() for member in self.members))

    @property
    def n_parameters(self) -> int:
        """Sum of the members' own."""
        return sum(member.n_parameters for member in self.members)

    def predictive(self, x: Inputs) -> Concatenated:
        """The members' own side by side, batch shape [N, K] and event shape [P]."""
        return Concatenated([member.predictive(member.check_inputs(x)) for member in self.members])

    def predict(self, x: Inputs) -> Tensor:
        """Every expert's predictive mean of y [N, K, P], in x's dtype."""
        return torch.cat([member.predict(member.check_inputs(x)) for member in self.members], dim=1)

    @pyro_method
    def model(self, x: Inputs) -> tuple[Any, ...]:
        """Every member's own parameters, from their priors."""
        return tuple(member.model(member.check_inputs(x)) for member in self.members)

    @pyro_method
    def guide(self, x: Inputs) -> tuple[Any, ...]:
        """Every member's own parameters, from their posteriors."""
        return tuple(member.guide(member.check_inputs(x)) for member in self.members)

    def likelihood(self, x: Inputs, parameters: tuple[Any, ...], assignment: Tensor) -> TorchDistributionMixin:
        """That of the member which z belongs to; see :meth:`Experts.likelihood`."""
        own = [
            member.likelihood(member.check_inputs(x), drawn, (assignment - first).clamp(0, member.n_components - 1))
            for member, drawn, first in zip(self.members, parameters, self.first_components, strict=True)
        ]
        chosen = own[0]
        for likelihood, first in zip(own[1:], self.first_components[1:], strict=True):
            chosen = MaskedMixture(assignment >= first, chosen, likelihood)
        return chosen

    @pyro_method
    def objective(self, x: Inputs, y: Targets, responsibilities: Responsibilities) -> None:
        """Pyro model of the M-step: a factor ``<name>.objective``, the bound's part of the members with parameters."""
        refuse_shared_parameters(self)
        shares = [share for share in self._shares(responsibilities) if has_parameters(share[0])]
        bounds = [member.partial_bound(x, y, part) for member, part in shares]
        pyro.factor(self.site("objective"), torch.stack(bounds).sum())

    def _shares(self, responsibilities: Tensor) -> Iterator[tuple[Experts, Tensor]]:
        """Each member with its columns of the responsibilities."""
        sizes = [member.n_components for member in self.members]
        return zip(self.members, responsibilities.split(sizes, dim=-1), strict=True)


def _checked_members(members: object) -> list[Experts]:
    """At least one bank, none twice, all of one number of outputs."""
    if not isinstance(members, Sequence):
        raise TypeError(f"`members` must be a list of mixpyro Experts; got {type(members).__name__}.")
    if not all(isinstance(member, Experts) for member in members):
        kinds = [type(member).__name__ for member in members]
        raise TypeError(f"`members` must be a list of mixpyro Experts; got {kinds}.")
    if not members or len(set(map(id, members))) != len(members):
        raise ValueError(f"`members` must be one bank or more, none of them twice; got {len(members)}.")
    n_outputs = [member.n_outputs for member in members]
    if len(set(n_outputs)) != 1:
        raise ValueError(f"`members` must agree in `n_outputs`; got {n_outputs}.")
    discrete = [member.is_discrete for member in members]
    if len(set(discrete)) != 1:
        kinds = [type(member).__name__ for member in members]
        raise ValueError(
            "`members` must all be densities, or all probabilities of counts and categories, which no unit of y makes "
            f"comparable; got {kinds}."
        )
    return list(members)
