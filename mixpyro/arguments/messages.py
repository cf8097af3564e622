"""Values as messages show them."""

from reprlib import Repr

from mixpyro.arguments.signals import pass_on

_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80


def shown(value: object) -> str:
    """Return a value for a message, shortened to some eighty characters.

    Args:
        value: of any type; one that cannot be shown is called by its type.
    """
    try:
        return " ".join(_SHORT.repr(value).split())
    except Exception as error:  # of a user's own class
        pass_on(error)
        return f"a {type(value).__name__}"
