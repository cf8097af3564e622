"""An iteration never waits for a GPU but to read the bound: it runs where there are no numbers that could be read."""

from collections.abc import Callable

import pytest
import torch

from mixpyro import (
    DirichletGate,
    GaussianExperts,
    LinearExperts,
    MarginalObjectDirichletGate,
    MixtureOfExperts,
    ObjectDirichletGate,
    RelevanceLinearExperts,
)
from mixpyro.fitting import em
from mixpyro.fitting.runs import Options, Runs, Trace
from mixpyro.fitting.table import Table

K, N, P = 3, 50, 2
MIXTURES: dict[str, Callable[[], MixtureOfExperts]] = {
    "linear": lambda: MixtureOfExperts(DirichletGate(K), LinearExperts(K, 2, P)),
    "many components": lambda: MixtureOfExperts(DirichletGate(6), LinearExperts(6, 2, P)),
    "relevance": lambda: MixtureOfExperts(DirichletGate(K), RelevanceLinearExperts(K, 2, P)),
    "an object each": lambda: MixtureOfExperts(ObjectDirichletGate(K), LinearExperts(K, 2, P)),
    "marginal": lambda: MixtureOfExperts(MarginalObjectDirichletGate(K, learn_mean=True), LinearExperts(K, 2, P)),
    "full": lambda: MixtureOfExperts(DirichletGate(K), GaussianExperts(K, P)),
    "diagonal": lambda: MixtureOfExperts(DirichletGate(K), GaussianExperts(K, P, covariance="diagonal")),
    "spherical": lambda: MixtureOfExperts(DirichletGate(K), GaussianExperts(K, P, covariance="spherical")),
}


def begun(mixture: MixtureOfExperts, device: str, dtype: torch.dtype, n_runs: int) -> Runs:
    """Runs with given responsibilities on a device, for one of which reading a number raises."""
    mixture = mixture.to(device)
    x, y = (torch.ones(N, columns, dtype=dtype, device=device) for columns in (2, P))
    table = Table(x, y, x, None).with_columns(mixture.experts)
    r = torch.rand(N, mixture.n_components, dtype=dtype, device=device)
    runs = Runs(mixture, table, Options(), [Trace() for _ in range(n_runs)], [em.start(mixture, table, r)] * n_runs)
    runs.table = table._replace(weights=torch.ones(N, dtype=dtype, device=device))
    return runs


def iterated(runs: Runs) -> torch.Tensor:
    """Bounds of an update and an E-step, not read."""
    keep = em.reads_rows(runs.mixture)
    for _ in range(2):
        runs.state = em.update(runs.mixture, runs.state, runs.step, runs.table, no_gradient)  # type: ignore[arg-type]
        runs.step = em.e_step(runs.mixture, runs.state, runs.table, n_runs=len(runs.open), keep=keep)
    evidence: torch.Tensor = runs.step.evidence  # type: ignore[union-attr]
    return evidence


def no_gradient(*_: object) -> None:
    """There are no parameters to estimate."""
    raise AssertionError


def test_reading_a_number_there_raises() -> None:
    with pytest.raises((RuntimeError, NotImplementedError)):
        torch.zeros((), device="meta").item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", MIXTURES)
@pytest.mark.parametrize("n_runs", [1, 4])
def test_no_number_is_read_before_the_bound(name: str, dtype: torch.dtype, n_runs: int) -> None:
    with torch.no_grad():
        evidence = iterated(begun(MIXTURES[name](), "meta", dtype, n_runs))
    assert evidence.device.type == "meta"
    assert evidence.shape == (2, n_runs)


@pytest.mark.cuda
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
@pytest.mark.parametrize("name", MIXTURES)
def test_cuda_is_waited_for_nowhere_else(name: str) -> None:
    """What PyTorch itself says of it."""
    with torch.no_grad():
        runs = begun(MIXTURES[name](), "cuda", torch.float32, 4)
        iterated(runs)
        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("error")
        try:
            iterated(runs)
        finally:
            torch.cuda.set_sync_debug_mode(before)
