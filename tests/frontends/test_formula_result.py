"""Results of formulas read tables of raw columns, and give frames with the labels of their rows."""

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from mixpyro import FormulaResult, GLMExperts, MixtureOfExperts, SoftmaxGate, fit_formula
from mixpyro.experts.families import Poisson
from mixpyro.reports.components import components

N = 45
pytestmark = [pytest.mark.filterwarnings("ignore::RuntimeWarning"), pytest.mark.usefixtures("without_type_checks")]
QUICK: dict[str, Any] = {"n_restarts": 1, "n_candidates": 1, "max_iterations": 30, "progress": False}


def table() -> pd.DataFrame:
    """Counts by time, of two kinds of objects in groups of three."""
    rng = np.random.default_rng(2)
    kind, x = np.repeat(rng.integers(0, 2, N // 3), 3), rng.uniform(0.0, 2.0, N)
    data = pd.DataFrame({"x": x, "place": rng.choice(["a", "b"], N), "time": rng.uniform(1.0, 4.0, N)})
    data["group"] = np.repeat([f"g{i}" for i in range(N // 3)], 3)
    data["count"] = rng.poisson(data["time"] * np.exp(x + 1.5 * kind))
    data["y"] = np.where(kind, 2.0, -2.0) + x + 0.5 * rng.normal(size=N)
    data["z"] = rng.normal(size=N)
    return data.set_index(pd.Index([f"row {i}" for i in range(N)]))


def counts(**options: Any) -> FormulaResult:
    """Poisson regressions with a spline, an offset and a gate."""
    given = {"gate": "~ place", "family": "poisson", "offset": "log(time)", "k": 2, **QUICK, **options}
    return fit_formula("count ~ bs(x, df=3)", table(), **given)


def lines(**options: Any) -> FormulaResult:
    """Bayesian regressions."""
    return fit_formula("y ~ x", table(), **{"k": 2, **QUICK, **options})


@pytest.mark.parametrize("made", [counts, lines])
def test_the_rows_of_the_fit_have_the_same_results_as_new_rows_of_their_values(made: Any) -> None:
    result, data = made(), table()
    for method in ("predict", "log_prob", "gate_weights"):
        fitted, new = getattr(result, method)(), getattr(result, method)(data.iloc[[5, 2]])
        assert list(fitted.index) == list(data.index)
        assert list(new.index) == ["row 5", "row 2"]
        np.testing.assert_allclose(new, fitted.iloc[[5, 2]], rtol=1e-12, atol=1e-12)
    quantiles = result.quantile([0.1, 0.9], data.iloc[:4])
    assert list(quantiles.columns) == [0.1, 0.9]
    pd.testing.assert_frame_equal(quantiles, result.quantile([0.1, 0.9]).iloc[:4])
    new, fitted = result.assign(data.iloc[:4]), result.assign()
    pd.testing.assert_frame_equal(new.responsibilities, fitted.responsibilities.iloc[:4], check_exact=False)
    assert list(new.log_evidence.index) == list(data.index[:4])


def test_predictions_are_those_of_the_mixture_by_hand() -> None:
    result, data = counts(), table()
    assert result.model is not None
    x = torch.tensor(result.model.experts.columns(data).to_numpy())
    exposure = torch.tensor(data["time"].to_numpy()).unsqueeze(1)
    gate_x = torch.tensor((data["place"] == "b").to_numpy(dtype=float)).unsqueeze(1)
    mixture = MixtureOfExperts(SoftmaxGate(2, 1), GLMExperts(2, 3, Poisson(), exposure=True))
    mixture.hold(result.mixture.state())
    expected = mixture.predict(torch.cat([x, exposure], 1), gate_x=gate_x)
    np.testing.assert_allclose(result.predict(), expected[:, 0].detach(), rtol=1e-12)
    np.testing.assert_allclose(result.gate_weights(), mixture.gate.weights(gate_x).detach(), rtol=1e-12)
    torch.testing.assert_close(result.predict(torch.cat([x, exposure], 1), gate_x=gate_x), expected)


def test_new_rows_need_the_columns_that_are_read_and_no_response() -> None:
    result, data = counts(), table().drop(columns=["count", "group"])
    assert len(result.predict(data)) == N
    assert result.predict({"x": [1.0], "place": ["a"], "time": [2.0]}).shape == (1,)
    for column in ("x", "place", "time"):
        with pytest.raises(ValueError, match=f"must have the column '{column}'"):
            result.predict(data.drop(columns=column))
    with pytest.raises(ValueError, match="must have the column 'count'"):
        result.log_prob(data)
    with pytest.raises(ValueError, match="levels of the fit in column 'place'"):
        result.predict(data.assign(place="c"))
    with pytest.raises(ValueError, match=r"`offset` is 'log.time.', whose exposure must be"):
        result.predict(data.assign(time=0.0))


def test_draws_are_frames_with_a_column_each_and_have_the_predictive_mean() -> None:
    result = lines()
    drawn: Any = result.sample(400, table().iloc[:3], seed=1)
    assert drawn.y.shape == drawn.components.shape == (3, 400)
    assert list(drawn.y.index) == ["row 0", "row 1", "row 2"]
    np.testing.assert_allclose(drawn.y.mean(axis=1), result.predict(table().iloc[:3]), atol=0.6)
    again: Any = result.sample(400, table().iloc[:3], seed=1)
    pd.testing.assert_frame_equal(drawn.y, again.y)


def test_several_responses_have_a_column_each() -> None:
    result = fit_formula("y + z ~ 1", table(), k=2, **QUICK)
    assert list(result.predict().columns) == ["y", "z"]
    drawn: Any = result.sample(2)
    assert list(drawn.y.columns) == [(0, "y"), (0, "z"), (1, "y"), (1, "z")]
    assert len(result.quantile(0.5).columns) == 2


def test_a_category_has_a_probability_for_each_of_its_levels() -> None:
    data = table()
    data["level"] = pd.Categorical(np.where(data["x"] < 0.5, "low", data["place"]), categories=["low", "b", "a"])
    result = fit_formula("level ~ z", data, family="categorical", k=1, **QUICK)
    shares = data["level"].value_counts(normalize=True, sort=False)
    assert result.predict().mean().to_dict() == pytest.approx(shares.to_dict())
    assert "log odds against level = 'low': 1 of 'b', 2 of 'a'" in result.summary()
    two = fit_formula("place ~ z", data, family="binomial", k=1, **QUICK)
    assert "probabilities are those of place = 'b'" in two.summary()


def test_a_response_that_was_not_observed_is_no_caution_and_of_no_component() -> None:
    data = table()
    data.loc[data["z"] > 1.0, "y"] = np.nan
    result = fit_formula("y ~ x", data, k=2, missing="ignore", **QUICK)
    assert not any("depends on which other rows" in caution for caution in result.cautions)
    sizes = [row.most_probable for row in components(result).values()]
    assert sizes == result.labels[data["y"].notna()].value_counts(sort=False).sort_index().tolist()


def test_labels_are_of_rows_and_responsibilities_of_groups() -> None:
    result, data = lines(groups="group"), table()
    labels, shares = result.labels, result.responsibilities
    assert list(labels.index) == list(data.index)
    assert list(shares.index) == list(data["group"].unique())
    assert (labels.to_numpy() == shares.to_numpy().argmax(1).repeat(3)).all()
    new = data.loc[data["group"].isin(["g1", "g2"])]
    np.testing.assert_allclose(result.assign(new).responsibilities, shares.loc[["g1", "g2"]], rtol=1e-9)
    np.testing.assert_allclose(result.log_prob(new), result.log_prob().loc[["g1", "g2"]], rtol=1e-9)


def test_coefficients_have_the_names_of_the_terms() -> None:
    names = counts().coefficients().index.get_level_values("parameter")
    assert set(names) == {"intercept", "place[T.b]", *(f"bs(x, df=3)[{i}]" for i in (1, 2, 3))}


def test_other_numbers_of_components_are_kept_and_compared() -> None:
    result = lines(k=[3, 1, 2, 2])
    table_of_all = result.candidates
    assert table_of_all is not None
    assert list(table_of_all.index) == [1, 2, 3]
    for k in (1, 2, 3):
        other = result.of(k)
        assert other.mixture.n_components == k
        assert table_of_all.loc[k, "bound"] == other.bound
        assert other.of(result.mixture.n_components).bound == result.bound
    with pytest.raises(ValueError, match=r"must be one of the numbers that were fitted, \[1, 2, 3\]; got 4"):
        result.of(4)


def test_a_summary_begins_with_what_was_asked() -> None:
    result = lines(k=[1, 2], gate="~ x")
    text = result.summary().splitlines()
    assert text[0] == "y ~ x, weights ~ x; family gaussian"
    assert text[1] == "45 rows used"
    assert text[2] == result.choice
    assert any(line.startswith("K = 2") for line in text)
    assert repr(result).startswith(f"FormulaResult(y ~ x: {result.mixture.n_components} component")
    page = result._repr_html_()
    assert "y ~ x, weights ~ x" in page
    assert "numbers of components" in page


def test_a_result_is_pickled_with_its_formulas() -> None:
    result = counts()
    again = pickle.loads(pickle.dumps(result))
    pd.testing.assert_series_equal(again.predict(table()), result.predict(table()))
