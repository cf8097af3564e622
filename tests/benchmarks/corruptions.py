"""Damage files of each kind in each way, and count what comes of reading them.

Run as ``python -m tests.benchmarks.corruptions --count 5000``; about two minutes on one core for each kind of file.
Files with a right checksum are forgeries: they may be read as what they say, or refused.
"""

import argparse
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.saving.corrupted_files import KINDS, outcome
from tests.saving.corruptions import ACCIDENTS, FORGERIES, damaged

# Seconds beyond which a call is slow, and MiB beyond which it is large.
SLOW, LARGE = 2.0, 500
COLUMNS = ("refused", "equal", "silent", "obscure", "slow")


def main(count: int, names: list[str], seed: int) -> None:
    """Print a table of outcomes, each kind of file in a process of its own, whose memory is measured."""
    print(f"{'kind of file':<22}{'damage':<28}" + "".join(f"{name:>9}" for name in COLUMNS) + f"{'peak MiB':>10}")
    for name in names:
        command = [sys.executable, "-m", "tests.benchmarks.corruptions", "--one", name]
        subprocess.run([*command, "--count", str(count), "--seed", str(seed)], check=True)


def one(name: str, count: int, seed: int) -> None:
    """Print the rows of one kind of file."""
    kind, draw = KINDS[name], random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / part for part in ("file", "other", "damaged")]
        kind.write(paths[0], 0)
        kind.write(paths[1], 1)
        wanted = kind.read(paths[0])
        for damage in (*ACCIDENTS, *FORGERIES):
            found, obscure = Counter[str](), set[str]()
            for _ in range(-(-count // len((*ACCIDENTS, *FORGERIES)))):
                paths[2].write_bytes(damaged(damage, draw, paths[0], paths[1]))
                began = time.perf_counter()
                said = outcome(kind, paths[2], wanted)
                found["slow"] += time.perf_counter() - began > SLOW
                obscure |= {said} - {"refused", "equal", "silent"}
                found[said if said in COLUMNS else "obscure"] += 1
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            word = "read" if damage in FORGERIES and found["silent"] else ""
            row = "".join(f"{found[column]:>9}" for column in COLUMNS)
            print(f"{name:<22}{damage:<28}{row}{peak:>10}{' LARGE' * (peak > LARGE)} {word}", flush=True)
            for said in sorted(obscure)[:3]:
                print("    ", said[:200])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--one", help="a kind of file, for the process that does the work")
    given = parser.parse_args()
    one(given.one, given.count, given.seed) if given.one else main(given.count, given.kinds, given.seed)
