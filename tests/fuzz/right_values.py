"""What holds of every right result."""

import itertools
import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

# Of the sum of a row of weights.
PRECISION = {torch.float32: 1e-6, torch.float64: 1e-12}


def finite(name: str, value: Any) -> list[str]:
    """Return a complaint if a tensor or a number is not finite.

    Args:
        name: of the value, for the complaint.
        value: a tensor, number or frame.
    """
    bad = not math.isfinite(value) if isinstance(value, int | float) else not bool(torch.isfinite(_tensor(value)).all())
    return [f"{name} is not finite"] if bad else []


def numbers(name: str, value: Any) -> list[str]:
    """Return a complaint if a tensor has NaN.

    Args:
        name: of the value, for the complaint.
        value: a tensor or frame.
    """
    return [f"{name} has NaN"] if bool(_tensor(value).isnan().any()) else []


def assigned(assignment: Any) -> list[str]:
    """Return what is wrong with assignments: rows that are impossible in every component have no responsibilities.

    Args:
        assignment: with responsibilities [N, K] and log evidence [N].
    """
    evidence = _tensor(assignment.log_evidence)
    possible = _tensor(assignment.responsibilities)[evidence != -torch.inf]
    return rows_of_one("responsibilities", possible) + numbers("evidence", evidence)


def rows_of_one(name: str, value: Any, n_rows: int | None = None) -> list[str]:
    """Return complaints about weights [N, K] whose rows do not sum to one.

    Args:
        name: of the value, for the complaint.
        value: a tensor or frame.
        n_rows: N, where it is known.
    """
    tensor = _tensor(value)
    if n_rows is not None and len(tensor) != n_rows:
        return [f"{name} has {len(tensor)} rows for {n_rows}"]
    found = finite(name, tensor)
    if bool((tensor < 0.0).any()):
        found.append(f"{name} has negative values")
    error = (tensor.double().sum(-1) - 1.0).abs().max().item() if tensor.numel() else 0.0
    limit = PRECISION.get(tensor.dtype, 1e-6) * max(1.0, tensor.shape[-1] ** 0.5)
    return [*found, f"rows of {name} sum to one but for {error:.1e}"] if error > limit else found


def monotone(trace: Iterable[float], tolerance: float = 1e-8) -> list[str]:
    """Return a complaint if a bound falls by more than a share of itself, or is not finite.

    Args:
        trace: bounds of iterations.
        tolerance: that share; rounding of float32 is more than the default.
    """
    values = list(trace)
    found = [] if all(map(math.isfinite, values)) else ["the trace is not finite"]
    for before, after in itertools.pairwise(values):
        if after < before - tolerance * max(1.0, abs(before)):
            return [*found, f"the bound falls from {before!r} to {after!r}"]
    return found


def near(name: str, value: Tensor, expected: Tensor, tolerance: float) -> list[str]:
    """Return a complaint if two tensors differ by more than a share of their values.

    Args:
        name: of the value, for the complaint.
        value: of any shape.
        expected: of the same shape.
        tolerance: relative to the largest of the values that are finite, and 1.
    """
    if value.shape != expected.shape:
        return [f"{name} has shape {list(value.shape)}, not {list(expected.shape)}"]
    value, expected = value.double(), expected.double()
    both = torch.isfinite(value) & torch.isfinite(expected)
    if bool((torch.isfinite(value) != torch.isfinite(expected)).any()):
        return [f"{name} is finite elsewhere"]
    if not bool(both.any()):
        return []
    error = (value - expected)[both].abs().max().item()
    scale = max(1.0, expected[both].abs().max().item())
    return [f"{name} is off by {error:.1e} of {scale:.1e}"] if error > tolerance * scale else []


def _tensor(value: Any) -> Tensor:
    """Return a tensor of a tensor, an array or a frame."""
    if isinstance(value, Tensor):
        return value.detach()
    return torch.as_tensor(getattr(value, "to_numpy", lambda: value)())
