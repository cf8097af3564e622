"""Parameters and rows of estimators that do not fit are named, and leave the estimator as it was."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from mixpyro import BayesianMixture, MixtureOfExpertsClassifier, MixtureOfExpertsRegressor
from tests.fuzz.states import differences, picture

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.usefixtures("bad_arguments"),
]
KINDS = [BayesianMixture, MixtureOfExpertsClassifier, MixtureOfExpertsRegressor]
NO_PARAMETER: list[Any] = [
    object(),
    pd.DataFrame({"a": [1.0, 2.0]}),
    np.array(["a", "b"]),
    torch.ones(2, 2, device="meta"),
    [[1.0, 2.0], [3.0]],
    1j,
    -1,
]


def rows() -> tuple[np.ndarray, np.ndarray]:
    """Return X [30, 2] and y [30] of two classes."""
    x = np.random.default_rng(0).normal(size=(30, 2))
    return x, (x.sum(1) > 0).astype(float)


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_is_named(kind: Any) -> None:
    x, y = rows()
    # Negative numbers are numbers of columns, and integers are means.
    least = {"gate_columns", "expert_columns", "mean_prior"}
    for name in kind().get_params():
        for value in NO_PARAMETER[: -1 if name in least else None]:
            with pytest.raises((TypeError, ValueError), match=f"`{name}` must"):
                kind(**{name: value}).fit(x, y)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_fit_that_is_refused_leaves_the_estimator(kind: Any, method: str) -> None:
    x, y = rows()
    model = kind(2, n_restarts=1, random_state=0).fit(x, y)
    before = picture(model)
    bad: list[tuple[Any, Any, dict[str, Any], str]] = [
        (x[:, :1] + np.nan, y, {}, "X"),
        (np.zeros(3), y, {}, "X"),
        ("odd", y, {}, "X"),
        (x, y, {"sample_weight": np.zeros(30)}, "sample_weight"),
        (x, y, {"sample_weight": "odd"}, "sample_weight"),
    ]
    for own_x, own_y, options, name in bad:
        with pytest.raises((TypeError, ValueError), match=f"`{name}`.* must"):
            getattr(model, method)(own_x, own_y, **options)
        assert not differences(before, picture(model))


def test_arguments_of_predictions_are_named() -> None:
    x, y = rows()
    model = MixtureOfExpertsRegressor(2, n_restarts=1, random_state=0).fit(x, y)
    odd: Any = torch.ones(2, 2, device="meta")
    with pytest.raises(TypeError, match="`return_std` must be True or False"):
        model.predict(x, return_std=odd)
    for n_samples in (1e-300, 0, pd.DataFrame()):
        with pytest.raises((TypeError, ValueError), match="`n_samples` must be"):
            model.sample_y(x, n_samples=n_samples)  # type: ignore[arg-type]
    for quantiles in ((number for number in (0.1, 0.9)), [1.5], odd):
        with pytest.raises((TypeError, ValueError), match="`quantiles` must"):
            model.predict_quantiles(x, quantiles)
    with pytest.raises(ValueError, match="`random_state` must be None, an integer"):
        model.sample_y(x, random_state=odd)


@pytest.mark.parametrize("weight", [1e-310, 1e-300, 1e200])
@pytest.mark.parametrize("kind", KINDS)
def test_equal_weights_of_any_size_are_fitted(kind: Any, weight: float) -> None:
    x, y = rows()
    model = kind(2, n_restarts=1, random_state=0, max_iter=5).fit(x, y, sample_weight=weight)
    assert np.isfinite(model.lower_bound_) and model.result_.n_used >= 1


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_are_far_larger_than_they_seem_are_refused_at_once(kind: Any) -> None:
    x, y = rows()
    model = kind(2, n_restarts=1, max_iter=2, random_state=0).fit(x, y)
    repeated = torch.zeros(1, 2).expand(10**9, 2), np.broadcast_to(np.zeros((1, 2)), (10**9, 2)), range(10**12)
    for huge in repeated:
        calls: list[tuple[str, Any, tuple[Any, ...]]] = [
            ("X", model.fit, (huge, y)),
            ("X", model.partial_fit, (huge, y)),
            ("X", model.predict, (huge,)),
            ("sample_weight", model.fit, (x, y, huge)),
        ]
        for name, method, values in calls:
            with pytest.raises((TypeError, ValueError), match=f"^`{name}` must"):
                method(*values)
        if kind is not BayesianMixture:
            with pytest.raises((TypeError, ValueError), match=r"^`y` must"):
                model.fit(x, huge)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fit_that_is_refused_draws_no_numbers(kind: Any) -> None:
    x, y = rows()
    generator = np.random.RandomState(0)
    with pytest.raises(ValueError, match="`sample_weight` must"):
        kind(2, n_restarts=1, random_state=generator).fit(x, y, sample_weight=np.full(len(x), 1e308))
    assert generator.randint(2**31) == np.random.RandomState(0).randint(2**31)
