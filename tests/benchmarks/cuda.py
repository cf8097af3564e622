"""Time the same work on the CPU and on a CUDA device: ``python -m tests.benchmarks.cuda``, two minutes.

Each row is the least of a few repeats, after one that is not counted, and ends with a synchronisation.
"""

import argparse
import copy
import functools
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Generator, Tensor, nn

from mixpyro import (
    BayesianSoftmaxGate,
    DirichletGate,
    GaussianExperts,
    GLMExperts,
    LinearExperts,
    MixtureOfExperts,
    NeuralGate,
    SoftmaxGate,
    StickBreakingGate,
    TreeGate,
    fit,
)
from mixpyro.experts.families import Poisson
from mixpyro.gates import Gate
from mixpyro.hyper_models import HyperExpertNN, HyperModelDirichlet, HyperModelGateSparsed

Work = Callable[[torch.device], Callable[[], object]]
K, D = 8, 10


def rows(device: torch.device, n: int) -> tuple[Tensor, Tensor]:
    """Return x [N, D] and y [N, 1] of a mixture of lines, float32."""
    generator = Generator().manual_seed(0)
    x, z = torch.randn(n, D, generator=generator), torch.randint(K, (n,), generator=generator)
    lines = torch.randn(K, D, generator=generator)
    y = (lines[z] * x).sum(1, keepdim=True) + 0.5 * torch.randn(n, 1, generator=generator)
    return x.to(device), y.to(device)


def fitted(make: Callable[[], MixtureOfExperts], n: int, *, counts: bool = False, **options: Any) -> Work:
    """Return a fit, to be made on a device."""

    def on(device: torch.device) -> Callable[[], object]:
        x, y = rows(device, n)
        y = y.clamp(-3, 3).exp().round() if counts else y
        return lambda: fit(make().to(device), x, y, progress=False, **options)

    return on


def adapter(kind: type[HyperModelDirichlet] | type[HyperModelGateSparsed], n: int) -> Work:
    """Return the three calls of an adapter's iteration."""

    def on(device: torch.device) -> Callable[[], object]:
        x, z = torch.zeros(n, 3, device=device), torch.rand(n, K, device=device).softmax(-1)
        model = kind(K, device=device.type.replace("cuda", "gpu"))

        def calls() -> None:
            model.E_step(x, x, z, {})
            model.LogPiExpectation(x, x, {})
            model.PredictPi(x, {})

        return calls

    return on


def network(n: int) -> Work:
    """Return an epoch of the neural adapter."""

    def on(device: torch.device) -> Callable[[], object]:
        x, z = torch.randn(n, 20, device=device), torch.rand(n, K, device=device).softmax(-1)
        model = HyperExpertNN(
            input_dim=20, hidden_dim=10, output_dim=K, epochs=1, device=device.type.replace("cuda", "gpu")
        )
        return lambda: model.M_step(x, x, z, {})

    return on


def lines() -> MixtureOfExperts:
    """Return the flagship: one Dirichlet and Bayesian lines."""
    return MixtureOfExperts(DirichletGate(K), LinearExperts(K, D))


def neural() -> MixtureOfExperts:
    """Return lines behind a network."""
    net = nn.Sequential(nn.Linear(D, 16), nn.Tanh(), nn.Linear(16, K))
    return MixtureOfExperts(NeuralGate(K, net), LinearExperts(K, D))


def work(n: int) -> Iterator[tuple[str, Work]]:
    """Yield what is timed, with N rows at most."""
    few: dict[str, Any] = {"n_restarts": 1, "n_candidates": 1}
    yield f"ten iterations, Dirichlet and lines, N = {n}", fitted(lines, n, max_iterations=10, **few)
    yield f"ten iterations, Gaussians, N = {n}", fitted(gaussians, n, max_iterations=10, **few)
    yield (
        f"three iterations, softmax and Poisson, N = {n // 10}",
        fitted(counts, n // 10, counts=True, max_iterations=3, **few),
    )
    yield f"three iterations, network and lines, N = {n // 10}", fitted(neural, n // 10, max_iterations=3, **few)
    for gate in (BayesianSoftmaxGate(K, D), TreeGate(K, D), StickBreakingGate(K)):
        yield (
            f"three iterations, {type(gate).__name__} and lines, N = {n // 10}",
            fitted(functools.partial(behind, gate), n // 10, max_iterations=3, **few),
        )
    yield f"twenty restarts, N = {n // 100}", fitted(lines, n // 100)
    yield f"HyperModelDirichlet, N = {n}", adapter(HyperModelDirichlet, n)
    yield f"HyperModelGateSparsed, N = {n}", adapter(HyperModelGateSparsed, n)
    yield f"HyperExpertNN, an epoch, N = {n // 10}", network(n // 10)


def behind(gate: Gate) -> MixtureOfExperts:
    """Return lines behind a copy of a gate."""
    return MixtureOfExperts(copy.deepcopy(gate), LinearExperts(K, D))


def gaussians() -> MixtureOfExperts:
    """Return a mixture of densities of one column."""
    return MixtureOfExperts(DirichletGate(K), GaussianExperts(K, 1))


def counts() -> MixtureOfExperts:
    """Return parts that Newton's method fits."""
    return MixtureOfExperts(SoftmaxGate(K, D), GLMExperts(K, D, Poisson()))


def seconds(function: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Return the least seconds of a call, all its kernels included."""

    def call() -> float:
        started = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    call()
    return min(call() for _ in range(repeats))


def main() -> None:
    """Print a line for each piece of work: seconds on the CPU, on the device, and how many times faster."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    warnings.simplefilter("ignore", RuntimeWarning)
    devices = torch.device("cpu"), torch.device(options.device)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for what, make in work(options.objects):
        cpu, other = (seconds(make(device), device, options.repeats) for device in devices)
        print(f"{what:<56}{cpu:>10.4f} s{other:>10.4f} s{cpu / other:>8.1f} x", flush=True)


if __name__ == "__main__":
    main()
