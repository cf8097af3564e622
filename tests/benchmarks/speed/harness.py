"""What every benchmark of this folder gives back, and how it takes the time."""

import time
from collections.abc import Callable
from typing import NamedTuple


class Sizes(NamedTuple):
    """How large a benchmark is; each has sizes of its own by default."""

    n_objects: int
    n_features: int
    n_components: int
    tiny: bool = False  # whether it only has to run: once, and in this process

    def __str__(self) -> str:
        """As in the table."""
        return f"N={self.n_objects}, d={self.n_features}, K={self.n_components}"


class Row(NamedTuple):
    """One line of the table: ours beside something else, measured in one run."""

    what: str
    size: str
    seconds: float
    beside: str  # what ours is compared with
    seconds_beside: float
    wanted: str  # such as "<= 1.5" of ours / beside, or ">= 5" of beside / ours

    @property
    def ratio(self) -> float:
        """Ours over the other for a limit from above, the other over ours for a factor to be reached."""
        faster = self.wanted.startswith(">=")
        return self.seconds_beside / self.seconds if faster else self.seconds / self.seconds_beside

    @property
    def reached(self) -> bool:
        """Whether the ratio is what is wanted."""
        limit = float(self.wanted.split()[1])
        return self.ratio >= limit if self.wanted.startswith(">=") else self.ratio <= limit


def fastest(*functions: Callable[[], object], repeats: int = 5) -> list[float]:
    """Least seconds of each function, called in turn so that a busy machine slows all of them."""
    seconds = [float("inf")] * len(functions)
    for function in functions:
        function()
    for _ in range(repeats):
        for number, function in enumerate(functions):
            started = time.perf_counter()
            function()
            seconds[number] = min(seconds[number], time.perf_counter() - started)
    return seconds


def as_table(rows: list[Row]) -> str:
    """For a person."""
    lines = [f"{'what':<44}{'size':<26}{'seconds':>12}{'beside':>36}{'seconds':>12}{'ratio':>9}{'wanted':>10}"]
    for row in rows:
        figures = f"{row.seconds:>12.3g}{row.beside:>36}{row.seconds_beside:>12.3g}{row.ratio:>9.2f}{row.wanted:>10}"
        lines.append(f"{row.what:<44}{row.size:<26}{figures}{'' if row.reached else '  NOT REACHED'}")
    return "\n".join(lines)
