"""Modules of other packages that are imported where they are needed first."""

import importlib
import os
import sys
import threading
import warnings
from types import ModuleType

# Held while a module is imported: filters of warnings belong to all threads, and a child of a fork without the thread
# that imports would wait for the rest for ever.
_IMPORTS = threading.RLock()
# PyTorch imports it when it first broadcasts the shapes of a multivariate Normal, or takes derivatives with gradients
# that are given. It imports sympy, which adds a filter of warnings.
SYMBOLIC_SHAPES = "torch.fx.experimental.symbolic_shapes"


def imported(name: str) -> ModuleType:
    """Return a module of another package, imported late because that takes long or it may not be installed.

    The warnings filters stay as they are, to which many packages add some of their own. Forks wait for the import.

    Args:
        name: of the module, in full.

    Raises:
        ImportError: if it is not installed.
    """
    if name in sys.modules:  # perhaps half of it, in another thread, for which this call waits
        return importlib.import_module(name)
    with _IMPORTS, warnings.catch_warnings():
        return importlib.import_module(name)


def import_symbolic_shapes() -> None:
    """Import what PyTorch imports late, before it does, so that the warnings filters stay as they are."""
    imported(SYMBOLIC_SHAPES)


# Windows has no fork.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_IMPORTS.acquire, after_in_parent=_IMPORTS.release, after_in_child=_IMPORTS.release)
