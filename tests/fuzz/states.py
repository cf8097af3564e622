"""Pictures of objects and of the global state, to tell whether a call has changed them."""

import functools
import hashlib
import inspect
import random
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pyro
import torch
from torch import Tensor

# Attributes that keep what was computed last, and Pyro's record of which module runs and of how many plates there are.
KEPT = ("_last", "_last_block_of_runs", "_pyro_context", "_kept", "one_by_one", "max_plate_nesting")
PLAIN = (int, float, complex, str, bytes, bool, type(None), torch.dtype, torch.device, torch.Size, slice, range)
Picture = dict[str, object]


def picture(value: Any, path: str = "", around: tuple[int, ...] = ()) -> Picture:
    """Return everything inside an object as comparable values by the path to them.

    Args:
        value: of any class; functions and classes are told by their identity.
        path: of the value.
        around: identities of the objects that the value is inside of.
    """
    if isinstance(value, PLAIN):
        return {path: repr(value)}
    if id(value) in around or len(around) > 12:
        return {}
    if isinstance(value, Tensor):
        return {path: _tensor(value), f"{path} gradient": None if not value.is_leaf else _gradient(value)}
    if isinstance(value, np.ndarray | np.generic):
        return {path: (value.shape, str(value.dtype), np.asarray(value).tobytes() if value.dtype != object else 0)}
    if isinstance(value, pd.DataFrame | pd.Series | pd.Index):
        return {path: value.to_csv() if not isinstance(value, pd.Index) else tuple(value)}
    if inspect.isroutine(value) or inspect.isclass(value) or inspect.ismodule(value) or inspect.isgenerator(value):
        return {path: id(value)}
    return _inside(value, path, (*around, id(value)))


def _inside(value: Any, path: str, around: tuple[int, ...]) -> Picture:
    """Return the pictures of what an object holds."""
    found: Picture = {path: type(value).__name__}
    if isinstance(value, dict):
        parts = {f"{path}[{key!r}]": item for key, item in value.items() if isinstance(key, str | int | tuple)}
    elif isinstance(value, list | tuple | set | frozenset):
        parts = {f"{path}[{place}]": item for place, item in enumerate(value)}
    else:
        own = getattr(value, "__dict__", {})
        parts = {f"{path}.{name}": item for name, item in own.items() if not _is_cache(value, name)}
    for name, item in parts.items():
        found |= picture(item, name, around)
    return found


def _is_cache(value: Any, name: str) -> bool:
    """Return whether an attribute keeps what has been computed."""
    return name in KEPT or isinstance(inspect.getattr_static(type(value), name, None), functools.cached_property)


def _tensor(tensor: Tensor) -> tuple[object, ...]:
    """Return dtype, whether there is a gradient, and a digest of the values."""
    about = (str(tensor.dtype), str(tensor.layout), str(tensor.device), tensor.requires_grad)
    if tensor.is_meta or torch.nn.parameter.is_lazy(tensor):
        return about
    try:
        if tensor.is_nested:
            return *about, tuple(_tensor(part) for part in tensor.unbind())
        plain = tensor.detach().as_subclass(Tensor)
        plain = plain.dequantize() if plain.is_quantized else plain
        plain = plain.to_dense() if plain.layout != torch.strided else plain
        values = plain.resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8)
        return *about, tuple(tensor.shape), hashlib.sha1(values.numpy().tobytes()).hexdigest()
    except (RuntimeError, NotImplementedError) as error:
        return *about, type(error).__name__


def _gradient(tensor: Tensor) -> object:
    """Return the gradient of a leaf."""
    return None if tensor.grad is None else _tensor(tensor.grad)


def global_state() -> Picture:
    """Return what calls must leave as it was wherever it is kept: random states, settings, filters, parameters."""
    store = pyro.get_param_store()
    found: Picture = {
        "random state of torch": hashlib.sha1(torch.get_rng_state().numpy().tobytes()).hexdigest(),
        "random state of numpy": repr(tuple(np.random.get_state())[1:]),  # noqa: NPY002 (it is the global one)
        "random state of random": hash(random.getstate()),
        "warning filters": tuple(map(repr, warnings.filters)),
        "default dtype": torch.get_default_dtype(),
        "default device": str(torch.get_default_device()),
        "gradients": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "threads": torch.get_num_threads(),
        "errors of numpy": tuple(sorted(np.geterr().items())),
        "settings of Pyro": tuple(sorted((name, repr(value)) for name, value in pyro.settings.get().items())),
        "validation of torch": torch.distributions.Distribution._validate_args,
    }
    return found | {f"parameter {name}": _tensor(value) for name, value in store.items()}


def differences(before: Picture, after: Picture) -> list[str]:
    """Return the paths of two pictures that differ.

    Args:
        before: of the call.
        after: the call.
    """
    return sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
