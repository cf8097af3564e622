"""Runs of variational EM in lockstep: their experts are one bank, and one pass over the rows serves all of them."""

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mixpyro.fitting.em import Attempt, Pending, sums_of
from mixpyro.fitting.table import Data
from mixpyro.merging import hand_back, joined, merged, narrow, split
from mixpyro.mixture import MixtureOfExperts, normalised
from mixpyro.pyro_internals.parameter_store import has_parameters

# Numbers a block of rows has for each of an E-step's temporaries: they stay in a cache.
BLOCK_NUMBERS = 2**19
LEAST_ROWS = 1024


class Lockstep:
    """Several runs on the same rows, each of which ends by itself.

    On a few thousand rows an iteration is mostly the calls that it makes; here all runs share them. On many rows the
    products of the rows' columns, which the statistics are sums of, are made once.

    Args:
        attempts: runs that have not ended, of a mixture that :meth:`suits`, on the same data.

    Attributes:
        members: the runs that are still at work.
    """

    # More would gain nothing, and their products would leave the cache.
    MOST_COMPONENTS = 256

    def __init__(self, attempts: Sequence[Attempt]) -> None:
        self.members = [attempt for attempt in attempts if attempt.is_open]
        self.data = attempts[0].data
        if self.members:
            self._gather()

    @staticmethod
    def suits(mixture: MixtureOfExperts) -> bool:
        """Whether an iteration is no more than conjugate updates from sums over the rows, by formulas that allow it.

        A subclass may do otherwise than its base: it says anew, by a ``stacked_buffers`` or ``component_buffers`` of
        its own, that its formulas treat the components, or the runs in front of them, one by one.
        """
        gate, experts = mixture.gate, mixture.experts
        known = type(mixture) is MixtureOfExperts
        known = known and "stacked_buffers" in vars(type(gate)) and "component_buffers" in vars(type(experts))
        one_pass = known and experts.has_separate_components and gate.can_be_stacked
        return one_pass and gate.statistics_are_sums and not has_parameters(mixture)

    def iterate(
        self, max_iterations: int, goes_on: Callable[[Attempt], bool], is_hopeless: Callable[[Attempt], bool]
    ) -> None:
        """Updates and E-steps of every run until it has ended; see :meth:`Attempt.iterate`.

        After every E-step ``goes_on`` is asked once, of the run that leads.
        """

        def stays(one: Attempt) -> bool:
            return one.is_open and len(one.trace) < max_iterations and not is_hopeless(one)

        asked = True
        while asked and self._keep(stays):
            self._update()
            for member, bound in zip(self.members, self._e_step(), strict=True):
                member.record(bound)
            asked = goes_on(max(self.members, key=lambda one: one.trace[-1]))
        self.settle()

    def settle(self) -> None:
        """Put every run where the last E-step has left it, for whoever looks at one."""
        if self.members:
            self._hand_back(range(len(self.members)))

    def _hand_back(self, numbers: Sequence[int]) -> None:
        n_members, mixtures = len(self.members), {number: self.members[number].mixture for number in numbers}
        for whole, buffers, parts in (
            (self.gate, self.gate.stacked_buffers, {number: one.gate for number, one in mixtures.items()}),
            (self.experts, self.experts.component_buffers, {number: one.experts for number, one in mixtures.items()}),
        ):
            hand_back(whole, buffers, n_members, parts)
        pending = [split(statistics, n_members) for statistics in self._statistics()]
        for number in numbers:
            self.members[number].pending = Pending(*(parts[number] for parts in pending))

    def _keep(self, stays: Callable[[Attempt], bool]) -> bool:
        """Let the others go; gives whether any are left."""
        staying = [number for number, member in enumerate(self.members) if stays(member)]
        if len(staying) < len(self.members):
            self._hand_back([number for number in range(len(self.members)) if number not in staying])
            self._narrow(staying)
        return bool(staying)

    def _narrow(self, staying: Sequence[int]) -> None:
        n_members, self.members = len(self.members), [self.members[number] for number in staying]
        if not staying:
            return
        narrow(self.gate, self.gate.stacked_buffers, n_members, staying)
        narrow(self.experts, self.experts.component_buffers, n_members, staying)
        pending = (split(statistics, n_members) for statistics in self._statistics())
        self.pending = Pending(*(joined([parts[number] for number in staying]) for parts in pending))

    def _gather(self) -> None:
        gates = [member.mixture.gate for member in self.members]
        experts = [member.mixture.experts for member in self.members]
        self.gate = merged(gates, gates[0].stacked_buffers, torch.stack)
        self.experts = merged(experts, experts[0].component_buffers, torch.cat)
        pending = [member.pending for member in self.members]
        if not any(pending):
            # They begin with the posteriors that they have.
            self._e_step()
        else:
            assert all(pending)
            self.pending = Pending(*map(joined, zip(*pending, strict=True)))

    def _statistics(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Of the gate and of the experts."""
        assert self.pending.gate is not None
        return self.pending.gate, self.pending.experts

    def _update(self) -> None:
        of_gate, of_experts = self._statistics()
        self.gate.update(of_gate)
        self.experts.update(of_experts)

    def _e_step(self) -> list[float]:
        """The bounds, and statistics under the new responsibilities, which nobody keeps."""
        bounds, magnitudes = self._summed().tolist()
        for member, magnitude in zip(self.members, magnitudes, strict=True):
            member.note_rounding(magnitude)
            member.drop_responsibilities()
        return bounds

    def _summed(self) -> Tensor:
        """See :meth:`Attempt.summed`, [2, R]."""
        evidence = torch.zeros(2, len(self.members), dtype=torch.float64, device=self.data.x.device)
        statistics = []
        for rows in self.data.blocks(max(LEAST_ROWS, BLOCK_NUMBERS // int(self.experts.n_components))):
            block = self.data.block(rows)
            shares, log_evidence = normalised(self._log_joint(block, rows))
            evidence += sums_of(block.weighted(log_evidence.mT))
            r = block.weighted(shares.flatten(0, 1).mT)
            of_gate = self.gate.statistics(block.gate_x, r)
            statistics.append(Pending(of_gate, self.experts.statistics(block.x, block.y, r)))
        self.pending = functools.reduce(Pending.__add__, statistics)
        of_experts = self.experts.divergences().unflatten(0, (len(self.members), -1)).sum(-1)
        evidence[0] -= self.gate.kl_divergence() + of_experts
        return evidence

    def _log_joint(self, block: Data, rows: slice) -> Tensor:
        """E log π + E log p(y | k) of each run, [R, K, N]."""
        log_weights = self.gate.expected_log_weights(block.gate_x, objects=rows).mT
        of_experts = self.experts.expected_log_likelihood(block.x, block.y).mT
        return of_experts.unflatten(0, (len(self.members), -1)) + log_weights
