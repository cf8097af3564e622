"""Columns of a table and variables of the caller that formulas use."""

import math
import re

import numpy as np
import pytest

from mixpyro.frontends.formula_names import captured, names_in, no_column


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("x", ["x"]),
        ("np.log(x)", ["np", "x"]),
        ("bs(x, df=4)", ["bs", "x"]),
        ("`body mass` * x", ["body mass", "x"]),
        ("[v for v in x]", ["x"]),
    ],
)
def test_names_are_those_that_an_expression_reads(expression: str, names: list[str]) -> None:
    assert sorted(names_in(expression)) == sorted(names)


def test_a_name_is_of_a_column_before_a_variable_and_of_a_transform_before_what_is_no_function() -> None:
    caller = {"x": 3, "root": math.sqrt, "log": "a logger", "exp": math.exp}
    found = captured("formula", ["x", "root", "log", "exp", "center", "abs"], ["x"], caller, 5)
    assert found == {"root": math.sqrt, "exp": math.exp}


@pytest.mark.parametrize("name", ["absent", "rows"])
def test_a_variable_of_the_caller_is_no_column(name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}'"):
        captured("formula", [name], ["x"], {"rows": np.zeros(5)}, 5)


def test_an_array_of_another_length_is_a_constant() -> None:
    knots = np.zeros(3)
    assert captured("formula", ["knots"], ["x"], {"knots": knots}, 5)["knots"] is knots


def test_a_column_that_is_called_almost_so_is_proposed() -> None:
    with pytest.raises(ValueError, match=r"got the columns Patents, RDS. Is it 'Patents'\?"):
        captured("formula", ["patents"], ["Patents", "RDS"], {}, 5)


@pytest.mark.parametrize(
    ("name", "columns", "advice"),
    [
        ("y", ["id;y;x"], r"pandas\.read_csv\(path, sep=';'\)"),
        ("y", ["x", " y"], r"data\.rename\(columns=str\.strip\)"),
        ("mass", ["body mass", "masses"], "Is it 'body mass'.*between backquotes, as `body mass`"),
        ("y", ["body mass", "x"], r"got the columns body mass, x\.$"),
        ("Dose", ["dose", "x"], r"Is it 'dose'\?$"),
    ],
)
def test_a_missing_column_is_one_of_a_file_that_was_read_otherwise(name: str, columns: list[str], advice: str) -> None:
    assert re.search(advice, str(no_column("formula", name, columns)))
