"""Fits by formulas are those of `fit` on matrices made by hand, and have known answers."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from mixpyro import (
    BayesianSoftmaxGate,
    DirichletGate,
    FitResult,
    GaussianExperts,
    GLMExperts,
    LinearExperts,
    MixtureOfExperts,
    RandomEffectsExperts,
    SharedLinearExperts,
    SoftmaxGate,
    fit,
    fit_formula,
)
from mixpyro.experts.families import Binomial, Gaussian, Multinomial, Poisson

DATA = Path(__file__).parents[1] / "data"
N = 60
QUICK: dict[str, Any] = {"n_restarts": 1, "n_candidates": 1, "max_iterations": 4, "progress": False}
pytestmark = [pytest.mark.filterwarnings("ignore::RuntimeWarning"), pytest.mark.usefixtures("without_type_checks")]


def table() -> pd.DataFrame:
    """Two kinds of rows in groups of three, with measurements and counts."""
    rng = np.random.default_rng(1)
    kind, x = np.repeat(rng.integers(0, 2, N // 3), 3), rng.normal(size=N)
    data = pd.DataFrame({"x": x, "w": rng.normal(size=N), "t": rng.uniform(1.0, 5.0, N), "n": rng.integers(4, 9, N)})
    data["place"] = rng.choice(["a", "b", "c"], N)
    data["group"] = np.repeat(rng.permutation(N // 3), 3)
    data["y"] = np.where(kind, 1.0 + 2.0 * x, -1.0 - x) + 0.3 * rng.normal(size=N)
    data["z"] = data["y"] + rng.normal(size=N)
    data["count"] = rng.poisson(data["t"] * np.exp(0.3 * x + kind))
    data["hits"] = rng.binomial(data["n"], 1.0 / (1.0 + np.exp(-x - kind)))
    data["misses"] = data["n"] - data["hits"]
    return data.set_index(pd.Index([f"row {i}" for i in range(N)]))


def columns(*names: str) -> Tensor:
    """Columns of the table [N, C]; "place b" is 1 where the place is b."""
    data = table()
    made = [data["place"] == name[-1] if name.startswith("place ") else data[name] for name in names]
    return torch.tensor(np.stack(made, axis=1).astype(float)) if made else torch.zeros(N, 0).double()


BY_HAND: dict[str, tuple[tuple[Any, dict[str, Any]], Any, list[str], list[str], list[str] | None]] = {
    "lines": (("y ~ x", {}), lambda: (DirichletGate(2), LinearExperts(2, 1)), ["x"], ["y"], None),
    "lines with a gate": (
        ("y ~ x + place", {"gate": "~ w"}),
        lambda: (BayesianSoftmaxGate(2, 1), LinearExperts(2, 3)),
        ["x", "place b", "place c"],
        ["y"],
        ["w"],
    ),
    "mixture of one noise": (
        (["y ~ mixture(mu)", "mu ~ x", "weights ~ w"], {}),
        lambda: (BayesianSoftmaxGate(2, 1), LinearExperts(2, 1, noise_per_component=False)),
        ["x"],
        ["y"],
        ["w"],
    ),
    "several responses": (
        ("y + z ~ x", {"weights": "t"}),
        lambda: (DirichletGate(2), LinearExperts(2, 1, 2)),
        ["x"],
        ["y", "z"],
        None,
    ),
    "a density": (("y + z ~ 1", {}), lambda: (DirichletGate(2), GaussianExperts(2, 2)), [], ["y", "z"], None),
    "no intercept": (
        ("y ~ 0 + x", {}),
        lambda: (DirichletGate(2), LinearExperts(2, 1, intercept=False)),
        ["x"],
        ["y"],
        None,
    ),
    "shared slopes": (
        ("y ~ x + place", {"shared": ["place"]}),
        lambda: (DirichletGate(2), SharedLinearExperts(2, 3, shared=[1, 2])),
        ["x", "place b", "place c"],
        ["y"],
        None,
    ),
    "random effects": (
        ("y ~ x + w", {"random": "~ 1 + w", "groups": "group"}),
        lambda: (DirichletGate(2), RandomEffectsExperts(2, 2, ["intercept", 1])),
        ["x", "w"],
        ["y"],
        None,
    ),
    "counts with an offset": (
        ("count ~ x", {"family": "poisson", "offset": "log(t)", "gate": "~ place"}),
        lambda: (SoftmaxGate(2, 2), GLMExperts(2, 1, Poisson(), exposure=True)),
        ["x", "t"],
        ["count"],
        ["place b", "place c"],
    ),
    "trials in groups": (
        ("hits ~ x", {"family": "binomial", "trials": "n", "groups": "group", "shared": ["x"]}),
        lambda: (SoftmaxGate(2, 0), GLMExperts(2, 1, Binomial(), exposure=True, shared=[0])),
        ["x", "n"],
        ["hits"],
        [],
    ),
    "categories of trials": (
        ("hits + misses ~ 1", {"family": "multinomial", "trials": "hits + misses"}),
        lambda: (SoftmaxGate(2, 0), GLMExperts(2, 0, Multinomial(2), exposure=True)),
        ["n"],
        ["hits", "misses"],
        [],
    ),
    "estimated lines": (
        ("y ~ x", {"family": Gaussian(), "shared": ["intercept", "scale"]}),
        lambda: (SoftmaxGate(2, 0), GLMExperts(2, 1, Gaussian(), shared=["intercept", "scale"])),
        ["x"],
        ["y"],
        [],
    ),
}


@pytest.mark.parametrize("case", BY_HAND)
def test_a_fit_is_that_of_matrices_made_by_hand(case: str) -> None:
    (formula, options), parts, x, y, gate_x = BY_HAND[case]
    found = fit_formula(formula, table(), k=2, **options, **QUICK)
    given: dict[str, Any] = {} if gate_x is None else {"gate_x": columns(*gate_x)}
    given |= {"groups": table()["group"].to_numpy()} if "groups" in options else {}
    given |= {"weights": columns("t")[:, 0]} if "weights" in options else {}
    expected = fit(MixtureOfExperts(*parts()), columns(*x), columns(*y), **given, **QUICK)
    assert found.bound == expected.bound
    torch.testing.assert_close(found.shares, expected.shares, rtol=0, atol=0)


def test_rows_with_missing_values_are_dropped_from_everything_together() -> None:
    data = table()
    for row, column in enumerate(["y", "x", "w", "t", "group", "place"]):
        data[column] = data[column].astype(object)
        data.loc[f"row {row}", column] = None
    data = data.infer_objects()
    formula: dict[str, Any] = {"gate": "~ place", "weights": "t", "k": 2}
    result = fit_formula("y ~ x", data, **formula, **QUICK)
    assert result.dropped is not None
    assert list(result.dropped) == ["row 0", "row 1", "row 3", "row 5"]
    complete = fit_formula("y ~ x", data.drop(index=result.dropped), **formula, **QUICK)
    assert result.bound == complete.bound
    assert list(result.labels.index) == list(complete.labels.index)
    assert "56 rows used, 4 dropped for missing values" in result.summary()
    with pytest.raises(ValueError, match="got 4 rows with some"):
        fit_formula("y ~ x", data, missing="error", **formula, **QUICK)


def test_known_components_are_those_of_the_rows_that_are_used() -> None:
    data, known = table(), np.full(N, np.nan)
    known[[1, 7, 30]] = [0.0, 1.0, 1.0]
    data.loc["row 0", "x"] = np.nan
    result = fit_formula("y ~ x", data, observed=known, k=2, **QUICK)
    expected = fit_formula("y ~ x", data.iloc[1:], observed=known[1:], k=2, **QUICK)
    assert result.bound == expected.bound
    assert result.labels.iloc[[0, 6, 29]].tolist() == [0, 1, 1]


def test_a_response_that_was_not_observed_may_be_ignored() -> None:
    data = table()
    data.loc[data["x"] > 1.0, "y"] = np.nan
    result = fit_formula("y ~ x", data, missing="ignore", k=2, **QUICK)
    experts = MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1))
    y = torch.tensor(data["y"].to_numpy())
    assert result.bound == fit(experts, columns("x"), y, missing="ignore", **QUICK).bound
    assert result.n_dropped == 0
    assert result.log_prob(data)[data["y"].isna()].eq(0.0).all()


def test_rows_in_which_a_term_is_no_number_are_dropped_with_a_caution() -> None:
    data = table()
    with pytest.warns(RuntimeWarning, match=r"rows were dropped in which np.log\(w\) is not a number"):
        result = fit_formula("y ~ np.log(w)", data, k=1, progress=False)
    assert result.dropped is not None
    assert set(result.dropped) == set(data.index[data["w"] < 0])


def test_functions_and_constants_are_the_callers() -> None:
    def doubled(values: Any) -> Any:
        return 2.0 * values

    shift = 3.0
    result = fit_formula("y ~ doubled(x + shift)", table(), k=1, progress=False)
    expected = fit_formula("y ~ I(2.0 * (x + 3.0))", table(), k=1, progress=False, context={})
    assert result.bound == expected.bound
    assert doubled(shift) == 6.0


def test_warns_of_terms_that_depend_on_other_rows() -> None:
    with pytest.warns(RuntimeWarning, match=r"I\(x - x.mean\(\)\) in `formula` depends on which other rows"):
        result = fit_formula("y ~ I(x - x.mean())", table(), k=1, progress=False)
    assert any("depends on which other rows" in caution for caution in result.cautions)


def test_warns_of_an_offset_that_depends_on_other_rows() -> None:
    data = table().assign(count=1.0)
    with pytest.warns(RuntimeWarning, match=r"in `offset` depends on which other rows there are"):
        fit_formula("count ~ x", data, family="poisson", offset="np.log(t) - np.log(t.mean())", k=1, **QUICK)


def test_a_category_of_two_levels_is_a_binomial_response() -> None:
    data = table().assign(won=np.where(table()["x"] + table()["w"] > 0, "yes", "no"))
    result = fit_formula("won ~ t", data, family="binomial", k=1, progress=False)
    assert result.predict().mean() == pytest.approx((data["won"] == "yes").mean())
    categories = fit_formula("won ~ t", data, family="categorical", k=1, progress=False)
    assert categories.bound == pytest.approx(result.bound)


@pytest.mark.parametrize(
    ("formula", "options", "message"),
    [
        ("y ~ nowhere", {}, "must have the column 'nowhere', which `formula` uses"),
        ("n ~ x", {"family": "binomial"}, "`trials` must be given .* as trials='n'; got None, and 8 outcomes"),
        ("y ~ .", {}, "must name its columns"),
        ("y ~ x + offset(t)", {}, "Pass offset="),
        ("y ~ x", {"gate": "~ nowhere"}, "must have the column 'nowhere', which `gate` uses"),
        ("y ~ x", {"groups": "nowhere"}, "must have the column 'nowhere', which `groups` uses"),
        ("y ~ x", {"weights": "nowhere"}, "must have the column 'nowhere', which `weights` uses"),
        ("y ~ x", {"family": "gamma"}, "must be one of 'gaussian', 'poisson'"),
        ("y ~ x", {"offset": "t"}, "`offset` must be None but for the families"),
        ("count ~ x", {"family": "poisson", "trials": "n"}, "`trials` must be None but for the families"),
        ("count ~ 0 + x", {"family": "poisson"}, "must keep its intercept, which GLMExperts have; got 'count ~ 0 . x'"),
        ("y ~ x", {"gate": "~ 0 + w"}, "`gate` must keep its intercept"),
        ("y ~ x", {"random": "~ 1"}, "`groups` must be given with `random`"),
        ("y ~ x", {"random": "~ w", "groups": "group"}, "`random` must have terms of `formula`"),
        ("count ~ x", {"random": "~ 1", "groups": "group", "family": "poisson"}, "`random` must be None but for"),
        ("y ~ x", {"shared": ["w"]}, r"`shared` must be terms of `formula`, \['x'\]; got 'w'"),
        ("y ~ x", {"shared": ["intercept"]}, "`shared` must be terms for the conjugate family"),
        ("place ~ x", {}, "a response of numbers for this family; got 'place' with the levels"),
        ("count + n ~ x", {"family": "poisson"}, "must have 1 column on the left for Poisson; got 2"),
        ("y ~ np.log(0 * t)", {}, "must have finite terms; got 60 infinite values"),
        (["y ~ mixture(mu)", "mu ~ x"], {"family": "student_t"}, "'y ~ mixture.mu, sigma.' for StudentT"),
        ("y ~ x", {"choose": "best"}, "`choose` must be one of 'auto', 'evidence', 'bic'"),
        ("count ~ x", {"choose": "evidence", "family": "poisson"}, "where parameters are estimated"),
        ("y ~ x", {"k": []}, "`k` must have at least one"),
        ("y ~ x", {"k": 0}, "`k` must be at least 1"),
    ],
)
def test_refuses_what_it_cannot_fit_and_says_why(formula: Any, options: dict[str, Any], message: str) -> None:
    before, data = table(), table()
    with pytest.raises(ValueError, match=message):
        fit_formula(formula, data, **{"k": 1, **QUICK, **options})
    pd.testing.assert_frame_equal(data, before)


def test_numbers_that_were_read_as_text_are_pointed_out() -> None:
    data = table()
    text = data.assign(x=data["x"].round(2).astype(str).str.replace(".", ","), place=data["place"].astype("string"))
    result = fit_formula("y ~ x + place", text, k=1, **QUICK)
    own = [caution for caution in result.cautions if "has text" in caution]
    assert len(own) == 1 and "column 'x' in `formula`" in own[0] and "pandas.to_numeric(data['x']" in own[0]
    kept = fit_formula("y ~ C(x)", text, k=1, **QUICK)
    assert not [caution for caution in kept.cautions if "has text" in caution]
    with pytest.raises(ValueError, match=r"got 'y' with 60 levels.*pandas.to_numeric\(data\['y'\]\)") as error:
        fit_formula("y ~ x", data.assign(y=data["y"].astype(str)), k=1, **QUICK)
    assert len(str(error.value)) < 600


def test_numbers_of_components_may_be_numpys() -> None:
    result = fit_formula("y ~ x", table(), **{"k": np.int64(2), **QUICK})
    assert result.choice == "K = 2, the one number of components that was fitted."


def test_a_column_of_the_data_is_not_taken_from_the_callers_variables() -> None:
    elsewhere = np.zeros(N)
    with pytest.raises(ValueError, match="got 'elsewhere', a variable with a value for each row"):
        fit_formula("y ~ np.exp(elsewhere)", table(), k=1)
    assert isinstance(fit_formula("y ~ x", dict(table()), k=1, progress=False), FitResult)
    assert len(elsewhere) == N
