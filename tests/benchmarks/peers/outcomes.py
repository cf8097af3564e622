"""What a contestant reached and when, and the table of it."""

from collections.abc import Callable
from typing import Any, NamedTuple

# How far below the lower of two values, in nats or as a share of it, it counts as reached: rules of stopping differ so.
SLACK, RELATIVE = 0.01, 1e-6


class Outcome(NamedTuple):
    """What one program reached.

    Attributes:
        trace: (seconds since the start, value reached by then), in order of time; of a program that says only where it
            ends, one pair. The value is a log likelihood or bound in nats, the greater the better.
        hits: runs of twenty that ended at the best known value; None where it was not counted.
        of: how many runs were counted.
        note: what a reader must know.
    """

    trace: tuple[tuple[float, float], ...]
    hits: int | None = None
    of: int = 0
    note: str = ""

    @property
    def seconds(self) -> float:
        """All seconds that the program took."""
        return self.trace[-1][0]

    @property
    def value(self) -> float:
        """The best value that it reached."""
        return max(value for _, value in self.trace)

    def seconds_to(self, value: float) -> float | None:
        """Return the seconds after which a value was reached; None if it never was."""
        return next((seconds for seconds, reached in self.trace if reached >= value), None)


class Contestant(NamedTuple):
    """A program to be timed.

    Attributes:
        name: as the table prints it; the first is ours.
        needs: packages of Python that must be importable, or "R:flexmix".
        run: do the work, within some seconds as far as it can tell, and say what was reached.
        apart: whether to run in a process of its own, which is ended after the time limit.
    """

    name: str
    needs: tuple[str, ...]
    run: Callable[[float, bool], Outcome]
    apart: bool = False


class Case(NamedTuple):
    """One problem, its contestants, and what their values are: "log likelihood", "bound" or a quantity."""

    name: str
    quantity: str
    contestants: tuple[Contestant, ...]
    comparable: bool = True  # whether the ratio is of the seconds to the same value, or of all seconds


class Row(NamedTuple):
    """One line of the table."""

    case: str
    quantity: str
    program: str
    versions: str
    seconds: float | None
    value: float | None
    seconds_to_same: float | None  # until the lower of its value and ours
    ours_to_same: float | None
    hits: int | None = None
    of: int = 0
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """How many times as long as ours it takes to the same value."""
        if self.seconds_to_same is None or self.ours_to_same is None:
            return None
        return self.seconds_to_same / max(self.ours_to_same, 1e-9)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields and the ratio, for JSON."""
        return {**self._asdict(), "ratio": self.ratio}


def row(case: Case, contestant: Contestant, versions: str, theirs: Outcome, ours: Outcome | None) -> Row:
    """Compare what a contestant reached with what ours did."""
    to_same, ours_to_same = theirs.seconds, None if ours is None else ours.seconds
    if case.comparable and ours is not None:
        same = min(theirs.value, ours.value)
        same -= max(SLACK, RELATIVE * abs(same))
        to_same, ours_to_same = theirs.seconds_to(same) or to_same, ours.seconds_to(same)
    return Row(
        case.name,
        case.quantity,
        contestant.name,
        versions,
        theirs.seconds,
        theirs.value,
        to_same,
        ours_to_same,
        theirs.hits,
        theirs.of,
        theirs.note,
    )


def absent(case: Case, contestant: Contestant, why: str) -> Row:
    """Return the line of a contestant that gave no figures."""
    return Row(case.name, case.quantity, contestant.name, "", None, None, None, None, note=why)


LEGEND = """\
seconds: of all that a program does; reached: the value in brackets after the case, higher is better.
to the same value: seconds until a program has the lower of its own value and ours; × ours: that as a multiple of ours,
so that above 1 we are faster. – is what was not measured; the note says why."""


def as_markdown(rows: list[Row]) -> str:
    """Return the table; the ratio is how many times as long as ours a program takes to the same value."""
    lines = [
        "| case | program | seconds | reached | to the same value | × ours | hits | note |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    previous = ""
    for one in rows:
        case = "" if one.case == previous else f"{one.case} ({one.quantity})"
        hits = "" if one.hits is None else f"{one.hits} of {one.of}"
        program = f"{one.program} {one.versions}".strip()
        figures = (number(one.seconds), number(one.value, 8), number(one.seconds_to_same), number(one.ratio))
        lines.append(f"| {case} | {program} | {' | '.join(figures)} | {hits} | {one.note} |")
        previous = one.case
    return "\n".join(lines)


def number(value: float | None, digits: int = 3) -> str:
    """Return a figure as the table prints it."""
    return "–" if value is None else f"{value:.{digits}g}"
