"""Measure everything on a CUDA device: ``python -m tests.benchmarks.cuda``, under five minutes, one report and file.

The parts are the tests that are marked ``cuda``, the table of the CPU and the device side by side, an iteration of 10⁷
rows beside the device's copies and a plain loop, and waits and memory. Each is bounded in time, and what fails in one
leaves the figures of the others. ``--device cpu --tiny`` runs all of it without a GPU.

On a bare machine with Python 3.11 and a PyTorch for its GPU, carry the other wheels with you. Where there is a network:

    pip download --only-binary=:all: --no-deps -d wheels --python-version 3.11 \
        --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 \
        pyro-ppl pyro-api opt-einsum tqdm jaxtyping wadler-lindig typing-extensions numpy scipy pandas \
        python-dateutil six tzdata pytz xarray xarray-einstats 'arviz<1' h5netcdf h5py platformdirs packaging \
        setuptools matplotlib contourpy cycler fonttools kiwisolver pillow pyparsing pytest pytest-xdist execnet \
        iniconfig pluggy pygments beartype

scikit-learn and formulaic are not needed here. Then, there:

    python -m venv --system-site-packages v && v/bin/pip install --no-index --no-deps --find-links wheels wheels/*.whl
    export PYTHONPATH=$PWD
    v/bin/python -m tests.benchmarks.cuda --json gpu.json
"""

import argparse
import json
import platform
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.cuda import bandwidth, waits
from tests.benchmarks.cuda.works import seconds, work

Report = dict[str, Any]
# Where tests are marked ``cuda``: other folders need packages that a bare machine lacks.
MARKED = [
    f"tests/{name}" for name in "gates experts fitting programs hyper_models diagnostics saving test_mixture.py".split()
]
# Seconds of each part at most, below five minutes together. What has begun is not ended, but for the tests.
LIMITS = {"tests": 90.0, "table": 110.0, "bandwidth": 40.0, "waits": 40.0}


def tests(device: torch.device, given: argparse.Namespace) -> Iterator[Report]:
    """Run the tests that are marked ``cuda``."""
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-m", "cuda", "-p", "no:cacheprovider"]
    command += [
        "--continue-on-collection-errors",
        "--ignore-glob=*scikit_learn*",  # which a bare machine lacks, and which has nothing for a GPU
        *(["tests/fitting/test_synchronisation.py"] if given.tiny else MARKED),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMITS["tests"])
    except subprocess.TimeoutExpired as error:
        said = error.stdout or b""
        yield {"result": "not finished", "output": (said if isinstance(said, str) else said.decode())[-2000:]}
        return
    lines = done.stdout.strip().splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    yield {"result": lines[-1] if lines else done.stderr[-500:], "status": done.returncode, "failed": failed}


def table(device: torch.device, given: argparse.Namespace) -> Iterator[Report]:
    """Time each work on the CPU and on the device."""
    started, devices = time.perf_counter(), {"cpu": torch.device("cpu"), "device": device}
    works = list(work(given.objects))
    for number, (what, make) in enumerate(works):
        left = LIMITS["table"] - (time.perf_counter() - started)
        if left < 0:
            yield {"what": what, "error": "no time left"}
            continue
        share = left / (len(works) - number) / 2
        try:
            found = {
                name: seconds(make(one), one, given.repeats, most=share, warm=not given.tiny)
                for name, one in devices.items()
            }
        except Exception as error:
            yield {"what": what, "error": shortened(error)}
            continue
        yield {"what": what, **found, "ratio": found["cpu"] / found["device"]}


