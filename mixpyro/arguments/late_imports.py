"""Modules of other packages that are imported where they are needed first."""

import importlib
import sys
import warnings
from types import ModuleType


def imported(name: str) -> ModuleType:
    """Return a module of another package, imported late because that takes long or it may not be installed.

    The warnings filters stay as they are, to which many packages add some of their own.

    Args:
        name: of the module, in full.
    """
    if name in sys.modules:
        return sys.modules[name]
    with warnings.catch_warnings():
        return importlib.import_module(name)
