"""The code of functions that a user has written, as bytes that two processes of one version of Python share."""

import dis
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

# Folders of installed packages, whose code is known by its version.
INSTALLED = ("site-packages", "dist-packages")
# Packages that are known by their version wherever they are.
TRUSTED = {"mixpyro", "torch", "pyro", "numpy", "builtins"} | set(sys.stdlib_module_names) - {"__main__"}
Digest = Callable[[object, str], bytes]


def is_own_code(module: str | None) -> bool:
    """Return whether a module is a user's own, rather than one of an installed package or of Python.

    Args:
        module: its name.
    """
    if not module or module.partition(".")[0] in TRUSTED:
        return False
    path = getattr(sys.modules.get(module), "__file__", None) or ""
    return not any(folder in path for folder in INSTALLED)


def code_parts(function: types.FunctionType, digest: Digest) -> Iterator[bytes]:
    """Yield what a function consists of: its name, code, defaults, closure, attributes and the globals that it reads.

    Of a function of an installed package the name stands for the code and the globals.

    Args:
        function: of any module.
        digest: returns the digest of a value, given its name for messages.
    """
    yield f"{function.__module__}.{function.__qualname__}".encode()
    if not is_own_code(function.__module__) and _has_name(function):
        return
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name.encode() + digest(cell.cell_contents, name)
        except ValueError:
            yield name.encode()
    yield digest((function.__defaults__, function.__kwdefaults__), "defaults")
    yield digest({name: value for name, value in vars(function).items() if name != "__wrapped__"}, "attributes")
    if is_own_code(function.__module__):
        yield from _code(function.__code__, digest)
        for name in sorted(_names(function.__code__)):
            if name in function.__globals__:
                yield name.encode() + _of_global(function.__globals__[name], name, digest)


def _has_name(function: types.FunctionType) -> bool:
    """Return whether a function is what its module has under its name, so that it has no state."""
    found: Any = sys.modules.get(function.__module__)
    for name in function.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is function


def _code(code: types.CodeType, digest: Digest) -> Iterator[bytes]:
    """Yield the instructions of a function, with their constants and names, without lines and files."""
    yield code.co_code
    shape = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
    yield repr((shape, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)).encode()
    yield getattr(code, "co_exceptiontable", b"")
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _code(constant, digest)
        else:
            yield digest(constant, "constant")


def _names(code: types.CodeType) -> set[str]:
    """Return the names of globals that the code and the functions inside read, without those of attributes."""
    inside = [one for one in code.co_consts if isinstance(one, types.CodeType)]
    own = {str(one.argval) for one in dis.get_instructions(code) if "GLOBAL" in one.opname or one.opname == "LOAD_NAME"}
    return own.union(*map(_names, inside))


def _of_global(value: Any, name: str, digest: Digest) -> bytes:  # noqa: ANN401
    """Return the digest of a global variable; the name of its type where it cannot be compared."""
    try:
        return digest(value, name)
    except TypeError:
        return type(value).__qualname__.encode()
