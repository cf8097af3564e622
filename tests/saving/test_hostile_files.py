"""Files that were made to do harm: no code runs, nothing large is allocated, nothing waits."""

import os
import pickle
import tarfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mixpyro import DirichletGate, load, save
from mixpyro.saving import plain_values
from mixpyro.saving.archive import Archive
from tests.saving.corruptions import archive_of, description_name, records_of, sealed

# Many of the arguments are of wrong types.
pytestmark = pytest.mark.usefixtures("without_type_checks")


class Calls:
    """A value that is restored by a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.called = function, arguments

    def __reduce__(self) -> Any:
        return self.called


class Restores:
    """A value whose class is restored with a state."""

    def __setstate__(self, state: object) -> None:
        Path("created").touch()


class Odd(torch.Tensor):
    """A tensor of a user's own class."""


def with_attribute() -> torch.Tensor:
    tensor = torch.ones(2)
    tensor.note = "mine"  # type: ignore[attr-defined]
    return tensor


def restored() -> Restores:
    value = Restores()
    value.__dict__["a"] = 1
    return value


VALUES: dict[str, Callable[[], Any]] = {
    "system": lambda: Calls(os.system, "touch created"),
    "eval": lambda: Calls(eval, "open('created', 'w')"),
    "exec": lambda: Calls(exec, "open('created', 'w')"),
    "getattr": lambda: Calls(getattr, Path("created"), "touch"),
    "touch": lambda: Calls(Path.touch, Path("created")),
    "function of torch": lambda: Calls(torch.ones, 10**9),
    "bytearray": lambda: Calls(bytearray, 10**11),
    "state": restored,
    "set": lambda: {1, 2},
    "bytes": lambda: b"bytes",
    "class": lambda: Restores,
    "module": lambda: nn.Linear(1, 1),
    "tensor with an attribute": with_attribute,
    "tensor of another class": lambda: torch.ones(2).as_subclass(Odd),
    "sparse tensor": lambda: torch.eye(2).to_sparse(),
    "tensor without numbers": lambda: torch.ones(2, device="meta"),
    "complex tensor": lambda: torch.ones(2, dtype=torch.complex64),
    "quantised tensor": lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
    "generator": lambda: torch.device("cpu"),
}


def content(value: Any) -> dict[str, Any]:
    """Return the content of a file whose model holds a value."""
    model = {"kind": "DirichletGate", "arguments": {"n_components": 2, "concentration": value}}
    return {"kind": "model", "version": 1, "model": model, "state": {}, "frozen": []}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("is_sealed", [False, True])
