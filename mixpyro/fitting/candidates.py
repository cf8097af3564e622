"""Starts of a search, each of them drawn once: a start that a search has had before is no evidence."""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from mixpyro.fitted_part import State
from mixpyro.fitting import em
from mixpyro.fitting.em import Snapshot
from mixpyro.fitting.group_starts import drawn, subsets_of_runs
from mixpyro.fitting.known_labels import agreeing
from mixpyro.fitting.rows_of_all import are_all_known, known_objects, of_own, seen_by_all
from mixpyro.fitting.starts import (
    GivenResponsibilities,
    Start,
    fitted_to_subsets,
    has_one_noise,
    random_subsets,
    subset_rows,
)
from mixpyro.fitting.table import Table
from mixpyro.gates.per_object import ObjectGate
from mixpyro.labels import all_known, with_known
from mixpyro.mixture import MixtureOfExperts, MixtureState
from mixpyro.numerics import nested
from mixpyro.shapes import Responsibilities

# What a start is known by: a number for every component, in order.
Signature = tuple[float, ...]

# Responsibilities of starts that are fitted together, 128 MiB.
MOST_NUMBERS = 2**24
# Multiplications for a matrix of second derivatives of starts that are fitted together, over its columns: each start is
# a component of the others' rows too, so that their number enters squared.
MOST_PRODUCTS = 2**24
# Significant digits of a signature; two equal starts differ by rounding errors alone.
DIGITS = 10


class Prepared(NamedTuple):
    """Starts of a restart that were fitted beside those of others."""

    generator: Generator  # after their draws
    fitted: list[tuple[State, Responsibilities]]  # what the experts are at, and responsibilities [N, K]


