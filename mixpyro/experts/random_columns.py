"""Which columns of x have random effects."""

from collections.abc import Sequence
from numbers import Integral

from mixpyro.arguments.messages import shown

# What stands for the constant among the random effects.
INTERCEPT = "intercept"


def checked_effects(value: object, n_features: int) -> tuple[int | str, ...]:
    """Return the random effects if they are different columns of x or the intercept, at least one.

    Args:
        value: numbers of columns from 0, and "intercept".
        n_features: D.

    Raises:
        TypeError: if it is no sequence.
        ValueError: if it is empty, an effect is named twice, or is neither.
    """
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TypeError(f"`random_effects` must be a sequence of columns of x and {INTERCEPT!r}; got {shown(value)}.")
    effects = tuple(int(one) if isinstance(one, Integral) and not isinstance(one, bool) else one for one in value)
    good = all(_is_effect(effect, n_features) for effect in effects)
    if not (good and effects and len(set(effects)) == len(effects)):
        raise ValueError(
            f"`random_effects` must be different columns of x, from 0 to {n_features - 1}, or {INTERCEPT!r}, at least "
            f"one; got {shown(value)}."
        )
    return effects


def _is_effect(value: object, n_features: int) -> bool:
    """Return whether a value is the number of a column, or "intercept"."""
    if isinstance(value, str):
        return value == INTERCEPT
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < n_features
