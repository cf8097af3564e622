"""Errors of inner functions in the words of the function that a user has called."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

# Errors whose message is all that they hold.
RENAMED = (TypeError, ValueError, OSError, FileNotFoundError, IsADirectoryError)


@contextmanager
def renamed(**names: str) -> Iterator[None]:
    """Let errors of what is called inside name arguments as the caller of the public function knows them.

    Args:
        **names: the names in errors, and what they are called outside.

    Raises:
        TypeError: in other words than those of the one that was raised inside.
        ValueError: likewise.
        OSError: likewise, if it is none of the system's.
    """
    try:
        yield
    except (TypeError, ValueError, OSError) as error:
        words = re.sub(r"`(\w+)", lambda found: f"`{names.get(found[1], found[1])}", str(error))
        if words == str(error) or type(error) not in RENAMED or getattr(error, "errno", None) is not None:
            raise
        raise type(error)(words) from error
