"""Leave-one-out by refits."""

import numpy as np
import pytest
import torch

from mixpyro import DirichletGate, LinearExperts, MixtureOfExperts, fit
from mixpyro.diagnostics import exact_loo
from tests.diagnostics.fits import fitted
from tests.problems import lines


def test_each_density_is_that_of_a_fit_without_the_object() -> None:
    result, x, y = fitted("dirichlet", 1, n_objects=14)
    found = exact_loo(result, x, y, progress=False)
    others = torch.arange(14) != 5
    mixture = MixtureOfExperts(DirichletGate(1, concentration=2.0), LinearExperts(1, 1))
    fit(mixture, x[others], y[others], n_restarts=1, progress=False)
    assert found.pointwise[5] == pytest.approx(float(mixture.log_prob(x[5:6], y[5:6])), abs=1e-8)
    assert found.elpd == pytest.approx(found.pointwise.sum())
    assert (found.pareto_k == -np.inf).all()


def test_other_data_and_weights_are_refused() -> None:
    x, y, _ = lines(30, 1)
    mixture = MixtureOfExperts(DirichletGate(1), LinearExperts(1, 1))
    weighted = fit(mixture, x, y, weights=torch.ones(30).double(), n_restarts=1, progress=False)
    with pytest.raises(ValueError, match="`result` must be of rows that count once; got weights"):
        exact_loo(weighted, x, y)
    with pytest.raises(ValueError, match="`x` must be what was fitted, 30 rows; got 7"):
        exact_loo(weighted, x[:7], y[:7])
