"""The per-object gate with its weights integrated out."""

import math

import pyro
import pytest
import torch
from pyro.infer import TraceEnum_ELBO
from torch import nn

from mixpyro.conjugate.dirichlet import Counts
from mixpyro.fitting.gradient.m_step import MStep
from mixpyro.gates import Gate, MarginalObjectDirichletGate, NeuralGate
from tests.gates.contract import K, UpdatedContract
from tests.problems import in_plate, inputs, responsibilities


class TestMarginalObjectDirichletGate(UpdatedContract):
    """The contract."""

    def make(self, n_components: int = K) -> MarginalObjectDirichletGate:
        mean = [1.0 + k for k in range(n_components)] if n_components == K else None
        return MarginalObjectDirichletGate(n_components, concentration=2.0, mean=mean)

    def logarithm_of_mean(self, gate: Gate, x: torch.Tensor) -> torch.Tensor:
        """The weights enter by their prior mean, not by the posterior's."""
        return gate.mean.log()


def test_the_evidence_is_that_of_the_integral_over_the_weights() -> None:
    """∫ Dirichlet(π | γμ) Σₖ πₖ lₖ dπ = Σₖ μₖ lₖ, here by Monte Carlo."""
    gate = MarginalObjectDirichletGate(3, concentration=0.5, mean=[1.0, 2.0, 3.0])
    likelihood = torch.tensor([2.0, 1.0, 0.3], dtype=torch.float64)
    draws = torch.distributions.Dirichlet(gate.prior_concentration).sample((400_000,)) @ likelihood
    x = torch.zeros(1, 0, dtype=torch.float64)
    exact = (gate.expected_log_weights(x).exp() @ likelihood).item()
    assert abs(exact - draws.mean().item()) < 4 * draws.std().item() / len(draws) ** 0.5


def test_enumerating_z_in_svi_agrees_with_it() -> None:
    """Pyro's ELBO with z summed out in the model and a y for every object is the exact log evidence."""
    gate, x = MarginalObjectDirichletGate(2, mean=[1.0, 3.0]), inputs(6)
    y = inputs(6, 1, seed=3).squeeze(-1)
    means = torch.tensor([-1.0, 1.0], dtype=torch.float64)

    def model(x: torch.Tensor) -> None:
        plate = pyro.plate("objects", len(x), dim=-1)
        z = gate.model(x, plate=plate)
        with plate:
            pyro.sample("y", pyro.distributions.Normal(means[z], 1.0), obs=y)

    loss = TraceEnum_ELBO(max_plate_nesting=1).loss(model, lambda x: in_plate(gate.guide)(x), x)
    log_likelihood = torch.distributions.Normal(means, torch.ones(2).double()).log_prob(y.unsqueeze(-1))
    evidence = (gate.expected_log_weights(x) + log_likelihood).logsumexp(-1).sum()
    assert abs(-loss - evidence.item()) < 1e-10


def test_the_learnt_mean_is_what_svi_finds() -> None:
    x, r = inputs(50), responsibilities(50, 3)
    gate = MarginalObjectDirichletGate(3, learn_mean=True)
    gate.update(gate.statistics(x, r))
    constant = NeuralGate(3, Constant(3))
    m_step = MStep(constant)
    for _ in range(12):
        m_step.improve(x, r, n_steps=20)
    torch.testing.assert_close(gate.mean, constant.weights(x)[0].detach(), rtol=0, atol=1e-5)


def test_a_component_without_objects_keeps_the_bound_finite() -> None:
    gate, x = MarginalObjectDirichletGate(3, learn_mean=True), inputs(2)
    r = torch.eye(3).double()[:2]
    gate.update(gate.statistics(x, r))
    assert gate.partial_bound(x, r).item() == pytest.approx(2 * math.log(0.5))


def test_responsibilities_of_zero_cannot_teach_a_mean() -> None:
    gate, x = MarginalObjectDirichletGate(3, learn_mean=True), inputs(4)
    for statistics in (gate.statistics(x, torch.zeros(4, 3).double()), Counts(torch.ones(4, 1))):
        with pytest.raises(ValueError, match=r"`statistics.counts` must have"):
            gate.update(statistics)
        torch.testing.assert_close(gate.mean, torch.full((3,), 1 / 3).double())


class Constant(nn.Module):
    """Logits that do not depend on x."""

    def __init__(self, n_components: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(n_components, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(len(x), -1)
