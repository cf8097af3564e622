"""Experts of several families in one bank."""

import copy
import math
import pickle
from typing import Any

import pytest
import torch
from pyro import poutine
from pyro.infer import Predictive, Trace_ELBO, TraceEnum_ELBO
from torch import Tensor, nn

from mixpyro import DirichletGate, MixtureOfExperts, SoftmaxGate, fit
from mixpyro.experts import (
    Experts,
    GLMExperts,
    HeterogeneousExperts,
    LinearExperts,
    NeuralExperts,
    PointMassExperts,
)
from mixpyro.experts.families import Gaussian, Poisson
from mixpyro.numerics import nested
from mixpyro.pyro_internals.parameter_store import own_parameter_store
from tests.experts.contract import N_FEATURES, ConjugateExpertsContract, ExpertsContract, K, by_gradient
from tests.problems import in_plate, inputs, lines, responsibilities

# Movements of a fetal lamb in 240 intervals of five seconds: how many intervals had 0, 1, … of them.
# Leroux, Puterman (1992), Maximum-penalized-likelihood estimation for independent and Markov-dependent mixture models.
LAMB = (182, 41, 12, 2, 2, 0, 0, 1)


class TestHeterogeneousExperts(ConjugateExpertsContract):
    """The contract, for lines beside a constant."""

    n_outputs = 2

    def make(self, n_components: int = K) -> HeterogeneousExperts:
        constants = LinearExperts(n_components if n_components != K else K - 1, 0, 2, noise_rate=2.0)
        return HeterogeneousExperts([LinearExperts(1, N_FEATURES, 2), constants])


class TestLinesWithAndWithoutAPosterior(ExpertsContract):
    """The contract, for conjugate experts beside estimated ones."""

    def make(self, n_components: int = K) -> HeterogeneousExperts:
        estimated = GLMExperts(n_components if n_components != K else K - 1, N_FEATURES, Gaussian())
        return HeterogeneousExperts([LinearExperts(1, N_FEATURES), estimated])

    def learn(self, experts: Any, x: Tensor, y: Tensor, r: Tensor) -> None:
        experts.update(experts.statistics(x, y, r))
        experts.maximise(x, y, r, by_gradient=refused)


class TestZeroInflatedCounts(ExpertsContract):
    """The contract, for estimated experts beside one that has nothing to learn."""

    def make(self, n_components: int = K) -> HeterogeneousExperts:
        counts = GLMExperts(n_components if n_components != K else K - 1, N_FEATURES, Poisson(), prior_scale=2.0)
        return HeterogeneousExperts([PointMassExperts(1), counts])

    def data(self, n_objects: int = 30) -> tuple[Tensor, Tensor, Tensor]:
        return *counts(n_objects), responsibilities(n_objects, K)


def refused(*_: object) -> None:
    """A gradient M-step that must not be called."""
    pytest.fail("every member has a method of its own")


def zero_inflated(n_features: int, *, zero: int = 0) -> HeterogeneousExperts:
    """A Poisson regression and zeros, the first or second member."""
    members: list[Experts] = [GLMExperts(1, n_features, Poisson())]
    members.insert(zero, PointMassExperts(1))
    return HeterogeneousExperts(members)


def counts(n_objects: int = 150) -> tuple[Tensor, Tensor]:
    """Counts y [N, 1] of a Poisson regression on x [N, 2], three in ten of them zero for any x."""
    x = inputs(n_objects)
    rate = (0.8 + x @ torch.tensor([[0.5], [-0.3]]).double()).exp()
    return x, torch.poisson(rate) * (torch.rand(n_objects, 1) > 0.3)


def largest_zero_inflated_log_likelihood(x: Tensor, y: Tensor) -> tuple[float, Tensor]:
    """Maximum over (logit of the inflation, coefficients), written down without the library; Lambert (1992), eq. 2."""
    u = torch.cat([torch.ones_like(y), x], 1)
    theta = torch.zeros(1 + u.shape[1], dtype=torch.float64, requires_grad=True)

    def log_likelihood() -> Tensor:
        inflation, eta = theta[0], u @ theta[1:]
        log_poisson = y[:, 0] * eta - eta.exp() - torch.lgamma(y[:, 0] + 1.0)
        log_sum = torch.where(y[:, 0] == 0, torch.logaddexp(inflation, log_poisson), log_poisson)
        return (log_sum - nn.functional.softplus(inflation)).sum()

    search = torch.optim.LBFGS([theta], max_iter=200, line_search_fn="strong_wolfe", tolerance_change=1e-14)

    def closure() -> Tensor:
        search.zero_grad()
        loss = -log_likelihood()
        loss.backward()
        return loss

    search.step(closure)
    return float(log_likelihood().detach()), theta.detach()


