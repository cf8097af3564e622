"""What holds for all three estimators: scikit-learn's checks, weights, copies, names, streams."""

import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError

import mixpyro
from mixpyro import BayesianMixture, MixtureOfExpertsClassifier, MixtureOfExpertsRegressor

ROOT = Path(mixpyro.__file__).parents[1]
NAMES = ["BayesianMixture", "MixtureOfExpertsClassifier", "MixtureOfExpertsRegressor"]
pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.usefixtures("without_type_checks"),
]


def estimators() -> list[Any]:
    """One of each, of two components and one restart."""
    kinds = (BayesianMixture, MixtureOfExpertsClassifier, MixtureOfExpertsRegressor)
    return [kind(2, n_restarts=1, random_state=0) for kind in kinds]


def table() -> tuple[pd.DataFrame, pd.Series]:
    """Lengths and widths of the petals of 60 irises of two species, and 0 or 1 for the species."""
    rows, kinds = load_iris(return_X_y=True, as_frame=True)
    return rows.iloc[70:130, 2:].rename(columns={"petal length (cm)": "length"}), (kinds.iloc[70:130] > 1).astype(int)


def clear_table() -> tuple[pd.DataFrame, pd.Series]:
    """160 rows in two clusters that differ in their lines, and 0 or 1 for what is above its line."""
    generator = np.random.default_rng(0)
    side = generator.integers(0, 2, 160)
    x = generator.normal(6.0 * side, 1.0)
    noise = generator.normal(size=160)
    data = pd.DataFrame({"x": x, "z": np.where(side > 0, x, 3.0 - x) + noise})
    return data, pd.Series(noise + generator.normal(0.0, 0.5, 160) > 0).astype(int)


def predicted(model: Any, X: Any) -> np.ndarray:
    """What the estimator says of rows, as numbers."""
    return model.predict_proba(X) if hasattr(model, "predict_proba") else model.predict(X)


def said(model: Any, X: Any) -> np.ndarray:
    """What does not depend on how components are numbered: log densities, or predictions."""
    return model.score_samples(X) if hasattr(model, "score_samples") else predicted(model, X)


def test_all_pass_the_checks_of_scikit_learn() -> None:
    environment = os.environ | {"SCIPY_ARRAY_API": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", "-m", "tests.frontends.checks", *NAMES]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert not run.returncode, run.stderr
    for name, line in zip(NAMES, run.stdout.splitlines(), strict=True):
        words = line.split()
        assert words[0] == f"{name}:" and int(words[1]) > 50 and words[2:] == ["passed"], line


def test_a_plain_import_loads_no_scikit_learn() -> None:
    code = "import sys, mixpyro; dir(mixpyro); assert not {'sklearn', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_help_needs_no_extra_and_the_estimators_say_which() -> None:
    code = (
        "import sys; sys.modules['sklearn'] = None; import pydoc, mixpyro;"
        "print(len(pydoc.render_doc(mixpyro))); mixpyro.MixtureOfExpertsRegressor"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert int(run.stdout) > 1000
    assert "needs sklearn" in run.stderr and "pip install 'mixpyro[sklearn]'" in run.stderr
    with pytest.raises(AttributeError, match="no attribute 'Regressor'"):
        mixpyro.Regressor  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("model", estimators(), ids=NAMES)
def test_weights_are_repetition_and_order_makes_no_difference(model: Any) -> None:
    X, y = table()
    generator = np.random.default_rng(0)
    weights = generator.integers(0, 4, len(X))
    order = generator.permutation(np.arange(len(X)).repeat(weights))
    weighted = clone(model).fit(X, y, sample_weight=weights)
    repeated = clone(model).fit(X.iloc[order], y.iloc[order])
    np.testing.assert_array_equal(predicted(weighted, X), predicted(repeated, X))
    assert weighted.lower_bound_ == repeated.lower_bound_
    np.testing.assert_allclose(weighted.result_.counts, repeated.result_.counts)


@pytest.mark.parametrize("model", estimators(), ids=NAMES)
def test_result_is_of_the_rows_as_they_were_given(model: Any) -> None:
    X, y = table()
    weights = np.arange(len(X)) % 3.0
    result = clone(model).fit(X, y, sample_weight=weights).result_
    assert result.labels.index.equals(X.index)
    found = result.assign().responsibilities
    np.testing.assert_allclose(result.responsibilities, found, atol=1e-9)
    np.testing.assert_array_equal(result.weights, weights)
    terms = result.assign().log_evidence.to_numpy() * weights
    bound = terms.sum() - float(result.mixture.kl_divergence())
    assert bound == pytest.approx(result.bound, abs=1e-6)
    names = result.names.y if isinstance(model, BayesianMixture) else result.names.x
    assert all(name.startswith(own) for name, own in zip(names, X.columns, strict=True))
    np.testing.assert_allclose(result.optimum(0).responsibilities, result.responsibilities)


@pytest.mark.parametrize("model", estimators(), ids=NAMES)
def test_copies_and_pickles_predict_the_same(model: Any) -> None:
    X, y = table()
    fitted = clone(model).set_params(random_state=np.random.RandomState(3)).fit(X, y)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(predicted(fitted, X), predicted(again, X))
    assert str(again.result_) == str(fitted.result_)
    with pytest.raises(NotFittedError):
        predicted(clone(fitted), X)


@pytest.mark.parametrize("model", estimators(), ids=NAMES)
def test_batches_end_near_the_fit(model: Any) -> None:
    X, y = clear_table()
    fitted, stream = clone(model).fit(X, y), clone(model)
    for first in range(0, len(X), 80):
        batch = slice(first, first + 80)
        stream.partial_fit(X.iloc[batch], y.iloc[batch])
        if not first:
            stream = pickle.loads(pickle.dumps(stream))
    assert not hasattr(stream, "result_") and stream.n_iter_ == 2
    assert np.abs(said(fitted, X) - said(stream, X)).mean() < 0.1


@pytest.mark.parametrize("model", estimators()[::2], ids=NAMES[::2])
def test_batches_after_a_fit_go_on_from_it(model: Any) -> None:
    X, y = clear_table()
    twice = clone(model).fit(pd.concat([X, X]), pd.concat([y, y]))
    fitted = clone(model).fit(X, y).partial_fit(X, y)
    assert np.abs(said(twice, X) - said(fitted, X)).mean() < 0.08
    assert fitted.mixture_.gate.n_components == 2 and fitted.n_iter_ == 2


def test_cautions_of_a_fit_are_convergence_warnings() -> None:
    X, y = table()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        MixtureOfExpertsRegressor(2, max_iter=1, n_restarts=1, random_state=0).fit(X, y)
    own = [one for one in caught if "has not converged" in str(one.message)]
    assert own and own[0].category is ConvergenceWarning


@pytest.mark.parametrize(
    ("weights", "message"),
    [([1.0, 2.0], "shape"), (np.zeros(60), "zero in all"), (np.full(60, -1.0), "at least 0"), ([np.nan] * 60, "NaN")],
)
def test_refuses_wrong_weights(weights: Any, message: str) -> None:
    X, y = table()
    with pytest.raises(ValueError, match=message):
        MixtureOfExpertsRegressor().fit(X, y, sample_weight=weights)
