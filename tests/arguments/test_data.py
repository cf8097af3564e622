"""Checks of tensors that hold data, and of devices."""

from typing import Any

import pyro
import pytest
import torch

from mixpyro import arguments

pytestmark = pytest.mark.usefixtures("bad_arguments")
X = torch.zeros(3, 2)


def test_a_tensor_of_the_right_shape_is_returned_as_it_is() -> None:
    assert arguments.tensor("x", X, ("N", 2)) is X
    assert arguments.inputs(X) is X
    assert arguments.inputs(X[:, :0]).shape == (3, 0)
    assert arguments.responsibilities(X, 2, 3) is X
    assert arguments.same_device("x", X, X.device) is X


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (
            [[0.0]],
            TypeError,
            r"`x` must be a torch.Tensor; got list. Use torch.as_tensor\(numpy.asarray\(x, dtype=float",
        ),
        (X.half(), TypeError, r"`x` must have dtype float32 or float64; got torch.float16. Use x.double\(\)"),
        (X.long(), TypeError, r"`x` must have a floating dtype; got torch.int64. Use x.double\(\)"),
        (X[0], ValueError, r"`x` must have shape \[N, D\], no axis empty; got \[2\]"),
        (X[:0], ValueError, r"`x` must have shape \[N, D\], no axis empty; got \[0, 2\]"),
        (X + torch.inf, ValueError, "`x` must be finite; got 6 NaN or infinite values of 6"),
    ],
)
def test_bad_inputs_are_refused(value: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        arguments.inputs(value)


def test_the_number_of_features_may_be_known() -> None:
    with pytest.raises(ValueError, match=r"`gate_x` must have shape \[N, 3\], no axis empty; got \[3, 2\]"):
        arguments.inputs(X, name="gate_x", n_features=3)


def test_outputs_have_a_column_for_each() -> None:
    y = torch.arange(3.0)
    assert arguments.outputs(y, X).shape == (3, 1)
    assert arguments.outputs(X, X, n_outputs=2) is X


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (X[:2], "`y` must have as many rows as `x`, 3; got 2"),
        (X.double(), r"`y` must have the dtype of `x`, torch.float32; got torch.float64. Use y.to\(x.dtype\)"),
        (X[:, :1], r"`y` must have shape \[N, 2\]"),
        (X * torch.nan, "`y` must be finite; got 6"),
    ],
)
def test_bad_outputs_are_refused(y: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        arguments.outputs(y, X, n_outputs=2)


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
def test_bad_responsibilities_are_refused(bad: float) -> None:
    r = torch.full((3, 2), 0.5)
    r[1, 1] = bad
    with pytest.raises(ValueError, match="`Z` must be finite and non-negative; got values from "):
        arguments.responsibilities(r, 2, 3, name="Z")


def test_responsibilities_of_no_objects_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`responsibilities` must have at least one row; got \[0, 2\]"):
        arguments.responsibilities(X[:0], 2, 0)


def test_without_validation_shapes_are_checked_and_values_are_not() -> None:
    with pyro.validation_enabled(False):
        assert not arguments.checks_values()
        assert arguments.responsibilities(X - 1.0, 2, 3).shape == (3, 2)
        assert arguments.inputs(X + torch.inf).shape == (3, 2)
        with pytest.raises(ValueError, match="`x` must have shape"):
            arguments.inputs(X[0])
    assert arguments.checks_values()


def test_devices() -> None:
    assert arguments.device("cpu") == torch.device("cpu")
    with pytest.raises(TypeError, match=r"`device` must be a string or a torch\.device; got 0 of type int"):
        arguments.device(0)
    for bad in ("gpu", "meta"):
        with pytest.raises(ValueError, match=f"`device` must be 'cpu', 'cuda' or 'cuda:<index>'; got '{bad}'"):
            arguments.device(bad)
    with pytest.raises(RuntimeError, match="`device` must be present on this machine; got 'cuda:99' and "):
        arguments.device("cuda:99")


def test_a_tensor_on_another_device_is_refused() -> None:
    elsewhere = torch.zeros(2, device="meta")
    with pytest.raises(ValueError, match=r"`x` must be on cpu, as the model is; got meta. Use x.to\('cpu'\)"):
        arguments.same_device("x", elsewhere, torch.device("cpu"))


def test_a_tensor_is_read_once_where_several_parts_check_it_and_again_outside() -> None:
    value, other = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    with arguments.finite_once():
        arguments.finite("x", value)
        value[1] = other[1] = torch.nan
        arguments.finite("x", value)  # Nothing of the library changes rows between two checks.
        with pytest.raises(ValueError, match=r"`x` must be finite; got 1 NaN or infinite values of 3\."):
            arguments.finite("x", other)
    with pytest.raises(ValueError, match=r"`x` must be finite; got 1 NaN or infinite values of 3\."):
        arguments.finite("x", value)
