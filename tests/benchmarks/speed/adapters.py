"""Time the hyper models of old EM loops: three calls on many rows, and the overhead of each call on few rows.

**One Dirichlet**, N = 10⁶, K = 8, float32. An array [N, K] has 32 MB. The three calls must read one array and write
two. Ours read two, because the check of Z is a pass of its own: 128 MB, 5 ms at some 25 GB/s of two cores. Measured: 1
ms for the check, 2.8 ms for the sum, which converts to float64 (1.3 ms in float32), 1.2 ms for each result. The limit
beside it, two arrays filled and one summed in float32, has one read less and no conversion. The reference's calls
write four arrays and read three, 224 MB, so no program that writes its results can be much more than twice as fast; a
factor of five is out of reach. Where the allocator returns freed arrays to the system, new pages cost 10 ms an array,
and all of these take the same time.

**A Dirichlet for each object.** Reads and writes: check of Z, m = γμ + Z, ψ of m, its mean, 8 passes of 32 MB, 10 ms.
The digamma of torch is scalar code, 20 ns a number on one core: 80 ms. Ours has some 22 vector operations on blocks
that stay in a cache, 0.3 ns each on one core: 7 ns a number.

**Few rows.** The overhead of a call is 0.5 to 2 µs for each call of torch and each attribute of a Pyro module. A row
gives the time of the call minus that of the plain formula on the same tensors.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Generator, Tensor

from mixpyro.hyper_models import HyperExpertNN, HyperModelDirichlet, HyperModelGateSparsed
from tests.benchmarks.speed.harness import Row, Sizes, fastest
from tests.benchmarks.speed.reference import ReferenceDirichlet, ReferenceGateSparsed

SIZES = Sizes(1_000_000, 3, 8)
TINY = Sizes(500, 3, 8)
N_CALLS = 20
FEW = 100
ALLOWED = 60e-6

Action = Callable[[], object]


def rows(sizes: Sizes) -> Iterator[Row]:
    """Yield the three calls on many rows, then each call on few."""
    z, repeats = responsibilities(sizes), 1 if sizes.tiny else 20
    yield from global_rows(z, repeats)
    yield from object_rows(z, repeats)
    yield from overheads(sizes._replace(n_objects=FEW), 2 if sizes.tiny else 200)


def responsibilities(sizes: Sizes) -> Tensor:
    """Draw responsibilities [N, K], float32."""
    generator = Generator().manual_seed(0)
    return torch.randn(sizes.n_objects, sizes.n_components, generator=generator).softmax(-1)


def shape_of(z: Tensor) -> str:
    """Return the size as the table prints it."""
    return f"N={len(z)}, K={z.shape[1]}"


def global_rows(z: Tensor, repeats: int) -> Iterator[Row]:
    """Yield one Dirichlet, beside the limit of the memory and beside the reference."""
    beside = (lambda: written_and_summed(z), of_reference(ReferenceDirichlet(z.shape[1]), z))
    ours, *theirs = fastest(three_calls(HyperModelDirichlet(z.shape[1]), z), *beside, repeats=repeats)
    wanted = {"two writes, one sum": "<= 1.5", "reference": ">= 5"}
    for (name, limit), seconds in zip(wanted.items(), theirs, strict=True):
        yield Row("three calls, HyperModelDirichlet", shape_of(z), ours, name, seconds, limit)


def object_rows(z: Tensor, repeats: int) -> Iterator[Row]:
    """Yield a Dirichlet for each object, beside the digamma alone and beside the reference."""
    m = z + 1.0 / z.shape[1]
    beside = (lambda: torch.digamma(m), of_reference(ReferenceGateSparsed(z.shape[1]), z))
    ours, *theirs = fastest(three_calls(HyperModelGateSparsed(z.shape[1]), z), *beside, repeats=repeats)
    for (name, limit), seconds in zip({"one digamma": "<= 1.3", "reference": ">= 1"}.items(), theirs, strict=True):
        yield Row("three calls, HyperModelGateSparsed", shape_of(z), ours, name, seconds, limit)


def written_and_summed(z: Tensor) -> list[Tensor]:
    """Fill two arrays of z's shape, and sum z over rows."""
    return [torch.full(z.shape, 0.1), torch.full(z.shape, 0.2), z.sum(0)]