class Candidates:
    """Draws of the starts that restarts choose from.

    Restarts take turns among the kinds of start, and all candidates of a restart are of one kind. A choice between
    kinds would be won by the same kind nearly every time, and restarts that all begin alike are no evidence. A start
    that equals an earlier one, but for the order of its components, is dropped. If that leaves a restart without
    candidates, the turn passes to the next kind. One component has one start, and so have rows whose components are all
    known.

    Args:
        mixture: what the starts read and change.
        kinds: used in round-robin order.
        n_candidates: most candidates of a restart, at least 1.
        seed: each restart draws from a generator of its own, so that none depends on how many there are.
    """

    # Rows that candidates are compared on, in proportion to the parameters that the experts have.
    FEWEST_ROWS, ROWS_A_PARAMETER, MOST_ROWS = 500, 20, 20_000

    def __init__(self, mixture: MixtureOfExperts, kinds: Sequence[Start], *, n_candidates: int, seed: int) -> None:
        self.mixture, self.kinds, self.n_candidates, self.seed = mixture, kinds, n_candidates, seed
        self._prepared: dict[int, Prepared] = {}
        # The rows of all processes, where starts are drawn on all of them.
        self._whole: Table | None = None

    def prepare(self, numbers: Sequence[int], table: Table, initial: MixtureState) -> None:
        """Draw the random subsets of several restarts, and fit experts with estimates to all of them together.

        One by one they take many steps of Newton's method each.

        Args:
            numbers: of the restarts.
            table: with columns.
            initial: state that the mixture has at every start.
        """
        self._prepared = {}
        own = [number for number in numbers if self.kinds[number % len(self.kinds)] is random_subsets]
        generators = [self._generator(number) for number in own]
        fitted = self._fitted_together(generators, table, initial)
        for place, generator in enumerate(generators if fitted else []):
            starts = slice(place * self.n_candidates, (place + 1) * self.n_candidates)
            self._prepared[own[place]] = Prepared(generator, fitted[starts])

    def _fitted_together(
        self, generators: Sequence[Generator], table: Table, initial: MixtureState
    ) -> list[tuple[State, Responsibilities]]:
        """Return random subsets that experts were fitted to, all candidates of each generator; none if not together."""
        if table.blocks_of_all is not None:
            return []  # Starts are drawn on the rows of all processes, and each of these goes on with its own.
        n_numbers = len(generators) * self.n_candidates * self.mixture.n_components * table.size
        is_plain = self.mixture.n_components > 1 and not all_known(table.labels)
        is_plain = is_plain and (table.segments is None or not table.misses)
        has_runs = self.mixture.experts.in_lockstep and self.mixture.experts.takes_steps
        if not generators or not is_plain or not has_runs or n_numbers > MOST_NUMBERS:
            return []
        self.mixture.hold(initial)
        try:
            states, shares = _fitted(self.mixture, table, [one for one in generators for _ in range(self.n_candidates)])
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
            return []  # One by one, to find out which.
        return [(nested.select(states, one), shares[one].mT) for one in range(len(shares))]

    def of_restart(
        self, number: int, table: Table, initial: MixtureState, seen: set[Signature]
    ) -> list[Snapshot | None]:
        """Return the starts of a restart, all of one kind; None for one that failed, nothing if none is new.

        Args:
            number: of the restart, from zero on.
            table: with columns.
            initial: state that the mixture has at every start.
            seen: starts before; those of this restart are added.
        """
        has_one_start = self.mixture.n_components == 1 or are_all_known(table)
        if has_one_start and seen:
            return []
        n_candidates = 1 if has_one_start else self.n_candidates
        prepared, failed = self._prepared.pop(number, None), False
        generator, fitted = Prepared(self._generator(number), []) if prepared is None else prepared
        for turn in range(len(self.kinds)):
            kind = self.kinds[(number + turn) % len(self.kinds)]
            if turn:
                fitted = self._fitted_in_turn(generator, table, initial) if kind is random_subsets else []
            found: list[Snapshot | None] = []
            for candidate in range(n_candidates):
                self.mixture.hold(initial)
                try:
                    own = self._known(fitted[candidate], table) if fitted else self._signed(kind, table, generator)
                    responsibilities, known = own
                    if known not in seen:
                        found.append(em.start(self.mixture, table, responsibilities))
                        seen.add(known)
                except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
                    failed = True
            if found:
                return found
        return [None] if failed else []

    def _fitted_in_turn(
        self, generator: Generator, table: Table, initial: MixtureState
    ) -> list[tuple[State, Responsibilities]]:
        """Return what :meth:`_fitted_together` does of one generator, which has drawn nothing where there is none."""
        before = generator.get_state()
        fitted = self._fitted_together([generator], table, initial)
        if not fitted:
            generator.set_state(before)
        return fitted

    def _known(self, fitted: tuple[State, Responsibilities], table: Table) -> tuple[Responsibilities, Signature]:
        """Let the experts hold what they were fitted to, and return what :meth:`_signed` does."""
        state, shares = fitted
        self.mixture.experts.hold(state)
        responsibilities = with_known(agreeing(shares, table.labels), table.labels)
        return responsibilities, signature(responsibilities)

    def _signed(self, kind: Start, table: Table, generator: Generator) -> tuple[Responsibilities, Signature]:
        """Return the responsibilities of a start for the objects of this process, and what it is known by."""
        if isinstance(kind, GivenResponsibilities) and table.start is not None:
            return with_known(table.start, table.labels), ()
        if table.blocks_of_all is None:
            drawn_ones = self._drawn(kind, table, generator)
            return drawn_ones, signature(drawn_ones)
        if self._whole is None:
            self._whole = seen_by_all(table).with_columns(self.mixture.experts)
        drawn_ones = self._drawn(kind, self._whole, generator)
        known = signature(drawn_ones)
        if table.blocks_of_all.processes is not None:
            table.blocks_of_all.processes.agree(known)
        return of_own(table, drawn_ones), known

    def _drawn(self, kind: Start, table: Table, generator: Generator) -> Responsibilities:
        """Return the responsibilities of a start, certain where a component is known."""
        found = drawn(kind, self.mixture, table, generator)
        # The components of a user's start are as they shall be.
        ordered = found if isinstance(kind, GivenResponsibilities) else agreeing(found, table.labels)
        return with_known(ordered, table.labels)

    def sample(self, table: Table, number: int) -> Table:
        """Return the rows that candidates are compared on; all where they are few or each object has a posterior.

        Args:
            table: all rows.
            number: of the first restart that is compared on them.
        """
        wanted = self.ROWS_A_PARAMETER * int(self.mixture.experts.n_parameters)
        n_rows, n_sampled = table.n_rows_of_all, min(max(self.FEWEST_ROWS, wanted), self.MOST_ROWS)
        has_objects = isinstance(self.mixture.gate, ObjectGate)
        # From a start, a part that takes steps goes to its maximum, and reads the rows for that.
        is_apart = table.blocks_of_all is not None and em.takes_steps(self.mixture) and not has_objects
        if is_apart and (n_rows <= n_sampled or table.start is not None):
            return seen_by_all(table).with_columns(self.mixture.experts)
        if (self.n_candidates == 1 and not is_apart) or n_rows <= n_sampled or has_objects:
            return table
        # With replacement: an order of all rows would take longer than all that follows.
        n_objects, size = max(1, round(n_sampled / n_rows * table.size_of_all)), table.size_of_all
        objects = torch.randint(size, (n_objects,), generator=self._generator(number, salt=1), device="cpu")
        objects = objects.to(table.x.device)
        if table.labels is not None:
            # Objects that say which component is which are few, perhaps.
            objects = torch.cat([objects, known_objects(table)[:n_objects]])
        if table.blocks_of_all is None:
            return table.block(objects)
        return seen_by_all(table, objects).with_columns(self.mixture.experts)

    def _generator(self, number: int, *, salt: int = 0) -> Generator:
        """Return a generator for the restart of this number, or with a salt for what else is drawn for it."""
        return Generator("cpu").manual_seed(((self.seed << 20) + number + (salt << 61)) % 2**63)


