"""Locks that a child of a fork must not inherit in the hands of another thread, which the child does not have."""

import os
import sys
import threading
from functools import cached_property


def _renew_locks() -> None:
    """Give every cached property of this package a lock that nobody holds."""
    for name, module in tuple(sys.modules.items()):
        if name.partition(".")[0] == __name__.partition(".")[0]:
            for kind in tuple(vars(module).values()):
                for value in vars(kind).values() if isinstance(kind, type) else ():
                    if isinstance(value, cached_property):
                        value.lock = threading.RLock()  # type: ignore[attr-defined]


# Windows has no fork, and from Python 3.12 on cached properties have no lock.
if hasattr(os, "register_at_fork") and sys.version_info < (3, 12):
    os.register_at_fork(after_in_child=_renew_locks)
