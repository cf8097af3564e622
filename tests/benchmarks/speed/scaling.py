"""Time a row from 10⁵ rows to 10⁷, all of them in files that are mapped, and the memory of a whole fit to the last.

All that grows with N is the data, the responsibilities (K numbers a row, of the runs that are at work), and what one
start draws: everything else is done in blocks of rows.
"""

from collections.abc import Callable, Iterator

from tests.benchmarks.speed.hand_written import Ours
from tests.benchmarks.speed.harness import Row, fastest
from tests.benchmarks.speed.memory import D, K, mapped_rows, peak_mib, rows_in_a_file


def rows(*, tiny: bool) -> Iterator[Row]:
    """Nanoseconds a row beside those at the smallest N; MiB."""
    few, some, many = (200, 400, 800) if tiny else (100_000, 1_000_000, 10_000_000)
    with rows_in_a_file(many) as path:
        # As long as each other, so that the machine's moods are the same for all.
        calls = [iterations(Ours(*mapped_rows(path, n), K), some // n or 1) for n in (few, some, many)]
        seconds = fastest(*calls, repeats=1 if tiny else 4)
        a_row = [taken / max(n, some) for taken, n in zip(seconds, (few, some, many), strict=True)]
        for n_objects, taken in ((some, a_row[1]), (many, a_row[2])):
            size = f"N={n_objects}, d={D}, K={K}"
            yield Row("an iteration, a row", size, taken, f"N={few}", a_row[0], "<= 1.2")
        del calls
        peak = peak_mib(path, many, mapped=True, apart=not tiny)
        yield Row("fit to a mapped file, peak MiB", size, peak, "allowed", 4096.0, "<= 1")


def iterations(ours: Ours, times: int) -> Callable[[], None]:
    """So many in a row."""

    def call() -> None:
        for _ in range(times):
            ours.iterate()

    return call
