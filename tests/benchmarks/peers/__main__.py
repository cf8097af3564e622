"""Time us beside other programs: ``python -m tests.benchmarks.peers [NAME ...]``.

Each name is a module of this folder with ``cases(tiny)``. Programs that are not installed are said to be missing, and
nothing is installed or fetched. A line has the seconds of all its work, the value it reached, and the seconds to the
lower of its value and ours, as a multiple of ours.
"""

import argparse
import importlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import torch

from tests.benchmarks.peers.outcomes import LEGEND, Case, Contestant, Outcome, Row, absent, as_markdown, row
from tests.benchmarks.peers.versions import missing, platform, versions

NAMES = ("glm", "clouds", "single", "selection", "posterior")
FINISHED = "@outcome "


def modules(names: list[str]) -> Iterator[ModuleType]:
    """Yield the modules of the cases; all of them, or those named."""
    for name in names or NAMES:
        yield importlib.import_module(f"tests.benchmarks.peers.{name}")


def measured(names: list[str], *, seconds: float, tiny: bool, most: float = float("inf")) -> list[Row]:
    """Return the lines of all cases.

    Args:
        names: modules; all of them if empty.
        seconds: that one program may take for one case.
        tiny: smallest sizes, all in this process, to see that it runs.
        most: no case starts after so many seconds.
    """
    started, found = time.monotonic(), list[Row]()
    for module in modules(names):
        for case in module.cases(tiny):
            if time.monotonic() - started > most:
                print(f"{case.name}: not run, because {most:g} s have passed", file=sys.stderr)
                continue
            found += rows_of(case, module.__name__.split(".")[-1], seconds, tiny)
    return found


def rows_of(case: Case, module: str, seconds: float, tiny: bool) -> Iterator[Row]:
    """Yield the lines of one case; ours is the first."""
    ours: Outcome | None = None
    for contestant in case.contestants:
        lacking = missing(contestant.needs)
        line = absent(case, contestant, f"no {lacking}") if lacking else None
        if line is None:
            try:
                outcome = run(case, contestant, module, seconds, tiny)
                ours = outcome if ours is None and contestant is case.contestants[0] else ours
                line = row(case, contestant, versions(contestant.needs), outcome, ours)
            except Exception as error:  # one program's failure leaves the figures of the others
                line = absent(case, contestant, f"{type(error).__name__}: {' '.join(str(error).split())[-200:]}")
        print(as_markdown([line]).splitlines()[-1], file=sys.stderr, flush=True)
        yield line


def run(case: Case, contestant: Contestant, module: str, seconds: float, tiny: bool) -> Outcome:
    """Run a contestant, apart where it asks for that."""
    if not contestant.apart or tiny:
        return contestant.run(seconds, tiny)
    command = [sys.executable, "-m", "tests.benchmarks.peers", "--one", module, case.name, contestant.name]
    command += ["--seconds", str(seconds), "--threads", str(torch.get_num_threads())]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"not finished after {seconds + 60:g} s") from None
    for text in done.stdout.splitlines():
        if text.startswith(FINISHED):
            fields = json.loads(text.removeprefix(FINISHED))
            return Outcome(**{**fields, "trace": tuple(map(tuple, fields["trace"]))})
    raise RuntimeError((done.stderr.strip() or "no message").splitlines()[-1])


def one(module: str, case: str, contestant: str, seconds: float, tiny: bool) -> None:
    """Run one contestant in this process and print what it reached."""
    for candidate in importlib.import_module(f"tests.benchmarks.peers.{module}").cases(tiny):
        for other in candidate.contestants if candidate.name == case else ():
            if other.name == contestant:
                print(FINISHED + json.dumps(other.run(seconds, tiny)._asdict()), flush=True)


def main() -> None:
    """Parse the command line, run the cases, print the table and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(NAMES)}; all of them by default")
    parser.add_argument("--seconds", type=float, default=60.0, help="that one program may take for one case")
    parser.add_argument("--most", type=float, default=1500.0, help="no case starts after so many seconds")
    parser.add_argument("--tiny", action="store_true", help="smallest sizes, to see that it runs")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--one", nargs=3, metavar=("MODULE", "CASE", "PROGRAM"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.one:
        return one(given.one[0], given.one[1], given.one[2], given.seconds, given.tiny)
    found = measured(given.names, seconds=given.seconds, tiny=given.tiny, most=given.most)
    about = platform()
    small = "Sizes are so small that the figures mean nothing: this only shows that everything runs."
    machine = ", ".join(f"{name} {value}" for name, value in about.items())
    print("\n".join(["", machine, "", LEGEND, *([small] if given.tiny else []), "", as_markdown(found)]))
    if given.json:
        given.json.write_text(json.dumps({"about": about, "rows": [line.as_dict() for line in found]}, indent=1))


if __name__ == "__main__":
    main()
