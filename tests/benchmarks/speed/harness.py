"""Rows of the table of speed benchmarks, and the clock."""

import time
from collections.abc import Callable
from typing import NamedTuple


class Sizes(NamedTuple):
    """Sizes of a benchmark; each has its own defaults."""

    n_objects: int
    n_features: int
    n_components: int
    tiny: bool = False  # run once and in this process, only to see that it runs

    def __str__(self) -> str:
        """Return the sizes as the table prints them."""
        return f"N={self.n_objects}, d={self.n_features}, K={self.n_components}"


class Row(NamedTuple):
    """One line of the table: our time and that of an alternative, measured in the same run."""

    what: str
    size: str
    seconds: float
    beside: str  # the alternative
    seconds_beside: float
    wanted: str  # such as "<= 1.5" of ours / beside, or ">= 5" of beside / ours

    @property
    def ratio(self) -> float:
        """Ours / alternative where ``wanted`` is an upper limit, alternative / ours where it is a factor to reach."""
        faster = self.wanted.startswith(">=")
        return self.seconds_beside / self.seconds if faster else self.seconds / self.seconds_beside

    @property
    def reached(self) -> bool:
        """Whether the ratio meets the target."""
        limit = float(self.wanted.split()[1])
        return self.ratio >= limit if self.wanted.startswith(">=") else self.ratio <= limit


def fastest(*functions: Callable[[], object], repeats: int = 5) -> list[float]:
    """Return the least seconds of each function; calls alternate, so that a busy machine slows all of them."""
    seconds = [float("inf")] * len(functions)
    for function in functions:
        function()
    for _ in range(repeats):
        for number, function in enumerate(functions):
            started = time.perf_counter()
            function()
            seconds[number] = min(seconds[number], time.perf_counter() - started)
    return seconds


LEGEND = """\
seconds: of mixpyro, then of what it is beside; where a row names another unit (MiB, an error), both are of that.
ratio: ours / theirs where at most so much is wanted ("<="), theirs / ours where we want to be so many times faster
(">=")."""
TINY = "Sizes are so small that the ratios mean nothing: this only shows that everything runs."


def as_table(rows: list[Row]) -> str:
    """Return the table as text, one line per row."""
    lines = [f"{'what':<44}{'size':<26}{'seconds':>12}{'beside':>36}{'seconds':>12}{'ratio':>9}{'wanted':>10}"]
    for row in rows:
        figures = f"{row.seconds:>12.3g}{row.beside:>36}{row.seconds_beside:>12.3g}{row.ratio:>9.2f}{row.wanted:>10}"
        lines.append(f"{row.what:<44}{row.size:<26}{figures}{'' if row.reached else '  NOT REACHED'}")
    return "\n".join(lines)
