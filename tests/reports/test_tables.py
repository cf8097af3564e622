"""Text tables of coefficients and criteria."""

from mixpyro import Coefficient, Criteria, as_table


def test_a_table_has_titles_and_aligned_lines() -> None:
    rows = {
        "first": Coefficient(1.25, 0.5, 2.5, 0.0124, 0.43, 2.07),
        "a longer name": Coefficient(-0.002, float("inf"), float("nan"), float("nan"), float("-inf"), float("inf")),
    }
    lines = as_table(rows).splitlines()
    assert lines[0].split() == list(Coefficient._fields)
    assert lines[1].split() == ["first", "1.250", "0.5", "2.500", "0.0124", "0.43", "2.070"]
    assert lines[2].split() == ["a", "longer", "name", "-0.002", "inf", "nan", "nan", "-inf", "inf"]
    assert len({len(line) for line in lines}) == 1


def test_counts_have_no_decimals() -> None:
    row = Criteria(-100.5, -90.0, 7, 194.0, 200.0, 201.0, 0.25)
    assert as_table({"K = 2": row}).splitlines()[1].split()[3:7] == ["-100.500", "-90.000", "7", "194.000"]


def test_an_empty_table_has_the_titles_of_criteria() -> None:
    assert as_table({}).split() == list(Criteria._fields)
