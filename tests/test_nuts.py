"""NUTS on the models with the assignments summed out samples the densities that variational inference bounds."""

import itertools
from collections.abc import Callable

import pyro
import pytest
import torch
from pyro import poutine
from pyro.distributions import Gamma
from pyro.infer import MCMC, NUTS
from pyro.infer.autoguide import AutoNormal, init_to_value
from pyro.infer.mcmc.util import initialize_model
from torch import Tensor

from mixpyro import (
    DirichletGate,
    GLMExperts,
    LinearExperts,
    MarginalObjectDirichletGate,
    MixtureOfExperts,
    ObjectDirichletGate,
    SoftmaxGate,
    StickBreakingGate,
    fit,
)
from mixpyro.experts import Experts
from mixpyro.experts.families import Poisson
from mixpyro.gates import Gate
from tests.problems import lines

pytestmark = pytest.mark.usefixtures("without_type_checks")

N = 5
GATES: dict[str, Callable[[], Gate]] = {
    "dirichlet": lambda: DirichletGate(2),
    "sticks": lambda: StickBreakingGate(2, concentration=0.7, discount=0.3),
    "sticks, learnt": lambda: StickBreakingGate(2, concentration=Gamma(2.0, 1.0)),
    "object": lambda: ObjectDirichletGate(2, concentration=3.0),
    "marginal": lambda: MarginalObjectDirichletGate(2, mean=[1.0, 2.0]),
    "softmax": lambda: SoftmaxGate(2, 1, prior_scale=1.0),
}
EXPERTS: dict[str, Callable[[], Experts]] = {
    "linear": lambda: LinearExperts(2, 1),
    "poisson": lambda: GLMExperts(2, 1, Poisson(), prior_scale=1.0),
}


def data(experts: str) -> tuple[Tensor, Tensor]:
    """Return few objects; counts for the Poisson."""
    x, y, _ = lines(N, 2)
    return x, y.abs().round() if experts == "poisson" else y


@pytest.mark.parametrize(("gate", "experts"), list(itertools.product(GATES, EXPERTS)))
def test_the_potential_is_the_density_summed_over_all_assignments(gate: str, experts: str) -> None:
    """The sum is computed over all 2^N assignments, one joint density each."""
    mixture, (x, y) = MixtureOfExperts(GATES[gate](), EXPERTS[experts]()), data(experts)
    initial, potential, transforms, _ = initialize_model(mixture.model, (x, y), max_plate_nesting=1)
    values = {name: transforms[name].inv(value) for name, value in initial.items()}
    jacobian = sum(transforms[n].inv.log_abs_det_jacobian(initial[n], values[n]).sum() for n in values)
    joint = []
    for z in itertools.product((0, 1), repeat=N):
        conditioned = poutine.condition(mixture.model, {**values, "gate.assignment": torch.tensor(z)})
        joint.append(torch.as_tensor(poutine.trace(conditioned).get_trace(x, y).log_prob_sum()))
    expected = torch.stack(joint).logsumexp(0) + jacobian
    torch.testing.assert_close(-potential(initial), expected)


def chain(mixture: MixtureOfExperts, values: dict[str, Tensor], *args: Tensor, n_draws: int) -> dict[str, Tensor]:
    """Return draws of NUTS that start at given values."""
    kernel = NUTS(
        mixture.model,
        max_plate_nesting=1,
        max_tree_depth=4,
        full_mass=True,
        init_strategy=init_to_value(values=values),
    )
    run = MCMC(kernel, num_samples=n_draws, warmup_steps=50, disable_progbar=True)
    with pyro.validation_enabled(False):
        run.run(*args)
    draws: dict[str, Tensor] = run.get_samples()
    return draws


def test_nuts_agrees_with_the_variational_posterior_where_that_is_exact() -> None:
    """Two lines are so far apart that every assignment is certain; mean field is exact then."""
    x, y, z = lines(60, 2, noise=0.1, seed=4)
    y = y + 5.0 * z.unsqueeze(1)
    mixture = MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1))
    fit(mixture, x, y, n_restarts=4)
    q = mixture.experts.posterior
    precision = q.shape.unsqueeze(1) / q.rate
    values = {"experts.precision": precision, "experts.coefficients": mixture.experts.coefficients}
    draws = chain(mixture, values, x, y, n_draws=100)
    coefficients, weights = draws["experts.coefficients"], draws["gate.weights"]
    deviation = mixture.experts.coefficient_standard_deviations
    assert ((coefficients.mean(0) - mixture.experts.coefficients) / deviation).abs().max() < 0.5
    assert (coefficients.std(0) / deviation).log().abs().max() < 0.4
    exact = torch.distributions.Dirichlet(mixture.gate.posterior_concentration)
    assert ((weights.mean(0) - exact.mean) / exact.stddev).abs().max() < 0.5


@pytest.mark.usefixtures("without_type_checks")
def test_nuts_agrees_with_the_shares_of_a_stick_where_assignments_are_certain() -> None:
    """Draws of the shares are those of their Beta distributions, and what is left is beyond."""
    x, y, z = lines(60, 2, noise=0.1, seed=4)
    y = y + 5.0 * z.unsqueeze(1)
    gate = StickBreakingGate(2, concentration=5.0)
    mixture = MixtureOfExperts(gate, LinearExperts(2, 1))
    fit(mixture, x, y, n_restarts=4)
    q = mixture.experts.posterior
    shares = gate.posterior_own / (gate.posterior_own + gate.posterior_rest)
    values = {"experts.precision": q.shape.unsqueeze(1) / q.rate, "experts.coefficients": mixture.experts.coefficients}
    draws = chain(mixture, values | {"gate.sticks": shares}, x, y, n_draws=80)["gate.sticks"]
    exact = torch.distributions.Beta(gate.posterior_own, gate.posterior_rest)
    assert ((draws.mean(0) - exact.mean) / exact.stddev).abs().max() < 0.5
    assert (draws.std(0) / exact.stddev).log().abs().max() < 0.4


def test_an_automatic_guide_includes_coefficients_that_have_a_prior() -> None:
    """With a prior the coefficients are latent sites instead of the estimates of gate and experts."""
    mixture, (x, y) = MixtureOfExperts(GATES["softmax"](), EXPERTS["poisson"]()), data("poisson")
    guide = AutoNormal(poutine.block(mixture.model, hide=["gate.assignment"]))
    assert set(guide(x, y)) == {"gate.coefficients", "experts.coefficients"}


def test_the_guide_of_estimates_is_the_map_estimate() -> None:
    """The guide is a Delta: its ELBO is the log joint density of coefficients and data, which is the bound."""
    mixture, (x, y) = MixtureOfExperts(GATES["softmax"](), EXPERTS["poisson"]()), data("poisson")
    with torch.no_grad():
        for parameter in mixture.parameters():
            parameter.copy_(torch.randn_like(parameter))
    elbo = pyro.infer.TraceEnum_ELBO(max_plate_nesting=1)
    assert -elbo.loss(mixture.model, mixture.guide, x, y) == pytest.approx(mixture.bound(x, y).item(), abs=1e-9)
