"""Worker processes, and small blocks, for all tests of fits on many processes."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from mixpyro.distributed import blocks
from tests.distributed import cases
from tests.distributed.workers import Workers

Ask = Callable[..., list[Any]]


@pytest.fixture(scope="package")
def ask() -> Iterator[Ask]:
    """Call a function of ``cases`` on the first ranks of four processes; returns what each answers."""
    workers = Workers()
    yield workers.ask
    workers.end()


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Blocks so small that few rows have several."""
    monkeypatch.setattr(blocks, "LIMITS", cases.SMALL)
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)
