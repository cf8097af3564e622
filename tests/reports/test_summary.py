"""What a person reads of a result: text, tables of notebooks, frames, LaTeX."""

import math
import re
import warnings
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import torch

from mixpyro import (
    DirichletGate,
    FitResult,
    GLMExperts,
    LinearExperts,
    MixtureOfExperts,
    SoftmaxGate,
    coefficients,
    compare,
    criteria,
    fit,
    linear_response,
)
from mixpyro.experts.families import Poisson
from mixpyro.reports.coefficient_table import parts_of, with_output_names
from tests.products import PAIRS, data, mixture


def two_lines(n_restarts: int = 4) -> FitResult:
    """A fit of two lines to a frame."""
    draw = np.random.default_rng(1)
    dose = draw.normal(size=80)
    effect = np.where(draw.random(80) < 0.4, 3.0 + dose, -3.0 - dose) + 0.3 * draw.normal(size=80)
    table = pd.DataFrame({"dose": dose, "effect": effect}, index=[f"p{i}" for i in range(80)])
    lines = MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1))
    return fit(lines, table[["dose"]], table["effect"], n_restarts=n_restarts, progress=False)


def test_a_summary_has_what_the_reports_say() -> None:
    result = two_lines()
    text = result.summary(probability=0.8)
    lines = text.splitlines()
    assert lines[0] == "2 components of LinearExperts, weights by DirichletGate: 80 rows, effect on dose"
    assert lines[1] == f"fit: {result}"
    found = criteria(result)
    assert f"log evidence ≥ {found.log_evidence:.2f}" in lines[2] and f"BIC {found.bic:.2f}" in lines[2]
    response = linear_response(result)
    for name, estimate, error in zip(
        response.names, response.estimates.tolist(), response.standard_deviations.tolist(), strict=True
    ):
        row = next(line for line in lines if line.startswith(f"{name} "))
        own, own_error, low, high = map(float, row.removeprefix(name).split())
        half = 1.2815515655446004 * error
        for shown, exact in ((own, estimate), (own_error, error), (low, estimate - half), (high, estimate + half)):
            assert math.isclose(shown, exact, rel_tol=6e-3, abs_tol=6e-4)
    noise = next(line for line in lines if line.startswith("experts: component 0, noise"))
    assert math.isclose(float(noise.split()[-3]), 0.3, rel_tol=0.3)
    shares = [float(line.split()[2]) for line in lines if re.match(r"component \d ", line)]
    assert math.isclose(sum(shares), 1.0, abs_tol=2e-3)
    assert "prior of the experts" in text and repr(text) == str(text)


class Tags(HTMLParser):
    """Counts tags, and raises where one is not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_notebooks_show_tables() -> None:
    result = two_lines()
    ranking = compare([result, result])
    shown = (result, result.summary(), result.mixture, result.mixture.gate, result.mixture.experts, ranking)
    for value in (*shown, coefficients(result)):
        tags = Tags()
        tags.feed(value._repr_html_())  # type: ignore[union-attr]
        assert not tags.open and "table" in tags.seen
    assert "dose" in result.mixture._repr_html_() and "80 objects" in repr(result)


def test_tables_are_frames_and_latex() -> None:
    result = two_lines()
    frame = result.coefficients(probability=0.5)
    table = coefficients(result, probability=0.5)
    assert list(frame.index.names) == ["part", "component", "parameter"]
    assert frame.loc[("experts", "component 0", "dose"), "estimate"] == table["experts: component 0, dose"].estimate
    assert [": ".join([part, f"{component}, {name}"]) for part, component, name in frame.index] == list(table)
    assert r"\begin{tabular}" in table.to_latex(caption="Two lines") and r"\caption{Two lines}" in table.to_latex(
        caption="Two lines"
    )
    assert str(table).splitlines()[1].startswith("gate: component 1 against 0, log weight")
    ranking = compare({"a": result})
    assert ranking.note in str(ranking) and ranking.to_frame().loc["a", "bic"] == ranking["a"].bic
    optima = result.optima_frame()
    assert optima["bound"].tolist() == [one.bound for one in result.optima]
    assert optima["runs"].sum() <= len(result.runs)


def test_a_table_without_tests_shows_none() -> None:
    assert "p_value" not in str(coefficients(two_lines()))
    x = torch.linspace(0, 1, 30).double()[:, None]
    y = torch.poisson(torch.exp(1 + x), generator=torch.Generator().manual_seed(0)).double()
    result = fit(MixtureOfExperts(SoftmaxGate(1, 1), GLMExperts(1, 1, Poisson())), x, y, progress=False)
    assert "p_value" in str(coefficients(result)) and "p_value" in result.summary()


def test_names_of_outputs_replace_numbers_alone() -> None:
    names = [
        "experts: component 0, mean y0",
        "gate: component 1 against 0, y0x",
        "experts: component 0, regression y1 on y0",
    ]
    assert with_output_names(names, ["x0"], ["length", "width"]) == [
        "experts: component 0, mean length",
        "gate: component 1 against 0, y0x",
        "experts: component 0, regression width on length",
    ]
    assert with_output_names(names, ["y0"], ["length", "width"]) == names
    assert parts_of("experts: log precision") == ("experts", "all components", "log precision")


@pytest.mark.parametrize(("gate", "experts"), PAIRS)
def test_every_fit_has_a_summary(gate: str, experts: str, bad_arguments: None) -> None:
    x, y = data(experts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = fit(mixture(gate, experts), x, y, n_restarts=1, max_iterations=40, n_gradient_steps=2, progress=False)
        text = result.summary()
    assert text.startswith("2 components of ") and "component 1" in text
    assert result.labels.shape == (len(x),) and len(result.predict()) == len(x)
    assert torch.allclose(result.assign().responsibilities, result.shares, atol=0.2)
    assert result.sample(2).y.shape[:2] == (2, len(x))
