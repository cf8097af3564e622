"""Rows as frames, Series, arrays and lists give what tensors give, with names and row labels kept."""

import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from mixpyro import (
    DirichletGate,
    FitResult,
    GaussianExperts,
    GLMExperts,
    LinearExperts,
    MixtureOfExperts,
    SoftmaxGate,
    StreamingFit,
    coefficients,
    compare,
    criteria,
    fit,
    fit_minibatches,
    grow_tree,
    linear_response,
    load,
    rearrange_tree,
    save,
    to_arviz,
)
from mixpyro.diagnostics import ResponsibilityDraws
from mixpyro.experts.families import Poisson

N_ROWS = 60


def frame() -> pd.DataFrame:
    """Rows with labels, two inputs, a category, an input of the gate, an output and counts."""
    draw = np.random.default_rng(0)
    dose, age = draw.normal(size=N_ROWS), draw.normal(size=N_ROWS)
    group = draw.integers(3, size=N_ROWS)
    z = draw.random(N_ROWS) < 1.0 / (1.0 + np.exp(-3.0 * age))
    effect = np.where(z, 3.0 + dose, -3.0 - dose) + 0.5 * group + 0.3 * draw.normal(size=N_ROWS)
    data = {
        "dose": dose,
        "age": age,
        "site": pd.Categorical(np.array(["a", "b", "c"])[group], categories=["b", "a", "c"]),
        "effect": effect,
        "visits": draw.poisson(2.0 + 5.0 * z),
        "weight": draw.integers(1, 4, size=N_ROWS),
    }
    return pd.DataFrame(data, index=[f"patient {i}" for i in range(N_ROWS)])


