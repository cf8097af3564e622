"""The benchmark beside other programs runs, with those that are installed, and compares at the same value."""

from tests.benchmarks.peers import __main__ as peers
from tests.benchmarks.peers.outcomes import Case, Contestant, Outcome, as_markdown, row


def reaches(*trace: tuple[float, float], name: str = "ours", needs: tuple[str, ...] = ()) -> Contestant:
    """Return a program of which seconds and values are known."""
    return Contestant(name, needs, lambda seconds, tiny: Outcome(trace))


def fails(seconds: float, tiny: bool) -> Outcome:
    """End without figures."""
    raise RuntimeError("no convergence")


def test_the_benchmark_of_peers_runs(without_type_checks: None) -> None:
    for line in peers.measured([], seconds=20.0, tiny=True):
        assert line.seconds is not None or line.note.startswith("no ")
        assert line.seconds is None or (line.ratio is not None and line.ratio > 0)


def test_programs_are_compared_at_the_lower_of_two_values() -> None:
    ours, theirs = Outcome(((1.0, -20.0), (2.0, -11.0), (4.0, -10.0))), Outcome(((3.0, -15.0), (6.0, -11.0)))
    case, contestant = Case("lines", "bound", ()), reaches(name="theirs")
    line = row(case, contestant, "1.0", theirs, ours)
    assert (line.seconds_to_same, line.ours_to_same, line.ratio) == (6.0, 2.0, 3.0)
    assert row(case, contestant, "1.0", Outcome(((6.0, -19.0),)), ours).ours_to_same == 2.0
    assert row(case._replace(comparable=False), contestant, "1.0", theirs, ours).ratio == 1.5


def test_a_program_that_fails_or_is_missing_leaves_the_others() -> None:
    others = Contestant("fails", (), fails), reaches((1.0, 0.0), needs=("no_such_package",))
    lines = list(
        peers.rows_of(Case("lines", "bound", (reaches((1.0, 0.0)), *others, reaches((2.0, 0.0)))), "", 1.0, False)
    )
    assert [line.ratio for line in lines] == [1.0, None, None, 2.0]
    assert lines[1].note == "RuntimeError: no convergence"
    assert lines[2].note == "no no_such_package"
    assert "| – | – | – | – |  | no no_such_package |" in as_markdown(lines)
