"""A check of log densities that were computed from rows."""

import contextlib
import re
from collections.abc import Iterator

import torch
from torch import Tensor

from mixpyro.arguments.torch_contexts import in_transform
from mixpyro.arguments.validation import checks_values


def are_numbers(value: Tensor, *, axis: int, with_gradient: bool = False) -> Tensor:
    """Return log densities, none of which is NaN.

    Of rows that are finite they are NaN where sums overflow and cancel, or where parameters are not finite.

    Args:
        value: in nats, of any shape. Not looked at inside transforms of ``torch.func``.
        axis: of the rows, or of the groups of rows.
        with_gradient: whether to look also at what has a gradient. Not in a gradient step of parameters, which may end
            in NaN.

    Raises:
        ValueError: if one is NaN, while values are checked.
    """
    if value.is_meta or (value.requires_grad and not with_gradient) or in_transform() or not checks_values():
        return value
    is_nan = value.isnan()
    if bool(is_nan.any()):
        of_rows = is_nan.movedim(axis, 0).reshape(value.shape[axis], -1).any(-1)
        raise ValueError(
            f"`x` and `y` must have log densities that are numbers; got NaN in {int(of_rows.sum())} of {len(of_rows)} "
            f"objects, number {int(torch.nonzero(of_rows)[0])} among them. Scale the columns to unit order."
        )
    return value


def are_means(value: Tensor) -> Tensor:
    """Return predictions, none of which is NaN.

    Of rows that are finite they are NaN where sums overflow and cancel, or where parameters are not finite.

    Args:
        value: [N, P]. Not looked at inside transforms of ``torch.func``, nor where a gradient is taken of it.

    Raises:
        ValueError: if one is NaN, while values are checked.
    """
    if value.is_meta or value.requires_grad or in_transform() or not checks_values():
        return value
    of_rows = value.isnan().flatten(1).any(-1)
    if bool(of_rows.any()):
        raise ValueError(
            f"`x` must give means that are numbers; got NaN in {int(of_rows.sum())} of {len(of_rows)} rows, number "
            f"{int(torch.nonzero(of_rows)[0])} among them. Scale the columns to unit order."
        )
    return value


def refused_parameter(error: BaseException | None) -> str | None:
    """Return the name of the parameter that a distribution of PyTorch has refused, or None of any other error.

    Args:
        error: what was raised.
    """
    found = re.match(r"Expected parameter (\w+) ", str(error))
    return None if found is None else found[1]


@contextlib.contextmanager
def parameters_are_numbers() -> Iterator[None]:
    """Let distributions of rows that are refused because a parameter is none say so of the rows.

    Raises:
        ValueError: in other words than those of PyTorch, which name a parameter and print all of it.
    """
    try:
        yield
    except ValueError as error:
        refused = refused_parameter(error) or refused_parameter(error.__cause__)
        if refused is None:
            raise
        raise ValueError(
            f"`x` must give parameters of the predictive distribution that are numbers; got {refused} that is not. "
            "Scale the columns to unit order."
        ) from error


def finite_bound(bound: Tensor, log_evidence: Tensor) -> Tensor:
    """Return a bound that is finite.

    Args:
        bound: in nats, a scalar.
        log_evidence: of the objects [N] in nats, which are in the bound.

    Raises:
        ValueError: if it is not, while values are checked.
    """
    if bound.is_meta or in_transform() or not checks_values() or bool(torch.isfinite(bound)):
        return bound
    bad = ~torch.isfinite(log_evidence)
    if not bool(bad.any()):
        raise ValueError(
            f"`x` and `y` must have a finite bound; got {float(bound)}, although every object has a density: the "
            "posterior is too far from the prior. Scale the columns to unit order."
        )
    raise ValueError(
        f"`x` and `y` must have a finite bound; got {float(bound)}: {int(bad.sum())} of {len(bad)} objects have no "
        f"density in any component, number {int(torch.nonzero(bad)[0])} among them. Scale the columns to unit order, "
        "or leave out what no component explains."
    )
