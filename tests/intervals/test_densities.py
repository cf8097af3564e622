"""The log joint density at draws of all parameters, against the mixture's own Pyro model."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pyro.distributions import Gamma
from torch import Tensor

from mixpyro import (
    DirichletGate,
    FitResult,
    GaussianExperts,
    GLMExperts,
    HeterogeneousExperts,
    LinearExperts,
    MixtureOfExperts,
    RelevanceLinearExperts,
    SharedLinearExperts,
    SoftmaxGate,
    StickBreakingGate,
    fit,
    linear_response,
)
from mixpyro.diagnostics.draws import evaluate
from mixpyro.diagnostics.observations import Observations
from mixpyro.experts.base import Experts
from mixpyro.experts.families import Gaussian, Poisson
from mixpyro.fitting.table import checked_table
from mixpyro.gates import Gate
from mixpyro.intervals.densities import LogJoint
from mixpyro.intervals.part_densities import column_precision_given
from mixpyro.intervals.relabelling import Relabelling
from mixpyro.intervals.responses.parts import posterior_parts
from mixpyro.numerics import blocks

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

N = 30
GATES: dict[str, Callable[[int], Gate]] = {
    "Dirichlet": lambda k: DirichletGate(k, concentration=[0.7, 2.0]),
    "sticks": lambda k: StickBreakingGate(k, concentration=0.7, discount=0.3),
    "sticks, learnt": lambda k: StickBreakingGate(k, concentration=Gamma(2.0, 1.0)),
    "softmax": lambda k: SoftmaxGate(k, 2),
    "softmax with a prior": lambda k: SoftmaxGate(k, 2, prior_scale=2.0),
}
EXPERTS: dict[str, Callable[[int], Experts]] = {
    "lines": lambda k: LinearExperts(k, 2),
    "lines without intercept": lambda k: LinearExperts(k, 2, intercept=False),
    "lines with one noise": lambda k: LinearExperts(k, 2, noise_per_component=False),
    "lines of two outputs": lambda k: LinearExperts(k, 2, n_outputs=2),
    "two outputs with one noise": lambda k: LinearExperts(k, 2, n_outputs=2, noise_per_output=False),
    "full densities": lambda k: GaussianExperts(k, 2),
    "diagonal densities": lambda k: GaussianExperts(k, 2, covariance="diagonal"),
    "spherical densities": lambda k: GaussianExperts(k, 2, covariance="spherical"),
    "tied densities": lambda k: GaussianExperts(k, 2, covariance="tied"),
    "lines that share a slope": lambda k: SharedLinearExperts(k, 2, 2, shared=[1]),
    "one column": lambda k: GaussianExperts(k, 1),
    "Poisson": lambda k: GLMExperts(k, 2, Poisson()),
    "Poisson with a shared slope": lambda k: GLMExperts(k, 2, Poisson(), prior_scale=2.0, shared=[1]),
    "Poisson with a prior": lambda k: GLMExperts(k, 2, Poisson(), prior_scale=2.0),
    "Gaussian": lambda k: GLMExperts(k, 2, Gaussian()),
    "two banks": lambda k: HeterogeneousExperts([LinearExperts(1, 2), GLMExperts(1, 2, Gaussian())]),
}


def rows(experts: Experts) -> tuple[Tensor, Tensor]:
    """Draw x [N, 2], far from zero, and y [N, P] of two groups."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(N, 2, generator=generator, dtype=torch.float64) + 3.0
    first = torch.arange(N) % 2 == 0
    y = torch.where(first, 1 + x[:, 0], x[:, 1] - 2) + 0.4 * torch.randn(N, generator=generator, dtype=torch.float64)
    if experts.is_discrete:
        y = torch.poisson(y.clamp_min(0.1), generator=generator)
    columns = [y, 0.3 * y + torch.randn(N, generator=generator, dtype=torch.float64)]
    return x, torch.stack(columns[: experts.n_outputs], dim=1)


