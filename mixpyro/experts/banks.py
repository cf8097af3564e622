"""What experts that are made of banks of experts have in common."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import pyro
import torch
from pyro.nn import pyro_method
from torch import Tensor

from mixpyro import arguments
from mixpyro.arguments.module_contents import unchanged_if_it_raises
from mixpyro.conjugate_part import ConjugatePart
from mixpyro.experts.bank_states import BankStates, seen_rows
from mixpyro.experts.base import Experts
from mixpyro.fitted_part import Gradient
from mixpyro.pyro_internals.names import module_name
from mixpyro.pyro_internals.parameter_store import has_parameters, refuse_shared_parameters
from mixpyro.shapes import Inputs, Outputs, Responsibilities, Scalar, Targets, Value


class Banks(BankStates):
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

    def centre(self, x: Inputs, y: Targets, weights: Tensor | None = None) -> None:
        """Let every member take what it needs from the data; arguments as :meth:`Experts.centre`."""
        for member, own in zip(self.members, self.of_members(y), strict=True):
            rows = seen_rows(own)
            counts = None if weights is None else weights[rows]
            member.centre(member.select_inputs(x)[rows], own[rows], counts)

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
