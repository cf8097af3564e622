"""Responsibilities over the draws of a posterior."""

import numpy as np
import pytest
import torch

from mixpyro import to_arviz
from mixpyro.diagnostics import ResponsibilityDraws
from mixpyro.diagnostics.arviz_versions import group
from tests.diagnostics.fits import GATES, fitted


@pytest.mark.parametrize("name", GATES)
def test_each_draw_is_bayes_theorem_at_its_parameters(name: str) -> None:
    """Bayes' theorem written out for Normal densities and the gate's weights of the draw."""
    result, x, y = fitted(name)
    data = to_arviz(result, x, y, n_draws=6, weights_of_objects=False, intervals="mean field")
    found = np.concatenate(list(ResponsibilityDraws(data, result, x, y)))
    posterior = group(data, "posterior")
    w, tau = (posterior[f"experts.{part}"].values[0] for part in ("coefficients", "precision"))
    mean = np.stack([np.ones(len(x)), x[:, 0].numpy()], 1) @ np.moveaxis(w[:, :, 0], 1, 2)
    density = np.sqrt(tau[:, None, :, 0]) * np.exp(-0.5 * tau[:, None, :, 0] * (y.numpy() - mean) ** 2)
    if "gate.weights" in posterior:
        weights = posterior["gate.weights"].values[0][:, None]
    else:
        weights = result.mixture.gate.weights(x).detach().numpy()
    joint = weights * density
    np.testing.assert_allclose(found, joint / joint.sum(-1, keepdims=True), atol=1e-10)


def test_the_summary_is_computed_from_the_draws() -> None:
    result, x, y = fitted()
    draws = ResponsibilityDraws(to_arviz(result, x, y, n_draws=50), result, x, y)
    values, summary = np.concatenate(list(draws)), draws.summary(probability=0.8)
    np.testing.assert_allclose(summary.mean, values.mean(0))
    np.testing.assert_allclose(summary.standard_deviation, values.std(0), atol=1e-12)
    np.testing.assert_allclose(summary.low, np.quantile(values, 0.1, axis=0))
    np.testing.assert_allclose(summary.high, np.quantile(values, 0.9, axis=0))
    np.testing.assert_array_equal(summary.most_likely, summary.mean.argmax(1))
    np.testing.assert_allclose(summary.error, 1 - summary.mean.max(1))
    with pytest.raises(ValueError, match=r"`probability` must be below 1; got 1\.0"):
        draws.summary(probability=1.0)


def test_the_mean_is_near_q_and_less_certain() -> None:
    result, x, y = fitted(n_objects=60)
    summary = ResponsibilityDraws(to_arviz(result, x, y), result, x, y).summary()
    q = result.responsibilities.numpy()
    assert np.abs(summary.mean - q).max() < 0.1
    entropy = [-(values * np.log(np.clip(values, 1e-300, 1))).sum() for values in (summary.mean, q)]
    assert entropy[0] > entropy[1]


def test_switched_labels_give_a_large_standard_deviation() -> None:
    result, x, y = fitted()
    data = to_arviz(result, x, y, n_draws=40)
    samples = {name: torch.as_tensor(values.values) for name, values in group(data, "posterior").items()}
    switched = {name: torch.cat([values[:, :20], values[:, 20:].flip(2)], 1) for name, values in samples.items()}
    summary = ResponsibilityDraws(to_arviz(result.mixture, x, y, samples=switched), result, x, y).summary()
    np.testing.assert_allclose(summary.mean, 0.5, atol=0.2)
    assert summary.standard_deviation.mean() > 0.3