def _fitted(
    mixture: MixtureOfExperts, table: Table, generators: Sequence[Generator]
) -> tuple[State, Float[Tensor, "R K N"]]:
    """Return experts fitted to random subsets, of as many starts at once as are fitted faster than one by one."""
    # A component has a subset of rows, or of groups with as many rows together.
    n_rows = max(table.x.shape[1] + table.y.shape[1] + 1, len(table.x) // max(1, table.size))
    products = mixture.n_components**2 * n_rows * (1 + table.x.shape[1])
    size = max(1, math.isqrt(MOST_PRODUCTS // max(1, products)))
    found = []
    for first in range(0, len(generators), size):
        some = generators[first : first + size]
        if table.segments is None:
            rows = torch.stack([subset_rows(mixture, table.x, table.y, one) for one in some])
            found.append(fitted_to_subsets(mixture, table.x, table.y, rows, [has_one_noise(one) for one in some]))
        else:
            found.append(subsets_of_runs(mixture, table, some))
    states = nested.apply(lambda *parts: torch.cat(parts), *(state for state, _ in found))
    return states, torch.cat([shares for _, shares in found])


def signature(responsibilities: Responsibilities) -> Signature:
    """Return what is equal for two starts that differ in the order of their components alone.

    It is the sum of every component's responsibilities, each row times a random number, in ascending order.

    Args:
        responsibilities: [N, K].

    Example:
        >>> start = torch.eye(3).double()[[0, 1, 2, 2]]
        >>> signature(start) == signature(start[:, [2, 0, 1]]), signature(start) == signature(start[[0, 0, 1, 2]])
        (True, False)
    """
    random = _random_numbers(len(responsibilities))
    sums = responsibilities.mT.double() @ random.to(responsibilities.device)
    return tuple(sorted(float(f"{value:.{DIGITS}g}") for value in sums.tolist()))


@functools.lru_cache(maxsize=1)
def _random_numbers(n_rows: int) -> Tensor:
    """Return the same random numbers for the same number of rows [N], float64."""
    with torch.inference_mode(False):
        generator = Generator("cpu").manual_seed(0)
        return torch.randn(n_rows, generator=generator, dtype=torch.float64, device="cpu")
