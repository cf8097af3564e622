"""The run-time type checker of the tests: shapes and types of the first calls of every function in every test.

A long fit calls the same functions thousands of times with the same kinds of arguments. The first calls tell what the
others would tell, so that only these are checked: jaxtyping's own import hook checks all, and builds the checks of
functions that nobody calls.
"""

import ast
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import is_dataclass
from functools import wraps
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype

# An int will do where a float is asked for, as PEP 484 has it.
check_types = beartype(conf=BeartypeConf(is_pep484_tower=True))
# Functions that look at the frame of their caller, which a check would come between.
READ_FRAMES = ("fit_formula", "_variables_of_caller", "level_of_caller")
# Calls of one function that are checked in one test.
CHECKED_CALLS = 10

# The checked calls of this test, a list of one number for each function.
_checked_calls: dict[CodeType, list[int]] = {}
_switched_on = True


def start_of_test() -> None:
    """Check the next calls of every function again."""
    for calls in _checked_calls.values():
        calls[0] = 0


@contextmanager
def switched_off() -> Iterator[None]:
    """Check nothing."""
    global _switched_on
    before, _switched_on = _switched_on, False
    try:
        yield
    finally:
        _switched_on = before


def check_first_calls(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check shapes and types of the first calls of a function in a test."""
    # An inner function is made anew in every call of the outer one, and counts as one function.
    calls = _checked_calls.setdefault(function.__code__, [0])
    checked: Callable[..., Any] | None = None

    @wraps(function)
    def checked_at_first(*args: Any, **kwargs: Any) -> Any:
        nonlocal checked
        __tracebackhide__ = True
        if calls[0] >= CHECKED_CALLS or not _switched_on:
            return function(*args, **kwargs)
        calls[0] += 1
        if checked is None:
            checked = jaxtyping.jaxtyped(function, typechecker=check_types)
        return checked(*args, **kwargs)

    return checked_at_first


def check_dataclass(cls: type) -> type:
    """Check the fields of a dataclass where its first objects of a test are made."""
    if is_dataclass(cls) and "__init__" in vars(cls):
        cls.__init__ = check_first_calls(cls.__init__)  # type: ignore[method-assign]
    return cls


class _Decorated(ast.NodeTransformer):
    """Put the decorators of this module below all others of a function and above all others of a class."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.generic_visit(node)
        if node.name in READ_FRAMES:
            return node
        node.decorator_list.append(_decorator("check_first_calls", node))
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        self.generic_visit(node)
        if node.decorator_list:
            node.decorator_list.insert(0, _decorator("check_dataclass", node))
        return node


def _decorator(name: str, node: ast.stmt) -> ast.expr:
    """The name of a function of this module, found wherever the line of ``node`` runs."""
    decorator = ast.parse(f"__import__('tests.typechecker').typechecker.{name}", mode="eval").body
    for part in ast.walk(decorator):
        ast.copy_location(part, node)
    return decorator


class _CheckedLoader(SourceFileLoader):
    """Load a module with its functions checked, compiled into files of its own."""

    def source_to_code(self, data: Any, path: Any, *, _optimize: int = -1) -> CodeType:  # type: ignore[override]
        decorated = _Decorated().visit(ast.parse(data, path))
        return compile(decorated, path, "exec", dont_inherit=True, optimize=_optimize)

    def get_data(self, path: str) -> bytes:
        return super().get_data(_own_file(path))

    def set_data(self, path: str, data: Any, *, _mode: int = 0o666) -> None:
        super().set_data(_own_file(path), data, _mode=_mode)


def _own_file(path: str) -> str:
    """The file for the compiled code, which is not that of the module as others load it."""
    return path.removesuffix(".pyc") + ".checked.pyc" if path.endswith(".pyc") else path


class _CheckedFinder(MetaPathFinder):
    """Find the modules of one package for the loader that has their functions checked."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.split(".")[0] != self.package:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _CheckedLoader(spec.loader.name, spec.loader.path)
        return spec


def check_package(package: str) -> None:
    """Check the functions of every module of a package that is imported from now on."""
    sys.meta_path.insert(0, _CheckedFinder(package))
