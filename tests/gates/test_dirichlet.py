"""The global gate."""

import pyro
import pytest
import torch
from pyro import poutine
from pyro.distributions import Dirichlet, Gamma, Normal, Uniform
from pyro.infer import TraceEnum_ELBO
from torch import Tensor

from mixpyro.fitting.gradient.m_step import MStep
from mixpyro.gates import DirichletGate
from tests.gates.contract import K, LatentWeightsContract
from tests.problems import inputs, responsibilities


class TestDirichletGate(LatentWeightsContract):
    """The contract."""

    def make(self, n_components: int = K) -> DirichletGate:
        return DirichletGate(n_components, concentration=0.7)


def test_the_posterior_is_the_prior_plus_the_counts() -> None:
    gate, x, r = DirichletGate(2, concentration=[1.0, 3.0]), inputs(5), responsibilities(5, 2)
    gate.update(gate.statistics(x, r))
    torch.testing.assert_close(gate.posterior_concentration, torch.tensor([1.0, 3.0]).double() + r.sum(0))


def test_expected_log_weights_are_the_mean_of_sampled_log_weights() -> None:
    gate, x = DirichletGate(3, concentration=[0.5, 2.0, 4.0]), inputs(1)
    samples = Dirichlet(gate.posterior_concentration).sample((200_000,)).log()
    error = samples.std(0) / len(samples) ** 0.5
    assert ((gate.expected_log_weights(x)[0] - samples.mean(0)).abs() < 4 * error).all()


def test_statistics_of_two_halves_add_up() -> None:
    gate, x, r = DirichletGate(2), inputs(10), responsibilities(10, 2)
    halves = gate.statistics(x[:5], r[:5]).counts + gate.statistics(x[5:], r[5:]).counts
    torch.testing.assert_close(halves, gate.statistics(x, r).counts)


def test_counts_of_many_float32_rows_are_summed_in_float64() -> None:
    r = torch.full((2_000_000, 2), 0.1)
    counts = DirichletGate(2).statistics(torch.zeros(len(r), 0), r).counts
    torch.testing.assert_close(counts, 2e6 * r[0].double(), rtol=1e-12, atol=0)


def test_the_kl_divergence_of_a_float32_gate_with_ten_million_objects() -> None:
    """In float32 the log gammas of 1e7 cancel to nothing."""
    gate = DirichletGate(3, dtype=torch.float32)
    gate.posterior_concentration = torch.tensor([5e6, 3e6, 2e6])
    exact = torch.distributions.kl_divergence(
        Dirichlet(torch.tensor([5e6, 3e6, 2e6]).double()), Dirichlet(torch.ones(3).double())
    )
    torch.testing.assert_close(gate.kl_divergence(), exact, rtol=1e-12, atol=0)


def test_the_evidence_gives_exact_gradients_of_the_concentration() -> None:
    """Of log B(α + N r) − log B(α) + log p(α), the bound at the best q(π); from a subsample too, scaled to all."""
    x, r, prior = inputs(6), responsibilities(6, 2), Gamma(2.0, 1.0)
    for n_objects in (6, 18):
        gate = DirichletGate(2, concentration=[0.5, 2.0], concentration_prior=prior, name=f"gate_{n_objects}")
        alpha = gate.prior_concentration.detach().requires_grad_()
        counts = n_objects / 6 * r.sum(0)
        bound = log_beta(alpha + counts) - log_beta(alpha) + prior.log_prob(alpha).sum()
        (expected,) = torch.autograd.grad(bound, alpha)

        def model(x: Tensor, gate: DirichletGate = gate, n_objects: int = n_objects) -> None:
            rows = pyro.plate("objects", n_objects, subsample=torch.arange(6), dim=-1)
            with poutine.reparam(config=gate.reparam(x, r, n_objects=n_objects)):
                gate.model(x, plate=rows)

        def guide(x: Tensor, gate: DirichletGate = gate, n_objects: int = n_objects) -> None:
            rows = pyro.plate("objects", n_objects, subsample=torch.arange(6), dim=-1)
            gate.assignment_guide(x, r, plate=rows)

        loss = TraceEnum_ELBO(max_plate_nesting=1).differentiable_loss(model, guide, x)
        (found,) = torch.autograd.grad(loss, gate.prior_concentration_unconstrained)
        torch.testing.assert_close(found, -expected * alpha)
        entropy = -n_objects / 6 * torch.xlogy(r, r).sum()
        torch.testing.assert_close(loss, -(bound + entropy))


