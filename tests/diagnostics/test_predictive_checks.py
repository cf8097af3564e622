"""Statistics of observed data beside those of replicated data."""

import numpy as np
import pytest
import torch

from mixpyro import DirichletGate, LinearExperts, MixtureOfExperts, fit, to_arviz
from mixpyro.diagnostics import predictive_checks
from mixpyro.diagnostics.predictive_checks import observed_and_replicated
from tests.diagnostics.fits import fitted


def test_data_from_the_model_pass_all_checks() -> None:
    result, x, y = fitted(n_objects=60)
    checks = predictive_checks(to_arviz(result, x, y, n_draws=300))
    assert set(checks) == {"mean", "standard deviation", "skewness", "minimum", "median", "maximum"}
    assert all(0.01 < check.probability < 0.99 for check in checks.values())
    assert checks["mean"].observed == pytest.approx(float(y.mean()))
    assert str(checks["mean"]).startswith(f"observed {float(y.mean()):.4g}, replicated ")


def test_skew_noise_fails_the_check_of_skewness() -> None:
    x = torch.randn(80, 1).double()
    y = 2.0 * x + torch.randn(80, 1).double().exp()
    mixture = MixtureOfExperts(DirichletGate(1), LinearExperts(1, 1))
    data = to_arviz(fit(mixture, x, y, n_restarts=1, progress=False), x, y, n_draws=300)

    def skewness_of_residuals(values: np.ndarray) -> np.ndarray:
        residuals = values - 2.0 * x[:, 0].numpy()
        centred = residuals - residuals.mean(-1, keepdims=True)
        return np.asarray((centred**3).mean(-1) / centred.std(-1) ** 3)

    check = predictive_checks(data, {"skewness of residuals": skewness_of_residuals})["skewness of residuals"]
    assert check.probability < 0.01
    assert check.replicated.shape == (300,)


def test_ties_count_half() -> None:
    result, x, y = fitted()
    checks = predictive_checks(to_arviz(result, x, y, n_draws=5), {"constant": lambda values: 0.0 * values.sum(-1)})
    assert checks["constant"].probability == 0.5


def test_one_output_is_selected() -> None:
    result, x, y = fitted(n_outputs=2)
    observed, replicated = observed_and_replicated(to_arviz(result, x, y, n_draws=7), 1)
    np.testing.assert_array_equal(observed, y[:, 1].numpy())
    assert replicated.shape == (7, len(x))
