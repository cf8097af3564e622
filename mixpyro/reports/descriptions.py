"""A fitted mixture in one sentence."""

from collections.abc import Sequence

from mixpyro.experts.gaussian import GaussianExperts
from mixpyro.fitting.result import FitResult

# Names of columns that a sentence lists.
MOST_NAMES = 8


def describe(result: FitResult) -> str:
    """Return which components a fit has, of how many rows, and which columns it read.

    Args:
        result: of a fit.
    """
    mixture = result.mixture
    k = mixture.n_components
    family = getattr(mixture.experts, "family", None)
    experts = type(mixture.experts).__name__ + ("" if family is None else f" ({type(family).__name__})")
    words = f"{k} component{'' if k == 1 else 's'} of {experts}, weights by {type(mixture.gate).__name__}"
    if result.rows is None:
        return words
    if result.data is not None and result.n_processes > 1:
        words += f": {result.data.n_rows} rows of {result.n_processes} processes"
    else:
        words += f": {len(result.rows.x)} rows"
        words += "" if result.groups is None else f" in {len(result.groups)} groups"
    names = result.names
    words += f", {_listed(names.y)}" + _of_inputs(result)
    return words if result.rows.gate_x is None else f"{words}; gate on {_listed(names.gate_x) or 'a constant'}"


def _of_inputs(result: FitResult) -> str:
    """Return what the experts read of x, and whether the gate reads it."""
    names = result.names
    reads = bool(names.x) and getattr(result.mixture.experts, "n_features", len(names.x)) != 0
    if isinstance(result.mixture.experts, GaussianExperts):
        reads = False
    of_gate = result.rows is not None and result.rows.gate_x is None and result.mixture.gate.reads_inputs and names.x
    words = f" on {_listed(names.x)}" if reads else ""
    return f"{words}; gate on {_listed(names.x)}" if of_gate else words


def _listed(names: Sequence[str]) -> str:
    """Return names in a row, the first ones of many."""
    return ", ".join(names[:MOST_NAMES]) + (f", … ({len(names)} columns)" if len(names) > MOST_NAMES else "")