def test_members_of_one_kind_are_one_bank() -> None:
    """Two banks of one line each and one bank of two: the same fit, number for number."""
    x, y, _ = lines(60, 2, noise=0.6)
    start, prior = responsibilities(60, 2), {"coefficient_precision": 0.3, "noise_shape": 2.0, "noise_rate": 0.5}
    whole = LinearExperts(2, 1, **prior)  # type: ignore[arg-type]
    apart = HeterogeneousExperts([LinearExperts(1, 1, **prior) for _ in range(2)])  # type: ignore[arg-type]
    first, second = (
        fit(MixtureOfExperts(DirichletGate(2), experts), x, y, initial_responsibilities=start)
        for experts in (whole, apart)
    )
    assert first.n_iterations == second.n_iterations
    torch.testing.assert_close(torch.tensor(second.trace), torch.tensor(first.trace), rtol=0, atol=1e-9)
    torch.testing.assert_close(second.responsibilities, first.responsibilities, rtol=0, atol=1e-9)
    assert apart.n_parameters == whole.n_parameters
    torch.testing.assert_close(second.mixture.log_prob(x, y), first.mixture.log_prob(x, y))
    torch.testing.assert_close(second.mixture.predict(x), first.mixture.predict(x))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_one_evaluation_of_the_joint_elbo_equals_the_closed_form(order: tuple[int, int]) -> None:
    """All conjugate posteriors at their optimum, one line beside two constants or after them."""
    banks = LinearExperts(1, N_FEATURES, 2), LinearExperts(2, 0, 2)
    mixture = MixtureOfExperts(DirichletGate(K), HeterogeneousExperts([banks[i] for i in order]))
    x, y, _ = lines(25, K, n_features=N_FEATURES, n_outputs=2)
    r = responsibilities(25, K)
    mixture.gate.update(mixture.gate.statistics(x, r))
    mixture.experts.update(mixture.experts.statistics(x, y, r))

    def guide(x: Tensor, y: Tensor) -> None:
        mixture.experts.guide(x)
        in_plate(mixture.gate.guide)(x, responsibilities=r)

    elbo = -TraceEnum_ELBO(max_plate_nesting=1).loss(mixture.model, guide, x, y)
    with torch.no_grad():
        closed = (r * mixture.expected_log_joint(x, y)).sum() - torch.xlogy(r, r).sum() - mixture.kl_divergence()
    assert abs(elbo - closed.item()) < 1e-10


def test_sites_take_the_members_numbers_and_draws_have_the_predicted_mean() -> None:
    mixture = MixtureOfExperts(DirichletGate(3), HeterogeneousExperts([LinearExperts(1, 1), LinearExperts(2, 0)]))
    x, y, _ = lines(12, 2)
    r = responsibilities(12, 3)
    mixture.gate.update(mixture.gate.statistics(x, r))
    mixture.experts.update(mixture.experts.statistics(x, y, r))
    names = set(poutine.trace(mixture.model).get_trace(x, y).nodes)
    assert {"experts.0.coefficients", "experts.1.coefficients", "experts.1.precision", "experts.y"} <= names
    draws = Predictive(mixture.model, guide=lambda x, y=None: mixture.guide(x, y), num_samples=100)(x)["experts.y"]
    assert ((draws.mean(0) - mixture.predict(x)).abs() < 5 * draws.std(0) / 100**0.5).all()


