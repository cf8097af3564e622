"""Fixtures of all tests: shapes and types checked at run time, a seed, an empty parameter store."""

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import typechecker

# Contracts are imported by tests, and show their values where they fail.
pytest.register_assert_rewrite("tests.gates.contract", "tests.experts.contract", "tests.conjugate.contract")
typechecker.check_package("mixpyro")

import pyro  # noqa: E402 (after the hook, as every import of mixpyro)
import torch  # noqa: E402
from torch import Tensor  # noqa: E402

# The tensors are small: more threads would be slower.
torch.set_num_threads(1)

DATA = Path(__file__).parent / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests marked ``cuda`` where there is no CUDA device."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """Seed the random numbers of every test and empty the parameter store."""
    typechecker.start_of_test()
    torch.manual_seed(0)
    pyro.clear_param_store()
    yield
    pyro.clear_param_store()


@pytest.fixture
def without_type_checks() -> Iterator[None]:
    """Switch off the type checker, which takes most of the time of a long fit of small tensors."""
    with typechecker.switched_off():
        yield


@pytest.fixture
def bad_arguments(without_type_checks: None) -> None:
    """Let wrong arguments reach the library's own checks."""


def read_table(name: str, x: str, y: str) -> tuple[Tensor, Tensor]:
    """Read two columns of a table in tests/data: x [N, 1] and y [N, 1], float64."""
    with (DATA / name).open() as file:
        rows = list(csv.DictReader(file))
    x_values, y_values = ([[float(row[column])] for row in rows] for column in (x, y))
    return torch.tensor(x_values, dtype=torch.float64), torch.tensor(y_values, dtype=torch.float64)


@pytest.fixture
def ethanol() -> tuple[Tensor, Tensor]:
    """Nitric oxide and equivalence ratio of 88 engine runs."""
    return read_table("ethanol.csv", "NO", "Equivalence")


@pytest.fixture
def co2() -> tuple[Tensor, Tensor]:
    """GNP and CO2 per head of 28 countries."""
    return read_table("co2_gnp.csv", "GNP", "CO2")
