"""The classifier beside logistic regression."""

import numpy as np
import pytest
from sklearn.datasets import load_iris, make_moons
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score

from mixpyro import MixtureOfExpertsClassifier

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.usefixtures("without_type_checks"),
]
FOLDS = StratifiedKFold(3, shuffle=True, random_state=0)


def quick(n_components: int = 2) -> MixtureOfExpertsClassifier:
    """A classifier of one restart."""
    return MixtureOfExpertsClassifier(n_components, n_restarts=1, random_state=0)


def test_probabilities_are_as_good_as_those_of_logistic_regression() -> None:
    X, y = load_iris(return_X_y=True)
    one = cross_val_score(LogisticRegression(max_iter=500), X, y, cv=FOLDS, scoring="neg_log_loss").mean()
    assert cross_val_score(quick(), X, y, cv=FOLDS, scoring="neg_log_loss").mean() > one - 0.02


def test_probabilities_are_better_where_no_line_separates() -> None:
    X, y = make_moons(120, noise=0.15, random_state=0)
    one = cross_val_score(LogisticRegression(), X, y, cv=FOLDS, scoring="neg_log_loss").mean()
    assert cross_val_score(quick(), X, y, cv=FOLDS, scoring="neg_log_loss").mean() > one + 0.05


def test_one_component_is_a_logistic_regression_with_the_same_prior() -> None:
    X, y = load_iris(return_X_y=True)
    X, y = X[50:, :2], y[50:]
    model = MixtureOfExpertsClassifier(1, prior_scale=1e3, tol=1e-10).fit(X, y)
    free = LogisticRegression(C=1e6, max_iter=2000, tol=1e-10).fit(X, y)
    np.testing.assert_allclose(model.predict_proba(X), free.predict_proba(X), atol=1e-3)


@pytest.mark.parametrize("kinds", [["no", "yes"], ["low", "middle", "top"]])
def test_classes_may_be_words(kinds: list[str]) -> None:
    generator = np.random.default_rng(0)
    numbers = generator.integers(0, len(kinds), 60)
    X = numbers[:, None] + 0.2 * generator.normal(size=(60, 2))
    y = np.array(kinds)[numbers]
    model = quick().fit(X, y)
    assert model.classes_.tolist() == kinds and model.score(X, y) > 0.9
    probabilities = model.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(1), 1.0)
    own = probabilities[np.arange(60), numbers]
    np.testing.assert_allclose(model.log_prob(X, y), np.log(own), atol=1e-9)
    np.testing.assert_allclose(np.exp(model.predict_log_proba(X)), probabilities)
    with pytest.raises(ValueError, match="classes of the fit"):
        model.log_prob(X, np.full(60, "other"))


def test_refuses_one_class() -> None:
    with pytest.raises(ValueError, match="one class"):
        quick().fit(np.zeros((5, 1)), np.ones(5))


def test_batches_may_lack_a_class() -> None:
    X, y = load_iris(return_X_y=True)
    order = np.random.default_rng(0).permutation(150)
    model = quick().partial_fit(X[order[:100]], y[order[:100]], classes=[0, 1, 2])
    some = y < 2
    model.partial_fit(X[some], y[some])
    assert model.predict_proba(X).shape == (150, 3)
