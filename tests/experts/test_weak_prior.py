"""Default priors on the location and scale of the data."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyro
import pytest
import torch
from torch import Tensor

from mixpyro import (
    DirichletGate,
    GaussianExperts,
    LinearExperts,
    MixtureOfExperts,
    RelevanceLinearExperts,
    StreamingFit,
    fit,
    load,
    save,
)
from mixpyro.experts.weak_prior import COEFFICIENT_PRECISION, NOISE_RATE, NOISE_SHAPE
from mixpyro.numerics import nested
from mixpyro.numerics.location_scale import location_scale
from tests.problems import lines

K = 2
SCALED: dict[str, Callable[..., Any]] = {
    "linear": lambda **options: LinearExperts(K, 2, 2, **options),
    "one noise": lambda **options: LinearExperts(K, 2, 2, noise_per_output=False, **options),
    "no intercept": lambda **options: LinearExperts(K, 2, 2, intercept=False, **options),
    "relevance": lambda **options: RelevanceLinearExperts(K, 2, 2, **options),
    "full": lambda **options: GaussianExperts(K, 2, **options),
    "diagonal": lambda **options: GaussianExperts(K, 2, covariance="diagonal", **options),
    "spherical": lambda **options: GaussianExperts(K, 2, covariance="spherical", **options),
}
KINDS = {"full": GaussianExperts, "relevance": RelevanceLinearExperts, "linear": LinearExperts}


def rows() -> tuple[Tensor, Tensor]:
    """x [80, 2] and y [80, 2] far from zero, in unlike units."""
    x, y, _ = lines(80, K, n_features=2, n_outputs=2, seed=1)
    return x * torch.tensor([1e3, 0.1]).double() + 2000.0, y * torch.tensor([1e-3, 50.0]).double() - 7.0


def assert_same(first: Any, second: Any) -> None:
    for one, other in zip(nested.tensors(first), nested.tensors(second), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_the_formula_of_regressions() -> None:
    x, y = rows()
    experts = LinearExperts(K, 2, 2)
    experts.centre(x, y)
    of_x, of_y, prior = location_scale(x), location_scale(y), experts.prior
    torch.testing.assert_close(prior.mean, torch.zeros(K, 2, 3).double())
    standard = (x - of_x.location) / of_x.scale
    assert (standard.abs() < 5).all()
    correlation = torch.corrcoef(standard.mT) * (1 - (2 / 80) ** 2)
    of_slopes = COEFFICIENT_PRECISION * of_x.scale.unsqueeze(-1) * correlation.fill_diagonal_(1.0) * of_x.scale
    reach = ((y - of_y.location) / of_y.scale).square().mean(0).sqrt().clamp_min(1.0).max()
    expected = torch.block_diag(COEFFICIENT_PRECISION / reach.reshape(1, 1) ** 2, of_slopes)
    torch.testing.assert_close(prior.precision, expected.expand(K, 3, 3))
    torch.testing.assert_close(prior.shape, torch.full((K,), NOISE_SHAPE).double())
    torch.testing.assert_close(prior.rate, (NOISE_RATE * of_y.scale.square()).expand(K, 2))
    # Where x and y lie, coefficients predict the location of y.
    torch.testing.assert_close(experts.predict(of_x.location.unsqueeze(0))[0], of_y.location.expand(K, 2))


def test_the_formula_of_densities() -> None:
    x, y = rows()
    experts = GaussianExperts(K, 2)
    experts.centre(x, y)
    of_y = location_scale(y)
    torch.testing.assert_close(experts.prior_mean, of_y.location)
    torch.testing.assert_close(experts.prior_scale.diagonal(), 2.0 * NOISE_RATE * of_y.scale.square())
    root = experts.prior_scale.diagonal().sqrt()
    correlation = (experts.prior_scale / torch.outer(root, root))[0, 1]
    moved_in = ((y - of_y.location) / of_y.scale).clamp(-5, 5)
    torch.testing.assert_close(correlation, (1 - (2 / 80) ** 2) * torch.corrcoef(moved_in.mT)[0, 1])
    assert COEFFICIENT_PRECISION / 4 < experts.prior_mean_precision <= COEFFICIENT_PRECISION
    assert experts.prior_degrees == 2.0 * NOISE_SHAPE + 1.0


@pytest.mark.filterwarnings("ignore:only one of", "ignore:the prior of the", "ignore:the noise of")
@pytest.mark.parametrize("name", KINDS)
def test_a_pyro_user_gets_the_prior_of_a_fit(name: str) -> None:
    x, y = rows()
    asked = KINDS[name].for_data(x, y, K)  # type: ignore[attr-defined]
    fitted = fit(MixtureOfExperts(DirichletGate(K), SCALED[name]()), x, y, n_restarts=2, progress=False).mixture.experts
    assert_same(asked.prior, fitted.prior)
    with pyro.poutine.trace() as trace:
        asked.model(x)
    assert math.isfinite(float(trace.trace.log_prob_sum()))


@pytest.mark.filterwarnings("ignore:only one of", "ignore:the prior of the")
@pytest.mark.parametrize("name", KINDS)
def test_a_prior_for_given_rows_stays_in_later_fits(name: str) -> None:
    x, y = rows()
    experts = KINDS[name].for_data(x, y, K)  # type: ignore[attr-defined]
    before = experts.prior
    fit(MixtureOfExperts(DirichletGate(K), experts), 3.0 * x, 9.0 + y, n_restarts=2, progress=False)
    experts.centre(x, y)
    assert_same(experts.prior, before)


@pytest.mark.filterwarnings("ignore:the prior", "ignore:only one of", "ignore:component", "ignore:the noise of")
@pytest.mark.filterwarnings("ignore:in the first batch")
@pytest.mark.parametrize("name", SCALED)
def test_a_stream_takes_it_from_its_first_rows(name: str) -> None:
    x, y = rows()
    first, later = SCALED[name](), SCALED[name]()
    fit(MixtureOfExperts(DirichletGate(K), first), x[:40], y[:40], n_restarts=1, progress=False)
    stream = StreamingFit(MixtureOfExperts(DirichletGate(K), later), n_restarts=1)
    stream.partial_fit(x[:40], y[:40]).partial_fit(x[40:] * 1e3, y[40:] * 1e3)
    if name != "relevance":  # whose prior value has what is learnt of the columns
        assert_same(later.prior, first.prior)
    assert_same(later.prior_rate if "prior_rate" in later._buffers else later.prior_scale, _noise(first))


def _noise(experts: Any) -> Tensor:
    value: Tensor = experts.prior_rate if "prior_rate" in experts._buffers else experts.prior_scale
    return value


@pytest.mark.parametrize("name", SCALED)
def test_a_file_keeps_it(name: str, tmp_path: Path) -> None:
    x, y = rows()
    experts = SCALED[name]()
    experts.centre(x, y)
    save(experts, tmp_path / "file")
    loaded = load(tmp_path / "file")
    assert_same(loaded.prior, experts.prior)
    loaded.centre(10.0 * x, y)
    experts.centre(10.0 * x, y)
    assert_same(loaded.prior, experts.prior)


GIVEN: dict[str, dict[str, Any]] = {
    "coefficient_mean": {"coefficient_mean": 0.5},
    "coefficient_precision": {"coefficient_precision": 0.2},
    "noise_rate": {"noise_rate": 0.3},
    "noise_shape": {"noise_shape": 2.0},
}


@pytest.mark.parametrize("argument", GIVEN)
def test_a_given_prior_is_used_as_it_is(argument: str) -> None:
    """Its partner too, which does not depend on the data then."""
    x, y = rows()
    experts, fresh = LinearExperts(K, 2, 2, **GIVEN[argument]), LinearExperts(K, 2, 2, **GIVEN[argument])
    experts.centre(x, y)
    if argument.startswith("coefficient"):
        torch.testing.assert_close(experts.prior_from_zero.mean, fresh.prior_from_zero.mean)
        torch.testing.assert_close(experts.prior_from_zero.precision, fresh.prior_from_zero.precision)
        assert not torch.equal(experts.prior.rate, fresh.prior.rate)
    else:
        assert_same((experts.prior.shape, experts.prior.rate), (fresh.prior.shape, fresh.prior.rate))
        assert not torch.equal(experts.prior_precision, fresh.prior_precision)


@pytest.mark.parametrize("name", [name for name in SCALED if name != "no intercept"])
def test_an_empty_component_predicts_within_reach_of_the_data(name: str) -> None:
    x, y = rows()
    experts = SCALED[name]()
    experts.centre(x, y)
    deviation = experts.predictive(location_scale(x).location.unsqueeze(0)).variance.sqrt()[0]
    assert torch.isfinite(deviation).all()
    if name not in ("one noise", "spherical"):  # which have one scale for columns of unlike units
        ratio = deviation / location_scale(y).scale
        assert ((ratio > 1.0) & (ratio < 4.0)).all()


@pytest.mark.usefixtures("bad_arguments")
@pytest.mark.parametrize(
    ("scales", "error", "message"),
    [
        (3.0, TypeError, "`scales` must be .location, scale. of x, then of y; got 3.0"),
        ([[[0.0], [1.0]], [[0.0], [-1.0]]], ValueError, "`scales.y.scale` must be finite and above 0; got .-1.0"),
        ([[[0.0, 1.0], [1.0, 1.0]], [[0.0], [1.0]]], ValueError, "`scales.x.location` must be a number or a vector"),
    ],
)
def test_bad_scales_are_refused(scales: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        LinearExperts(K, 1, scales=scales)  # type: ignore[arg-type]
