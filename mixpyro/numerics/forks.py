"""Locks that a child of a fork must not inherit in the hands of another thread, which the child does not have."""

import functools
import os
import sys
import threading
from functools import cached_property

from mixpyro.arguments.late_imports import imported

# Held during imports of seconds, for which forks wait.
_IMPORTS = threading.RLock()


@functools.cache
def import_before_forks(name: str) -> None:
    """Import a module while forks wait: a child without the importing thread would wait for the rest for ever.

    Args:
        name: of a module that takes seconds, and that a fit would import in the middle.
    """
    with _IMPORTS:
        imported(name)


def _renew_locks() -> None:
    """Give every cached property of this package a lock that nobody holds."""
    for name, module in tuple(sys.modules.items()):
        if name.partition(".")[0] == __name__.partition(".")[0]:
            for kind in tuple(vars(module).values()):
                for value in vars(kind).values() if isinstance(kind, type) else ():
                    if isinstance(value, cached_property):
                        value.lock = threading.RLock()  # type: ignore[attr-defined]


# Windows has no fork.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_IMPORTS.acquire, after_in_parent=_IMPORTS.release, after_in_child=_IMPORTS.release)
    # Nor have cached properties a lock from Python 3.12 on.
    if sys.version_info < (3, 12):
        os.register_at_fork(after_in_child=_renew_locks)
