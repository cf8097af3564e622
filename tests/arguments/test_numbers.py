"""Checks of numbers, vectors and matrices."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from mixpyro import arguments

pytestmark = pytest.mark.usefixtures("bad_arguments")
MATRIX = torch.tensor([[2.0, 1.0], [1.0, 2.0]]).double()
TINY = torch.tensor([1e-60]).double()


def test_integers() -> None:
    assert arguments.integer("n", torch.tensor(3).numpy()[()]) == 3
    assert arguments.integer("n", 0, least=0) == 0


def test_positive_numbers() -> None:
    assert arguments.positive_number("a", 2) == 2.0
    assert arguments.positive_number("a", torch.tensor([0.5])) == 0.5
    assert arguments.positive_number("a", 0.0, zero=True) == 0.0
    assert arguments.step_size(1) == 1.0


def test_vectors() -> None:
    assert arguments.vector("v", 2, 3).tolist() == [2.0, 2.0, 2.0]
    assert arguments.vector("v", [1, -2], 2).tolist() == [1.0, -2.0]
    assert arguments.vector("v", [1, 2], 2).dtype == torch.float64


def test_a_vector_is_a_copy() -> None:
    given = torch.ones(2).double()
    arguments.vector("v", given, 2).zero_()
    assert given.tolist() == [1.0, 1.0]


def test_positive_definite_matrices() -> None:
    assert torch.equal(arguments.positive_definite("m", 2.0, 2), 2.0 * torch.eye(2).double())
    assert torch.equal(arguments.positive_definite("m", [1, 2], 2), torch.diag(torch.tensor([1.0, 2.0]).double()))
    assert torch.equal(arguments.positive_definite("m", MATRIX, 2), MATRIX)


def test_numbers_repeated_to_a_shape() -> None:
    assert arguments.filled("c", [1, 2], (3, 2)).tolist() == [[1.0, 2.0]] * 3
    assert arguments.filled("c", 5.0, (2, 1)).tolist() == [[5.0], [5.0]]


def test_numbers_in_the_dtype_of_the_user() -> None:
    assert arguments.representable("s", torch.tensor([1e-30])).item() > 0.0


@pytest.mark.parametrize(
    ("check", "value", "options", "message"),
    [
        ("integer", 0, {}, r"^`n` must be at least 1; got 0\.$"),
        ("positive_number", 0.0, {}, r"`n` must be finite and above 0; got 0\.0"),
        ("positive_number", float("inf"), {}, "`n` must be finite and above 0; got inf"),
        ("positive_number", float("nan"), {}, "`n` must be finite and above 0; got nan"),
        ("positive_number", -1, {"zero": True}, r"`n` must be finite and at least 0; got -1\.0"),
        ("vector", [1, 2], {"length": 3}, r"`n` must be a number or a vector of length 3; got shape \[2\]"),
        ("vector", [1, float("nan")], {"length": 2}, r"`n` must be finite; got \[1\.0, nan\]"),
        ("positive_vector", [1, 0], {"length": 2}, r"`n` must be finite and above 0; got \[1\.0, 0\.0\]"),
        ("positive_definite", [[1.0, 2.0], [2.0, 1.0]], {"size": 2}, "`n` must be symmetric positive definite; got"),
        ("positive_definite", [[1.0, 0.5], [0.4, 1.0]], {"size": 2}, "`n` must be symmetric positive definite; got"),
        ("positive_definite", MATRIX, {"size": 3}, r"3 numbers or a matrix \[3, 3\]; got shape \[2, 2\]"),
        ("filled", [1, 2], {"shape": (2, 3)}, r"a number or have shape \[2, 3\], \[3\]; got shape \[2\]"),
        ("filled", float("inf"), {"shape": (2,)}, "`n` must be finite; got inf"),
        ("representable", TINY.float(), {}, r"`n` must be above 0 in torch\.float32; got \[0\.0\]\. Use a larger dty"),
    ],
)
def test_bad_values_are_refused(check: str, value: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(arguments, check)("n", value, **options)


@pytest.mark.parametrize(
    ("check", "value", "options", "message"),
    [
        ("integer", 1.0, {}, r"`n` must be an integer; got 1\.0 of type float"),
        ("integer", True, {}, "`n` must be an integer; got True of type bool"),
        ("integer", None, {}, "`n` must be an integer; got None of type NoneType"),
        ("positive_number", True, {}, "`n` must be a number; got True of type bool"),
        ("positive_number", "2", {}, "`n` must be a number; got '2' of type str"),
        ("positive_number", torch.ones(2), {}, "`n` must be a number; got .* of type Tensor"),
        ("vector", "two", {"length": 2}, "`n` must be a number or 2 numbers; got 'two'"),
        ("representable", TINY.long(), {}, r"`dtype` must be a floating dtype; got torch\.int64"),
    ],
)
def test_values_of_another_type_are_refused(check: str, value: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        getattr(arguments, check)("n", value, **options)


def test_step_sizes_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`step_size` must be in \(0, 1\]; got 1\.5"):
        arguments.step_size(1.5)
    with pytest.raises(ValueError, match=r"`step_size` must be finite and above 0; got 0\.0"):
        arguments.step_size(0.0)


def test_flags() -> None:
    assert arguments.flag("f", True) is True
    assert arguments.flag("f", np.bool_(False)) is False
    for wrong in ("no", 1, None, torch.tensor(True)):
        with pytest.raises(TypeError, match=r"^`f` must be True or False; got "):
            arguments.flag("f", wrong)


class Nameless:
    """An object that cannot be shown."""

    def __repr__(self) -> str:
        """Fail."""
        raise RuntimeError("not to be shown")


def test_messages_are_short() -> None:
    for wrong in ("a" * 10**6, [0] * 10**6, torch.ones(1000).tolist(), Nameless()):
        with pytest.raises(TypeError, match=r"^`n` must be an integer; got ") as raised:
            arguments.integer("n", wrong)
        assert len(str(raised.value)) < 200


def test_numbers_that_no_float_holds() -> None:
    for wrong in (10**400, -(10**400)):
        with pytest.raises(ValueError, match=r"^`n` must be finite and above 0; got -?inf"):
            arguments.positive_number("n", wrong)
        with pytest.raises(TypeError, match=r"^`n` must be a number or 2 numbers; got "):
            arguments.vector("n", wrong, 2)
    with pytest.raises(ValueError, match=r"^`n` must be at most 9223372036854775807; got "):
        arguments.integer("n", 10**30)
    with pytest.raises(ValueError, match=r"^`n` must be at most 10000000; got "):
        arguments.size("n", 10**12)


@pytest.mark.parametrize("wrong", [True, [True, 1.0], np.array([True]), torch.tensor([True]), 1j, [1j, 2.0], "a", {}])
def test_what_is_no_number_is_no_vector(wrong: object) -> None:
    with pytest.raises(TypeError, match=r"^`n` must be a number or 2 numbers; got "):
        arguments.vector("n", wrong, 2)


def test_a_series_is_a_vector_whatever_its_index() -> None:
    assert arguments.vector("n", pd.Series([1, 2], index=["a", "b"]), 2).tolist() == [1.0, 2.0]
