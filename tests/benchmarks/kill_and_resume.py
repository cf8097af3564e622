"""Kill fits at random moments, resume them, and compare every run's trace with that of an undisturbed fit.

Run as ``python -m tests.benchmarks.kill_and_resume``; about five minutes on one core for seven kinds of fit.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

from tests.fitting.test_checkpoint import MIXTURES, ROOT, fitted, same

CHILD = """
import sys, torch
from pathlib import Path
from tests.fitting.test_checkpoint import fitted
torch.set_num_threads(1)
print("ready", flush=True)
fitted(sys.argv[1], Path(sys.argv[2]))
"""


def main(n_kills: int) -> None:
    """Print how many of the resumed fits are the undisturbed one, to the last digit of every trace."""
    warnings.simplefilter("ignore", RuntimeWarning)
    for name in MIXTURES:
        started = time.perf_counter()
        undisturbed = fitted(name, None)
        seconds = time.perf_counter() - started
        n_same, n_unfinished = 0, 0
        for _ in range(n_kills):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "checkpoint"
                n_unfinished += killed(name, path, random.uniform(0.0, 1.2 * seconds))
                n_same += same(fitted(name, path), undisturbed)
        print(f"{name:<20}{n_same} of {n_kills} have every trace, {n_unfinished} of them killed before they ended")


def killed(name: str, path: Path, seconds: float) -> bool:
    """Start a fit in another process and kill it; return whether it was still running."""
    command = [sys.executable, "-W", "ignore", "-c", CHILD, name, str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(seconds)
        was_running = process.poll() is None
        process.kill()
    return was_running


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-kills", type=int, default=20)
    main(parser.parse_args().n_kills)
