"""Small fits for threads and processes, and a script that runs them in processes of every kind.

Run as ``python -m tests.concurrent_fits forks spawn forkserver loky``, or some of these; it prints JSON. The suite
leaves out the last two, which take seconds of imports each.
"""

import json
import multiprocessing
import os
import sys
import threading
import time
import warnings
from typing import Any

import pyro
import torch
from pyro.poutine.runtime import _PYRO_STACK
from torch import nn

from mixpyro import DirichletGate, LinearExperts, MixtureOfExperts, NeuralGate, fit, to_arviz

N_CHILDREN = 6
EXPECTED: list[float] = []
# Seconds that a child may take; it needs a few tenths.
PATIENCE = 30.0


def rows(n_rows: int = 30) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of two lines."""
    generator = torch.Generator("cpu").manual_seed(0)
    x = torch.randn(n_rows, 1, generator=generator, dtype=torch.float64)
    noise = 0.3 * torch.randn(n_rows, 1, generator=generator, dtype=torch.float64)
    return x, torch.where(x > 0, 1.0 + 2.0 * x, -1.0 - x) + noise


def network() -> nn.Module:
    """A network with dropout of the same parameters at every call, whatever other threads draw."""
    linear = nn.utils.skip_init(nn.Linear, 1, 2, dtype=torch.float64)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[0.5], [-0.5]]))
        linear.bias.zero_()
    return nn.Sequential(nn.Dropout(0.2), linear)


def numbers(seed: int = 0, n_rows: int = 30) -> list[float]:
    """Bounds of a conjugate fit and of one that Pyro trains, and draws: the same for the same seed anywhere."""
    x, y = rows(n_rows)
    options: dict[str, Any] = {"n_restarts": 1, "max_iterations": 2, "n_gradient_steps": 1, "progress": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        conjugate = fit(MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1)), x, y, seed=seed, **options)
        trained = fit(MixtureOfExperts(NeuralGate(2, network()), LinearExperts(2, 1)), x, y, seed=seed, **options)
        drawn = to_arviz(conjugate.mixture, x, y, n_draws=5, seed=seed)["posterior"]["experts.coefficients"]
    return [conjugate.bound, trained.bound, float(drawn.sum())]


def _child() -> int:
    """Return the exit status of a forked child: 0 if its fits and Pyro's state are as they should be."""
    is_own = list(pyro.get_param_store().keys()) == ["mine"] and not _PYRO_STACK
    is_own &= pyro.settings.get("module_local_params") is False
    return 0 if is_own and numbers() == EXPECTED else 1


def _ends(pid: int) -> int | None:
    """Return the exit status of a child; None for one that waits for ever, which is killed."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return None


def forks() -> list[int | None]:
    """Fork while another thread fits all the time; return how the children ended."""
    pyro.get_param_store()["mine"] = torch.ones(2)
    stop = threading.Event()

    def fits() -> None:
        while not stop.is_set():
            numbers(n_rows=300)

    thread = threading.Thread(target=fits, daemon=True)
    thread.start()
    ends = []
    for _ in range(N_CHILDREN):
        time.sleep(0.03)
        pid = os.fork()
        if pid == 0:
            os._exit(_child())
        ends.append(_ends(pid))
    stop.set()
    thread.join()
    return ends


def by_pool(kind: str) -> bool:
    """Return whether a process that is spawned, or forked by a server, finds the same numbers."""
    with multiprocessing.get_context(kind).Pool(1) as pool:
        return pool.apply(_alone) == EXPECTED


def by_loky() -> bool:
    """Return whether a process of joblib's finds the same numbers."""
    from joblib.externals.loky import get_reusable_executor  # type: ignore[import-untyped]

    return get_reusable_executor(1).submit(_alone).result() == EXPECTED


def two_threads() -> None:
    """Run an operation in two threads, after which a child of a plain fork hangs in its first one."""
    torch.set_num_threads(2)
    big = torch.randn(400, 400)
    assert (big @ big).isfinite().all()


def _alone() -> list[float]:
    """The numbers of a process that has one thread."""
    torch.set_num_threads(1)
    return numbers()


if __name__ == "__main__":
    torch.set_num_threads(1)
    EXPECTED = numbers()
    found: dict[str, Any] = {}
    for mode in sys.argv[1:]:
        if mode == "forks":
            found[mode] = forks()
        else:
            two_threads()
            found[mode] = by_loky() if mode == "loky" else by_pool(mode)
    print(json.dumps(found), flush=True)
