"""The gate that learns which columns of x count."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from mixpyro import (
    BayesianSoftmaxGate,
    LinearExperts,
    MixtureOfExperts,
    coefficients,
    fit,
    fit_minibatches,
    linear_response,
    load,
    refine,
    save,
)
from mixpyro.conjugate.normal import NormalCoefficients
from mixpyro.gates import Gate
from mixpyro.numerics import nested
from tests.gates.bayesian_contract import BayesianLogitContract
from tests.gates.contract import K


class TestRelevance(BayesianLogitContract):
    """The bound has a factor of the precisions of columns; the program integrates them out."""

    slack, noise = 3.0, 0.2

    def make(self, n_components: int = K) -> Gate:
        return BayesianSoftmaxGate(n_components, 2, relevance=True)

    def test_kl_divergence_is_float64_and_zero_before_data(self) -> None:
        """Above zero: a fit starts from precisions that a large coefficient needs."""
        gate = self.make()
        assert gate.kl_divergence().dtype == torch.float64
        assert gate.kl_divergence() > 0

    def test_half_a_step_goes_half_way(self) -> None:
        """In what the rows add to the natural parameters: the precisions of the columns follow."""
        gate, x, r = self.updated()
        assert isinstance(gate, BayesianSoftmaxGate)
        start, sums = gate.posterior, gate.statistics(x, r)
        known, prior = start.statistics_beyond(gate.prior_given(start)), gate.prior_given(start)
        gate.update(sums, step_size=0.5)
        halfway = gate.posterior.statistics_beyond(prior)
        torch.testing.assert_close(halfway.precision, (known.precision + sums.precision) / 2)
        torch.testing.assert_close(halfway.linear, (known.linear + sums.linear) / 2)

    def test_the_bound_never_falls_from_step_to_step(self) -> None:
        """It rises slowly where the precision of a column without effect grows."""
        gate, x, r = self.updated(60)
        assert isinstance(gate, BayesianSoftmaxGate)
        gate.forget()
        bounds = []
        for _ in range(120):
            gate.maximise(x, r, n_steps=1)
            bounds.append(float(gate.partial_bound(x, r)))
        assert all(after >= before - 1e-9 for before, after in itertools.pairwise(bounds))
        assert bounds[-1] - bounds[-2] < 1e-6

    def test_a_natural_gradient_step_in_batches_reaches_the_optimum_of_all_rows(self) -> None:
        """The precisions of the columns are slower: the bound comes near."""
        gate, x, r = self.updated(60)
        assert isinstance(gate, BayesianSoftmaxGate)
        gate.maximise(x, r, n_steps=200)
        other = self.make()
        assert isinstance(other, BayesianSoftmaxGate)
        torch.manual_seed(0)
        for step in range(1, 400):
            rows = torch.randperm(60)[:20]
            sums = nested.scale(3.0, other.statistics(x[rows], r[rows]))
            other.update(sums, step_size=1.0 / (1.0 + 0.5 * step) ** 0.9)
        assert float(gate.partial_bound(x, r)) - float(other.partial_bound(x, r)) < 0.05


def problem(n_components: int, n_columns: int = 6, n_objects: int = 250) -> tuple[Tensor, Tensor]:
    """Rows whose component depends on the first column alone."""
    generator = torch.Generator().manual_seed(n_components)
    x = torch.randn(n_objects, n_columns, dtype=torch.float64, generator=generator)
    scores = 2.0 * x[:, :1] * torch.arange(n_components).double()
    z = torch.multinomial(scores.softmax(-1), 1, generator=generator).squeeze(1)
    return x, torch.nn.functional.one_hot(z, n_components).double()


@pytest.mark.parametrize("n_components", [2, 3])
@pytest.mark.parametrize("symmetric", [True, False])
def test_columns_without_effect_shrink(n_components: int, symmetric: bool) -> None:
    x, r = problem(n_components)
    gates = [
        BayesianSoftmaxGate(n_components, 6, relevance=relevance, symmetric_prior=symmetric)
        for relevance in (True, False)
    ]
    for gate in gates:
        gate.maximise(x, r, n_steps=60)
    found, plain = (gate.coefficients[:, 1:].abs().amax(0) for gate in gates)
    assert (found[1:] < 0.5 * plain[1:] + 0.01).all()
    assert found[0] > 0.85 * plain[0]
    precisions = gates[0].column_precisions
    assert precisions is not None
    assert precisions[1:].min() > 20 * precisions[0]
    assert gates[0].partial_bound(x, r) > gates[1].partial_bound(x, r)
    assert gates[1].column_precisions is None


def test_the_divergence_is_that_of_both_factors() -> None:
    """By Monte Carlo over q(c) q(λ)."""
    x, r = problem(3, n_columns=2)
    gate = BayesianSoftmaxGate(3, 2, relevance=True, symmetric_prior=False, prior_scale=3.0)
    gate.maximise(x, r)
    q, own = gate.posterior, gate.column_precisions
    assert own is not None
    flat = torch.distributions.MultivariateNormal(q.mean[0], covariance_matrix=q.covariance[0])
    columns = torch.distributions.Gamma(0.5 + 1.0, 1.5 / own)
    torch.manual_seed(0)
    c, precisions = flat.sample(torch.Size([40_000])), columns.sample(torch.Size([40_000]))
    matrix = c.unflatten(-1, (2, 3))
    log_ratio = flat.log_prob(c) + columns.log_prob(precisions).sum(-1)
    log_ratio -= torch.distributions.Gamma(0.5, 0.5 * 0.03**2 + torch.zeros(2).double()).log_prob(precisions).sum(-1)
    log_ratio -= torch.distributions.Normal(0.0, 3.0).log_prob(matrix[..., 0]).sum(-1)
    log_ratio -= torch.distributions.Normal(0.0, precisions.rsqrt()[:, None]).log_prob(matrix[..., 1:]).sum((-2, -1))
    error = float(log_ratio.std()) / 200.0
    assert float(gate.kl_divergence()) == pytest.approx(float(log_ratio.mean()), abs=4 * error)
    # The λ in use are the best: any other factor is farther.
    for factor in (0.7, 1.4):
        other = torch.distributions.Gamma(1.5, 1.5 / (own * factor))
        kl = torch.distributions.kl_divergence(other, torch.distributions.Gamma(0.5, 0.5 * 0.03**2))
        best = torch.distributions.kl_divergence(columns, torch.distributions.Gamma(0.5, 0.5 * 0.03**2))
        squares = (matrix[..., 1:] ** 2).sum(1).mean(0)
        change = (kl - best) + own * (factor - 1.0) * squares * 0.5 - torch.tensor(factor).log()
        assert float(change.sum()) > 0


@pytest.mark.usefixtures("without_type_checks")
def test_two_components_against_a_grid() -> None:
    """A column's coefficient is Cauchy once its precision is integrated out."""
    x, r = problem(2, n_columns=1, n_objects=150)
    gate = BayesianSoftmaxGate(2, 1, prior_scale=3.0, symmetric_prior=False, relevance=True)
    gate.maximise(x, r, n_steps=200)
    # The prior of the slope is narrow, that of the intercept is not.
    coarse, grid = (torch.linspace(-6.0, 6.0, n_points).double() for n_points in (201, 1201))
    logits = coarse[:, None, None] + grid[None, :, None] * x[:, 0]
    log_joint = (r[:, 1] * logits - torch.nn.functional.softplus(logits)).sum(-1)
    log_joint = log_joint + torch.distributions.Normal(0.0, 3.0).log_prob(coarse)[:, None]
    log_joint = log_joint + torch.distributions.Cauchy(0.0, 0.03).log_prob(grid)
    weights = log_joint.flatten().softmax(0).reshape(log_joint.shape)
    mean = torch.stack([(weights.sum(1) * coarse).sum(), (weights.sum(0) * grid).sum()])
    sd = (torch.stack([(weights.sum(1) * coarse**2).sum(), (weights.sum(0) * grid**2).sum()]) - mean**2).sqrt()
    assert ((gate.coefficients[0] - mean) / sd).abs().max() < 0.1
    torch.testing.assert_close(gate.covariance.diagonal().sqrt(), sd, rtol=0.1, atol=0)
    evidence = float(log_joint.flatten().logsumexp(0)) + float(((coarse[1] - coarse[0]) * (grid[1] - grid[0])).log())
    assert 0.0 < evidence - float(gate.partial_bound(x, r)) < 0.6
    c = torch.stack(torch.meshgrid(grid[::300], grid[::300], indexing="ij"), -1).unsqueeze(-2)
    expected = torch.distributions.Normal(0.0, 3.0).log_prob(c[..., 0, 0])
    expected = expected + torch.distributions.Cauchy(0.0, 0.03).log_prob(c[..., 0, 1])
    torch.testing.assert_close(gate.prior_distribution(torch.float64).log_prob(c), expected)


