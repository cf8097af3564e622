"""Files of each kind that mixpyro writes, and what comes of reading damaged ones."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mixpyro import (
    DirichletGate,
    GLMExperts,
    LinearExperts,
    MixtureOfExperts,
    ObjectDirichletGate,
    RandomEffectsExperts,
    SoftmaxGate,
    fit,
    load,
    save,
)
from mixpyro.experts.families import Poisson
from mixpyro.saving import atomic_file
from tests.problems import lines


class KindOfFile(NamedTuple):
    """A kind of file: how one is written, and how it is read as tensors by name."""

    write: Callable[[Path, int], None]
    read: Callable[[Path], dict[str, Tensor]]


def _objects(dtype: torch.dtype) -> ObjectDirichletGate:
    gate = ObjectDirichletGate(2, dtype=dtype)
    gate.update(gate.statistics(torch.zeros(200, 0, dtype=dtype), torch.rand(200, 2, dtype=dtype)))
    return gate


MODELS: dict[str, Callable[[torch.dtype], Any]] = {
    "mixture": lambda dtype: MixtureOfExperts(
        DirichletGate(2, dtype=dtype, concentration=float(torch.rand(()) + 1)), LinearExperts(2, 1, dtype=dtype)
    ),
    "gate": _objects,
    "experts": lambda dtype: RandomEffectsExperts(2, 1, [0], effect_scale=float(torch.rand(()) + 1), dtype=dtype),
    "estimates": lambda dtype: MixtureOfExperts(
        SoftmaxGate(2, 1, prior_scale=2.0, dtype=dtype), GLMExperts(2, 1, Poisson(), dtype=dtype)
    ),
}


def _writer(make: Callable[[torch.dtype], Any], dtype: torch.dtype) -> Callable[[Path, int], None]:
    def write(path: Path, seed: int) -> None:
        torch.manual_seed(seed)
        model = make(dtype)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn(parameter.shape))
        save(model, path)

    return write


def _checkpoint(path: Path, seed: int) -> None:
    x, y, _ = lines(40, 2, noise=0.8)
    mixture = MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        fit(mixture, x, y, n_restarts=2, max_iterations=4, seed=seed, checkpoint=path, progress=False)


def _tensors_of(content: object, path: str = "") -> dict[str, Tensor]:
    """Return the tensors and numbers of a nested content by their places."""
    if isinstance(content, dict | list | tuple):
        pairs = content.items() if isinstance(content, dict) else enumerate(content)
        return {name: one for key, value in pairs for name, one in _tensors_of(value, f"{path}.{key}").items()}
    if isinstance(content, Tensor):
        return {path: content}
    return {f"{path} {content!r}": torch.zeros(())}


def _read_model(path: Path) -> dict[str, Tensor]:
    model = load(path)
    return {f"{name}": value for name, value in model.state_dict().items()} | {repr(model): torch.zeros(())}


KINDS: dict[str, KindOfFile] = {
    f"{name}, {str(dtype).removeprefix('torch.')}": KindOfFile(_writer(make, dtype), _read_model)
    for name, make in MODELS.items()
    for dtype in (torch.float32, torch.float64)
}
KINDS["checkpoint"] = KindOfFile(
    _checkpoint, lambda path: _tensors_of(atomic_file.read(path, kind="checkpoint", version=7, unchecked=6))
)


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Return whether two files have the same tensors."""
    return first.keys() == second.keys() and all(
        first[name].dtype == value.dtype and torch.equal(first[name], value) for name, value in second.items()
    )


def outcome(kind: KindOfFile, path: Path, wanted: dict[str, Tensor]) -> str:
    """Return what comes of reading a damaged file: refused, equal, silent, or the obscure error.

    Args:
        kind: of the file.
        path: of the file.
        wanted: what the file had before.
    """
    try:
        found = kind.read(path)
    except ValueError as error:
        return "refused" if any(f"`{name}`" in str(error) for name in ("path", "networks", "kinds")) else repr(error)
    except Exception as error:
        return repr(error)
    return "equal" if same(found, wanted) else "silent"
