"""Runs of variational EM in lockstep: their experts are one bank, and one pass over the rows serves all of them."""

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mixpyro.experts.base import Experts
from mixpyro.gates.base import Gate
from mixpyro.inference.attempt import Attempt, Pending, sums_of
from mixpyro.inference.data import Data
from mixpyro.merging import hand_back, joined, merged, split
from mixpyro.mixture import MixtureOfExperts, normalised
from mixpyro.parameters import has_parameters

# Numbers a block of rows has for each of an E-step's temporaries: they stay in a cache.
BLOCK_NUMBERS = 2**18
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
        self.members = list(attempts)
        self.data = self.members[0].data
        self._gather()

    @staticmethod
    def suits(mixture: MixtureOfExperts) -> bool:
        """Whether all that an iteration does is conjugate updates from sums over the rows."""
        one_pass = mixture.experts.has_separate_components and mixture.gate.can_be_stacked
        return one_pass and mixture.gate.statistics_are_sums and not has_parameters(mixture)

    def iterate(
        self, max_iterations: int, goes_on: Callable[[Attempt], bool], is_hopeless: Callable[[Attempt], bool]
    ) -> None:
        """Updates and E-steps of every run until it has ended; see :meth:`Attempt.iterate`.

        After every E-step ``goes_on`` is asked once, of the run that leads.
        """
        asked = True
        while asked and self._keep(lambda one: self._is_open(one, max_iterations) and not is_hopeless(one)):
            try:
                self._update()
                bounds = self._e_step()
            except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
                # One of them has overflowed: by themselves only that one ends.
                self._go_apart(max_iterations, lambda one: goes_on(one) and not is_hopeless(one))
                return
            for member, bound in zip(self.members, bounds, strict=True):
                member.record(bound)
            asked = goes_on(max(self.members, key=lambda one: one.trace[-1]))
        self.settle()

    def settle(self) -> None:
        """Put every run where the last E-step has left it, for whoever looks at one."""
        if not self.members:
            return
        gates, experts = self._parts()
        hand_back(self.gate, gates, self.gate.stacked_buffers)
        hand_back(self.experts, experts, self.experts.component_buffers)
        pending = (split(statistics, len(self.members)) for statistics in self.statistics if statistics is not None)
        for member, *statistics in zip(self.members, *pending, strict=True):
            member.pending = Pending(*statistics)

    def _parts(self) -> tuple[list[Gate], list[Experts]]:
        mixtures = [member.mixture for member in self.members]
        return [mixture.gate for mixture in mixtures], [mixture.experts for mixture in mixtures]

    def _go_apart(self, max_iterations: int, goes_on: Callable[[Attempt], bool]) -> None:
        self.settle()
        for member in self.members:
            member.iterate(max_iterations, goes_on)
        self.members = []

    @staticmethod
    def _is_open(attempt: Attempt, max_iterations: int) -> bool:
        return attempt.is_open and len(attempt.trace) < max_iterations

    def _keep(self, stays: Callable[[Attempt], bool]) -> bool:
        """Let the others go; gives whether any are left."""
        staying = [member for member in self.members if stays(member)]
        if len(staying) < len(self.members):
            self.settle()
            self.members = staying
            if staying:
                self._gather()
        return bool(staying)

    def _gather(self) -> None:
        gates, experts = self._parts()
        self.gate = merged(gates, gates[0].stacked_buffers, torch.stack)
        self.experts = merged(experts, experts[0].component_buffers, torch.cat)
        pending = [member.pending for member in self.members if member.pending is not None]
        if len(pending) < len(self.members):
            self._e_step()
        else:
            self.statistics = Pending(*map(joined, zip(*pending, strict=True)))

    def _update(self) -> None:
        assert self.statistics.gate is not None
        self.gate.update(self.statistics.gate)
        self.experts.update(self.statistics.experts)

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
        self.statistics = functools.reduce(Pending.__add__, statistics)
        of_experts = self.experts.divergences().unflatten(0, (len(self.members), -1)).sum(-1)
        evidence[0] -= self.gate.kl_divergence() + of_experts
        return evidence

    def _log_joint(self, block: Data, rows: slice) -> Tensor:
        """E log π + E log p(y | k) of each run, [R, K, N]."""
        log_weights = self.gate.expected_log_weights(block.gate_x, objects=rows).mT
        of_experts = self.experts.expected_log_likelihood(block.x, block.y).mT
        return of_experts.unflatten(0, (len(self.members), -1)) + log_weights
