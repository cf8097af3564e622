"""The place in the caller's program that a warning points to."""

import sys

# Packages whose functions call those of this library on the caller's behalf.
BETWEEN = {__name__.split(".")[0], "torch", "contextlib"}


def level_of_caller() -> int:
    """Return the ``stacklevel`` of the first function outside of this library, seen from the caller."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals["__name__"].split(".")[0] in BETWEEN:
        frame, level = frame.f_back, level + 1
    return level