def log_beta(alpha: Tensor) -> Tensor:
    """Logarithm of the normaliser of a Dirichlet."""
    return alpha.lgamma().sum() - alpha.sum().lgamma()


def test_svi_learns_the_concentration_under_its_prior() -> None:
    """The MAP estimate of a symmetric α by SVI is where a fine grid has its maximum."""
    r = responsibilities(40, 2)
    gate = DirichletGate(2, concentration_prior=Gamma(2.0, 1.0))
    x = inputs(40)
    m_step = MStep(gate)
    for _ in range(15):
        gate.update(gate.statistics(x, r))
        m_step.improve(x, r, n_steps=25)
    # With q(π) at its optimum the bound is the log evidence of the counts, plus the prior.
    counts = r.sum(0)

    def log_posterior(alpha: torch.Tensor) -> torch.Tensor:
        evidence = torch.lgamma(alpha.sum(-1)) - torch.lgamma((alpha + counts).sum(-1))
        evidence = evidence + (torch.lgamma(alpha + counts) - torch.lgamma(alpha)).sum(-1)
        return evidence + Gamma(2.0, 1.0).log_prob(alpha).sum(-1)

    axis = torch.linspace(0.5, 4.0, 701, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    best = grid[log_posterior(grid).argmax()]
    torch.testing.assert_close(gate.prior_concentration.detach(), best, rtol=0, atol=0.02)


def test_without_a_prior_the_concentration_is_not_learnt() -> None:
    """It would go to infinity: each update of q would call for a larger α, which would call for a larger q."""
    gate, x, r = DirichletGate(2), inputs(40), responsibilities(40, 2)
    assert not list(gate.parameters())
    for _ in range(3):
        gate.update(gate.statistics(x, r))
        # The α that maximises E_q[log p(π | α)] is the parameter of q itself.
        gate.prior_concentration = gate.posterior_concentration.clone()
    torch.testing.assert_close(gate.prior_concentration, 1 + 3 * r.sum(0))


@pytest.mark.usefixtures("bad_arguments")
@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (0.5, TypeError, "must be a distribution of Pyro or PyTorch; got float"),
        (Uniform(0.9, 1.1), ValueError, "must be a distribution over all positive numbers; got Uniform"),
        (Normal(0.0, 1.0), ValueError, "must be a distribution over all positive numbers; got Normal"),
    ],
)
def test_a_bad_prior_of_the_concentration_is_refused(bad: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"`concentration_prior` {message}"):
        DirichletGate(2, concentration_prior=bad)  # type: ignore[arg-type]


@pytest.mark.usefixtures("bad_arguments")
def test_a_dtype_that_cannot_hold_the_concentration_is_refused() -> None:
    with pytest.raises(TypeError, match=r"`dtype` must be a floating dtype; got torch\.int64"):
        DirichletGate(2, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"`concentration` must be above 0 in torch.float32; got \[0.0, 0.0\]"):
        DirichletGate(2, concentration=1e-60, dtype=torch.float32)


@pytest.mark.usefixtures("bad_arguments")
@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (0.0, ValueError, r"above 0; got \[0.0, 0.0\]"),
        (-1.0, ValueError, "above 0"),
        (float("nan"), ValueError, "finite"),
        ([1.0, 2.0, 3.0], ValueError, r"length 2; got shape \[3\]"),
        ("one", TypeError, "got 'one'"),
    ],
)
def test_a_bad_concentration_is_refused(bad: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"`concentration` must.*{message}"):
        DirichletGate(2, concentration=bad)  # type: ignore[arg-type]


@pytest.mark.usefixtures("bad_arguments")
@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ("tpu", ValueError, "'cpu', 'cuda'.*got 'tpu'"),
        ("meta", ValueError, "got 'meta'"),
        ("cuda:99", RuntimeError, "present on this machine; got 'cuda:99'"),
        (3, TypeError, "got 3"),
    ],
)
def test_a_bad_device_is_refused(bad: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"`device` must be.*{message}"):
        DirichletGate(2, device=bad)  # type: ignore[arg-type]