def test_a_line_beside_a_constant_is_found() -> None:
    """Twice as many points on the line as at the constant, which the line crosses."""
    x = torch.linspace(-3.0, 3.0, 90, dtype=torch.float64).unsqueeze(-1)
    flat = torch.arange(90) % 3 == 0
    y = torch.where(flat.unsqueeze(-1), torch.tensor(2.0).double(), 1.5 * x) + 0.1 * torch.randn(90, 1).double()
    experts = HeterogeneousExperts([LinearExperts(1, 1, noise_rate=0.01), LinearExperts(1, 0, noise_rate=0.01)])
    result = fit(MixtureOfExperts(DirichletGate(2), experts), x, y, n_restarts=6)
    line, constant = (member.coefficients.flatten() for member in experts.members)
    torch.testing.assert_close(line, torch.tensor([0.0, 1.5]).double(), rtol=0, atol=0.06)
    torch.testing.assert_close(constant, torch.tensor([2.0]).double(), rtol=0, atol=0.06)
    assert ((result.responsibilities.argmax(-1) == 1) == flat).double().mean() > 0.9


@pytest.mark.usefixtures("without_type_checks")
def test_zeros_beside_a_poisson_are_the_zero_inflated_model() -> None:
    """Its maximum solves two equations in the sample's means; Lambert (1992), eq. 2 without covariates."""
    y = torch.repeat_interleave(torch.arange(8), torch.tensor(LAMB)).double().unsqueeze(-1)
    x = inputs(len(y), 0)
    mixture = MixtureOfExperts(SoftmaxGate(2, 0), zero_inflated(0))
    result = fit(mixture, x, y, n_restarts=2, tolerance=1e-10)
    assert not any(run.degeneracies for run in result.runs)
    rate = mixture.experts.predict(x)[0, 1, 0].item()
    inflation = mixture.gate.weights(x)[0, 0].item()
    # The mean of the positive counts is that of the Poisson cut off at zero, the mean of all is (1 − inflation) rate.
    assert rate / -math.expm1(-rate) == pytest.approx(y[y > 0].mean().item(), abs=5e-5)
    assert (1.0 - inflation) * rate == pytest.approx(y.mean().item(), abs=5e-5)
    assert result.bound == pytest.approx(mixture.log_prob(x, y).sum().item(), abs=1e-9)


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize("zero", [0, 1])
def test_zero_inflated_regression_is_at_its_independent_maximum(zero: int) -> None:
    x, y = counts()
    mixture = MixtureOfExperts(SoftmaxGate(2, 0), zero_inflated(2, zero=zero))
    result = fit(mixture, x, y, gate_x=x[:, :0], n_restarts=3, tolerance=1e-10)
    best, theta = largest_zero_inflated_log_likelihood(x, y)
    assert abs(result.bound - best) < 1e-5
    poisson = mixture.experts.members[1 - zero]
    torch.testing.assert_close(poisson.coefficients.flatten(), theta[1:], rtol=0, atol=1e-3)


@pytest.mark.parametrize("zero", [0, 1])
def test_impossible_values_leave_bound_elbo_and_gradients_finite(zero: int) -> None:
    x, y = counts(40)
    mixture, nothing = MixtureOfExperts(SoftmaxGate(2, 0), zero_inflated(2, zero=zero)), x[:, :0]
    r = mixture.assign(x, y, gate_x=nothing).responsibilities
    assert set(r[y[:, 0] > 0, zero].tolist()) == {0.0}
    bound = mixture.bound(x, y, gate_x=nothing).item()
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    for guide in (mixture.guide, lambda *_, **__: None):
        assert -elbo.loss(mixture.model, guide, x, y, gate_x=nothing) == pytest.approx(bound, abs=1e-9)
        mixture.zero_grad()
        elbo.differentiable_loss(mixture.model, guide, x, y, gate_x=nothing).backward()
        assert all(torch.isfinite(p.grad).all() for p in mixture.parameters() if p.grad is not None)
        assert any(p.grad is not None and p.grad.abs().max() > 0 for p in mixture.parameters())
    assert torch.isfinite(mixture.experts.partial_bound(x, y, r))


def test_svi_trains_what_has_no_method_of_its_own() -> None:
    """Also with responsibilities above zero for impossible values, as those of a random start."""
    network = nn.Linear(2, 1).double()
    experts = HeterogeneousExperts([PointMassExperts(1), NeuralExperts(1, 2, network, Poisson())])
    x, y = counts(60)
    r = responsibilities(60, 2)
    assert experts.partial_bound(x, y, r) == -torch.inf
    for _ in range(4):
        experts.maximise(x, y, r, by_gradient=by_gradient)
    glm = GLMExperts(1, 2, Poisson())
    glm.maximise(x, y, r[:, 1:], by_gradient=refused)
    torch.testing.assert_close(network(x).exp(), glm.predict(x)[:, 0], rtol=1e-4, atol=1e-6)
    with own_parameter_store(experts):
        loss = Trace_ELBO().loss(experts.objective, lambda *_: None, x, y, r)
    assert -loss == pytest.approx(experts.members[1].partial_bound(x, y, r[:, 1:]).item())


