"""Formulas and estimators of scikit-learn."""

import copy
import functools
import random
from typing import Any

import numpy as np
import pandas as pd

import mixpyro
from tests.fuzz.call import Call
from tests.fuzz.targets.fitted import QUICK

N = 30


def table() -> pd.DataFrame:
    """Return two kinds of rows, with groups and counts."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=N)
    kind = rng.integers(0, 2, N)
    data = pd.DataFrame({"x": x, "w": rng.normal(size=N), "t": rng.uniform(1.0, 5.0, N), "n": rng.integers(4, 9, N)})
    data["place"] = rng.choice(["a", "b", "c"], N)
    data["group"] = np.repeat(np.arange(N // 2), 2)
    data["y"] = np.where(kind, 1.0 + 2.0 * x, -1.0 - x) + 0.3 * rng.normal(size=N)
    data["count"] = rng.poisson(data["t"] * np.exp(0.3 * x + kind))
    return data


def fit_formula(rng: random.Random) -> Call:
    """A fit by a formula."""
    given: dict[str, Any] = rng.choice(
        [
            {"formula": "y ~ x + w", "gate": "~ x", "family": "gaussian"},
            {"formula": "y ~ place", "groups": "group", "weights": None},
            {"formula": "count ~ x", "family": "poisson", "offset": "log(t)"},
            {"formula": "y ~ x", "random": "1", "groups": "group"},
            {"formula": "y ~ x + w", "shared": ["w"]},
        ]
    )
    given = {"data": table(), "k": 2, **given, **QUICK}
    return Call("fit_formula", mixpyro.fit_formula, given, fixed=frozenset({"progress"}))


@functools.cache
def _of_formula() -> Any:
    """Return a fit by a formula."""
    return mixpyro.fit_formula("y ~ x + w", table(), gate="~ x", k=2, **QUICK)


def formula_result(rng: random.Random) -> Call:
    """Methods of a fit by a formula."""
    result = _of_formula()
    data = table()
    name, given = rng.choice(
        [
            ("predict", {"data": data}),
            ("assign", {"data": data}),
            ("log_prob", {"data": data}),
            ("gate_weights", {"data": data}),
            ("quantile", {"probabilities": [0.5], "data": data}),
            ("sample", {"n_draws": 2, "data": data, "seed": 0}),
            ("summary", {"probability": 0.8}),
            ("of", {"k": 2}),
        ]
    )
    return Call(f"FormulaResult.{name}", getattr(result, name), given, owner=result)


def _data(rng: random.Random) -> tuple[Any, Any]:
    """Return X and y as arrays."""
    data = table()
    return data[["x", "w"]].to_numpy(), data["y"].to_numpy()


ESTIMATORS: dict[str, dict[str, Any]] = {
    "MixtureOfExpertsRegressor": {"n_components": 2, "gate": "softmax", "family": "gaussian", "n_restarts": 1},
    "MixtureOfExpertsClassifier": {"n_components": 2, "gate": "softmax", "prior_scale": 2.0, "n_restarts": 1},
    "BayesianMixture": {"n_components": 3, "covariance_type": "full", "n_restarts": 1},
}


def estimator(rng: random.Random) -> Call:
    """A fit of an estimator whose parameters, or rows, may be odd."""
    name = rng.choice(list(ESTIMATORS))
    x, y = _data(rng)
    given: dict[str, Any] = {"max_iter": 5, "tol": 1e-3, "random_state": 0, **ESTIMATORS[name]}
    target = (y > 0).astype(int) if name == "MixtureOfExpertsClassifier" else y

    def made(X: Any, y: Any, **parameters: Any) -> Any:
        return getattr(mixpyro, name)(**parameters).fit(X, y)

    if rng.random() < 0.6:
        return Call(f"{name}.fit", made, {"X": x, "y": target, **given})
    model, method = copy.deepcopy(_estimated(name)), rng.choice(["fit", "partial_fit"])
    rows = {"X": x, "y": target, "sample_weight": np.ones(N)}
    return Call(f"{name}.{method}", getattr(model, method), rows, owner=model, changes=True)


@functools.cache
def _estimated(name: str) -> Any:
    """Return an estimator that has been fitted."""
    x, y = _data(random.Random(0))
    target = (y > 0).astype(int) if name == "MixtureOfExpertsClassifier" else y
    return getattr(mixpyro, name)(max_iter=5, random_state=0, **ESTIMATORS[name]).fit(x, target)


def estimates(rng: random.Random) -> Call:
    """Predictions of an estimator."""
    name = rng.choice(list(ESTIMATORS))
    model = _estimated(name)
    x, y = _data(rng)
    methods: dict[str, list[tuple[str, dict[str, Any]]]] = {
        "MixtureOfExpertsRegressor": [
            ("predict", {"X": x, "return_std": True}),
            ("predict_quantiles", {"X": x, "quantiles": (0.1, 0.9)}),
            ("sample_y", {"X": x, "n_samples": 2, "random_state": 0}),
            ("log_prob", {"X": x, "y": y}),
            ("responsibilities", {"X": x, "y": y}),
            ("gate_weights", {"X": x}),
        ],
        "MixtureOfExpertsClassifier": [
            ("predict", {"X": x}),
            ("predict_proba", {"X": x}),
            ("predict_log_proba", {"X": x}),
            ("log_prob", {"X": x, "y": (y > 0).astype(int)}),
            ("gate_weights", {"X": x}),
        ],
        "BayesianMixture": [
            ("predict", {"X": x}),
            ("predict_proba", {"X": x}),
            ("score_samples", {"X": x}),
            ("sample", {"n_samples": 2, "random_state": 0}),
            ("transform", {"X": x}),
        ],
    }
    method, given = rng.choice(methods[name])
    return Call(f"{name}.{method}", getattr(model, method), given, owner=model)


MAKERS = {
    "fit_formula": fit_formula,
    "FormulaResult": formula_result,
    "estimators, fit": estimator,
    "estimators": estimates,
}
