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
    arguments,
)
from mixpyro.fitting.em import Attempt, Options
from mixpyro.fitting.lockstep import Lockstep
from mixpyro.fitting.table import Data

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


def begun(mixture: MixtureOfExperts, dtype: torch.dtype) -> Attempt:
    """A run on a device without numbers, on which reading one raises."""
    mixture = mixture.to("meta")
    x, y = (torch.empty(N, columns, dtype=dtype, device="meta") for columns in (2, P))
    attempt = Attempt(mixture, Data(x, y, x, None), Options())
    attempt.data = attempt.data._replace(weights=torch.empty(N, dtype=dtype, device="meta"))
    attempt.begin(lambda: torch.empty(N, mixture.n_components, dtype=dtype, device="meta"))
    return attempt


def test_reading_a_number_there_raises() -> None:
    with pytest.raises((RuntimeError, NotImplementedError)):
        torch.zeros((), device="meta").item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", MIXTURES)
def test_no_number_is_read_before_the_bound(name: str, dtype: torch.dtype) -> None:
    with arguments.checked_already(), torch.no_grad():
        attempt = begun(MIXTURES[name](), dtype)
        attempt.update()
        attempt.pending, sums = attempt.summed()
        attempt.update()
    assert sums.device.type == "meta"
    assert sums.shape == (2,)


def test_no_number_is_read_in_lockstep() -> None:
    with arguments.checked_already(), torch.no_grad():
        attempts = [begun(MIXTURES["linear"](), torch.float32) for _ in range(4)]
        lockstep = Lockstep(attempts)
        lockstep._update()
        assert lockstep._summed().shape == (2, 4)


@pytest.mark.cuda
@pytest.mark.parametrize("name", MIXTURES)
def test_cuda_is_waited_for_nowhere_else(name: str) -> None:
    """What PyTorch itself says of it."""
    mixture = MIXTURES[name]().cuda()
    x, y = (torch.randn(N, columns, device="cuda") for columns in (2, P))
    attempt = Attempt(mixture, Data(x, y, x, None), Options())
    with arguments.checked_already(), torch.no_grad():
        attempt.begin(lambda: torch.rand(N, mixture.n_components, device="cuda"))
        attempt.update()
        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("error")
        try:
            attempt.pending, _ = attempt.summed()
            attempt.update()
        finally:
            torch.cuda.set_sync_debug_mode(before)
