"""All speed benchmarks: ``python -m tests.benchmarks.speed``, with ``--tiny`` in seconds."""

import argparse
import importlib
import pkgutil

import torch

from tests.benchmarks import speed
from tests.benchmarks.speed.harness import Row, as_table


def measured(names: list[str], *, tiny: bool) -> list[Row]:
    """The rows of every module of this folder that has a ``rows(tiny=...)``, or of those named."""
    found: list[Row] = []
    for _, name, _ in pkgutil.iter_modules(speed.__path__):
        module = importlib.import_module(f"{speed.__name__}.{name}") if not name.startswith("__") else None
        if hasattr(module, "rows") and (not names or name in names):
            for row in module.rows(tiny=tiny):  # type: ignore[union-attr]
                print(as_table([row]).splitlines()[1], flush=True)
                found.append(row)
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="modules of this folder; all of them by default")
    parser.add_argument("--tiny", action="store_true", help="sizes that prove no more than that it runs")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(as_table(measured(arguments.names, tiny=arguments.tiny)))


if __name__ == "__main__":
    main()
