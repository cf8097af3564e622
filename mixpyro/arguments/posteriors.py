"""Checks of statistics, and of the posteriors computed from them."""

import math

from torch import Tensor

from mixpyro.arguments.messages import shown
from mixpyro.arguments.validation import checks_values
from mixpyro.shapes import Value


def posterior(after: Value, *, like: Value) -> None:
    """Check a posterior computed from statistics that a user passed.

    Args:
        after: the posterior, a NamedTuple of tensors and such NamedTuples.
        like: a posterior of the right shapes.

    Raises:
        ValueError: if a shape differs or, while values are checked, if a value is not finite.
    """
    for name, value, wanted in zip(after._fields, after, like, strict=True):
        if not isinstance(value, Tensor):
            posterior(value, like=wanted)
        elif value.shape != wanted.shape:
            got = list(value.shape)
            raise ValueError(f"`statistics` must lead to a {name} of shape {list(wanted.shape)}; got {got}.")
        elif checks_values() and not math.isfinite(value.sum().item()):
            raise ValueError(
                "`statistics` must lead to a positive definite matrix; got one that is numerically singular. Scale the "
                "columns to unit order, drop columns that are linear combinations of others, or strengthen the prior."
            )


def same_shapes(name: str, value: Value, like: Value) -> None:
    """Check the shapes of a NamedTuple of tensors.

    Args:
        name: of the argument, for messages.
        value: what the user passed.
        like: a NamedTuple of the right shapes.

    Raises:
        TypeError: if the fields are others, or one is no tensor.
        ValueError: if the shape of a field differs.
    """
    if getattr(value, "_fields", None) != like._fields:
        raise TypeError(f"`{name}` must be a {type(like).__name__} with {', '.join(like._fields)}; got {shown(value)}.")
    for field, part, wanted in zip(like._fields, value, like, strict=True):
        if not isinstance(wanted, Tensor):
            same_shapes(f"{name}.{field}", part, wanted)
        elif not isinstance(part, Tensor):
            raise TypeError(f"`{name}.{field}` must be a tensor; got {shown(part)}.")
        elif part.shape != wanted.shape:
            raise ValueError(f"`{name}.{field}` must have shape {list(wanted.shape)}; got {list(part.shape)}.")
