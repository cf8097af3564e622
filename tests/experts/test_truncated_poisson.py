"""Hurdle models, and counts without zeros."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from torch import Tensor

from mixpyro import GLMExperts, HeterogeneousExperts, MixtureOfExperts, PointMassExperts, SoftmaxGate, fit
from mixpyro.distributions import zero_truncated_poisson as truncated
from mixpyro.distributions.quantiles import cumulative
from mixpyro.experts.families import Poisson, ZeroTruncatedPoisson
from tests.experts.contract import N_FEATURES, EstimatedExpertsContract, K
from tests.problems import inputs, responsibilities

EXAMPLES = Path(__file__).parents[2] / "examples"
PAGE = EXAMPLES / "docs" / "many_zeros.md"


class TestZeroTruncatedPoisson(EstimatedExpertsContract):
    """The contract, with a prior."""

    def make(self, n_components: int = K) -> GLMExperts:
        return GLMExperts(n_components, N_FEATURES, ZeroTruncatedPoisson(), prior_scale=2.0)

    def data(self, n_objects: int = 30) -> tuple[Tensor, Tensor, Tensor]:
        x = inputs(n_objects)
        y = truncated.ZeroTruncatedPoisson(0.5 + x[:, :1]).sample()
        return x, y, responsibilities(n_objects, K)


@pytest.mark.parametrize("rate", [1e-30, 1e-9, 0.3, 4.0, 300.0])
def test_probabilities_moments_and_draws(rate: float) -> None:
    distribution = truncated.ZeroTruncatedPoisson(torch.tensor(rate, dtype=torch.float64).log())
    y = torch.arange(1.0, 600.0, dtype=torch.float64)
    p = distribution.log_prob(y).exp()
    torch.testing.assert_close(p.sum(), torch.ones((), dtype=torch.float64))
    torch.testing.assert_close((p * y).sum(), distribution.mean)
    torch.testing.assert_close(
        (p * (y - distribution.mean).square()).sum(), distribution.variance, atol=1e-8, rtol=1e-8
    )
    torch.testing.assert_close(cumulative(distribution, y), p.cumsum(0), atol=1e-9, rtol=0)
    assert distribution.log_prob(torch.zeros(())) == -torch.inf
    draws = distribution.sample(torch.Size([4000]))
    assert draws.min() >= 1
    assert abs(float(draws.mean() - distribution.mean)) <= 5.0 * float(distribution.variance / 4000) ** 0.5 + 1e-8
    if rate > 0.1:
        expected = stats.poisson(rate).logpmf(y.numpy()) - np.log1p(-np.exp(-rate))
        torch.testing.assert_close(distribution.log_prob(y), torch.tensor(expected))


@pytest.fixture
def teeth() -> tuple[Tensor, Tensor]:
    """Belo Horizonte: x has five indicators of treatment and the log of one more than the count before; y the count."""
    with (EXAMPLES / "data" / "dmft.csv").open() as file:
        rows = list(csv.DictReader(file))
    treatments = ["educ", "enrich", "hygiene", "rinse", "all"]
    x = [[*(float(row["Treatment"] == name) for name in treatments), np.log(float(row["Begin"]) + 1.0)] for row in rows]
    return torch.tensor(x).double(), torch.tensor([[float(row["End"])] for row in rows]).double()


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize("family", [Poisson(), ZeroTruncatedPoisson()])
def test_both_models_of_many_zeros_are_at_their_independent_maximum(
    teeth: tuple[Tensor, Tensor], family: Poisson | ZeroTruncatedPoisson
) -> None:
    """Zero inflation and hurdle with one share of zeros for all, by scipy."""
    x, y = teeth
    experts = HeterogeneousExperts([PointMassExperts(1), GLMExperts(1, 6, family)])
    mixture = MixtureOfExperts(SoftmaxGate(2, 0), experts)
    result = fit(mixture, x, y, gate_x=x[:, :0], n_restarts=1, tolerance=1e-9, progress=False)
    u, count = np.column_stack([np.ones(len(x)), x.numpy()]), y.numpy()[:, 0]

    def minus_log_likelihood(theta: np.ndarray) -> float:
        share, rate = 1.0 / (1.0 + np.exp(-theta[0])), np.exp(u @ theta[1:])
        above = np.log1p(-share) + stats.poisson.logpmf(count, rate)
        if isinstance(family, Poisson):
            zeros = np.log(share + (1.0 - share) * np.exp(-rate))
        else:
            above, zeros = above - np.log(-np.expm1(-rate)), np.log(share)
        return -float(np.where(count == 0, zeros, above).sum())

    found = optimize.minimize(minus_log_likelihood, np.zeros(8), method="BFGS", options={"gtol": 1e-4})
    assert result.bound == pytest.approx(-found.fun, abs=1e-3)
    coefficients = experts.members[1].coefficients.flatten()
    torch.testing.assert_close(coefficients, torch.tensor(found.x[1:]), rtol=0, atol=2e-2)


@pytest.mark.usefixtures("without_type_checks")
def test_the_code_of_the_page_on_many_zeros_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And prints what the page says."""
    monkeypatch.chdir(EXAMPLES.parent)
    page = PAGE.read_text()
    namespace: dict[str, object] = {}
    blocks = re.findall(r"^```python\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), namespace)
    (said,) = re.findall(r"^```text\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    assert capsys.readouterr().out == said
