"""Press Ctrl-C at random moments of small fits, and count how they end.

A fit may return its result, or raise KeyboardInterrupt and leave the mixture as it was; either within a second. Run as
``python -m tests.benchmarks.interrupts``; a quarter of an hour on one core.
"""

import argparse
import asyncio
import os
import random
import signal
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mixpyro import (
    BayesianSoftmaxGate,
    DirichletGate,
    GLMExperts,
    LinearExperts,
    MixtureOfExperts,
    NeuralGate,
    ObjectDirichletGate,
    SoftmaxGate,
    StreamingFit,
    fit,
    fit_batches,
    fit_minibatches,
)
from mixpyro.experts.families import Poisson
from tests.state_of_objects import of_module

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(300, 2, generator=GENERATOR).double()
Y = X.sum(1, keepdim=True) * (1 - 2 * (X[:, :1] > 0)) + 0.3 * torch.randn(300, 1, generator=GENERATOR).double()
COUNTS = torch.poisson(X[:, :1].exp(), generator=GENERATOR)
# Seconds that a fit may take to end after Ctrl-C.
SLOW = 1.0


def networks() -> nn.Module:
    """A small network of the gate."""
    return nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 3)).double()


class Kind(NamedTuple):
    """A kind of fit."""

    make: Callable[[], MixtureOfExperts]
    y: Tensor
    run: Callable[[MixtureOfExperts, Tensor], object]


def plain(mixture: MixtureOfExperts, y: Tensor) -> object:
    """Fit on all rows."""
    return fit(mixture, X, y, n_restarts=5, progress=False)


def in_a_loop(mixture: MixtureOfExperts, y: Tensor) -> object:
    """Fit in a coroutine of ``asyncio.run``."""

    async def main() -> object:
        return plain(mixture, y)

    return asyncio.run(main())


KINDS = {
    "conjugate": Kind(lambda: MixtureOfExperts(DirichletGate(3), LinearExperts(3, 2)), Y, plain),
    "asyncio": Kind(lambda: MixtureOfExperts(DirichletGate(3), LinearExperts(3, 2)), Y, in_a_loop),
    "softmax": Kind(lambda: MixtureOfExperts(SoftmaxGate(3, 2), LinearExperts(3, 2)), Y, plain),
    "counts": Kind(lambda: MixtureOfExperts(DirichletGate(3), GLMExperts(3, 2, Poisson())), COUNTS, plain),
    "bayesian": Kind(lambda: MixtureOfExperts(BayesianSoftmaxGate(3, 2), LinearExperts(3, 2)), Y, plain),
    "objects": Kind(lambda: MixtureOfExperts(ObjectDirichletGate(3), LinearExperts(3, 2)), Y, plain),
    "network": Kind(
        lambda: MixtureOfExperts(NeuralGate(3, networks()), LinearExperts(3, 2)),
        Y,
        lambda mixture, y: fit(mixture, X, y, n_restarts=1, max_iterations=10, progress=False),
    ),
    "minibatches": Kind(
        lambda: MixtureOfExperts(DirichletGate(3), LinearExperts(3, 2)),
        Y,
        lambda mixture, y: fit_minibatches(mixture, X, y, batch_size=30, n_restarts=5, progress=False),
    ),
    "batches": Kind(
        lambda: MixtureOfExperts(SoftmaxGate(3, 2), LinearExperts(3, 2)),
        Y,
        lambda mixture, y: fit_batches(mixture, list(zip(X.split(50), y.split(50), strict=True)), progress=False),
    ),
    "first batch": Kind(
        lambda: MixtureOfExperts(SoftmaxGate(3, 2), GLMExperts(3, 2, Poisson())),
        COUNTS,
        lambda mixture, y: StreamingFit(mixture, progress=False).partial_fit(X, y),
    ),
}


def pressed_later(seconds: float, at: list[float]) -> threading.Thread:
    """Press Ctrl-C after some seconds, in the time of the process; keep when."""

    def press() -> None:
        time.sleep(seconds)
        at.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press, daemon=True)
    thread.start()
    return thread


def outcome(kind: Kind, seconds: float) -> tuple[str, float]:
    """Make a fit, press Ctrl-C, and return how it ended and how many seconds later."""
    mixture, at = kind.make(), list[float]()
    before = of_module(mixture)
    thread = pressed_later(seconds, at)
    word, late = "returned", 0.0
    try:
        try:
            kind.run(mixture, kind.y)
            late = time.perf_counter()
        except KeyboardInterrupt:
            late = time.perf_counter()
            word = "raised" if of_module(mixture) == before else "TORN"
        thread.join()
        time.sleep(0.001)
    except KeyboardInterrupt:
        # It came after the fit.
        word = "ended before"
    return word, late - at[0]


def main(n_presses: int, names: list[str]) -> None:
    """Print how fits of every kind end."""
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    chosen = random.Random(0)
    for name in names or KINDS:
        kind = KINDS[name]
        kind.run(kind.make(), kind.y)
        started = time.perf_counter()
        kind.run(kind.make(), kind.y)
        seconds = time.perf_counter() - started
        found, latest = Counter[str](), 0.0
        for _ in range(n_presses):
            word, late = outcome(kind, chosen.uniform(0.0, 1.05 * seconds))
            latest = max(latest, late)
            found[word] += 1
            found["SLOW"] += late > SLOW
        print(f"{name:<14}{seconds:6.2f} s alone; of {n_presses}: {dict(found)}; latest end {latest:.2f} s", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--n-presses", type=int, default=30)
    given = parser.parse_args()
    main(given.n_presses, given.names)