def rates(device: torch.device, given: argparse.Namespace) -> Iterator[Report]:
    """Time iterations of many rows; count those of a GPU by themselves."""
    yield {"what": "counted on the meta device", **bandwidth.counts(10_000_000)}
    for n in (given.rows // 10, given.rows):
        yield {
            "what": f"iteration, N = {n}",
            **bandwidth.measured(device, n=n, repeats=given.repeats, most=LIMITS["bandwidth"] / 2),
        }


def waiting(device: torch.device, given: argparse.Namespace) -> Iterator[Report]:
    """Count waits and memory of each fit."""
    yield from waits.measured(device, given.objects // 10, LIMITS["waits"])


PARTS: dict[str, Callable[[torch.device, argparse.Namespace], Iterator[Report]]] = {
    "tests": tests,
    "bandwidth": rates,
    "table": table,
    "waits": waiting,
}


# What the figures of each part are, for who reads the report.
SAID = {
    "tests": "The tests that are marked `cuda`; without a CUDA device they are skipped.",
    "bandwidth": """\
One iteration of variational EM, Dirichlet gate and linear experts. least_bytes: to read all rows once. counted_bytes:
that the operations of PyTorch read and write. rate_of_…: these a second, as a part of copy_bytes_a_second, which a copy
of memory reaches on this device; the aim is a half. seconds_at_half_the_bandwidth: of an iteration at the aim.
plain_loop_seconds: of the same iteration in a few lines of PyTorch. calls: operations that are started.""",
    "table": f"{'work':<66}{'CPU':>12}{'device':>12}{'CPU / device':>14}   (above 1 the device is faster)",
    "waits": "waits_an_iteration: times that the CPU waits for the device. peak_bytes: of its memory; 0 on a CPU.",
}


def shortened(error: Exception) -> str:
    """Return an error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def measured(device: torch.device, given: argparse.Namespace) -> Report:
    """Run the parts, print each line when it is known, and write the file after each part."""
    report: Report = {"about": about(device)}
    print(", ".join(f"{name} {value}" for name, value in report["about"].items()), flush=True)
    for name, part in PARTS.items():
        if name in given.skip:
            continue
        started, lines = time.perf_counter(), report.setdefault(name, [])
        print(f"\n## {name}", SAID.get(name, ""), sep="\n", flush=True)
        try:
            for line in part(device, given):
                lines.append(line)
                print(written(line), flush=True)
        except Exception as error:  # what fails in one part leaves the figures of the others
            lines.append({"error": shortened(error), "where": traceback.format_exc()[-1500:]})
            print(lines[-1]["where"], flush=True)
        report[f"seconds of {name}"] = time.perf_counter() - started
        if given.json:
            given.json.write_text(json.dumps(report, indent=1, default=str))
    return report


def written(line: Report) -> str:
    """Return one line of the report."""
    if {"cpu", "device"} <= line.keys():
        return f"{line['what']:<66}{line['cpu']:>10.4f} s{line['device']:>10.4f} s{line['ratio']:>8.1f} x"
    first, *others = (
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in line.items()
    )
    return "\n    ".join([first.removeprefix("what "), *others])


def about(device: torch.device) -> Report:
    """Return what the figures depend on."""
    found = {"Python": platform.python_version(), "PyTorch": torch.__version__, "threads": torch.get_num_threads()}
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {**found, "CUDA": torch.version.cuda or "none", "device": name}


def main() -> None:
    """Parse the command line and run the parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--objects", type=int, help="rows of the table's largest works; 10⁶ by default")
    parser.add_argument("--rows", type=int, help="rows of the iteration beside the bandwidth; 10⁷ by default")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--tiny", action="store_true", help="smallest sizes, to see that it runs")
    parser.add_argument("--skip", nargs="*", default=[], choices=list(PARTS))
    parser.add_argument("--json", type=Path, help="where to write the figures")
    given = parser.parse_args()
    given.objects = given.objects or (3_000 if given.tiny else 1_000_000)
    given.rows = given.rows or (5_000 if given.tiny else 10_000_000)
    given.repeats = 1 if given.tiny else given.repeats
    device = torch.device(given.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("`--device` must be one that is there; PyTorch finds no CUDA device. Try --device cpu --tiny.")
    warnings.simplefilter("ignore", RuntimeWarning)
    if given.tiny:
        print("Sizes are so small that the figures mean nothing: this only shows that everything runs.")
    measured(device, given)


if __name__ == "__main__":
    main()
