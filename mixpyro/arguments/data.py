"""Checks of tensors that hold data, and of devices."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mixpyro.arguments.dense import dense
from mixpyro.arguments.messages import shown
from mixpyro.arguments.signals import pass_on
from mixpyro.arguments.torch_contexts import normal
from mixpyro.arguments.validation import checks_values, known_as_finite

# Half precision has three digits: sums over rows lose them, and PyTorch draws no samples in it.
DTYPES = (torch.float32, torch.float64)


def tensor(name: str, value: object, shape: Sequence[int | str]) -> Tensor:
    """Return a floating tensor of a given shape.

    Args:
        name: of the argument, for messages.
        value: what the user passed.
        shape: the length of each axis; a word such as "N" stands for any length above 0.

    Raises:
        TypeError: if ``value`` is not a tensor, or not of float32 or float64.
        ValueError: if it has another shape.
    """
    value = _floating(name, value)
    # The common case first: a shape of numbers alone.
    if value.shape == shape:
        return normal(value)
    fits = [size >= 1 if isinstance(w, str) else size == w for size, w in zip(value.shape, shape, strict=False)]
    if value.ndim != len(shape) or not all(fits):
        wanted = f"[{', '.join(map(str, shape))}]"
        raise ValueError(f"`{name}` must have shape {wanted}, no axis empty; got {list(value.shape)}.")
    return normal(value)


def _floating(name: str, value: object) -> Tensor:
    """Return a tensor of float32 or float64."""
    value = a_tensor(name, value)
    if value.dtype not in DTYPES:
        wanted = "dtype float32 or float64" if value.is_floating_point() else "a floating dtype"
        advice = "Pass its real part." if value.is_complex() else f"Use {name}.double() or {name}.float()."
        raise TypeError(f"`{name}` must have {wanted}; got {value.dtype}. {advice}")
    return value


def a_tensor(name: str, value: object) -> Tensor:
    """Return a tensor whose values can be read, of any shape and dtype.

    Args:
        name: of the argument, for messages.
        value: what the user passed.

    Raises:
        TypeError: if ``value`` is not a tensor, or a sparse, nested, quantised, masked or ``meta`` one.
    """
    if not isinstance(value, Tensor):
        advice = f"torch.as_tensor(numpy.asarray({name}, dtype=float))"
        raise TypeError(f"`{name}` must be a torch.Tensor; got {type(value).__name__}. Use {advice}.")
    return dense(name, value)


def finite(name: str, value: Tensor) -> Tensor:
    """Return a tensor of finite numbers.

    Args:
        name: of the argument, for messages.
        value: a tensor of any shape.

    Raises:
        ValueError: if values are checked, and one is NaN or infinite.
    """
    found = known_as_finite()
    if found is not None and any(one is value for one in found):
        return value
    # A sum is finite only where all values are, and it is found in a fifth of the time.
    if checks_values() and not bool(value.detach().sum().isfinite()):
        bad = int((~torch.isfinite(value)).sum())
        if bad:
            advice = _of_missing(name) if bool(torch.isnan(value).any()) else ""
            raise ValueError(f"`{name}` must be finite; got {bad} NaN or infinite values of {value.numel()}.{advice}")
    if found is not None:
        found.append(value)
    return value


def _of_missing(name: str) -> str:
    """Return what to do where NaN stands for a value that was not observed."""
    if name == "y":
        return " If NaN was not observed, pass missing='ignore' where there is such an argument, or drop these rows."
    return " Drop these rows, or fill them in: only y may be missing." if name in ("x", "gate_x") else ""


def inputs(value: object, *, name: str = "x", n_features: int | str = "D") -> Tensor:
    """Return finite inputs.

    Args:
        value: what the user passed, [N, D] with N at least 1; D may be 0.
        name: of the argument, for messages.
        n_features: D, where it is known.

    Raises:
        TypeError: if ``value`` is not a tensor of a floating dtype.
        ValueError: if it has another shape or, while values are checked, is not finite.
    """
    if isinstance(value, Tensor) and value.ndim == 2 and value.shape[1] == 0 and n_features in (0, "D"):
        n_features = 0
    return finite(name, tensor(name, value, ("N", n_features)))


def outputs(
    value: object,
    x: Tensor,
    *,
    n_outputs: int | str = "P",
    may_be_infinite: bool = False,
    may_be_missing: bool = False,
) -> Tensor:
    """Return finite outputs, one column for each.

    Args:
        value: what the user passed as ``y``, [N, P], or [N] for one output.
        x: checked inputs [N, D], whose number of rows and dtype y must have.
        n_outputs: P, where it is known.
        may_be_infinite: whether values need only be numbers.
        may_be_missing: whether a value may be NaN, as one that was not observed.

    Returns:
        y [N, P].

    Raises:
        TypeError: if ``value`` is not a tensor of a floating dtype.
        ValueError: if it has another shape or dtype or, while values are checked, is not finite.
    """
    if isinstance(value, Tensor):
        value = dense("y", value)
        value = value.unsqueeze(1) if value.ndim == 1 else value
    checked = tensor("y", value, ("N", n_outputs))
    if len(checked) != len(x):
        raise ValueError(f"`y` must have as many rows as `x`, {len(x)}; got {len(checked)}.")
    if checked.dtype != x.dtype:
        raise ValueError(f"`y` must have the dtype of `x`, {x.dtype}; got {checked.dtype}. Use y.to(x.dtype).")
    if not checks_values() or not (may_be_infinite or may_be_missing):
        return finite("y", checked)
    if not may_be_infinite and bool(checked.isinf().any()):
        raise ValueError("`y` must be finite, or NaN where it was not observed; got infinite values.")
    if not may_be_missing and bool(checked.isnan().any()):
        n_missing = int(checked.isnan().sum())
        raise ValueError(f"`y` must not be NaN; got {n_missing} such values of {checked.numel()}.{_of_missing('y')}")
    return checked


def responsibilities(value: object, n_components: int, n_objects: int, *, name: str = "responsibilities") -> Tensor:
    """Return finite, non-negative responsibilities.

    Rows need not sum to 1, since a row may be multiplied by a weight.

    Args:
        value: what the user passed, [N, K].
        n_components: K.
        n_objects: N, at least 1.
        name: of the argument, for messages.

    Raises:
        TypeError: if ``value`` is not a tensor of a floating dtype.
        ValueError: if it has another shape or no row or, while values are checked, if one is negative or not finite.
    """
    checked = tensor(name, value, (n_objects, n_components))
    if n_objects == 0:
        raise ValueError(f"`{name}` must have at least one row; got {list(checked.shape)}.")
    if checks_values():
        # A NaN anywhere makes both the minimum and the maximum NaN, which fail the comparisons.
        low, high = _values(*torch.aminmax(checked))
        if not (low >= 0.0 and high < math.inf):
            raise ValueError(f"`{name}` must be finite and non-negative; got values from {low:.6g} to {high:.6g}.")
    return checked


def assignment_probabilities(value: object, shape: tuple[int, ...]) -> Tensor:
    """Return responsibilities of a Pyro program, in which every object has a component.

    Args:
        value: what the user passed as ``responsibilities``.
        shape: of the objects, and K.

    Raises:
        TypeError: if ``value`` is not a tensor of float32 or float64.
        ValueError: if it has another shape or, while values are checked, a value is negative or not finite, or a row
            is zero.
    """
    checked = tensor("responsibilities", value, shape)
    if checks_values():
        good = (checked >= 0).all(-1) & torch.isfinite(checked).all(-1) & (checked.sum(-1) > 0)
        if not bool(good.all()):
            raise ValueError(
                "`responsibilities` must be finite and non-negative, with a positive sum in every row; got "
                f"{int((~good).sum())} other rows of {good.numel()}."
            )
    return checked


def _values(first: Tensor, second: Tensor) -> tuple[float, float]:
    """Read two scalars; from a GPU at once, to wait once, and from a CPU one by one, which is faster there."""
    if first.device.type == "cpu":
        return first.item(), second.item()
    low, high = torch.stack([first, second]).tolist()
    return low, high


def device(value: object) -> torch.device:
    """Return a device of this machine.

    Args:
        value: what the user passed as ``device``: ``'cpu'``, ``'cuda'``, ``'cuda:1'`` or a torch.device.

    Raises:
        TypeError: if ``value`` is neither a string nor a torch.device.
        ValueError: if it names another kind of device.
        RuntimeError: if this machine has no such device.
    """
    if not isinstance(value, str | torch.device):
        raise TypeError(
            f"`device` must be a string or a torch.device; got {shown(value)} of type {type(value).__name__}."
        )
    try:
        resolved = torch.device(value)
    except RuntimeError as error:
        pass_on(error)
        raise ValueError(f"`device` must be 'cpu', 'cuda' or 'cuda:<index>'; got {value!r}.") from error
    if resolved.type not in ("cpu", "cuda"):
        raise ValueError(f"`device` must be 'cpu', 'cuda' or 'cuda:<index>'; got {value!r}.")
    n_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if resolved.type == "cuda" and (resolved.index or 0) >= n_devices:
        raise RuntimeError(f"`device` must be present on this machine; got {value!r} and {n_devices} CUDA devices.")
    return resolved


def dtype(value: object) -> torch.dtype:
    """Return a dtype that a part of a mixture can have.

    Args:
        value: what the user passed as ``dtype``.

    Raises:
        TypeError: if it is neither float32 nor float64.
    """
    if not isinstance(value, torch.dtype) or value not in DTYPES:
        raise TypeError(f"`dtype` must be a floating dtype; got {shown(value)}. Use torch.float32 or torch.float64.")
    return value


def same_device(name: str, value: Tensor, wanted: torch.device) -> Tensor:
    """Return a tensor that is on a given device.

    Args:
        name: of the argument, for messages.
        value: a tensor of any shape.
        wanted: the device of the model.

    Raises:
        ValueError: if the tensor is on another device.
    """
    if value.device != wanted:
        raise ValueError(
            f"`{name}` must be on {wanted}, as the model is; got {value.device}. Use {name}.to({str(wanted)!r})."
        )
    return value


def program_inputs(value: object) -> Tensor:
    """Return what a gate reads in a Pyro program.

    Args:
        value: what the user passed as ``x``: a floating tensor with a row for each object.

    Raises:
        TypeError: if it is no tensor of float32 or float64.
        ValueError: if it is a scalar.
    """
    checked = _floating("x", value)
    if checked.ndim == 0:
        raise ValueError("`x` must have a row for each object; got a scalar.")
    return normal(checked)
