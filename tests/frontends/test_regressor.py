"""The regressor beside `mixpyro.fit` and scikit-learn's regressions."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch import Tensor

from mixpyro import (
    DirichletGate,
    GLMExperts,
    LinearExperts,
    MixtureOfExperts,
    MixtureOfExpertsRegressor,
    SoftmaxGate,
    fit,
)
from mixpyro.experts.families import Poisson

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.usefixtures("without_type_checks"),
]


def quick(n_components: int = 2, **options: Any) -> MixtureOfExpertsRegressor:
    """A regressor of two restarts."""
    return MixtureOfExpertsRegressor(n_components, n_restarts=2, random_state=0, **options)


def test_finds_what_fit_finds(ethanol: tuple[Tensor, Tensor]) -> None:
    x, y = ethanol
    mixture = MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1))
    result = fit(mixture, x, y, n_restarts=5, tolerance=1e-8)
    model = MixtureOfExpertsRegressor(gate="dirichlet", tol=1e-8, random_state=0).fit(x.numpy(), y.numpy().ravel())
    assert model.lower_bound_ == pytest.approx(result.bound, abs=1e-3)
    np.testing.assert_allclose(model.predict(x.numpy()), mixture.predict(x).numpy().ravel(), atol=1e-4)
    log_prob = model.log_prob(x.numpy(), y.numpy().ravel())
    np.testing.assert_allclose(log_prob, mixture.log_prob(x, y).numpy(), atol=1e-3)


@pytest.mark.parametrize("gate", ["softmax", "dirichlet"])
def test_units_and_origins_make_no_difference(ethanol: tuple[Tensor, Tensor], gate: str) -> None:
    x, y = ethanol[0].numpy(), ethanol[1].numpy().ravel()
    first = quick(gate=gate).fit(x, y)
    second = quick(gate=gate).fit(1000.0 * x + 2000.0, 5.0 * y - 40.0)
    np.testing.assert_allclose(second.predict(1000.0 * x + 2000.0), 5.0 * first.predict(x) - 40.0, atol=1e-3)


def test_predictions_are_of_one_distribution(ethanol: tuple[Tensor, Tensor]) -> None:
    x, y = ethanol[0].numpy(), ethanol[1].numpy().ravel()
    model = quick().fit(x, y)
    mean, deviation = model.predict(x[:3], return_std=True)
    draws = model.sample_y(x[:3], 20_000, random_state=1)
    np.testing.assert_allclose(draws.mean(1), mean, atol=0.01)
    np.testing.assert_allclose(draws.std(1), deviation, rtol=0.05)
    quantiles = model.predict_quantiles(x[:3], [0.1, 0.9])
    np.testing.assert_allclose(quantiles, np.quantile(draws, [0.1, 0.9], axis=1).T, atol=0.02)
    np.testing.assert_array_equal(draws, model.sample_y(x[:3], 20_000, random_state=1))
    joint = model.gate_weights(x)
    np.testing.assert_allclose(joint.sum(1), 1.0)
    assert model.responsibilities(x, y).shape == joint.shape == (88, 2)


def test_several_outputs_keep_their_axis() -> None:
    X, y = load_diabetes(return_X_y=True)
    X, outputs = X[:80, :2], np.stack([y[:80], -y[:80], X[:80, 3]], 1)
    model = quick().fit(X, outputs)
    assert model.predict(X).shape == (80, 3)
    assert model.predict_quantiles(X, 0.5).shape == (80, 1, 3)
    assert model.sample_y(X, 4).shape == (80, 3, 4)
    assert quick().fit(X, outputs[:, :1]).predict(X).shape == (80, 1)


def test_predicts_as_well_as_one_regression_where_that_is_right() -> None:
    X, y = load_diabetes(return_X_y=True)
    folds = KFold(3, shuffle=True, random_state=0)
    one = cross_val_score(LinearRegression(), X, y, cv=folds).mean()
    mixture = cross_val_score(quick(), X, y, cv=folds).mean()
    assert mixture > one - 0.03


def test_predicts_better_where_lines_bend() -> None:
    X = np.linspace(-1.0, 1.0, 120).reshape(-1, 1)
    y = np.abs(X[:, 0]) + 0.05 * np.sin(90.0 * X[:, 0])
    folds = KFold(3, shuffle=True, random_state=0)
    assert cross_val_score(LinearRegression(), X, y, cv=folds).mean() < 0.1
    assert cross_val_score(quick(), X, y, cv=folds).mean() > 0.9


def test_works_in_pipelines_and_grid_searches() -> None:
    generator = np.random.default_rng(0)
    kind = generator.choice(["a", "b"], 90)
    x = generator.uniform(-1.0, 1.0, 90)
    data = pd.DataFrame({"kind": kind, "x": x})
    y = np.where(kind == "a", x, -x) + 0.05 * generator.normal(size=90)
    columns = ColumnTransformer([("kind", OneHotEncoder(drop="first"), ["kind"]), ("x", StandardScaler(), ["x"])])
    columns.set_output(transform="pandas")
    grid = {"mixtureofexpertsregressor__n_components": [1, 2]}
    model = make_pipeline(columns.set_params(verbose_feature_names_out=False), quick(gate_columns=["kind_b"]))
    model = model.set_params(columntransformer__kind__sparse_output=False)
    search = GridSearchCV(model, grid, cv=3).fit(data, y)
    assert search.best_params_ == {"mixtureofexpertsregressor__n_components": 2}
    assert search.score(data, y) > 0.9
    gate = search.best_estimator_[-1].result_.names.gate_x
    assert gate == ("kind_b (scaled)",)


def test_counts_by_family_and_templates(ethanol: tuple[Tensor, Tensor]) -> None:
    generator = np.random.default_rng(0)
    X = generator.uniform(0.0, 1.0, (100, 2))
    y = generator.poisson(np.exp(np.where(X[:, 1] > 0.5, 3.0 * X[:, 0], 3.0 - X[:, 0])))
    named = quick(family="poisson", gate="dirichlet").fit(X, y)
    gate, experts = DirichletGate(2), GLMExperts(2, 2, Poisson())
    given = quick(family=experts, gate=gate).fit(X, y)
    np.testing.assert_allclose(named.predict(X), given.predict(X), rtol=1e-6)
    assert not experts.coefficients.any() and given.mixture_.gate is not gate
    assert named.__sklearn_tags__().target_tags.positive_only
    with pytest.raises(ValueError, match="whole numbers"):
        quick(family="poisson").fit(X, y - 0.5)


@pytest.mark.parametrize(
    ("columns", "expected"), [(["b"], [1]), ([0, -1], [0, 2]), (slice(1, None), [1, 2]), ([True, False, True], [0, 2])]
)
def test_gate_and_experts_read_the_columns_that_are_chosen(columns: Any, expected: list[int]) -> None:
    generator = np.random.default_rng(0)
    data = pd.DataFrame(generator.normal(size=(40, 3)), columns=["a", "b", "c"])
    model = quick(gate_columns=columns, expert_columns=["a"]).fit(data, data["a"])
    assert model.mixture_.gate.n_features == len(expected)
    changed = data.copy()
    changed.iloc[:, [k for k in range(3) if k not in {0, *expected}]] = 7.0
    np.testing.assert_array_equal(model.predict(changed), model.predict(data))


def test_rows_of_a_group_have_one_component() -> None:
    generator = np.random.default_rng(0)
    groups = np.arange(60) // 3
    x = generator.uniform(-1.0, 1.0, (60, 1))
    y = np.where(groups % 2, x[:, 0], -x[:, 0]) + 0.3 * generator.normal(size=60)
    model = quick(gate="dirichlet").fit(x, y, groups=groups)
    assert model.result_.shares.shape == (20, 2)
    mixture = MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1))
    result = fit(mixture, torch.tensor(x), torch.tensor(y), groups=groups)
    assert model.lower_bound_ == pytest.approx(result.bound, abs=1e-3)
    np.testing.assert_allclose(model.responsibilities(x, y, groups=groups), model.result_.shares, atol=1e-6)
    assert model.log_prob(x, y, groups=groups).shape == (20,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gate": "soft"}, "`gate` must be one of"),
        ({"family": "normal"}, "`family` must be one of"),
        ({"gate": SoftmaxGate(3, 1)}, "`n_components` must be 3"),
        ({"gate_columns": ["a"]}, "no column names"),
        ({"gate_columns": [2]}, "numbers of columns of X, which has 1"),
        ({"n_restarts": 0}, "n_restarts"),
    ],
)
def test_refuses_wrong_parameters(options: Any, message: str) -> None:
    X = np.arange(12.0).reshape(-1, 1)
    with pytest.raises(ValueError, match=message):
        MixtureOfExpertsRegressor(**options).fit(X, X[:, 0])
