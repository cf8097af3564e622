"""The mixture of Gaussians beside scikit-learn's."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import BayesianGaussianMixture

from mixpyro import BayesianMixture
from tests.conftest import DATA

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.usefixtures("without_type_checks"),
]
STRUCTURES = ("full", "tied", "diag", "spherical")


def faithful() -> np.ndarray:
    """Lengths of eruptions and waiting times of Old Faithful [N, 2]."""
    return pd.read_csv(DATA / "old_faithful.csv").select_dtypes("number").iloc[:, -2:].to_numpy(float)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_finds_the_clusters_that_scikit_learn_finds(structure: str) -> None:
    X = faithful()
    X = (X - X.mean(0)) / X.std(0)
    other = BayesianGaussianMixture(n_components=2, covariance_type=structure, random_state=0, n_init=2).fit(X)
    own = BayesianMixture(2, covariance_type=structure, n_restarts=2, random_state=0).fit(X)
    assert adjusted_rand_score(own.labels_, other.predict(X)) > 0.95
    assert own.score(X) > other.score(X) - 0.01
    order = other.weights_.argsort()[::-1]
    np.testing.assert_allclose(own.weights_, other.weights_[order], atol=0.02)
    np.testing.assert_allclose(own.means_, other.means_[order], atol=0.05)
    covariances = other.covariances_ if structure == "tied" else other.covariances_[order]
    assert own.covariances_.shape == covariances.shape
    np.testing.assert_allclose(own.covariances_, covariances, atol=0.03)


def test_uses_no_more_components_than_there_are() -> None:
    X = faithful()
    model = BayesianMixture(6, n_restarts=1, random_state=0).fit(X)
    assert model.n_used_ == 2 and set(model.labels_) == {0, 1}
    assert (np.diff(model.weights_) <= 1e-12).all()
    in_other_units = BayesianMixture(6, n_restarts=1, random_state=0).fit(60.0 * X + 1000.0)
    np.testing.assert_array_equal(in_other_units.labels_, model.labels_)


@pytest.mark.parametrize("kind", ["dirichlet_process", "dirichlet_distribution"])
def test_attributes_are_in_the_order_of_the_labels(kind: str) -> None:
    X = load_iris().data
    model = BayesianMixture(3, weight_concentration_prior_type=kind, n_restarts=1, random_state=1).fit(X)
    np.testing.assert_array_equal(model.labels_, model.predict(X))
    np.testing.assert_array_equal(model.labels_, model.fit_predict(X))
    sizes = np.bincount(model.labels_, minlength=3)
    assert (np.diff(sizes) <= 0).all()
    for k in range(model.n_used_):
        np.testing.assert_allclose(model.means_[k], X[model.labels_ == k].mean(0), atol=0.3)
    assert float(model.mixture_.bound(X[:, :0], X)) == pytest.approx(model.lower_bound_, abs=1e-6)
    assert float(model.result_.at(0).bound(X[:, :0], X)) == pytest.approx(model.lower_bound_, abs=1e-6)


def test_draws_are_from_the_density() -> None:
    X = faithful()
    model = BayesianMixture(2, n_restarts=1, random_state=0).fit(X)
    rows, component = model.sample(4000, random_state=1)
    np.testing.assert_allclose(rows.mean(0), X.mean(0), rtol=0.05)
    np.testing.assert_allclose(np.bincount(component) / 4000, model.weights_, atol=0.03)
    np.testing.assert_array_equal(model.sample(5)[0], model.sample(5)[0])


def test_is_a_transformer_of_named_columns() -> None:
    X = load_iris(as_frame=True).data
    model = BayesianMixture(2, n_restarts=1, random_state=0).set_output(transform="pandas")
    shares = model.fit_transform(X)
    assert list(shares.columns) == ["bayesianmixture0", "bayesianmixture1"] and shares.index.equals(X.index)
    np.testing.assert_array_equal(shares, model.predict_proba(X))
    assert model.score(X) == pytest.approx(model.score_samples(X).mean())


def test_columns_may_be_picked_in_any_order() -> None:
    X = pd.DataFrame(faithful(), columns=["length", "waiting"])
    turned = X[["waiting", "length"]]
    np.testing.assert_array_equal(
        BayesianMixture(2, n_restarts=1, random_state=0).fit(turned).labels_,
        BayesianMixture(2, n_restarts=1, random_state=0).fit(turned.to_numpy().copy()).labels_,
    )


def test_given_priors_are_those_of_scikit_learn() -> None:
    X = faithful()
    options: dict[str, Any] = {
        "n_components": 2,
        "weight_concentration_prior_type": "dirichlet_distribution",
        "weight_concentration_prior": 0.5,
        "mean_prior": X.mean(0),
        "mean_precision_prior": 1.0,
        "degrees_of_freedom_prior": 4.0,
        "covariance_prior": np.cov(X.T),
        "tol": 1e-8,
        "random_state": 0,
    }
    other = BayesianGaussianMixture(max_iter=500, **options).fit(X)
    own = BayesianMixture(n_restarts=1, **options).fit(X)
    order = other.weights_.argsort()[::-1]
    np.testing.assert_allclose(own.means_, other.means_[order], rtol=1e-4)
    np.testing.assert_allclose(own.weights_, other.weights_[order], rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"covariance_type": "diagonal"}, "`covariance_type` must be one of"),
        ({"weight_concentration_prior_type": "process"}, "`weight_concentration_prior_type` must be one of"),
    ],
)
def test_refuses_wrong_parameters(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BayesianMixture(**options).fit(faithful())
