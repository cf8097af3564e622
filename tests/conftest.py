"""What every test has: shapes and types checked at run time, a seed, and no change of Pyro's global state."""

import csv
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest

import tests.typechecker  # noqa: F401 (the hook finds it by its name, once it is loaded)

jaxtyping.install_import_hook("mixpyro", "tests.typechecker.check")

import pyro  # noqa: E402 (after the hook, like all that import mixpyro)
import torch  # noqa: E402
from torch import Tensor  # noqa: E402

# The tensors here are small: threads would only wait for each other.
torch.set_num_threads(1)

DATA = Path(__file__).parent / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests marked ``cuda`` where there is no such device."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """The same random numbers in every test, and an empty parameter store."""
    torch.manual_seed(0)
    pyro.clear_param_store()
    yield
    pyro.clear_param_store()


@pytest.fixture
def bad_arguments() -> Iterator[None]:
    """Let arguments of wrong shape or type through to the library's own checks."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def read_table(name: str, x: str, y: str) -> tuple[Tensor, Tensor]:
    """Two columns of a table in tests/data: x [N, 1] and y [N, 1], float64."""
    with (DATA / name).open() as file:
        rows = list(csv.DictReader(file))
    x_values, y_values = ([[float(row[column])] for row in rows] for column in (x, y))
    return torch.tensor(x_values, dtype=torch.float64), torch.tensor(y_values, dtype=torch.float64)


@pytest.fixture
def ethanol() -> tuple[Tensor, Tensor]:
    """NO and equivalence ratio of 88 engine runs."""
    return read_table("ethanol.csv", "NO", "Equivalence")


@pytest.fixture
def co2() -> tuple[Tensor, Tensor]:
    """GNP and CO2 per head of 28 countries."""
    return read_table("co2_gnp.csv", "GNP", "CO2")