def density(gate: Gate, experts: Experts, **options: Any) -> tuple[LogJoint, Tensor, FitResult]:
    """Fit briefly; return the density at the fit, and draws around it."""
    x, y = rows(experts)
    start = torch.nn.functional.one_hot(torch.arange(N) % 2, 2).double() + 0.1
    mixture = MixtureOfExperts(gate, experts)
    result = fit(mixture, x, y, initial_responsibilities=start, max_iterations=5, progress=False, **options)
    table = checked_table(mixture, x, y, None, None)._replace(labels=result.observed)
    joint = LogJoint(copy.deepcopy(mixture).double(), table)
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(4, joint.parameters.size, generator=generator, dtype=torch.float64)
    return joint, _at(mixture) + 0.1 * noise, result


def _at(mixture: MixtureOfExperts) -> Tensor:
    """Return coordinates at the fit: posterior means, and estimates."""
    posterior = [part.response.quantities for part in posterior_parts(mixture)]
    estimated = [p.detach().flatten().double() for p in mixture.parameters() if p.requires_grad]
    return torch.cat([*posterior, *estimated])


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize("experts", EXPERTS)
@pytest.mark.parametrize("gate", GATES)
def test_the_density_is_that_of_the_pyro_model(gate: str, experts: str) -> None:
    joint, theta, result = density(GATES[gate](2), EXPERTS[experts](2))
    values = joint.parameters.values(theta)
    torch.testing.assert_close(joint.parameters.joined(values), theta, rtol=0, atol=1e-12)
    data = Observations(joint.mixture, joint.table.x, joint.table.y, joint.table.gate_x)
    expected = []
    for draw in range(len(theta)):
        mixture = copy.deepcopy(joint.mixture)
        parameters = dict(mixture.named_parameters())
        for site in joint.parameters.sites:
            if site.is_estimated:
                parameters[site.name].data.copy_(values[site.name][draw])
        latent = {name.replace("_estimate", ""): value[draw : draw + 1] for name, value in values.items()}
        prior_scales = {
            name: getattr(part, "prior_scale", 0)
            for name, part in (("gate", mixture.gate), ("experts", mixture.experts))
        }
        latent = {
            name: value
            for name, value in latent.items()
            if prior_scales[name.split(".")[0]] is not None and not name.endswith("log_scale") and ".1." not in name
        }
        found = evaluate(data._replace(mixture=mixture), latent, 1)
        expected.append(float(found.log_likelihood.sum() + found.log_prior))
    jacobian = joint.parameters.log_jacobian(theta)
    torch.testing.assert_close(joint(theta), torch.tensor(expected, dtype=torch.float64) + jacobian, rtol=0, atol=1e-9)


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize("experts", ["lines", "full densities", "Poisson", "two banks"])
@pytest.mark.parametrize("gate", ["Dirichlet", "softmax with a prior"])
def test_gradients_are_those_of_differences(gate: str, experts: str) -> None:
    joint, theta, _ = density(GATES[gate](2), EXPERTS[experts](2))
    value, gradient = joint.with_gradient(theta[:1])
    torch.testing.assert_close(value, joint(theta[:1]))
    direction = torch.randn(theta.shape[1], generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    step = 1e-5 * direction
    slope = (joint(theta[:1] + step) - joint(theta[:1] - step)) / 2e-5
    torch.testing.assert_close((gradient @ direction), slope, rtol=1e-6, atol=1e-6)


def test_columns_with_a_learnt_precision_have_it_integrated_out() -> None:
    """By quadrature over λ of one column, the other's held at its conditional mean, which drops out of differences."""
    x, y = rows(LinearExperts(2, 2))
    experts = RelevanceLinearExperts(1, 1)
    fit(MixtureOfExperts(DirichletGate(1), experts), x[:, :1], y, progress=False, max_iterations=5)
    mixture = MixtureOfExperts(DirichletGate(1), experts)
    joint = LogJoint(copy.deepcopy(mixture), checked_table(mixture, x[:, :1], y, None, None))
    theta = _at(mixture).unsqueeze(0)
    others = theta.repeat(2, 1)
    others[1, 1] += 0.7
    others[1, 0] -= 0.7 * experts.prior_x_origin[0]  # the intercept at the origin stays
    values = joint.parameters.values(others)
    log_lambda = torch.linspace(-25.0, 25.0, 4001, dtype=torch.float64)
    prior = experts.prior.columns
    found = []
    for draw in range(2):
        w, tau = values["experts.coefficients"][draw, 0, 0, 1], values["experts.precision"][draw, 0, 0]
        gamma = torch.distributions.Gamma(prior.shape.reshape(-1)[0], prior.rate.reshape(-1)[0])
        precision = log_lambda.exp()
        log_normal = 0.5 * (tau * precision).log() - 0.5 * tau * precision * (w - experts.prior_mean[0, 0, 1]) ** 2
        found.append((gamma.log_prob(precision) + log_lambda + log_normal).logsumexp(0))
    without = LogJoint(copy.deepcopy(mixture), joint.table)
    likelihood = without.log_likelihood(others).sum(-1)
    difference = (joint(others) - likelihood).diff()
    torch.testing.assert_close(difference, (found[1] - found[0]).unsqueeze(0), rtol=1e-7, atol=1e-7)
    assert column_precision_given(experts, values).mean.shape == (2, 1, 1)


@pytest.mark.usefixtures("without_type_checks")
def test_weights_and_known_components_count() -> None:
    labels = torch.full((N,), -1)
    labels[:6] = torch.arange(6) % 2
    joint, theta, _ = density(DirichletGate(2), LinearExperts(2, 2), observed=labels.clamp_min(0), mask=labels >= 0)
    each = joint.log_likelihood(theta)
    values = joint.parameters.values(theta)
    x = torch.cat([torch.ones(N, 1).double(), joint.table.x], 1)
    mean = torch.einsum("skpe,ne->skn", values["experts.coefficients"], x)
    normal = torch.distributions.Normal(mean, values["experts.precision"].rsqrt())
    by_component = values["gate.weights"].log().unsqueeze(-1) + normal.log_prob(joint.table.y[:, 0])
    expected = torch.stack([by_component[:, k, n] for n, k in enumerate(labels[:6].tolist())], dim=1)
    torch.testing.assert_close(each[:, :6], expected)
    torch.testing.assert_close(each[:, 6:], by_component.logsumexp(1)[:, 6:])
    weighted = LogJoint(joint.mixture, joint.table._replace(weights=torch.arange(N).double()))
    torch.testing.assert_close(weighted(theta) - weighted.log_prior(theta), each @ torch.arange(N).double())


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize("experts", EXPERTS)
@pytest.mark.parametrize("gate", GATES)
def test_relabelled_draws_have_the_same_density(gate: str, experts: str) -> None:
    """Where there are two orders; the Dirichlet's unequal prior, banks, and the order of sticks have one."""
    given = DirichletGate(2) if gate == "Dirichlet" else GATES[gate](2)
    joint, theta, _ = density(given, EXPERTS[experts](2))
    relabelling = Relabelling(joint.mixture, [False, False])
    assert len(relabelling.orders) == (1 if experts == "two banks" or gate.startswith("sticks") else 2)
    images = list(relabelling.images(theta))
    assert torch.equal(images[0], theta)
    for image in images:
        torch.testing.assert_close(joint(image), joint(theta), rtol=1e-10, atol=1e-9)
    if len(images) == 2:
        assert not torch.equal(images[1], theta)
    assert len(Relabelling(joint.mixture, [True, False]).orders) == 1


def test_unequal_priors_are_not_exchanged() -> None:
    mixture = MixtureOfExperts(DirichletGate(3, concentration=[1.0, 2.0, 1.0]), LinearExperts(3, 1))
    assert Relabelling(mixture, [False] * 3).orders == [(0, 1, 2), (2, 1, 0)]
    many = MixtureOfExperts(DirichletGate(6), LinearExperts(6, 1))
    assert len(Relabelling(many, [False] * 6).orders) == 1
    five = MixtureOfExperts(DirichletGate(5), LinearExperts(5, 1))
    assert len(Relabelling(five, [False] * 5).orders) == math.factorial(5)


def test_blocks_of_rows_and_draws_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    joint, theta, result = density(DirichletGate(2), LinearExperts(2, 2))
    whole, gradient = joint(theta), joint.with_gradient(theta)[1]
    monkeypatch.setattr(blocks, "LIMITS", blocks.Limits(numbers=6, least_rows=1))
    torch.testing.assert_close(joint(theta), whole, rtol=1e-12, atol=0)
    torch.testing.assert_close(joint.with_gradient(theta)[1], gradient, rtol=1e-10, atol=1e-10)
    assert linear_response(result, joint.table.x, joint.table.y).covariance.isfinite().all()
