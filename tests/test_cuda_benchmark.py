"""The benchmark of a GPU runs to its end without one, and a part that fails leaves the figures of the others."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.benchmarks.cuda import __main__ as cuda
from tests.benchmarks.cuda.bandwidth import Counted

pytestmark = [pytest.mark.usefixtures("without_type_checks"), pytest.mark.filterwarnings("ignore::RuntimeWarning")]
CPU = torch.device("cpu")


def given(path: Path, *skip: str) -> argparse.Namespace:
    """What the command line gives at a tiny size."""
    return argparse.Namespace(objects=1_000, rows=1_000, repeats=1, tiny=True, skip=list(skip), json=path)


def test_it_runs_to_its_end(tmp_path: Path) -> None:
    cuda.measured(CPU, given(tmp_path / "figures.json", "tests"))
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert all("error" not in line for name in ("table", "bandwidth", "waits") for line in figures[name])
    assert all(line["cpu"] > 0 and line["device"] > 0 for line in figures["table"])
    assert figures["bandwidth"][0]["bytes_a_row"] > 48
    assert figures["bandwidth"][-1]["plain_loop_seconds"] > 0


def test_a_part_that_fails_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(device: torch.device, given: argparse.Namespace) -> Iterator[dict[str, Any]]:
        yield {"what": "first"}
        raise RuntimeError("out of memory")

    monkeypatch.setattr(cuda, "PARTS", {"one": fails, "two": lambda device, given: iter([{"what": "second"}])})
    report = cuda.measured(CPU, given(tmp_path / "figures.json"))
    assert report["one"][0] == {"what": "first"}
    assert report["one"][1]["error"] == "RuntimeError: out of memory"
    assert json.loads((tmp_path / "figures.json").read_text())["two"] == [{"what": "second"}]


def test_bytes_of_operations_are_counted() -> None:
    x = torch.zeros(4, 8)
    with Counted() as counted:
        (x.mT.unsqueeze(0) + 1.0).sum()
    assert counted.calls == 2
    assert counted.bytes == (32 + 32) * 4 + (32 + 1) * 4
