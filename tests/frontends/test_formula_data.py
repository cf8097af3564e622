"""Rows that are used and rows that are dropped."""

from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from mixpyro import fit_formula
from mixpyro.frontends.formula_data import as_pandas, group_ids, used_rows


def table() -> pd.DataFrame:
    """Missing values of several kinds, and a category with a level that only a dropped row has."""
    kinds = pd.Categorical(["u", "v", "u", None, "w", "u"], categories=["v", "u", "w"])
    return pd.DataFrame(
        {
            "x": [1.0, 2.0, np.nan, 4.0, 5.0, 6.0],
            "n": pd.array([1, 2, 3, 4, None, 6], dtype="Int64"),
            "kind": kinds,
            "unused": [np.nan] * 6,
        },
        index=list("abcdef"),
    )


def test_rows_with_a_missing_value_in_any_column_that_is_used_are_dropped() -> None:
    found = used_rows(table(), ["x", "n", "kind"], "drop")
    assert list(found.dropped) == ["c", "d", "e"]
    assert list(found.data.index) == ["a", "b", "f"]
    assert found.kept.tolist() == [True, True, False, False, False, True]
    assert list(found.data["kind"].cat.categories) == ["v", "u"]
    assert found.data["n"].dtype == np.float64


def test_values_beside_the_table_must_be_there_too() -> None:
    found = used_rows(table(), ["x"], "drop", beside={"weights": np.array([1.0, np.nan, 1.0, 1.0, 1.0, 1.0])})
    assert list(found.dropped) == ["b", "c"]


def test_truth_values_with_missing_ones_are_numbers() -> None:
    data = pd.DataFrame({"flag": [True, None, False]}, dtype=object)
    assert used_rows(data, ["flag"], "drop").data["flag"].tolist() == [1.0, 0.0]


@pytest.mark.parametrize("argument", ["observed", "mask"])
@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros(12), "a value for each of 6 rows; got 12"),
        ([0.0] * 5, "a value for each of 6 rows; got 5"),
        (pd.Series(0.0, index=list("badcef")), "the row labels of `data`; got others"),
        ("x", "have a value for each row; got 'x'"),
    ],
)
def test_known_components_are_of_the_rows_of_the_table(argument: str, values: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"`{argument}` must .*{message}"):
        fit_formula("n ~ x", table(), k=2, **{argument: values})


def test_the_table_is_not_changed() -> None:
    before, data = table(), table()
    used_rows(data, ["x", "n", "kind"], "drop")
    pd.testing.assert_frame_equal(data, before)


@pytest.mark.parametrize(
    ("missing", "options", "message"),
    [
        ("error", {}, "got 1 rows with some, in 'x', rows 'c'"),
        ("ignore", {}, "got 1 rows with some, in 'x'"),
        ("pad", {}, "must be 'drop', 'error' or 'ignore'"),
        ("drop", {"beside": {"weights": [1.0]}}, "`weights` must have a value for each of 6 rows; got 1"),
        ("drop", {"beside": {"groups": pd.Series(range(6))}}, "`groups` must have the row labels of `data`"),
    ],
)
def test_refuses_missing_values_where_they_are_errors(missing: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        used_rows(table(), ["x"], missing, **options)


def test_a_response_may_be_missing_where_it_is_ignored() -> None:
    assert len(used_rows(table(), ["x"], "ignore", may_be_missing=["x"]).data) == 6
    with pytest.raises(ValueError, match="must have a row without missing values"):
        used_rows(table(), ["x", "unused"], "drop")


def test_a_dict_of_columns_is_a_table_and_an_array_is_none() -> None:
    assert list(as_pandas({"x": [1, 2], "y": [3, 4]}).columns) == ["x", "y"]
    with pytest.raises(TypeError, match="must be a DataFrame, or a dict of columns; got ndarray"):
        as_pandas(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="at least one row"):
        as_pandas({"x": []})
    with pytest.raises(ValueError, match="one column of each name; got several of 'x'"):
        as_pandas(pd.DataFrame([[1, 2]], columns=["x", "x"]))


def test_names_are_text_and_a_row_is_a_list_of_one() -> None:
    data = pd.DataFrame([[1.0, 2.0]])
    assert list(as_pandas(data).columns) == ["0", "1"] and list(data.columns) == [0, 1]
    with pytest.raises(TypeError, match=r"list of values in each column, as \{'x': \[1.0\]\}; got 1.0"):
        as_pandas({"x": 1.0, "place": "a"})
    assert len(as_pandas({"x": [1.0, 2.0], "place": "a"})) == 2
    with pytest.raises(ValueError, match="got several of '1'"):
        as_pandas(pd.DataFrame([[1, 2]], columns=[1, "1"]))


def test_groups_are_of_one_column_or_of_several_together() -> None:
    data = pd.DataFrame({"firm": ["a", "a", "b"], "year": [1, 2, 1]})
    assert list(group_ids(data, "firm")) == ["a", "a", "b"]
    assert group_ids(data, ["firm", "year"]) == [("a", 1), ("a", 2), ("b", 1)]
    with pytest.raises(ValueError, match="must have the column 'plant', which `groups` uses"):
        group_ids(data, "plant")


@pytest.mark.parametrize(
    "values", [[True, False, None], [1, 0, None], [Decimal("1.5"), Decimal("0"), None], [1, 0.5, None]]
)
@pytest.mark.parametrize("missing", ["drop", "ignore"])
def test_numbers_that_are_objects_are_numbers(values: list[Any], missing: str) -> None:
    data = pd.DataFrame({"x": pd.Series(values, dtype=object)})
    used = used_rows(data, ["x"], missing, may_be_missing=["x"]).data["x"]
    expected = [float(value) for value in values[:2]] + [np.nan] * (missing == "ignore")
    np.testing.assert_array_equal(used.astype(float), expected)
    assert used.dtype != object and data["x"].dtype == object
    mixed = pd.DataFrame({"x": pd.Series([1, "a"], dtype=object)})
    assert used_rows(mixed, ["x"], "drop").data["x"].tolist() == [1, "a"]


@pytest.mark.parametrize("argument", ["weights", "groups"])
@pytest.mark.parametrize("values", [torch.Tensor, torch.nn.Linear(1, 1), np.array(1.0), 5])
def test_what_has_no_length_is_no_value_of_each_row(argument: str, values: Any) -> None:
    data = pd.DataFrame({"y": np.arange(6.0), "x": np.arange(6.0) ** 2})
    with pytest.raises(TypeError, match=f"^`{argument}` must have a value for each row"):
        fit_formula("y ~ x", data, k=1, **{argument: values})


def test_names_that_are_no_text_or_too_long_are_refused_at_once() -> None:
    data = pd.DataFrame({"y": np.arange(6.0), "x": np.arange(6.0) ** 2})
    for argument in ("formula", "gate", "offset", "random", "weights", "trials", "groups"):
        for text in ("a" * 10**6, "\udc80"):
            options: dict[str, Any] = {"formula": "y ~ x", argument: text}
            with pytest.raises(ValueError, match=f"`{argument}`"):
                fit_formula(options.pop("formula"), data, k=1, progress=False, **options)