def fitted(x: Any, y: Any, gate_x: Any = None, *, gate: Any = None, **options: Any) -> FitResult:
    """Fit two lines."""
    mixture = MixtureOfExperts(gate or DirichletGate(2), LinearExperts(2, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return fit(mixture, x, y, gate_x=gate_x, n_restarts=2, progress=False, **options)


def tensor(column: pd.Series) -> Tensor:
    """A column as float64 [N]."""
    return torch.tensor(column.to_numpy(dtype=float))


FORMS: dict[str, Any] = {
    "frame": lambda column: column.to_frame(),
    "Series": lambda column: column,
    "array": lambda column: column.to_numpy(),
    "column of an array": lambda column: column.to_numpy()[:, None],
    "read-only array": lambda column: np.frombuffer(column.to_numpy(dtype=float).tobytes()),
    "list": lambda column: column.tolist(),
    "list of lists": lambda column: [[value] for value in column],
    "nullable": lambda column: column.convert_dtypes(),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_what_tensors_give(form: str, bad_arguments: None) -> None:
    data, form_of = frame(), FORMS[form]
    expected = fitted(tensor(data["dose"]).unsqueeze(1), tensor(data["effect"]))
    result = fitted(form_of(data["dose"]), form_of(data["effect"]))
    assert result.trace == expected.trace
    other = form_of(data["dose"][:7])
    predicted = np.asarray(result.mixture.predict(other)).reshape(-1)
    np.testing.assert_array_equal(predicted, expected.mixture.predict(tensor(data["dose"][:7]).unsqueeze(1))[:, 0])


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8, bool, np.float32, np.float64])
def test_numbers_of_any_kind_are_numbers(dtype: type, bad_arguments: None) -> None:
    counts: np.ndarray = np.arange(20).astype(dtype)
    y = np.linspace(0.0, 1.0, 20)
    result = fitted(counts[:, None], y)
    assert result.trace == fitted(torch.tensor(counts.astype(float))[:, None], torch.tensor(y)).trace
    if dtype is not np.float32:  # A tensor of floats has a dtype that its user chose.
        assert fitted(torch.tensor(counts)[:, None], torch.tensor(y)).trace == result.trace


def test_names_rows_and_levels_are_kept(bad_arguments: None) -> None:
    data = frame()
    mixture = MixtureOfExperts(SoftmaxGate(2, 1, prior_scale=2.0), LinearExperts(2, 3))
    x = data[["dose", "site"]]
    result = fit(mixture, x, data["effect"], gate_x=data[["age"]], n_restarts=3, progress=False)
    assert result.names.x == ("dose", "site[T.a]", "site[T.c]") and result.names.gate_x == ("age",)
    assert result.names.y == ("effect",)
    by_hand = torch.stack([tensor(data["dose"]), *(tensor(data["site"] == level) for level in "ac")], dim=1)
    other = MixtureOfExperts(SoftmaxGate(2, 1, prior_scale=2.0), LinearExperts(2, 3))
    gate_x = tensor(data["age"]).unsqueeze(1)
    expected = fit(other, by_hand, tensor(data["effect"]), gate_x=gate_x, n_restarts=3, progress=False)
    assert result.trace == expected.trace
    for labelled in (result.labels, result.responsibilities, result.predict(), result.assign().log_evidence):
        assert list(labelled.index) == list(data.index)
    # Columns are found by name, in a frame that has all of them in another order.
    shuffled = data.loc[data.index[:9], ["weight", "effect", "age", "site", "dose"]]
    np.testing.assert_array_equal(result.predict(shuffled), result.predict().iloc[:9])
    np.testing.assert_allclose(result.assign(shuffled).responsibilities, result.responsibilities.iloc[:9], rtol=1e-6)
    means = expected.mixture.predict(by_hand, gate_x=gate_x)
    np.testing.assert_array_equal(result.predict(), means[:, 0])
    quantiles = mixture.quantile(shuffled, [0.1, 0.9])
    assert list(quantiles.columns) == [0.1, 0.9] and list(quantiles.index) == list(shuffled.index)
    names = list(coefficients(result))
    assert "gate: component 1 against 0, age" in names and "experts: component 0, site[T.c]" in names


def test_what_does_not_fit_is_refused_by_name(bad_arguments: None) -> None:
    data = frame()
    mixture = MixtureOfExperts(DirichletGate(2), LinearExperts(2, 3))
    fit(mixture, data[["dose", "site"]], data["effect"], n_restarts=2, progress=False)
    with pytest.raises(ValueError, match=r"`x` must have the columns of the fit.*without 'dose'"):
        mixture.predict(data[["age", "site"]])
    unseen = data.assign(site="d")
    with pytest.raises(ValueError, match=r"`x` must have the levels of the fit in column 'site'.*got 'd'"):
        mixture.predict(unseen)
    with pytest.raises(ValueError, match="`y` must have the row labels of `x`"):
        fit(mixture, data[["dose"]], data["effect"].iloc[::-1])
    with pytest.raises(TypeError, match="`y` must have numbers in column 'site'"):
        fit(mixture, data[["dose"]], data["site"])
    with pytest.raises(ValueError, match="`x` must have a level in every row of column 'site'"):
        fit(mixture, data[["site"]].where(data["dose"] > 0), data["effect"])
    with pytest.raises(ValueError, match="`x` must be finite; got 1 NaN"):
        fit(
            MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1)),
            data["dose"].where(data.index != "patient 3"),
            data["effect"],
        )
    with pytest.raises(TypeError, match="`x` must be a tensor, an array, a list, a DataFrame or a Series; got set"):
        fit(mixture, {1.0, 2.0}, data["effect"])


def test_labels_may_be_missing_numbers(bad_arguments: None) -> None:
    data = frame()
    known = pd.Series(np.where(np.arange(N_ROWS) < 5, (data["effect"] > 0).astype(float), np.nan), index=data.index)
    result = fitted(data["dose"], data["effect"], observed=known, weights=data["weight"])
    assert result.observed is not None and result.observed[5:].eq(-1).all() and result.observed[:5].ge(0).all()
    assert result.weights is not None and result.weights.tolist() == data["weight"].tolist()
    with pytest.raises(ValueError, match="`observed` must be whole numbers"):
        fitted(data["dose"], data["effect"], observed=known + 0.5)


