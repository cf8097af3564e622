"""Run scikit-learn's checks of an estimator, and say which of them did not pass.

A script, for two reasons: one of the checks needs SCIPY_ARRAY_API=1 before SciPy is imported, and shapes that are
checked at run time would take most of the time.
"""

import sys
import warnings
from typing import Any

import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import check_estimator

import mixpyro

# As few restarts and iterations as the checks bear: they are made of some hundred fits. A name with "!" is checked with
# the estimator's own defaults, which takes minutes.
QUICK = {"n_restarts": 1, "tol": 1e-2}
OWN = {
    "BayesianMixture": {"n_components": 3},
    "MixtureOfExpertsClassifier": {"max_iter": 5},
    "MixtureOfExpertsRegressor": {"max_iter": 20},
}


def outcomes(estimator: BaseEstimator) -> dict[str, list[str]]:
    """Return the names of the checks, by what became of them."""
    found: dict[str, list[str]] = {}

    def keep(**one: Any) -> None:
        found.setdefault(one["status"], []).append(f"{one['check_name']}: {one['exception']!r}")

    check_estimator(estimator, on_fail=None, on_skip=None, callback=keep)
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ConvergenceWarning)
    for name in sys.argv[1:]:
        options: dict[str, Any] = {} if name.endswith("!") else QUICK | OWN[name]
        found = outcomes(getattr(mixpyro, name.rstrip("!"))(**options))
        passed = found.pop("passed", [])
        print(f"{name}: {len(passed)} passed", *(f"{status}: {one}" for status in found for one in found[status]))
