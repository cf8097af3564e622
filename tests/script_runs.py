"""Run scripts, each in a process of its own that starts with the usual imports made.

``python -W error -m tests.script_runs FOLDER`` reads from its standard input a JSON list of runs, each a list of a
script and its arguments. What run 0 prints goes to FOLDER/0.txt, and the exit statuses of all to the standard output.
"""

import importlib
import json
import os
import runpy
import subprocess
import sys
import traceback
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
# Imported once: a script that started alone would spend most of its time on them.
USUAL_IMPORTS = ("torch", "pyro", "mixpyro", "matplotlib.pyplot", "pandas", "formulaic")


class Finished(NamedTuple):
    """What became of one script."""

    status: int  # zero where it ran to its end
    printed: str  # to standard output, and the error that ended it


def run_scripts(runs: list[list[str]], folder: Path) -> list[Finished]:
    """Run scripts, with warnings as errors.

    Args:
        runs: a script and its arguments, of each run.
        folder: where to keep what they print.
    """
    command = [sys.executable, "-W", "error", "-m", "tests.script_runs", str(folder)]
    done = subprocess.run(command, cwd=ROOT, input=json.dumps(runs), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    statuses = json.loads(done.stdout)
    return [Finished(status, (folder / f"{number}.txt").read_text()) for number, status in enumerate(statuses)]


def _run_in_a_fork(arguments: list[str], printed: Path) -> int:
    """Run one script in a copy of this process, and return its exit status."""
    with warnings.catch_warnings():
        # Python 3.12 warns of forks beside other threads: those of linear algebra have nothing to do yet.
        warnings.simplefilter("ignore", DeprecationWarning)
        process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    status = 1
    try:
        with printed.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        sys.argv = arguments
        sys.path.insert(0, str(Path(arguments[0]).parent))
        runpy.run_path(arguments[0], run_name="__main__")
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    for name in USUAL_IMPORTS:
        if find_spec(name.split(".")[0]):
            importlib.import_module(name)
    folder = Path(sys.argv[1])
    runs = json.load(sys.stdin)
    print(json.dumps([_run_in_a_fork(run, folder / f"{number}.txt") for number, run in enumerate(runs)]))