@pytest.mark.parametrize("path", ["save", "pickle", "state"])
def test_names_survive(path: str, tmp_path: Path, bad_arguments: None) -> None:
    data = frame()
    mixture = MixtureOfExperts(DirichletGate(2), LinearExperts(2, 3))
    result = fit(mixture, data[["dose", "site"]], data["effect"], n_restarts=2, progress=False)
    if path == "save":
        save(mixture, tmp_path / "mixture.pt")
        copied = load(tmp_path / "mixture.pt")
    elif path == "pickle":
        copied = pickle.loads(pickle.dumps(result)).mixture
    else:
        copied = MixtureOfExperts(DirichletGate(2), LinearExperts(2, 3))
        copied.load_state_dict(mixture.state_dict())
    assert copied.fitted_columns == mixture.fitted_columns
    np.testing.assert_array_equal(copied.predict(data), mixture.predict(data))


def test_streams_and_minibatches_take_frames(bad_arguments: None) -> None:
    data = frame()
    mixture = MixtureOfExperts(DirichletGate(2), LinearExperts(2, 3))
    stream = StreamingFit(mixture, n_restarts=2)
    for rows in (data.iloc[:40], data.iloc[40:]):
        stream.partial_fit(rows[["dose", "site"]], rows["effect"])
    assert mixture.predict(data).name == "effect"
    with pytest.raises(ValueError, match="levels of the fit"):
        stream.partial_fit(data.assign(site="z")[["dose", "site"]], data["effect"])
    mixture = MixtureOfExperts(DirichletGate(2), LinearExperts(2, 3))
    options: dict[str, Any] = {"batch_size": 20, "n_restarts": 2, "progress": False}
    result = fit_minibatches(mixture, data[["dose", "site"]], data["effect"], **options)
    assert list(result.labels.index) == list(data.index)


def test_groups_label_what_is_said_of_objects(bad_arguments: None) -> None:
    data = frame()
    clinic = pd.Series([f"clinic {i // 5}" for i in range(N_ROWS)], index=data.index)
    result = fitted(data["dose"], data["effect"], groups=clinic)
    assert list(result.labels.index) == list(dict.fromkeys(clinic))
    assert list(result.assign().responsibilities.index) == list(dict.fromkeys(clinic))
    found = result.assign(data, groups=clinic)
    np.testing.assert_allclose(found.responsibilities, result.responsibilities, atol=1e-6)
    with pytest.raises(ValueError, match="`groups` must have the row labels of"):
        fitted(data["dose"], data["effect"], groups=clinic.iloc[::-1])


def test_reports_read_the_rows_of_the_result(bad_arguments: None) -> None:
    data = frame()
    x, y = tensor(data["dose"]).unsqueeze(1), tensor(data["effect"])
    result = fitted(data["dose"], data["effect"])
    assert criteria(result) == criteria(result, x, y) == criteria(result, data["dose"], data["effect"])
    own, given = linear_response(result), linear_response(result, x, y)
    assert torch.equal(own.estimates, given.estimates) and own.names[1] == "experts: component 0, intercept"
    converted = to_arviz(result, n_draws=10)
    assert list(converted["observed_data"]["object"].values[:2]) == ["patient 0", "patient 1"]
    assert list(converted["posterior"]["regressor"].values) == ["intercept", "dose"]
    ranking = compare({"a": result, "b": fitted(data["dose"], data["effect"])})
    assert list(ranking.to_frame().index) == list(ranking)
    with pytest.raises(ValueError, match="must be fits to the same y; got 'b'"):
        compare({"a": result, "b": fitted(data["dose"], data["age"])})
    with pytest.raises(ValueError, match="`x` and `y` must be given"):
        coefficients(result.mixture)


def test_a_density_needs_no_inputs(bad_arguments: None) -> None:
    data = frame()[["effect", "dose"]]
    mixture = MixtureOfExperts(DirichletGate(2), GaussianExperts(2, 2))
    result = fit(mixture, None, data, n_restarts=2, progress=False)
    assert list(result.predict().columns) == ["effect", "dose"]
    assert any("mean effect" in name for name in coefficients(result))


