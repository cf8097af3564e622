"""Columns by a formula, and the same columns of new rows."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from mixpyro.frontends.design import Design, parsed
from mixpyro.frontends.formula_data import plain_columns

N = 40


def table() -> pd.DataFrame:
    """Columns of numbers, text, a category with a level that no row has, and truth values."""
    rng = np.random.default_rng(0)
    kinds = pd.Categorical(rng.choice(["low", "high"], N), categories=["low", "high", "none"])
    return pd.DataFrame(
        {
            "x": rng.normal(size=N),
            "count": rng.integers(1, 9, N),
            "place": rng.choice(["a", "b", "c"], N),
            "kind": kinds.remove_unused_categories(),
            "flag": rng.uniform(size=N) < 0.5,
            "body mass": rng.uniform(50.0, 90.0, N),
        },
        index=[f"row {i}" for i in range(N)],
    )


def odd_table() -> pd.DataFrame:
    """The same with columns that are no terms as they are."""
    days = pd.Series(pd.date_range("2020", periods=N), index=table().index)
    odd = {"day": days, "month": days.dt.to_period("M"), "age": days - days.iloc[0], "length-mm": 1.0}
    return table().assign(**odd, wave=1j, Intercept=1.0)


def design(text: str, data: pd.DataFrame | None = None, **context: Any) -> tuple[Design, pd.DataFrame]:
    """Of the right side of a formula."""
    data = table() if data is None else data
    return Design.of("formula", parsed("formula", text), data, context)


def test_columns_are_those_of_treatment_coding_without_the_intercept() -> None:
    data = table()
    made, columns = design("x + place + kind:x + log(count) + `body mass` + flag")
    assert made.has_intercept
    assert made.terms["place"] == ("place[T.b]", "place[T.c]")
    expected = {
        "x": data["x"],
        "place[T.b]": data["place"] == "b",
        "place[T.c]": data["place"] == "c",
        "log(count)": np.log(data["count"]),
        "body mass": data["body mass"],
        "kind[T.high]:x": data["x"] * (data["kind"] == "high"),
    }
    for name, values in expected.items():
        np.testing.assert_array_equal(columns[name], np.asarray(values, dtype=float))
    assert (columns.index == data.index).all()
    assert (columns.dtypes == np.float64).all()


def test_without_an_intercept_a_category_has_all_its_levels() -> None:
    made, _ = design("0 + place")
    assert not made.has_intercept
    assert made.names == ("place[a]", "place[b]", "place[c]")


@pytest.mark.parametrize(
    "text",
    [
        "x + place",
        "bs(x, df=4)",
        "poly(x, 2)",
        "center(x) + scale(count)",
        "C(place) + flag",
        "np.log(count)",
        "x.clip(0, 1)",
        "C(count.astype(str))",
        "place.str.upper() + x",
        "np.log(`body mass`)",
        "C(`body mass`.round(-1))",
    ],
)
def test_state_and_levels_are_those_of_the_fit(text: str) -> None:
    made, columns = design(text)
    some = table().iloc[[7, 3]]
    pd.testing.assert_frame_equal(made.columns(some), columns.iloc[[7, 3]])
    assert made.rows_that_depend(table(), columns) == []


def test_an_error_leaves_the_state_as_it_was() -> None:
    def doubled(values: pd.Series) -> pd.Series:
        return values + values

    made, columns = design("doubled(x) + center(count) + place", doubled=doubled)
    for bad in (table().assign(x="text"), table().assign(place="elsewhere"), table().drop(columns="x")):
        with pytest.raises(ValueError, match=r"`data` must have|must be a formula"):
            made.columns(bad)
    pd.testing.assert_frame_equal(made.columns(table()), columns)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"place": "elsewhere"}, r"levels of the fit in column 'place', \['a', 'b', 'c'\]; got 'elsewhere'"),
        ({"count": "many"}, "numbers in column 'count', as in the fit"),
        ({"x": np.nan}, "a value in every row of column 'x'.* got 40 missing"),
        ({"place": None}, "a value in every row of column 'place'"),
    ],
)
def test_new_rows_must_have_the_kinds_and_levels_of_the_fit(change: dict[str, Any], message: str) -> None:
    made, _ = design("x + count + place")
    with pytest.raises(ValueError, match=message):
        made.columns(table().assign(**change))


@pytest.mark.parametrize(
    ("text", "name"), [("I(x - x.mean())", "I(x - x.mean())"), ("standardised(x)", "standardised(x)")]
)
def test_says_which_columns_depend_on_the_other_rows(text: str, name: str) -> None:
    def standardised(values: pd.Series) -> pd.Series:
        return (values - values.mean()) / values.std()

    made, columns = design(f"count + {text}", standardised=standardised)
    assert made.rows_that_depend(table(), columns) == [name]


@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_value_that_is_no_number_does_not_depend_on_the_other_rows() -> None:
    data = table().assign(x=np.where(np.arange(N) % 3 == 0, -1.0, 2.0))
    made, columns = design("np.log(x)", data, np=np)
    assert made.rows_that_depend(data, columns) == []


@pytest.mark.parametrize("dtype", [bool, object, "boolean"])
@pytest.mark.parametrize("dtype_of_fit", [bool, object, "boolean"])
def test_truth_values_are_the_same_column_whatever_holds_them(dtype: Any, dtype_of_fit: Any) -> None:
    data = table()
    used = plain_columns(data.assign(flag=data["flag"].astype(dtype_of_fit)))
    made, columns = design("flag + x", used)
    assert made.names == ("flag", "x")
    pd.testing.assert_frame_equal(made.columns(data.assign(flag=data["flag"].astype(dtype))), columns)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_no_finite_number_does_not_depend_on_other_rows(value: float) -> None:
    data = table()
    data["x"] = np.where(data["x"] < 0.0, -value, data["x"])
    made, columns = design("place + sign(x)", data, sign=np.positive)
    assert made.rows_that_depend(data, columns) == []
    made, columns = design("place + dent(x)", data, dent=lambda values: values - values[np.isfinite(values)].mean())
    assert made.rows_that_depend(data, columns) == ["dent(x)"]


def test_nullable_and_text_columns_of_new_rows_are_read() -> None:
    made, columns = design("count + place")
    new = table().astype({"count": "Int64", "place": "category"})
    pd.testing.assert_frame_equal(made.columns(new), columns)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x | place", r"must have no '\|'.*groups='name'"),
        ("x +* place", "must be a formula; got 'x"),
        ("nowhere", "must have the column 'nowhere'"),
        ("unknown(x)", "must be a formula of the columns"),
        ("day", r"got column 'day' of datetime64.*such as I\(day.dt.year\)"),
        ("month", r"got column 'month' of period.*such as I\(month.dt.year\)"),
        ("age", r"got column 'age' of timedelta64.*such as I\(age.dt.days\)"),
        ("wave", "terms of real numbers; got column 'wave' of complex128"),
        ("Intercept", "no column of the name 'Intercept'"),
        ("body mass", "between backquotes, as in 'y ~ `body mass`'"),
        ("length - mm", "Is it 'length-mm'.*as `length-mm`"),
        (".", "Name them, as in 'y ~ a"),
    ],
)
def test_refuses_formulas_that_cannot_be_evaluated(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        design(text, odd_table())


@pytest.mark.parametrize(
    "text", ["I(day.dt.year)", "I(month.dt.year)", "I(age.dt.days)", "`length-mm`", "I(place.str.len())", "x.abs()"]
)
@pytest.mark.filterwarnings("error")
def test_what_the_messages_advise_can_be_evaluated(text: str) -> None:
    made, columns = design(text, odd_table())
    pd.testing.assert_frame_equal(made.columns(odd_table()), columns)
