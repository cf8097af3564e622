"""Several outcomes of unlike families that share one assignment: a count and a duration of one class."""

import functools
from collections.abc import Sequence
from itertools import chain
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro.distributions.joined_outputs import JoinedOutputs
from mixpyro.experts.banks import Banks
from mixpyro.experts.base import Experts
from mixpyro.experts.members import checked_outputs
from mixpyro.numerics.segments import Segments
from mixpyro.shapes import Inputs, Outputs, Targets, Value


class HeterogeneousOutputs(Banks):
    """Banks of K experts each, one bank for some of the outputs, with one z: log p(y | k) = Σⱼ log pⱼ(yⱼ | x, k).

    Given z the outcomes are independent, each of its own family: a Poisson count beside a Gaussian measurement, several
    categorical answers of one latent class. Where it is the *components* that differ in family, on the same y, use
    :class:`~mixpyro.experts.HeterogeneousExperts`; the two nest, as for a zero-inflated count beside a measurement.

    The columns of y are the members' outputs, in order. Each member keeps its prior and its update: closed form where
    it is conjugate, its own method or SVI where its parameters are estimated. All read the same x, or no column of it.
    Sites take the member's number, as in ``experts.0.coefficients``, and so do the names of parameters, as in
    "member 0, component 1, intercept".

    Args:
        members: banks of experts of K components each, all different objects. They become parts of this one.
        name: prefix of the Pyro sites; the outcomes are one site, ``<name>.y`` [N, P].

    Raises:
        TypeError: if the members are no list of experts.
        ValueError: if there is no member, one is given twice, or they differ in K.

    References:
        Grün, Leisch (2008), FlexMix version 2, section 2 (multivariate responses by several models of one component);
        McLachlan, Peel (2000), Finite Mixture Models, section 5.2 (local independence of mixed-mode data).

    Example:
        >>> from mixpyro.experts import GLMExperts, LinearExperts
        >>> from mixpyro.experts.families import Poisson
        >>> visits_and_cost = HeterogeneousOutputs([GLMExperts(2, 1, Poisson()), LinearExperts(2, n_features=1)])
        >>> visits_and_cost.predict(torch.zeros(4, 1)).shape
        torch.Size([4, 2, 2])
    """

    takes_incomplete_rows: ClassVar[bool] = True

    def __init__(self, members: Sequence[Experts], *, name: str = "experts") -> None:
        members = checked_outputs(members)
        super().__init__(members, members[0].n_components, sum(member.n_outputs for member in members), name=name)
        self.is_discrete = all(member.is_discrete for member in members)

    @property
    def discrete_outputs(self) -> tuple[bool, ...]:
        """Whether each output has probabilities rather than a density [P]."""
        return tuple(chain.from_iterable(member.discrete_outputs for member in self.members))

    @property
    def prior_kinds(self) -> list[tuple[float, ...]]:
        """What tells each component's priors apart, those of all members together."""
        return [tuple(chain.from_iterable(kinds)) for kinds in zip(*(m.prior_kinds for m in self.members), strict=True)]

    def prefix(self, number: int) -> str:
        """Return the member's number in words; arguments as :meth:`Banks.prefix`."""
        return f"member {number}, "

    def number_components_from(self, first: int) -> None:
        """Number every member's components alike; arguments as :meth:`Experts.number_components_from`."""
        super().number_components_from(first)
        for member in self.members:
            member.number_components_from(first)

    def with_components(self, kept: Sequence[int]) -> "HeterogeneousOutputs":
        """Return some of the components of every member; arguments as :meth:`Experts.with_components`."""
        fewer = self.of_members_like([member.with_components(kept) for member in self.members])
        assert isinstance(fewer, HeterogeneousOutputs)
        return fewer

    def shares(self, responsibilities: Float[Tensor, "*R K N"]) -> Sequence[Tensor]:
        """Return the responsibilities for every member; arguments as :meth:`Banks.shares`."""
        return [responsibilities] * self.n_members

    def of_members(self, y: Targets) -> Sequence[Tensor]:
        """Return each member's columns; arguments as :meth:`Banks.of_members`."""
        columns = y if y.ndim == 2 else y.unsqueeze(-1)
        return columns.split([member.n_outputs for member in self.members], dim=1)

    def outcomes_apart(self, y: Outputs) -> list[tuple[Experts, Tensor]]:
        """Return the members with their columns; arguments as :meth:`Experts.outcomes_apart`."""
        pairs = zip(self.members, self.of_members(y), strict=True)
        return list(chain.from_iterable(member.outcomes_apart(own) for member, own in pairs))

    def columns_of_incomplete(self, x: Inputs, y: Outputs, segments: Segments | None) -> Value:
        """Return each member's columns of the rows that have some of its outputs; arguments as of the base class."""
        if not bool(y.isnan().any()):
            return self.columns_of_objects(x, y, segments)
        found = []
        for member, own in zip(self.members, self.of_members(y), strict=True):
            rows = ~own.isnan().all(-1)
            sizes = rows.long() if segments is None else segments.sum(rows.long())
            found.append(member.columns_of_incomplete(member.select_inputs(x)[rows], own[rows], Segments(sizes)))
        return tuple(found)

    def joined(self, log_likelihoods: Sequence[Tensor]) -> Float[Tensor, "*R K N"]:
        """Return the sum of the members' log densities; arguments as :meth:`Banks.joined`."""
        return functools.reduce(lambda total, own: total + own, log_likelihoods)

    def noises(self) -> Float[Tensor, "K _"] | None:
        """Return the members' noises side by side; None where no member has one."""
        known = [own.double() for own in (member.noises() for member in self.members) if own is not None]
        return torch.cat(known, dim=1) if known else None

    def predictive(self, x: Inputs) -> JoinedOutputs:
        """Return the members' predictive distributions as one; arguments as :meth:`Experts.predictive`."""
        return JoinedOutputs([member.predictive(member.select_inputs(x)) for member in self.members])

    def predict(self, x: Inputs) -> Tensor:
        """Return every expert's predictive mean of y [N, K, P], in x's dtype.

        A categorical member has, as by itself, the probabilities of all its categories in place of a column.

        Args:
            x: inputs [N, D].
        """
        return torch.cat([member.predict(member.select_inputs(x)) for member in self.members], dim=2)

    def likelihood(self, x: Inputs, parameters: tuple[Any, ...], assignment: Tensor) -> JoinedOutputs:
        """Return the members' likelihoods as one; arguments as :meth:`Experts.likelihood`."""
        pairs = zip(self.members, parameters, strict=True)
        return JoinedOutputs([member.likelihood(member.select_inputs(x), own, assignment) for member, own in pairs])