def test_nothing_that_comes_out_has_a_graph(bad_arguments: None) -> None:
    data = frame()
    x, y = tensor(data["dose"]).unsqueeze(1), tensor(data["visits"])
    mixture = MixtureOfExperts(SoftmaxGate(2, 1), GLMExperts(2, 1, Poisson()))
    result = fit(mixture, x, y, n_restarts=2, progress=False)
    found = [result.shares, result.predict(), *result.assign(), result.quantile(0.5), *result.sample(3)]
    found += [mixture.gate.weights(x), mixture.experts.predict(x), mixture.log_prob(x, y), result.labels]
    found += [mixture.gate.weights(x=data[["dose"]]), mixture.expected_log_joint(x.numpy(), y.numpy())]
    for value in found:
        assert np.isfinite(value.numpy()).all()


def test_a_fit_to_tensors_loads_no_tables() -> None:
    code = (
        "import sys, torch; from mixpyro import *;"
        "x = torch.linspace(0, 1, 20).double()[:, None];"
        "result = fit(MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1)), x, x, n_restarts=2, progress=False);"
        "result.predict(); result.labels;"
        "assert not {'pandas', 'matplotlib', 'sklearn', 'arviz', 'formulaic', 'polars'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_trees_keep_names(bad_arguments: None) -> None:
    data = frame()
    grown = grow_tree(lambda k: LinearExperts(k, 1), data[["dose"]], data["effect"], most_components=2, n_restarts=2)
    assert list(grown.result.labels.index) == list(data.index) and grown.result.names.y == ("effect",)
    again = rearrange_tree(grown.result)
    assert again.mixture.predict(data).name == "effect"
    summary = ResponsibilityDraws(to_arviz(grown.result, n_draws=20), grown.result).summary()
    assert summary.mean.shape == grown.result.shares.shape


def test_levels_without_names_are_refused(bad_arguments: None) -> None:
    """A mixture could not find them again in new rows."""
    with pytest.raises(TypeError, match="`x` must have numbers; got values of dtype <U1"):
        fitted(["a", "b", "a"], [1.0, 2.0, 3.0])
    data = frame()
    result = fitted(data["dose"], data["effect"])
    with pytest.raises(ValueError, match=r"`x` must have the columns of the fit.*An array goes by position"):
        result.predict(data["age"])
    assert len(result.predict(data["age"].to_numpy())) == N_ROWS
    with pytest.raises(ValueError, match=r"Its columns are dose, age\. Choose among them, or set `n_features`"):
        fitted(data[["dose", "age"]], data["effect"])
    with pytest.raises(
        ValueError, match=r"c9 2\], …, a category or text as one for each level but the first. Choose"
    ) as error:
        fitted(pd.DataFrame({"dose": [f"c9 {i}" for i in range(N_ROWS)]}), data["effect"])
    assert len(str(error.value)) < 500
    with pytest.raises(TypeError, match=r"in column 'y'; got values of dtype .*Use pandas.to_numeric"):
        fitted(data["dose"], pd.Series(["1"] * N_ROWS, name="y", index=data.index))


def test_tensors_predict_one_output_as_a_column(bad_arguments: None) -> None:
    """As the mixture does: y [N, 1] less a prediction [N] would be [N, N]."""
    x = torch.linspace(0.0, 1.0, 20).double().unsqueeze(1)
    assert fitted(x, x).predict().shape == (20, 1)


def test_levels_that_no_fit_had_are_refused(bad_arguments: None) -> None:
    """Each frame would be coded by its own levels: b is 0 beside c, and 1 beside a."""
    data, sites = frame(), pd.DataFrame({"site": ["b", "c"]})
    result = fitted(tensor(data["dose"] > 0).unsqueeze(1), tensor(data["effect"]))
    stream = StreamingFit(result.mixture, n_restarts=0)
    for call in (result.predict, lambda x: criteria(result, x, [0, 1]), lambda x: stream.partial_fit(x, [0, 1])):
        with pytest.raises(TypeError, match=r"`x` must have numbers in column 'site'.*the fit had no levels"):
            call(sites)
    with pytest.raises(TypeError, match="`y` must have numbers in column 'site'"):
        fitted(data["dose"], data[["effect", "site"]])
