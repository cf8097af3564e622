"""A digest of Python objects that two processes share if the objects are configured alike."""

import copyreg
import enum
import functools
import hashlib
import inspect
import logging
import types
import weakref
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from mixpyro.arguments.signals import pass_on
from mixpyro.fitting.code_digest import code_parts, is_own_code
from mixpyro.numerics.last_result import LastResult

# Values whose text says all of them.
PLAIN = (
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    type(None),
    type(Ellipsis),
    slice,
    range,
    types.UnionType,
    types.GenericAlias,
)
PLAIN_OF_TORCH = (torch.dtype, torch.device, torch.Size, torch.layout, torch.memory_format)
# Attributes that say nothing of what an object does: what was computed, and how it is registered. Numbers of hooks
# count up in a process, so that of dicts with this word in their names the values alone are read.
IGNORED, HOOKS = ("_fixed_prior", "_pyro_context", "_validate_args", "__weakref__"), "_hooks"
FUNCTIONS = (
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.MethodWrapperType,
)


class NotComparableError(TypeError):
    """There is no way to tell whether two objects of a kind are alike."""


class ConfigurationDigest:
    """Digests of objects, each of which is read once.

    Addresses, hashes and the order of sets make no difference. Functions and classes of a user are read with their
    code, those of installed packages by their names.
    """

    def __init__(self) -> None:
        # Objects are kept, so that no other one gets the address of one that is gone.
        self.known: dict[int, tuple[object, bytes]] = {}
        self.open: list[int] = []

    def of(self, value: object, path: str) -> bytes:
        """Return the digest of an object.

        Args:
            value: any object.
            path: what it is, for messages.

        Raises:
            NotComparableError: if it holds an object that has no attributes and cannot be pickled, such as a lock.
        """
        if id(value) in self.known:
            return self.known[id(value)][1]
        if id(value) in self.open:
            return f"the object {len(self.open) - self.open.index(id(value))} above".encode()
        digest = hashlib.sha256(f"{type(value).__module__}.{type(value).__qualname__}".encode())
        self.open.append(id(value))
        try:
            for part in self._parts(value, path):
                digest.update(len(part).to_bytes(8, "big") + part)
        finally:
            self.open.pop()
        self.known[id(value)] = value, digest.digest()
        return digest.digest()

    def _parts(self, value: Any, path: str) -> Iterator[bytes]:  # noqa: ANN401
        """Yield what an object consists of."""
        if isinstance(value, enum.Enum):
            yield value.name.encode()
        elif type(value) in PLAIN or isinstance(value, PLAIN_OF_TORCH) or isinstance(value, PurePath):
            yield repr(value).encode(errors="surrogatepass")
        elif isinstance(value, Tensor | np.ndarray | np.generic | torch.Generator):
            yield from self._numbers(value, path)
        elif isinstance(value, Mapping):
            keep_keys = HOOKS not in path.rpartition(".")[2]
            for name, one in value.items():
                yield self.of(name, path) if keep_keys else b""
                yield self.of(one, f"{path}[{name!r}]")
            yield from self._attributes(value, path)
        elif isinstance(value, set | frozenset):
            yield from sorted(self.of(one, path) for one in value)
        elif isinstance(value, list | tuple):
            for number, one in enumerate(value):
                yield self.of(one, f"{path}[{number}]")
            yield from self._attributes(value, path)
        else:
            yield from self._object(value, path)

    def _numbers(self, value: Any, path: str) -> Iterator[bytes]:  # noqa: ANN401
        """Yield the numbers of a tensor, an array or a generator."""
        if isinstance(value, torch.Generator):
            value = value.get_state()
        if isinstance(value, np.ndarray) and value.dtype.hasobject:
            yield self.of(value.tolist(), path)
        elif isinstance(value, Tensor):
            dense = value.detach().to_dense() if value.layout is not torch.strided else value.detach()
            yield repr((value.dtype, tuple(value.shape), value.requires_grad, value.layout)).encode()
            if value.is_meta or value.is_quantized:
                raise NotComparableError(f"{path}, a tensor without numbers or a quantised one")
            flat = torch.empty(dense.numel(), dtype=dense.dtype, device="cpu").copy_(dense.reshape(-1))
            yield flat.view(torch.uint8).numpy().tobytes()
        else:
            yield repr((value.dtype, value.shape)).encode() + np.ascontiguousarray(value).tobytes()

    def _object(self, value: Any, path: str) -> Iterator[bytes]:  # noqa: ANN401
        """Yield what an object consists of that is no value of Python's own."""
        if isinstance(value, types.ModuleType):
            yield value.__name__.encode()
        elif isinstance(value, type):
            yield from self._class(value, path)
        elif isinstance(value, logging.Logger):
            yield value.name.encode()
        elif isinstance(value, types.FunctionType):
            yield from code_parts(value, lambda one, name: self.of(one, f"{path}: {name}"))
        elif isinstance(value, functools.partial):
            yield self.of((value.func, value.args, value.keywords), path)
        elif isinstance(value, types.MethodType):
            yield self.of((value.__func__, value.__self__), path)
        elif isinstance(value, weakref.ref):
            yield self.of(value(), path)
        elif isinstance(value, property):
            yield self.of((value.fget, value.fset, value.fdel), path)
        elif isinstance(value, classmethod | staticmethod | functools.cached_property):
            yield self.of(getattr(value, "__func__", getattr(value, "func", None)), path)
        elif isinstance(value, FUNCTIONS):
            yield f"{getattr(value, '__module__', '')} {value.__qualname__}".encode()
            owner = getattr(value, "__self__", None)
            if not isinstance(owner, types.ModuleType | type | None):
                yield self.of(owner, path)
        elif not isinstance(value, LastResult):
            yield self.of(type(value), path)
            yield from self._distribution(value, path) if isinstance(value, Distribution) else self._state(value, path)

    def _class(self, kind: type, path: str) -> Iterator[bytes]:
        """Yield the name of a class, and what a user has put into it and its bases."""
        yield f"{kind.__module__}.{kind.__qualname__}".encode()
        if not is_own_code(kind.__module__):
            return
        for base in kind.__mro__[1:]:
            yield self.of(base, path)
        for name, value in vars(kind).items():
            if not name.startswith(("__", "_abc_")) or isinstance(value, types.FunctionType):
                yield name.encode() + self.of(value, f"{path}.{name}")

    def _distribution(self, value: Distribution, path: str) -> Iterator[bytes]:
        """Yield the arguments of a distribution, without what it has computed of them."""
        names = [name for name in inspect.signature(type(value)).parameters if name != "validate_args"]
        if is_own_code(type(value).__module__) or not all(hasattr(value, name) for name in names):
            yield from self._state(value, path)
        for name in names:
            yield self.of(getattr(value, name, None), f"{path}.{name}")

    def _state(self, value: Any, path: str) -> Iterator[bytes]:  # noqa: ANN401
        """Yield the attributes of an object, or where it has no place for any, what it is pickled as."""
        slots = [name for kind in type(value).__mro__ for name in _slots(kind)]
        if not hasattr(value, "__dict__") and not slots:
            yield self.of(_pickled(value, path), path)
            return
        if isinstance(value, torch.jit.ScriptModule):
            # Its parameters and functions are elsewhere.
            code = {name: str(getattr(part, "code", "")) for name, part in value.named_modules()}
            yield self.of((code, dict(value.state_dict()), value.training), path)
            return
        yield from self._attributes(value, path)
        for name in slots:
            if hasattr(value, name):
                yield name.encode() + self.of(getattr(value, name), f"{path}.{name}")

    def _attributes(self, value: object, path: str) -> Iterator[bytes]:
        """Yield names and values of the attributes that an object has of its own."""
        for name, one in getattr(value, "__dict__", {}).items():
            if name not in IGNORED:
                yield str(name).encode() + self.of(one, f"{path}.{name}")


def _pickled(value: object, path: str) -> object:
    """Return what a date, a generator of NumPy or another object of compiled code is pickled as, or raise."""
    try:
        reduce = copyreg.dispatch_table.get(type(value))
        found = value.__reduce_ex__(2) if reduce is None else reduce(value)
    except Exception as error:
        pass_on(error)
        raise NotComparableError(f"{path}, {type(value).__module__}.{type(value).__qualname__}") from error
    # A function of compiled code has no other contents than its name.
    return found if isinstance(found, str) else (f"{found[0].__module__}.{found[0].__qualname__}", *found[1:])


def _slots(kind: type) -> list[str]:
    """Return the names of the slots of a class."""
    own = vars(kind).get("__slots__", ())
    names = [own] if isinstance(own, str) else list(own)
    return [name for name in names if name not in ("__dict__", "__weakref__")]
