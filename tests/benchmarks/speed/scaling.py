"""Time an iteration per row from 10⁵ to 10⁷ rows in mapped files, and measure the memory of a fit to the largest.

What grows with N is the data, the responsibilities (K numbers a row for each open run), and what one start draws.
Everything else works in blocks of rows.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from tests.benchmarks.speed.hand_written import Ours
from tests.benchmarks.speed.harness import Row, Sizes, fastest
from tests.benchmarks.speed.memory import mapped_rows, peak_mib, rows_in_a_file

SIZES = Sizes(10_000_000, 10, 8)
TINY = Sizes(800, 10, 8)


def rows(sizes: Sizes) -> Iterator[Row]:
    """Yield the seconds per row, compared with those at the smallest N, and the peak MiB."""
    few, some, many = (sizes._replace(n_objects=sizes.n_objects // part) for part in (100, 10, 1))
    with rows_in_a_file(sizes) as path:
        # Calls take equally long, so that a busy machine slows all of them alike.
        calls = [iterations(path, n, max(n.n_objects, some.n_objects)) for n in (few, some, many)]
        seconds = fastest(*calls, repeats=1 if sizes.tiny else 4)
        a_row = [taken / max(n.n_objects, some.n_objects) for taken, n in zip(seconds, (few, some, many), strict=True)]
        for larger, taken in ((some, a_row[1]), (many, a_row[2])):
            yield Row("an iteration, a row", str(larger), taken, f"N={few.n_objects}", a_row[0], "<= 1.2")
        del calls
        peak = peak_mib(path, sizes, mapped=True)
        yield Row("fit to a mapped file, peak MiB", str(sizes), peak, "allowed", 4096.0, "<= 1")


def iterations(path: Path, sizes: Sizes, n_rows: int) -> Callable[[], None]:
    """Return a call of as many iterations on the first rows of the file as read ``n_rows`` rows in total."""
    ours = Ours(*mapped_rows(path, sizes), sizes.n_components)

    def call() -> None:
        for _ in range(n_rows // sizes.n_objects):
            ours.iterate()

    return call
