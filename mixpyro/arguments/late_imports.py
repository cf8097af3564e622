"""Modules of other packages that are imported where they are needed first."""

import importlib
import sys
import warnings
from types import ModuleType

# PyTorch imports it when it first broadcasts the shapes of a multivariate Normal, or takes derivatives with gradients
# that are given. It imports sympy, which adds a filter of warnings.
SYMBOLIC_SHAPES = "torch.fx.experimental.symbolic_shapes"


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


def import_symbolic_shapes() -> None:
    """Import what PyTorch imports late, before it does, so that the warnings filters stay as they are."""
    imported(SYMBOLIC_SHAPES)
