"""Functions on nested tuples of tensors, as posteriors and statistics are.

A nested value is a tensor, None, or a tuple of nested values. Tuples may be named: results are of the same types. None
stands for a part that a value does not have, and stays None.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

Nested = TypeVar("Nested", bound=Tensor | tuple[Any, ...] | None)


def apply(function: Callable[..., Tensor], value: Nested, *others: Nested) -> Nested:
    """Call a function on each tensor, or on the matching tensors of several values.

    Args:
        function: takes one tensor of every value, and returns the tensor of the result.
        value: a nested value.
        *others: more values, of the same structure and types.

    Returns:
        The results, in the structure and types of ``value``.

    Raises:
        TypeError: for anything but tensors, tuples and None, or if structures differ.
        ValueError: if tuples differ in length.
    """
    result: Any = _apply(function, (value, *others))
    return result


def _apply(function: Callable[..., Tensor], values: tuple[Any, ...]) -> Any:  # noqa: ANN401 (any nested value)
    """Apply a function to the tensors of values of the same structure."""
    first = values[0]
    if len(values) == 1:
        return _apply_to_one(function, first)
    if isinstance(first, Tensor):
        if not all([isinstance(value, Tensor) for value in values]):
            raise _unlike(values)
        return function(*values)
    kind = type(first)
    if not (first is None or isinstance(first, tuple)) or any([type(value) is not kind for value in values]):
        raise _unlike(values)
    if first is None:
        return None
    parts = [_apply(function, matching) for matching in zip(*values, strict=True)]
    # A NamedTuple takes its fields one by one; `_make` and a plain tuple take a list of them.
    return kind._make(parts) if hasattr(kind, "_make") else kind(parts)


def _apply_to_one(function: Callable[..., Tensor], value: Any) -> Any:  # noqa: ANN401
    """Apply a function to the tensors of one value."""
    if isinstance(value, Tensor):
        return function(value)
    if value is None:
        return None
    if not isinstance(value, tuple):
        raise _unlike((value,))
    parts = [_apply_to_one(function, part) for part in value]
    kind: Any = type(value)
    return kind._make(parts) if hasattr(kind, "_make") else kind(parts)


def _unlike(values: tuple[Any, ...]) -> TypeError:
    """Describe values that have no common structure."""
    kinds = ", ".join(type(value).__name__ for value in values)
    return TypeError(f"`values` must be tensors, None, or tuples of them, of the same structure; got {kinds}.")


def add(first: Nested, second: Nested) -> Nested:
    """Add two values.

    Args:
        first: a nested value.
        second: a value of the same structure and types, whose tensors broadcast to those of ``first``.

    Returns:
        The sums, in new tensors.
    """
    return apply(torch.add, first, second)


def equal(first: Nested, second: Nested) -> bool:
    """Return whether two values are equal to the last digit.

    Args:
        first: a nested value.
        second: a value of the same structure.
    """
    pairs = zip(tensors(first), tensors(second), strict=True)
    return all(one.shape == other.shape and torch.equal(one, other.to(one)) for one, other in pairs)


def scale(factor: float | Tensor, value: Nested) -> Nested:
    """Multiply every tensor by one factor.

    Args:
        factor: a number, or a tensor that broadcasts to every tensor of ``value``.
        value: a nested value.

    Returns:
        The products, in new tensors.
    """
    return apply(lambda tensor: tensor * factor, value)


def blend(*weighted: tuple[float, Nested]) -> Nested:
    """Compute a weighted sum of values.

    Args:
        *weighted: pairs of a weight and a nested value, at least one, the values of the same structure and types. A
            value of weight 0 is left out, also if it is not finite.

    Returns:
        Σ weight · value, in new tensors.
    """
    counted = [pair for pair in weighted if pair[0] != 0.0] or [weighted[0]]
    (first_weight, first), rest = counted[0], counted[1:]
    if not rest:
        return scale(first_weight, first)
    weights = [weight for weight, _ in rest]

    def total(tensor: Tensor, *tensors: Tensor) -> Tensor:
        result = tensor * first_weight
        for weight, other in zip(weights, tensors, strict=True):
            result = torch.add(result, other, alpha=weight)
        return result

    return apply(total, first, *(value for _, value in rest))


def select(value: Nested, index: int | slice | Tensor | Sequence[int]) -> Nested:
    """Index the first axis of every tensor.

    Args:
        value: a nested value, each of its tensors with at least one axis.
        index: an int, which drops the axis; a slice, a list of ints, or a tensor of ints or booleans, which keeps it.

    Returns:
        The selection: views of the tensors for an int or a slice, else copies.
    """
    if isinstance(index, int | slice | Tensor):
        return apply(lambda tensor: tensor[index], value)
    # Made once for all tensors. Of an empty list PyTorch would make a float.
    numbers = torch.tensor(index, dtype=None if len(index) else torch.long, device="cpu")
    return apply(lambda tensor: tensor[numbers], value)


def stack(values: Sequence[Nested]) -> Nested:
    """Stack values along a new first axis.

    Args:
        values: at least one nested value, of the same structure and types, matching tensors of the same shape.

    Returns:
        A value with tensors [len(values), ...].
    """
    return apply(lambda *matching: torch.stack(matching), values[0], *values[1:])


def concatenate(values: Sequence[Nested]) -> Nested:
    """Concatenate values along the first axis.

    Args:
        values: at least one nested value, of the same structure and types, matching tensors of the same shape but for
            the first axis.

    Returns:
        A value whose tensors have all the rows of the matching ones.
    """
    return apply(lambda *matching: torch.cat(matching), values[0], *values[1:])


def tensors(value: Tensor | tuple[Any, ...] | None) -> list[Tensor]:
    """List the tensors of a value, in the order of its fields.

    Args:
        value: a nested value.

    Returns:
        The tensors themselves, not copies; None has none.
    """
    found: list[Tensor] = []
    _collect(value, found)
    return found


def _collect(value: Any, found: list[Tensor]) -> None:  # noqa: ANN401
    """Append the tensors of a value to a list."""
    if isinstance(value, Tensor):
        found.append(value)
    elif isinstance(value, tuple):
        for part in value:
            _collect(part, found)
    elif value is not None:
        raise _unlike((value,))


def with_tensors(value: Nested, replacements: Sequence[Tensor]) -> Nested:
    """Return a value of the same structure with other tensors; inverse of :func:`tensors`.

    Args:
        value: a nested value, whose structure the result has.
        replacements: as many tensors as ``tensors(value)`` has, in the same order, of any shape.

    Returns:
        A value of the same structure and types.

    Raises:
        ValueError: if there are more or fewer replacements than tensors.
    """
    n_tensors = len(tensors(value))
    if len(replacements) != n_tensors:
        raise ValueError(f"`replacements` must be {n_tensors} tensors, one for each; got {len(replacements)}.")
    remaining: Iterator[Tensor] = iter(replacements)
    return apply(lambda _: next(remaining), value)


def flat(parts: Sequence[Tensor]) -> Float[Tensor, " Q"]:
    """Concatenate tensors, each flattened.

    Args:
        parts: at least one tensor.
    """
    return torch.cat([part.flatten() for part in parts])
