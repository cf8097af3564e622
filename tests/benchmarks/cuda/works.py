"""The work that is timed on the CPU and on a device: fits, restarts, adapters and networks."""

import copy
import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class Fit:
    """A fit, to be made on a device."""

    make: Callable[[], MixtureOfExperts]
    n: int
    options: dict[str, Any]
    counts: bool = False

    def __call__(self, device: torch.device) -> Callable[[], object]:
        """Put the rows on a device; return the fit."""
        x, y = rows(device, self.n)
        y = y.clamp(-3, 3).exp().round() if self.counts else y
        return lambda: fit(self.make().to(device), x, y, progress=False, **self.options)

    def of(self, n_iterations: int) -> "Fit":
        """Return the same fit of another number of iterations, which it makes all."""
        return replace(self, options={**self.options, "max_iterations": n_iterations, "tolerance": 0.0})


def fitted(make: Callable[[], MixtureOfExperts], n: int, *, counts: bool = False, **options: Any) -> Fit:
    """Return a fit."""
    return Fit(make, n, options, counts)


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
    restarts = 20 if n >= 10_000 else 2
    yield f"{restarts} restarts, N = {n // 100}", fitted(lines, n // 100, n_restarts=restarts)
    bounded: dict[str, Any] = {"n_restarts": restarts, "max_iterations": 20}
    yield f"{restarts} restarts, N = {n // 10}, at most 20 iterations", fitted(lines, n // 10, **bounded)
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


def finish(device: torch.device) -> None:
    """Wait until a device has done all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(
    function: Callable[[], object], device: torch.device, repeats: int, *, most: float = float("inf"), warm: bool = True
) -> float:
    """Return the least seconds of a call, all its kernels included.

    Args:
        function: the work.
        device: where it is done.
        repeats: how often to time it.
        most: no call starts after so many seconds of all.
        warm: whether to make a call before that is not counted, unless it takes all the time.
    """
    began, found = time.perf_counter(), list[float]()
    for _ in range(repeats + warm):
        if found and time.perf_counter() - began > most:
            break
        started = time.perf_counter()
        function()
        finish(device)
        found.append(time.perf_counter() - started)
    return min(found[1:] if warm and len(found) > 1 else found)
