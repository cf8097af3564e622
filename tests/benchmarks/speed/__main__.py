"""Run the speed benchmarks: ``python -m tests.benchmarks.speed``, up to eight minutes on two cores."""

import argparse
import importlib
import pkgutil
import time
from collections.abc import Iterator, Mapping
from types import ModuleType

import torch

from tests.benchmarks import speed
from tests.benchmarks.speed.harness import LEGEND, TINY, Row, Sizes, as_table


def benchmarks(names: list[str]) -> Iterator[ModuleType]:
    """Yield the modules of this folder that have ``rows(sizes)`` and ``SIZES``; all of them, or those named."""
    for _, name, _ in pkgutil.iter_modules(speed.__path__):
        module = None if name.startswith("__") else importlib.import_module(f"{speed.__name__}.{name}")
        if module is not None and hasattr(module, "SIZES") and (not names or name in names):
            yield module


def measured(
    names: list[str], *, tiny: bool, given: Mapping[str, int] | None = None, seconds: float = float("inf")
) -> list[Row]:
    """Return the rows of the benchmarks; no benchmark starts after ``seconds`` seconds."""
    found: list[Row] = []
    started = time.monotonic()
    for module in benchmarks(names):
        if time.monotonic() - started > seconds:
            print(f"{module.__name__.split('.')[-1]}: not run, because {seconds:g} seconds have passed", flush=True)
            continue
        sizes: Sizes = (module.TINY if tiny else module.SIZES)._replace(tiny=tiny, **given or {})
        for row in module.rows(sizes):
            print(as_table([row]).splitlines()[1], flush=True)
            found.append(row)
    return found


def main() -> None:
    """Parse the command line, run the benchmarks, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="modules of this folder; all of them by default")
    parser.add_argument("--tiny", action="store_true", help="smallest sizes, to see that it runs")
    parser.add_argument("--objects", dest="n_objects", type=int, help="N, instead of each benchmark's own")
    parser.add_argument("--features", dest="n_features", type=int, help="d, instead of each benchmark's own")
    parser.add_argument("--components", dest="n_components", type=int, help="K, instead of each benchmark's own")
    parser.add_argument("--seconds", type=float, default=1200.0, help="no benchmark starts after this time")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads", LEGEND, sep="\n")
    if arguments.tiny:
        print(TINY)
    print("", "As they are measured:", as_table([]), sep="\n", flush=True)
    given = {name: value for name, value in vars(arguments).items() if name in Sizes._fields and name != "tiny"}
    given = {name: value for name, value in given.items() if value is not None}
    found = measured(arguments.names, tiny=arguments.tiny, given=given, seconds=arguments.seconds)
    print("", "All rows:", as_table(found), sep="\n")


if __name__ == "__main__":
    main()
