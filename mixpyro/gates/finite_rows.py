"""A check that rows are finite, of methods that users call with rows and fits call in loops."""

import functools
import math
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from pyro.poutine.runtime import am_i_wrapped
from torch import Tensor

from mixpyro import arguments
from mixpyro.fitted_part import State

Result = TypeVar("Result")
# Methods of a gate whose results would have NaN where x has.
OF_FINITE_ROWS = ("weights", "expected_log_weights", "log_weights", "logits", "predictive_assignment", "partial_bound")


def of_finite_rows(method: Callable[..., Result]) -> Callable[..., Result]:
    """Decorate a method of a gate to refuse x that is not finite, where the gate reads it.

    Not looked at are rows of a Pyro program, which have been checked before, of a transform of ``torch.func``, those
    that a fit gives together with a posterior or a state, and those that another of these methods has looked at.

    Args:
        method: its first argument is x [N, D], a tensor.
    """

    @functools.wraps(method)
    def with_finite_rows(self: Any, x: Tensor, *args: Any, **kwargs: Any) -> Result:  # noqa: ANN401
        if not self.reads_inputs or not _can_be_read(x):
            return method(self, x, *args, **kwargs)
        given = (*args[:1], kwargs.get("state"))
        of_fit = kwargs.get("posterior") is not None or any(isinstance(one, State) for one in given)
        # One pass over x; its sum may overflow, too.
        if not of_fit and not math.isfinite(float(x.detach().sum())):
            arguments.finite("x", x)
        with arguments.rows_are_checked():
            return method(self, x, *args, **kwargs)

    return with_finite_rows


def _can_be_read(x: object) -> bool:
    """Return whether the values of x are there, and are to be checked; what is no rows is refused by the methods."""
    if not isinstance(x, Tensor) or x.dtype not in arguments.DTYPES or not arguments.is_dense(x):
        return False
    if torch.compiler.is_compiling() or am_i_wrapped() or arguments.in_transform():
        return False
    return arguments.checks_values() and not arguments.has_checked_rows()
