"""Bayesian linear regressions in float32, where data are degenerate, and where arguments are wrong."""

import copy

import pytest
import torch

from mixpyro import DirichletGate, MixtureOfExperts
from mixpyro.experts import LinearExperts
from tests.experts.contract import K
from tests.experts.test_linear import SHARED, one_expert
from tests.problems import inputs, lines, responsibilities


def test_float32_with_one_noise_finds_the_same() -> None:
    x, y, _ = lines(200, K, n_features=2, n_outputs=2)
    x, y, r = x + 30.0, y + 100.0, responsibilities(200, K)
    options = {**SHARED["all"][0], "coefficient_mean": 1.0}
    exact, rounded = LinearExperts(K, 2, 2, **options), LinearExperts(K, 2, 2, dtype=torch.float32, **options)
    for experts, dtype in ((exact, torch.float64), (rounded, torch.float32)):
        data = x.to(dtype), y.to(dtype)
        experts.centre(*data)
        experts.update(experts.statistics(*data, r.to(dtype)))
    torch.testing.assert_close(rounded.noise_standard_deviations, exact.noise_standard_deviations, rtol=1e-5, atol=0)
    torch.testing.assert_close(rounded.predict(x), exact.predict(x), rtol=1e-5, atol=0)


def test_float32_agrees_with_float64_on_badly_scaled_inputs() -> None:
    x, y, _ = lines(20_000, K, n_features=3)
    x = (torch.tensor([1e4, 0.0, -3e3]) + x * torch.tensor([1.0, 1e-3, 1e2])).float()
    found = []
    for dtype in (torch.float32, torch.float64):
        data, r = (x.to(dtype), y.float().to(dtype)), responsibilities(len(x), K).to(dtype)
        mixture = MixtureOfExperts(DirichletGate(K), LinearExperts(K, 3))
        mixture.experts.centre(*data)
        for _ in range(4):
            mixture.gate.update(mixture.gate.statistics(data[0], r))
            mixture.experts.update(mixture.experts.statistics(*data, r))
            r = mixture.assign(*data).responsibilities
        experts = mixture.experts
        found.append((mixture.bound(*data), experts.noise_standard_deviations, experts.centred_coefficients[..., 1:]))
    for rounded, exact in zip(*found, strict=True):
        torch.testing.assert_close(rounded, exact, rtol=1e-4, atol=0)


def test_standard_deviations_are_infinite_without_data() -> None:
    assert LinearExperts(2, 1, noise_shape=1.0).coefficient_standard_deviations.isinf().all()


def test_an_exact_fit_keeps_a_positive_noise() -> None:
    x = torch.linspace(0, 1e4, 50, dtype=torch.float64).unsqueeze(-1)
    experts = one_expert(x, 3e3 + 7e2 * x, noise_rate=1e-6)
    assert (experts.posterior_rate >= 1e-6).all()
    assert torch.isfinite(experts.kl_divergence())


@pytest.mark.usefixtures("bad_arguments")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_features": -1}, "`n_features` must be at least 0; got -1"),
        ({"n_features": 0, "intercept": False}, "`n_features` must be at least 1 without an intercept; got 0"),
        ({"n_outputs": 0}, "`n_outputs` must be at least 1; got 0"),
        ({"coefficient_precision": 0.0}, "`coefficient_precision` must be finite and above 0"),
        ({"coefficient_precision": [1.0, 1.0]}, r"length 3; got shape \[2\]"),
        ({"coefficient_precision": torch.ones(2, 2)}, r"matrix \[3, 3\]; got shape \[2, 2\]"),
        ({"coefficient_precision": -torch.eye(3)}, "symmetric positive definite"),
        ({"coefficient_mean": [1.0, 1.0]}, r"number or have shape \[2, 1, 3\], \[1, 3\], \[3\]; got shape \[2\]"),
        ({"coefficient_mean": float("nan")}, "`coefficient_mean` must be finite; got nan"),
        ({"noise_shape": 0.0}, "`noise_shape` must be finite and above 0; got 0.0"),
        ({"noise_rate": float("inf")}, "`noise_rate` must be finite and above 0; got inf"),
    ],
)
def test_bad_priors_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LinearExperts(2, **{"n_features": 2, **arguments})  # type: ignore[arg-type]


@pytest.mark.parametrize("n_components", [2, 9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_reach_the_inputs(n_components: int, dtype: torch.dtype) -> None:
    """With few components and with many, which take different formulas."""
    experts = LinearExperts(n_components, 2)
    x, y = inputs(30, 2), inputs(30, 1)
    experts.update(experts.statistics(x, y, responsibilities(30, n_components)))
    x, y = x[:5].to(dtype).requires_grad_(), y[:5].to(dtype).requires_grad_()
    experts.expected_log_likelihood(x, y).sum().backward()
    assert x.grad is not None
    step = 1e-2 if dtype == torch.float32 else 1e-4
    ahead, behind = (experts.expected_log_likelihood(x.detach() + sign * step, y.detach()).sum() for sign in (1, -1))
    slope = float((ahead - behind).double() / (2.0 * step))
    assert float(x.grad.sum()) == pytest.approx(slope, rel=1e-2, abs=1e-2 if dtype == torch.float32 else 1e-4)
    experts.statistics(x, y, responsibilities(5, n_components).to(dtype)).uu.sum().backward()
    experts.predictive(x).mean.sum().backward()


def test_both_formulas_of_a_likelihood_agree() -> None:
    """With more components than columns, float32 data have another formula than float64 data."""
    experts = LinearExperts(9, 3, 2)
    x, y = inputs(200, 3), inputs(200, 2)
    experts.update(experts.statistics(x, y, responsibilities(200, 9)))
    x, y = x.float(), y.float()
    exact = experts.expected_log_likelihood(x.double(), y.double())
    torch.testing.assert_close(experts.expected_log_likelihood(x, y).double(), exact, rtol=1e-5, atol=1e-5)


def test_statistics_that_lead_to_no_posterior_are_refused_and_nothing_changes() -> None:
    experts = LinearExperts(2, 1)
    x, y = inputs(30, 1), inputs(30, 1)
    statistics = experts.statistics(x, y, responsibilities(30, 2))
    experts.update(statistics)
    before = copy.deepcopy(experts.state_dict())
    with pytest.raises(ValueError, match="`statistics` must lead to a positive definite matrix"):
        experts.update(statistics._replace(uu=-100.0 * statistics.uu))
    for name, value in experts.state_dict().items():
        assert torch.equal(value, before[name])