def test_draws_of_the_prior_have_its_quantiles() -> None:
    torch.manual_seed(0)
    prior = BayesianSoftmaxGate(2, 1, prior_scale=3.0, symmetric_prior=False, relevance=True).prior_distribution(
        torch.float64
    )
    draws = prior.sample(torch.Size([20_000]))
    assert draws.shape == (20_000, 1, 2)
    assert float(draws[:, 0, 0].std()) == pytest.approx(3.0, rel=0.03)
    # Half of a Cauchy distribution is within its scale.
    assert float((draws[:, 0, 1].abs() < 0.03).double().mean()) == pytest.approx(0.5, abs=0.015)


def lines_by_gate(n_objects: int = 200) -> tuple[Tensor, Tensor]:
    torch.manual_seed(2)
    x = torch.randn(n_objects, 3).double()
    z = torch.rand(n_objects) < torch.sigmoid(3.0 * x[:, 0])
    return x, torch.where(z, 2.0 + x[:, 1], -2.0 - x[:, 1]).unsqueeze(1) + 0.3 * torch.randn(n_objects, 1).double()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.usefixtures("without_type_checks")
def test_a_fit_and_all_that_reads_it(tmp_path: Any) -> None:
    x, y = lines_by_gate()

    def make() -> MixtureOfExperts:
        return MixtureOfExperts(BayesianSoftmaxGate(2, 3, relevance=True), LinearExperts(2, 3))

    result = fit(make(), x, y, n_restarts=2, progress=False)
    for run in result.runs:
        assert all(after >= before - 1e-9 for before, after in itertools.pairwise(run.trace))
    gate = result.mixture.gate
    assert gate.column_precisions[1:].min() > 20 * gate.column_precisions[0]
    assert "gate: component 1 against 0, x0" in coefficients(result, x, y)
    response = linear_response(result, x, y)
    own = gate.covariance.diagonal().sqrt()
    assert (response.standard_deviations[:4] > 0.9 * own).all()
    assert bool(refine(result, x, y, n_draws=200, nuts=False).samples["gate.coefficients"].isfinite().all())
    save(result.mixture, tmp_path / "file")
    loaded = load(tmp_path / "file")
    assert torch.equal(loaded.gate.column_precisions, gate.column_precisions)
    assert float(loaded.bound(x, y)) == pytest.approx(result.bound, abs=1e-8)
    batches = fit_minibatches(make(), x, y, batch_size=50, n_restarts=1, n_epochs=20, progress=False)
    assert result.bound - 0.3 < batches.bound <= result.bound + 1e-6


def test_without_columns_there_is_nothing_to_learn() -> None:
    for gate in (BayesianSoftmaxGate(3, 0, relevance=True), BayesianSoftmaxGate(1, 2, relevance=True)):
        assert gate.column_precisions is None
        assert gate.kl_divergence() == 0
    q = BayesianSoftmaxGate(3, 2).posterior
    assert isinstance(q, NormalCoefficients)