def test_a_member_with_its_own_method_is_at_its_maximum() -> None:
    x, y, _ = lines(40, 2)
    r = responsibilities(40, 3)
    experts = HeterogeneousExperts([LinearExperts(1, 1), GLMExperts(2, 1, Gaussian())])
    experts.update(experts.statistics(x, y, r))
    experts.maximise(x, y, r, by_gradient=refused)
    line, glm = LinearExperts(1, 1), GLMExperts(2, 1, Gaussian())
    line.update(line.statistics(x, y, r[:, :1]))
    glm.maximise(x, y, r[:, 1:], by_gradient=refused)
    expected = torch.cat([line.expected_log_likelihood(x, y), glm.expected_log_likelihood(x, y)], 1)
    torch.testing.assert_close(experts.expected_log_likelihood(x, y), expected)
    assert experts.kl_divergence() == line.kl_divergence()


def test_degeneracies_are_numbered_as_in_the_mixture() -> None:
    x, y, _ = lines(20, 1)
    r = torch.zeros(20, 4).double()
    r[:2, 2], r[2:, 3] = 1.0, 1.0
    inner = HeterogeneousExperts([LinearExperts(1, 1), GLMExperts(2, 1, Gaussian())])
    experts = HeterogeneousExperts([LinearExperts(1, 0), inner])
    experts.maximise(x, y, r, by_gradient=refused)
    assert experts.degeneracies(x, y, r) == ["the noise of component 2 has collapsed on 2.0 objects"]


def test_banks_of_banks_add_their_statistics() -> None:
    inner = HeterogeneousExperts([LinearExperts(1, 0), LinearExperts(1, 1)])
    experts = HeterogeneousExperts([inner, LinearExperts(1, 1)])
    flat = HeterogeneousExperts([LinearExperts(1, 0), LinearExperts(1, 1), LinearExperts(1, 1)])
    x, y, _ = lines(20, 2)
    r = responsibilities(20, 3)
    halves = nested.add(experts.statistics(x[:9], y[:9], r[:9]), experts.statistics(x[9:], y[9:], r[9:]))
    experts.update(pickle.loads(pickle.dumps(halves)), step_size=0.5)
    flat.update(flat.statistics(x, y, r), step_size=0.5)
    torch.testing.assert_close(experts.expected_log_likelihood(x, y), flat.expected_log_likelihood(x, y))


def test_copies_and_state_round_trip() -> None:
    x, y, _ = lines(20, 2)
    experts = HeterogeneousExperts([LinearExperts(1, 1), GLMExperts(1, 1, Gaussian())])
    experts.centre(x, y)
    experts.maximise(x, y, responsibilities(20, 2), by_gradient=refused)
    twin = copy.deepcopy(experts)
    assert torch.equal(twin.expected_log_likelihood(x, y), experts.expected_log_likelihood(x, y))
    assert {"0.x_origin", "1.coefficients_estimate"} <= set(experts.state_dict())


@pytest.mark.usefixtures("bad_arguments")
def test_bad_members_are_refused() -> None:
    line = LinearExperts(1, 1)
    for members, error, message in (
        ([], ValueError, "`members` must be one bank or more, none of them twice; got 0"),
        ([line, line], ValueError, "none of them twice; got 2"),
        ([line, LinearExperts(1, 1, 2)], ValueError, r"`members` must agree in `n_outputs`; got \[1, 2\]"),
        ([line, DirichletGate(2)], TypeError, r"must be a list of mixpyro Experts; got \['LinearExperts', 'Diri"),
        (line, TypeError, "must be a list of mixpyro Experts; got LinearExperts"),
    ):
        with pytest.raises(error, match=message):
            HeterogeneousExperts(members)  # type: ignore[arg-type]
    x, y = counts(5)
    with pytest.raises(ValueError, match="`y` must hold whole numbers"):
        zero_inflated(2).statistics(x, y + 0.5, responsibilities(5, 2))
