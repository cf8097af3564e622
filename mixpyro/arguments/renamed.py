"""Errors of inner functions in the words of the function that a user has called."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

# Errors whose message is all that they hold.
RENAMED = (TypeError, ValueError, FileNotFoundError)


@contextmanager
def renamed(**names: str) -> Iterator[None]:
    """Let errors of what is called inside name arguments as the caller of the public function knows them.

    Args:
        **names: the names in errors, and what they are called outside.

    Raises:
        TypeError: in other words than those of the one that was raised inside.
        ValueError: likewise.
        FileNotFoundError: likewise, unless the system has raised it.
    """
    try:
        yield
    except RENAMED as error:
        words = re.sub(r"`(\w+)", lambda found: f"`{names.get(found[1], found[1])}", str(error))
        if words == str(error) or getattr(error, "errno", None) is not None or type(error) not in RENAMED:
            raise
        raise type(error)(words) from error
