"""The optima that the runs of a fit have found, and the state of the mixture at each."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from mixpyro.fitting import em
from mixpyro.fitting.fewer_components import used_components
from mixpyro.fitting.findings import warnings_of
from mixpyro.fitting.given_objects import shares_of_given, state_of_given
from mixpyro.fitting.noises import noise_ratio, unequal_noises
from mixpyro.fitting.outcomes import MOST_OPTIMA, Optimum, Run
from mixpyro.fitting.pieces import of_objects, pieces_of, total_of
from mixpyro.fitting.provenance import difference_at_one_optimum
from mixpyro.fitting.ranks import Ranks
from mixpyro.fitting.rows_of_all import packed, unpacked
from mixpyro.fitting.stopping import left_to_gain, without_repeats
from mixpyro.fitting.table import Table
from mixpyro.mixture import MixtureOfExperts, MixtureState
from mixpyro.numerics import nested
from mixpyro.shapes import Responsibilities

if TYPE_CHECKING:
    from mixpyro.fitting.restarts import Search

# States that a fit keeps, and numbers in all of them together: half a gigabyte in float64.
MOST_STATES, MOST_NUMBERS = 50, 2**26
# Numbers in the responsibilities that a fit keeps of optima beside the best: 128 MiB in float64.
MOST_SHARES = 2**24
# Nats. A run with more to gain is not near any optimum.
MOST_LEFT = 1.0


class Ends:
    """States in which runs have ended: one for each of the best optima, and those of runs that were given up.

    Args:
        tolerance: of the stopping rule, in nats an object.

    Attributes:
        states: by the number of the run.
    """

    def __init__(self, tolerance: float) -> None:
        self.tolerance = tolerance
        self.states: dict[int, MixtureState] = {}

    def add(self, runs: Sequence[Run], state: MixtureState, table: Table) -> None:
        """Keep the state of the last run, unless another has converged at the same bound or many are better.

        Args:
            runs: all that have ended so far, the last of which ended in the state.
            state: without an axis of runs.
            table: the rows of the fit.
            has_objects: whether the gate keeps a posterior of each object.
        """
        run, number = runs[-1], len(runs) - 1
        difference = difference_at_one_optimum(run.bound, self.tolerance, table.n_objects, table.x.dtype)
        known = any(runs[other].converged and same(run, runs[other], difference) for other in self.states)
        if not math.isfinite(run.bound) or (run.converged and known):
            return
        # Not a view of the states of all runs, which it would keep.
        self.states[number] = nested.apply(torch.clone, state)
        most = max(1, min(MOST_STATES, MOST_NUMBERS // max(1, _size(state))))
        for worst in sorted(self.states, key=lambda one: runs[one].bound, reverse=True)[most:]:
            del self.states[worst]

    def tensors(self, table: Table, *, has_objects: bool) -> list[Any]:
        """Return the states as numbers of runs and lists of tensors, for a file.

        Args:
            table: the rows of the fit.
            has_objects: whether the gate keeps a posterior of each object.
        """
        return [[number, packed(table, state, has_objects=has_objects)] for number, state in self.states.items()]

    def restore(self, tensors: Iterable[Any], like: MixtureState, table: Table, *, has_objects: bool) -> None:
        """Take over what :meth:`tensors` returned.

        Args:
            tensors: of a search with the same arguments.
            like: a state of the mixture.
            table: the rows of the fit.
            has_objects: whether the gate keeps a posterior of each object.
        """
        self.states = {number: unpacked(table, like, values, has_objects=has_objects) for number, values in tensors}


def same(first: Run, second: Run, difference: float) -> bool:
    """Return whether two runs have ended at one optimum, by their bounds and what is left to gain.

    Args:
        first: a run.
        second: another.
        difference: nats by which bounds of one optimum differ.
    """
    return abs(first.bound - second.bound) <= difference + _left(first) + _left(second)


def _left(run: Run) -> float:
    """Return what a run that was given up had left to gain, in nats; 0 where that is not known."""
    trace = without_repeats(run.trace)
    if run.converged or len(trace) < 3:
        return 0.0
    left = left_to_gain(trace[-3:])
    return left if left < MOST_LEFT else 0.0


def optima_of(search: "Search", table: Table, ranks: Ranks | None = None) -> tuple[Optimum, ...]:
    """Return the distinct optima of a search, that of the best run first and the others by their bounds.

    Args:
        search: whose best state the mixture has adopted.
        table: all rows, those of weight zero too.
        ranks: how the rows lie on the ranks; None where one process has all.
    """
    assert search.best is not None
    best, runs = search.best[0], search.ended
    bound, tolerance = runs[best].bound, search.options.tolerance
    difference = difference_at_one_optimum(bound, tolerance, search.table.n_objects, table.x.dtype)
    states = search.ends.states | {best: search.best[1].state}
    # Objects of weight zero have no part in a search.
    fits = MOST_OPTIMA * search.table.size_of_all * search.mixture.n_components <= MOST_SHARES
    n_kept = MOST_OPTIMA if fits else 1
    found = []
    for number, one in enumerate(_distinct(best, runs, states, difference)):
        described, r = _described(search.scratch, one, search.table)
        if r is not None and 0 < number < n_kept:
            own: dict[str, Any] = {"findings": tuple(warnings_of(search.scratch, search.table, r))}
            own["responsibilities"] = shares_of_given(search.scratch, table, r, ranks)
            described = dataclasses.replace(described, **own)
        if described.state is not None:
            state = state_of_given(search.scratch, table, described.state, ranks)
            described = dataclasses.replace(described, state=state)
        found.append(described)
    return tuple(found)


def _described(mixture: MixtureOfExperts, optimum: Optimum, table: Table) -> tuple[Optimum, Responsibilities | None]:
    """Return an optimum with its shares, noises and cautions, and the responsibilities of the objects of the search.

    The mixture has the state of the optimum afterwards. Without a state there is nothing to say.
    """
    if optimum.state is None:
        return optimum, None
    r = em.responsibilities_of(mixture, optimum.state, table)
    mixture.hold(optimum.state)
    weighted = table.weighted(r.mT)
    each = [
        (part.of_rows(shares).double().sum(-1), shares.double().sum(-1))
        for own, part in pieces_of(table)
        for shares in [of_objects(weighted, own)]
    ]
    row_counts, counts = total_of(table, each)
    # Of a gate that finds how many components there are, those without objects are none.
    found_counts = counts[used_components(counts)] if mixture.gate.finds_components else counts
    found = dataclasses.replace(
        optimum,
        smallest_share=float(found_counts.amin() / counts.sum()),
        noise_ratio=noise_ratio(mixture.experts, row_counts),
        counts=counts,
        cautions=tuple(unequal_noises(mixture.experts, row_counts)),
    )
    return found, r


def options_of(search: "Search") -> dict[str, Any]:
    """Return the options of a search by the names of the arguments, starts by their names.

    Args:
        search: any.
    """
    starts = [getattr(start, "__qualname__", type(start).__qualname__) for start in search.starts]
    own = {"n_restarts": search.n_restarts, "n_candidates": search.n_candidates, "seed": search.seed, "starts": starts}
    return dataclasses.asdict(search.options) | own


def _distinct(best: int, runs: Sequence[Run], states: dict[int, MixtureState], difference: float) -> list[Optimum]:
    """Return the distinct optima without cautions."""
    groups: list[list[int]] = [[best]]
    for number in sorted(range(len(runs)), key=lambda one: runs[one].bound, reverse=True):
        run = runs[number]
        if number == best or not math.isfinite(run.bound):
            continue
        group = next((group for group in groups if same(run, runs[group[0]], difference)), None)
        if group is None:
            groups.append([number])
        else:
            group.append(number)
    return [_optimum(group, runs, states) for group in groups]


def _optimum(group: list[int], runs: Sequence[Run], states: dict[int, MixtureState]) -> Optimum:
    """Return the optimum of runs whose bounds agree, as the first of them has it whose state was kept."""
    number = next((number for number in group if number in states), group[0])
    run = runs[number]
    return Optimum(run.bound, tuple(sorted(group)), run.converged, run.degeneracies, state=states.get(number))


def _size(state: MixtureState) -> int:
    """Return how many numbers a state has."""
    return sum(tensor.numel() for tensor in nested.tensors(state))
