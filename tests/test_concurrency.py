"""Fits in threads, tasks and processes of every kind are those of one thread alone."""

import asyncio
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import mixpyro
from mixpyro import DirichletGate, LinearExperts, MixtureOfExperts, fit, fit_batches
from tests.concurrent_fits import N_CHILDREN, numbers, rows
from tests.products import data, mixture

ROOT = Path(mixpyro.__file__).parents[1]
pytestmark = [pytest.mark.usefixtures("without_type_checks"), pytest.mark.filterwarnings("ignore::RuntimeWarning")]


def test_fits_and_draws_in_threads_are_those_of_one_thread() -> None:
    expected = [numbers(seed) for seed in range(3)]
    before = torch.get_rng_state()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(numbers, [0, 1, 2] * 8))
    assert found == expected * 8
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("experts", ["linear", "gaussian", "poisson"])
def test_small_fits_are_the_same_in_one_and_two_threads(experts: str) -> None:
    """To the last digit; networks and larger GLM fits agree to rounding."""
    x, y = data(experts)
    found = []
    before = torch.get_num_threads()
    try:
        for n_threads in (1, 2):
            torch.set_num_threads(n_threads)
            result = fit(mixture("dirichlet", experts), x, y, n_restarts=1, max_iterations=6, progress=False)
            found.append((result.runs[0].trace, result.shares.tolist()))
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1]


def test_fits_in_tasks_of_asyncio_are_those_of_one_thread() -> None:
    async def together() -> list[list[float]]:
        return list(await asyncio.gather(*(asyncio.to_thread(numbers, seed) for seed in (0, 1, 0))))

    assert asyncio.run(together()) == [numbers(0), numbers(1), numbers(0)]


def test_batches_may_come_from_workers() -> None:
    data = TensorDataset(*rows(40))
    found = [
        fit_batches(
            MixtureOfExperts(DirichletGate(1), LinearExperts(1, 1)),
            DataLoader(data, batch_size=20, num_workers=n_workers),
            n_epochs=1,
            n_restarts=0,
        ).experts.coefficients
        for n_workers in (0, 1)
    ]
    assert torch.equal(*found)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_processes_find_the_same_numbers() -> None:
    """Children of a fork while another thread fits, which may have had Pyro's state and the lock around it then.

    And a process that is spawned after operations in two threads, after which a plain fork would hang.
    """
    run = subprocess.run(
        [sys.executable, "-m", "tests.concurrent_fits", "forks", "spawn"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert json.loads(run.stdout.splitlines()[-1]) == {"forks": [0] * N_CHILDREN, "spawn": True}
