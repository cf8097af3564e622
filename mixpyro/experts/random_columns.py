"""Which columns of x have random effects."""

from collections.abc import Sequence

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
        raise TypeError(f"`random_effects` must be a sequence of columns of x and {INTERCEPT!r}; got {value!r}.")
    possible: list[int | str] = [INTERCEPT, *range(n_features)]
    bad = [effect for effect in value if isinstance(effect, bool) or effect not in possible]
    if bad or not value or len(set(value)) < len(value):
        raise ValueError(
            f"`random_effects` must be different columns of x, from 0 to {n_features - 1}, or {INTERCEPT!r}, at least "
            f"one; got {list(value)}."
        )
    return tuple(value)
