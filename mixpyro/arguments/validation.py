"""When the values in a tensor are checked."""

from pyro.distributions import is_validation_enabled


def checks_values() -> bool:
    """Return whether to check the values in tensors: while Pyro's validation is on."""
    return bool(is_validation_enabled())
