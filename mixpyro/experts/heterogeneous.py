"""Experts of several families in one mixture: a line beside a constant, a Poisson regression beside zeros."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Float
from pyro.distributions import MaskedMixture
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.distributions.util import broadcast_shape
from torch import Tensor

from mixpyro.distributions.concatenated import Concatenated
from mixpyro.experts.banks import Banks
from mixpyro.experts.base import Experts
from mixpyro.experts.members import checked_members
from mixpyro.shapes import Inputs, Targets


class HeterogeneousExperts(Banks):
    """Banks of experts of several families as one bank of K = Σ Kⱼ, their components one after another.

    Each member keeps its family, its prior and its update: closed form where it is conjugate, its own method or SVI
    where its parameters are estimated. All read the same x, or no column of it, and have densities of the same y, which
    must lie in the support of every family. Sites take the member's number, as in ``experts.0.coefficients``. For
    several outputs, each of its own family in every component, see :class:`~mixpyro.experts.HeterogeneousOutputs`.
    A point mass at 0 beside Poisson counts is zero inflation, and beside those of ``ZeroTruncatedPoisson()`` a hurdle
    model; ``examples/docs/many_zeros.md`` compares them.

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
        super().__init__(members, sum(member.n_components for member in members), members[0].n_outputs, name=name)
        self.is_discrete = members[0].is_discrete

    @property
    def discrete_outputs(self) -> tuple[bool, ...]:
        """Whether each output has probabilities rather than a density [P]."""
        return self.members[0].discrete_outputs

    @property
    def first_components(self) -> list[int]:
        """Number of each member's first component in this bank, counted from zero."""
        return list(accumulate([0, *self._sizes[:-1]]))

    @property
    def _sizes(self) -> list[int]:
        """Number of components of each member."""
        return [member.n_components for member in self.members]

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

    def with_components(self, kept: Sequence[int]) -> "HeterogeneousExperts":
        """Return the banks that have some of the components; arguments as :meth:`Experts.with_components`."""
        members = []
        for member, first in zip(self.members, self.first_components, strict=True):
            own = [k - first for k in kept if first <= k < first + member.n_components]
            members += [member.with_components(own)] if own else []
        fewer = self.of_members_like(members)
        assert isinstance(fewer, HeterogeneousExperts)
        return fewer

    def shares(self, responsibilities: Float[Tensor, "*R K N"]) -> Sequence[Tensor]:
        """Return the rows of each member's components; arguments as :meth:`Banks.shares`."""
        return responsibilities.split(self._sizes, dim=-2)

    def of_members(self, y: Targets) -> Sequence[Tensor]:
        """Return y for every member; arguments as :meth:`Banks.of_members`."""
        return [y] * self.n_members

    def joined(self, log_likelihoods: Sequence[Tensor]) -> Float[Tensor, "*R K N"]:
        """Return the members' log densities one after another; arguments as :meth:`Banks.joined`."""
        # A member without a state has no axis of runs of its own.
        runs = broadcast_shape(*(part.shape[:-2] for part in log_likelihoods))
        return torch.cat([part.expand(*runs, *part.shape[-2:]) for part in log_likelihoods], dim=-2)

    def noises(self) -> Float[Tensor, "K P"]:
        """Return the members' noises where they have one for every output."""
        known = torch.full((self.n_components, self.n_outputs), torch.nan, dtype=torch.float64, device="cpu")
        for own, rows in zip((member.noises() for member in self.members), known.split(self._sizes), strict=True):
            rows.copy_(own if own is not None and own.shape == rows.shape else rows)
        return known

    def predictive(self, x: Inputs) -> Concatenated:
        """Return the members' predictive distributions as one; arguments as :meth:`Experts.predictive`."""
        return Concatenated([member.predictive(member.select_inputs(x)) for member in self.members])

    def predict(self, x: Inputs) -> Tensor:
        """Return every expert's predictive mean of y; arguments as :meth:`Experts.predict`."""
        return torch.cat([member.predict(member.select_inputs(x)) for member in self.members], dim=1)

    def likelihood(self, x: Inputs, parameters: tuple[Any, ...], assignment: Tensor) -> TorchDistributionMixin:
        """Return the likelihood of the member that z belongs to; arguments as :meth:`Experts.likelihood`."""
        chosen, *own = [
            member.likelihood(member.select_inputs(x), drawn, (assignment - first).clamp(0, member.n_components - 1))
            for member, drawn, first in zip(self.members, parameters, self.first_components, strict=True)
        ]
        for likelihood, first in zip(own, self.first_components[1:], strict=True):
            chosen = MaskedMixture(assignment >= first, chosen, likelihood)
        return chosen
