"""Make random calls of everything public, and print a table of what came of them."""

import argparse
import sys
import traceback
from collections import Counter, defaultdict

from tests.fuzz.judge import Outcome
from tests.fuzz.selection import Selection
from tests.fuzz.workers import outcomes, prepare, repeated

KINDS = ("right", "clear", "obscure", "wrong", "slow", "changed")
FAULTS = KINDS[2:]


def main(args: argparse.Namespace) -> int:
    """Make the calls, and return 1 if there is a fault among what came of them."""
    prepare()
    table: dict[str, Counter[str]] = defaultdict(Counter)
    faults: dict[tuple[str, str, str], list[tuple[int, Outcome]]] = defaultdict(list)
    selection = Selection(args.seed, args.only, args.grid)
    numbers = selection.numbers(args.first, args.cases)
    run = outcomes(numbers, selection=selection, seconds=args.seconds, jobs=args.jobs)
    for number, outcome in run:
        table[outcome.name][outcome.kind] += 1
        if outcome.kind in FAULTS:
            faults[(outcome.kind, outcome.place or outcome.words[:60], outcome.words[:25])].append((number, outcome))
    if args.faults:
        print_faults(faults, selection)
    print_table(table)
    return int(bool(faults))


def print_table(table: dict[str, Counter[str]]) -> None:
    """Print how many calls of each public function came to what."""
    width = max(map(len, table), default=10) + 2
    print(f"{'':<{width}}{'calls':>8}" + "".join(f"{kind:>9}" for kind in KINDS))
    total: Counter[str] = Counter()
    for name in sorted(table):
        total += table[name]
        print(_line(name, table[name], width))
    print(_line("all", total, width))


def _line(name: str, counts: Counter[str], width: int) -> str:
    """Return a line of the table."""
    return f"{name:<{width}}{counts.total():>8}" + "".join(f"{counts[kind]:>9}" for kind in KINDS)


def print_faults(faults: dict[tuple[str, str, str], list[tuple[int, Outcome]]], selection: Selection) -> None:
    """Print the faults by where they come from, the most frequent first, with how to repeat one of each."""
    for (kind, place, _), found in sorted(faults.items(), key=lambda item: -len(item[1])):
        number, outcome = min(found)
        print(f"{len(found):>5} {kind:<8}{place}\n      {outcome.case}\n      {outcome.words}")
        print(f"      python -m tests.fuzz {selection.options()} --repeat {number}")


def repeat(args: argparse.Namespace) -> int:
    """Make one call with its traceback, and print a script that makes it."""
    selection = Selection(args.seed, args.only, args.grid)
    call, outcome = repeated(args.repeat, selection)
    for name, value in call.arguments.items():
        print(f"{name} = {str(value)[:300]}")
    print(outcome)
    script = f"from tests.fuzz.selection import Selection\n{selection}.case({args.repeat})()"
    print(f"\n# A script that makes the call:\n{script}\n", flush=True)
    try:
        selection.case(args.repeat)()
    except Exception:
        traceback.print_exc()
    return int(outcome.kind in FAULTS)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=10000)
    grid = "replace each argument by each odd value, in this many right calls of each function, instead of random ones"
    parser.add_argument("--grid", type=int, nargs="?", const=1, default=0, help=grid)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="", help="part of the names of the functions to call")
    parser.add_argument("--repeat", type=int, help="number of the one case to make")
    parser.add_argument("--faults", action=argparse.BooleanOptionalAction, default=True)
    given = parser.parse_args()
    # Arguments may be strings that cannot be encoded.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.exit(main(given) if given.repeat is None else repeat(given))
