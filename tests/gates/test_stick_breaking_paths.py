"""A mixture by sticks on every path that takes a mixture."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyro.distributions import Distribution, Gamma
from torch import Tensor

from mixpyro import (
    FitResult,
    LinearExperts,
    MixtureOfExperts,
    StickBreakingGate,
    StreamingFit,
    coefficients,
    compare,
    criteria,
    fit,
    fit_minibatches,
    linear_response,
    refine,
    to_arviz,
)
from mixpyro.diagnostics import ResponsibilityDraws, align, loo, relabel
from mixpyro.diagnostics.plots import plot_weights_forest
from tests.problems import lines

pytestmark = [pytest.mark.filterwarnings("ignore::RuntimeWarning"), pytest.mark.usefixtures("without_type_checks")]

PRIORS: dict[str, dict[str, Any]] = {
    "given": {"concentration": 0.7},
    "learnt": {"concentration": Gamma(2.0, 2.0)},
    "Pitman–Yor": {"concentration": 0.5, "discount": 0.25},
}


def mixture(prior: str) -> MixtureOfExperts:
    """Of two lines."""
    return MixtureOfExperts(StickBreakingGate(2, **PRIORS[prior]), LinearExperts(2, 1))


def rows() -> tuple[Tensor, Tensor, Tensor]:
    """Two lines, one mostly above the other."""
    x, y, z = lines(80, 2, noise=0.4, seed=3)
    return x, y + 2.0 * z.unsqueeze(1), z


def fitted(prior: str, **options: Any) -> FitResult:
    """Fit the rows."""
    x, y, _ = rows()
    return fit(mixture(prior), x, y, n_restarts=3, progress=False, **options)


@pytest.mark.parametrize("prior", PRIORS)
def test_a_weight_of_two_is_two_rows(prior: str) -> None:
    x, y, _ = rows()
    weighted = fitted(prior, weights=torch.full((80,), 2.0).double())
    twice = fit(mixture(prior), x.repeat(2, 1), y.repeat(2, 1), n_restarts=3, progress=False)
    assert weighted.bound == pytest.approx(twice.bound, abs=1e-4)


@pytest.mark.parametrize("prior", PRIORS)
def test_known_components_are_kept(prior: str) -> None:
    _, _, z = rows()
    where = torch.arange(80) % 2 == 0
    for labels in (z, 1 - z):
        result = fitted(prior, observed=labels, mask=where)
        assert bool((result.responsibilities[where].argmax(-1) == labels[where]).all())
    torch.testing.assert_close(result.mixture.gate.weights(torch.zeros(1, 0)).sum(), torch.tensor(1.0))


@pytest.mark.parametrize("prior", PRIORS)
def test_fits_of_other_kinds_end_near_the_fit_of_all_rows(prior: str, tmp_path: Path) -> None:
    x, y, _ = rows()
    result = fitted(prior)
    assert float(result.mixture.bound(x, y)) == pytest.approx(result.bound, abs=1e-3)
    for options in ({"gate_x": x[:, :0]}, {"checkpoint": tmp_path / "file"}, {"checkpoint": tmp_path / "file"}):
        assert fitted(prior, **options).bound == pytest.approx(result.bound, abs=1e-9)
    small = fit(mixture(prior), x.float(), y.float(), n_restarts=3, progress=False)
    assert small.bound == pytest.approx(result.bound, abs=1e-2)
    in_batches = mixture(prior)
    fit_minibatches(in_batches, x, y, batch_size=20, n_epochs=30)
    stream = StreamingFit(mixture(prior), n_objects=80)
    for batch in torch.arange(80).split(20) * 20:
        stream.partial_fit(x[batch], y[batch])
    for one in (in_batches, stream.mixture):
        assert float(one.bound(x, y)) > result.bound - 1.0


@pytest.mark.parametrize("prior", PRIORS)
def test_predictions_are_those_of_the_weights(prior: str) -> None:
    x, y, _ = rows()
    result = fitted(prior)
    own = copy.deepcopy(result.mixture)
    weights = own.gate.weights(x)
    torch.testing.assert_close(own.predict(x), (weights.unsqueeze(-1) * own.experts.predict(x)).sum(1))
    density = (weights.log() + own.experts.predictive(x).log_prob(y.unsqueeze(1))).logsumexp(-1)
    torch.testing.assert_close(own.log_prob(x, y), density)
    low, high = own.quantile(x, torch.tensor([0.05, 0.95]).double())
    assert 0.8 < float(((y > low) & (y < high)).double().mean()) < 1.0


@pytest.mark.parametrize("prior", PRIORS)
def test_intervals_are_those_of_the_exact_posterior(prior: str) -> None:
    """Means and standard deviations of log odds of shares, by linear response and by reweighted draws."""
    x, y, _ = rows()
    result = fitted(prior)
    response, refined = linear_response(result, x, y), refine(result, x, y, n_draws=4000, nuts=False, progress=False)
    assert refined.khat < 0.7
    last = [n for n, name in enumerate(response.names) if name.startswith("gate")]
    n_shares = 2
    smaller = int(result.mixture.gate.posterior_rank.argmin())  # The first to break: few objects are beyond the last.
    draws, error = refined.draws[:, last], response.standard_deviations[last]
    assert abs(float((draws.mean(0) - response.estimates[last])[smaller] / error[smaller])) < 0.2
    assert abs(float((draws.std(0) / error)[smaller].log())) < 0.2
    table = coefficients(result, x, y)
    names = [name for name in table if name.startswith("gate")]
    assert names[:n_shares] == [f"gate: component {k}, log odds of its share" for k in range(n_shares)]
    assert ("gate: log concentration" in names) == (prior == "learnt")
    if prior == "learnt":
        assert abs(float((draws.mean(0) - response.estimates[last])[-1] / error[-1])) < 0.4
    assert (response.covariance.diagonal() >= response.mean_field.diagonal() - 1e-9).all()


@pytest.mark.parametrize("prior", PRIORS)
def test_draws_go_to_arviz_with_the_weights(prior: str) -> None:
    x, y, _ = rows()
    result = fitted(prior)
    data = to_arviz(result, x, y, n_draws=400, seed=1, progress=False)
    weights = data["posterior"]["gate.weights"].values[0]
    expected = result.mixture.gate.weights(x)[0] * (1.0 - result.mixture.gate.weight_beyond)
    error = 4.0 * weights.std(0) / 400**0.5 + 0.05
    assert (np.abs(weights.mean(0) - expected.numpy()) < error).all()
    assert (weights.sum(-1) < 1.0).all()
    assert np.isfinite(loo(data).elpd)
    alignment = align(ResponsibilityDraws(data, result, x, y), reference=result.responsibilities.numpy())
    assert alignment.trusted
    if prior == "given":
        moved = relabel(data, alignment)
        assert moved["posterior"]["gate.weights"].shape == (1, 400, 2)
    assert plot_weights_forest(data).get_xlabel().startswith("Weight")
    other = fit(MixtureOfExperts(StickBreakingGate(3), LinearExperts(3, 1)), x, y, n_restarts=2, progress=False)
    assert list(compare({"two": result, "three": other}, x, y))
    assert criteria(result, x, y).log_evidence > result.bound


def test_the_prior_is_said_in_words() -> None:
    words = {name: mixture(name).gate.prior_in_words() for name in PRIORS}
    assert words == {
        "given": "Dirichlet process, concentration 0.7",
        "learnt": "Dirichlet process, concentration Gamma(2, 2)",
        "Pitman–Yor": "Pitman–Yor process, discount 0.25, concentration 0.5",
    }
    assert isinstance(PRIORS["learnt"]["concentration"], Distribution)