def three_calls(model: HyperModelDirichlet | HyperModelGateSparsed, z: Tensor) -> Action:
    """Make a function that calls E_step, LogPiExpectation and PredictPi."""
    x = torch.zeros(len(z), 1)

    def calls() -> list[Tensor]:
        model.E_step(x, x, z, {})
        return [model.LogPiExpectation(x, x, {}), model.PredictPi(x, {})]

    return calls


def of_reference(model: ReferenceDirichlet | ReferenceGateSparsed, z: Tensor) -> Action:
    """Make a function that makes the same three calls of the reference."""

    def calls() -> list[Tensor]:
        model.e_step(z)
        return [model.log_pi_expectation(z), model.predict_pi(z)]

    return calls


def overheads(sizes: Sizes, repeats: int) -> Iterator[Row]:
    """Yield the seconds of every method beyond its arithmetic."""
    z = responsibilities(sizes)
    for name, (ours, plain) in calls_and_formulas(z, sizes.n_features).items():
        seconds = fastest(many(ours), many(plain), repeats=repeats)
        beyond = max(1e-9, (seconds[0] - seconds[1]) / N_CALLS)
        yield Row(f"{name}, beyond arithmetic", shape_of(z), beyond, "allowed", ALLOWED, "<= 1")


def calls_and_formulas(z: Tensor, n_features: int) -> dict[str, tuple[Action, Action]]:
    """Return each call with the plain formula on the same tensors, by name."""
    x, k = torch.zeros(len(z), n_features), z.shape[1]
    shared, own, network = HyperModelDirichlet(k), HyperModelGateSparsed(k), HyperExpertNN(n_features, 10, k)
    for model in (shared, own):
        model.E_step(x, x, z, {})
    m, mu = shared.m, shared.mu
    object_m = z + own.mu
    return {
        "Dirichlet.E_step": (lambda: shared.E_step(x, x, z, {}), lambda: mu + z.sum(0)),
        "Dirichlet.M_step": (lambda: shared.M_step(x, x, z, {}), nothing),
        "Dirichlet.LogPiExpectation": (
            lambda: shared.LogPiExpectation(x, x, {}),
            lambda: log_pi(m).expand_as(z).clone(),
        ),
        "Dirichlet.PredictPi": (lambda: shared.PredictPi(x, {}), lambda: pi(m).expand_as(z).clone()),
        "GateSparsed.E_step": (lambda: own.E_step(x, x, z, {}), lambda: own.gamma * mu + z),
        "GateSparsed.M_step": (lambda: own.M_step(x, x, z, {}), nothing),
        "GateSparsed.LogPiExpectation": (lambda: own.LogPiExpectation(x, x, {}), lambda: log_pi(object_m)),
        "GateSparsed.PredictPi": (lambda: own.PredictPi(x, {}), lambda: pi(object_m)),
        "ExpertNN.E_step": (lambda: network.E_step(x, x, z, {}), nothing),
        "ExpertNN.LogPiExpectation": (
            lambda: network.LogPiExpectation(x, x, {}),
            lambda: network(x).log_softmax(-1),
        ),
        "ExpertNN.PredictPi": (lambda: network.PredictPi(x, {}), lambda: network(x).softmax(-1)),
    }


def log_pi(m: Tensor) -> Tensor:
    """Return ψ(m) − ψ(Σm) of each row."""
    return torch.digamma(m) - torch.digamma(m.sum(-1, keepdim=True))


def pi(m: Tensor) -> Tensor:
    """Return m / Σm of each row."""
    return m / m.sum(-1, keepdim=True)


def nothing() -> None:
    """Do nothing, as the arithmetic of a method that has none."""


def many(action: Action) -> Action:
    """Make a function of many calls, because one call is shorter than the clock resolves."""
    return lambda: [action() for _ in range(N_CALLS)]