def test_no_value_of_another_kind_is_restored(
    name: str, is_sealed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(content(VALUES[name]()), "file")
    if is_sealed:
        Path("file").write_bytes(sealed(archive_of(records_of(Path("file").read_bytes()))))
    with pytest.raises(ValueError, match=r"`path` must be a file that mixpyro wrote; got 'file', unreadable: it "):
        load("file")
    assert not Path("created").exists()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", ["pickle", "before zip files", "tar", "script", "text", "empty"])
def test_no_file_of_another_form_is_read(form: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    if form == "pickle":
        path.write_bytes(pickle.dumps(content(1.0)))
    elif form == "before zip files":
        torch.save(content(1.0), path, _use_new_zipfile_serialization=False)
    elif form == "tar":
        with tarfile.open(path, "w") as archive:
            archive.add(__file__)
    elif form == "script":
        torch.jit.script(nn.Linear(1, 1)).save(str(path))
    else:
        path.write_text("" if form == "empty" else "no file of mixpyro")
    with pytest.raises(ValueError, match="`path` must be a file that mixpyro wrote"):
        load(path)


SIZES: dict[str, dict[str, Any]] = {
    "components": {"kind": "DirichletGate", "arguments": {"n_components": 400_000_000}},
    "columns": {"kind": "LinearExperts", "arguments": {"n_components": 2, "n_features": 9_000}},
    "covariances": {"kind": "GaussianExperts", "arguments": {"n_components": 2_000, "n_outputs": 2_000}},
    "coefficients": {"kind": "BayesianSoftmaxGate", "arguments": {"n_components": 3_000, "n_features": 3_000}},
    "parts": {"kind": "DirichletGate", "arguments": {"n_components": 5_000, "batch_shape": [5_000, 5_000]}},
    "tree": {"kind": "TreeGate", "arguments": {"tree": 10**9, "n_features": 1}},
    "infinity": {"kind": "DirichletGate", "arguments": {"n_components": float("inf")}},
}


@pytest.mark.parametrize("name", SIZES)
def test_what_a_file_declares_is_not_allocated(name: str, tmp_path: Path) -> None:
    torch.save({**content(1.0), "model": SIZES[name]}, tmp_path / "file")
    with pytest.raises(ValueError, match=r"`path` must be a file that mixpyro wrote; got .*, damaged: it declares "):
        load(tmp_path / "file")


def test_values_that_refer_to_each_other_are_counted_as_often_as_that(tmp_path: Path) -> None:
    value: Any = {"kind": "PointMassExperts", "arguments": {"n_components": 1}}
    for _ in range(20):
        value = [value] * 10
    model = {"kind": "HeterogeneousExperts", "arguments": {"members": value}}
    torch.save({**content(1.0), "model": model}, tmp_path / "file")
    with pytest.raises(ValueError, match="unreadable: its values refer to each other too often"):
        load(tmp_path / "file")
    deep: Any = 1.0
    for _ in range(200):
        deep = [deep]
    torch.save(content(deep), tmp_path / "file")
    with pytest.raises(ValueError, match="unreadable: it is nested too deep"):
        load(tmp_path / "file")
    value = []
    value.append(value)
    torch.save(content(value), tmp_path / "file")
    with pytest.raises(ValueError, match="unreadable: it is nested too deep"):
        load(tmp_path / "file")


@pytest.mark.parametrize("change", ["size", "stride", "offset", "expanded", "negative", "axes"])
def test_a_tensor_that_is_larger_than_its_numbers_is_refused(change: str, tmp_path: Path) -> None:
    save(DirichletGate(2), tmp_path / "file")
    storage = plain_values.Storage("torch DoubleStorage", "0", 2)
    views = {
        "size": plain_values.View(storage._replace(n_numbers=10**9), 0, (10**9,), (1,)),
        "stride": plain_values.View(storage, 0, (2,), (10**6,)),
        "offset": plain_values.View(storage, 5, (1,), (1,)),
        "expanded": plain_values.View(storage, 0, (10**9, 2), (0, 1)),
        "negative": plain_values.View(storage, 0, (-2,), (1,)),
        # The product of so many sizes would take minutes.
        "axes": plain_values.View(storage, 0, (2**31,) * 10**6, (0,) * 10**6),
    }
    with zipfile.ZipFile(tmp_path / "file") as archive:
        records = Archive(archive, (tmp_path / "file").stat().st_size)
        with pytest.raises(ValueError, match=r"larger|another size|no shape"):
            records.tensor(views[change])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
def test_nothing_waits_for_a_pipe_and_no_device_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        found: list[BaseException] = []

        def read(path: Path = path, found: list[BaseException] = found) -> None:
            with pytest.raises(ValueError, match="`path` must be a file; got"):
                load(path)
            found.append(StopIteration())

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        thread.join(5.0)
        assert found, path
    with pytest.raises(OSError, match="`path` must be a file; got"):
        save(DirichletGate(2), tmp_path / "pipe")
    with pytest.raises(IsADirectoryError, match="`path` must be a file; got"):
        save(DirichletGate(2), tmp_path)


def test_compressed_records_and_many_values_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_values, "MOST_CONTAINERS", 1000)
    save(DirichletGate(2), tmp_path / "file")
    records = records_of((tmp_path / "file").read_bytes())
    (tmp_path / "file").write_bytes(sealed(archive_of(records, zipfile.ZIP_DEFLATED)))
    with pytest.raises(ValueError, match="unreadable: it has a compressed record"):
        load(tmp_path / "file")
    records[description_name(records)] = b"\x80\x02" + b"}" * 1001 + b"."
    (tmp_path / "file").write_bytes(sealed(archive_of(records)))
    with pytest.raises(ValueError, match="unreadable: it has too many values"):
        load(tmp_path / "file")


@pytest.mark.parametrize("path", [3, None, b"file", 1.5, object(), ["file"]])
def test_a_path_must_be_a_path(path: Any) -> None:
    with pytest.raises(TypeError, match="`path` must be a "):
        load(path)
    with pytest.raises(TypeError, match="`path` must be a "):
        save(DirichletGate(2), path)
    for name in ("", "a\0b"):
        with pytest.raises(ValueError, match="`path` must be the path of a file; got"):
            load(name)
