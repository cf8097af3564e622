"""Which calls are made: random ones, or those of a grid."""

from typing import NamedTuple

from tests.fuzz.call import Call
from tests.fuzz.cases import case
from tests.fuzz.grid import case_of_grid, cells


class Selection(NamedTuple):
    """A numbered list of calls.

    Attributes:
        seed: of all of them.
        only: part of the names of the functions to call; all by default.
        variants: how many right calls a grid replaces the arguments of, for each function; random calls if 0.
    """

    seed: int
    only: str = ""
    variants: int = 0

    def case(self, number: int) -> Call:
        """Return one of the calls; the global state depends on nothing else either.

        Args:
            number: of the call.
        """
        if self.variants:
            return case_of_grid(self.seed, number, variants=self.variants, only=self.only)
        return case(self.seed, number, only=self.only)

    def numbers(self, first: int, n_cases: int) -> range:
        """Return the numbers of some calls; of a grid there are no more than it has.

        Args:
            first: number to begin with.
            n_cases: how many.
        """
        last = first + n_cases
        return range(first, min(last, len(cells(self.seed, self.variants, self.only))) if self.variants else last)

    def options(self) -> str:
        """Return what selects these calls on the command line."""
        only = f" --only '{self.only}'" if self.only else ""
        grid = f" --grid {self.variants}" if self.variants else ""
        return f"--seed {self.seed}{grid}{only}"
