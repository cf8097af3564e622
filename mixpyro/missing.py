"""Outputs that were not observed: how a caller says so, and which rows and objects have any that were."""

import torch
from jaxtyping import Bool
from torch import Tensor

from mixpyro import arguments
from mixpyro.distributed.rows import any_of
from mixpyro.experts.base import Experts
from mixpyro.numerics.segments import Segments

# What the argument ``missing`` may be: NaN in y is an error, or an output that was not observed.
ERROR, IGNORE = "error", "ignore"


def ignores_missing(missing: object) -> bool:
    """Return whether NaN in y stands for an output that was not observed.

    Args:
        missing: the argument of that name, "error" or "ignore".

    Raises:
        ValueError: if it is neither.
    """
    if not isinstance(missing, str) or missing not in (ERROR, IGNORE):
        got = arguments.shown(missing)
        raise ValueError(f"`missing` must be {ERROR!r}, or {IGNORE!r} where NaN in y was not observed; got {got}.")
    return missing == IGNORE


def checked_incomplete(experts: Experts, x: object, y: object) -> tuple[Tensor, Tensor]:
    """Return x [N, D] and y [N, P], NaN where it was not observed, if what was observed fits the experts.

    Args:
        experts: that the rows are for.
        x: inputs [N, D].
        y: outputs [N, P] or [N].

    Raises:
        TypeError: if one is no floating tensor.
        ValueError: if a shape or value does not fit, no output was observed, or the experts need all outputs of a row.
    """
    checked_x = experts.check_inputs(x)
    infinite = experts.may_be_infinite
    checked_y = arguments.outputs(
        y, checked_x, n_outputs=experts.n_outputs, may_be_infinite=infinite, may_be_missing=True
    )
    if not any_of(bool((~checked_y.isnan()).any())):
        raise ValueError("`y` must have a value in some row; got NaN alone.")
    for member, own in experts.outcomes_apart(checked_y):
        _check_seen(member, checked_x, own)
    return checked_x, checked_y


def _check_seen(experts: Experts, x: Tensor, y: Tensor) -> None:
    """Raise unless what was observed of y [N, P] fits the experts."""
    seen = ~y.isnan()
    rows = seen.any(-1)
    if not any_of(bool(rows.any())):
        raise ValueError(
            f"`y` must have a value in some row for each outcome; got NaN alone for {type(experts).__name__}."
        )
    if not bool(rows.any()):
        return  # Other processes have some.
    n_incomplete = int((rows & ~seen.all(-1)).sum())
    if n_incomplete and not experts.takes_incomplete_rows:
        raise ValueError(
            f"`y` must have all outputs of a row or none for {type(experts).__name__}; got {n_incomplete} rows with "
            "NaN in some. GaussianExperts and LinearExperts take them, and HeterogeneousOutputs with a bank for each "
            "output."
        )
    experts.check_data(x[rows], torch.where(seen, y, 0.0)[rows])


def rows_with_outputs(
    x: Tensor, y: Tensor, segments: Segments | None
) -> tuple[Tensor, Tensor, Segments | None, Bool[Tensor, " N"] | None]:
    """Return the rows of which some output was observed, as rows of their objects, and which objects have any.

    Args:
        x: inputs [rows, D].
        y: outputs [rows, P], NaN where they were not observed.
        segments: rows of each object; None where every row is an object.

    Returns:
        x, y, the rows of each object, none perhaps, and whether it has some [N]; None for whether where all rows have.
    """
    rows = ~y.isnan().all(-1)
    if bool(rows.all()):
        return x, y, segments, None
    sizes = rows.long() if segments is None else segments.sum(rows.long())
    return x[rows], y[rows], Segments(sizes), sizes > 0
