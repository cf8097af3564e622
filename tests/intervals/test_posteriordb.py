"""A mixture of two Normals against the reference posterior of posteriordb, ``low_dim_gauss_mix``.

The reference has the priors μ ~ Normal(0, 2²), σ ~ half-Normal(2) and a weight ~ Beta(5, 5). Conjugate priors come
near: Dirichlet(5, 5), μ ~ Normal(0, 4 σ²) with σ near one, and a Gamma of shape and rate 0.05 for 1/σ², whose density
is nearly flat in log σ. Under our weak defaults the scales are 0.12 and 0.17 standard deviations smaller, since these
expect less noise; means and weight are within 0.07. The exact draws, reweighted by the ratio of the priors, show that
the priors alone make this difference.
"""

import csv
import functools

import pytest
import torch
from torch import Tensor
from torch.distributions import Beta, HalfNormal, Normal

from mixpyro import DirichletGate, FitResult, GaussianExperts, MixtureOfExperts, fit, linear_response, refine
from tests.conftest import DATA
from tests.intervals.exact import DataSets, exact_draws, experts_sampler, gate_sampler
from tests.intervals.gibbs import Pair, Proposal

# posteriordb, reference_posteriors/summary_statistics: mean_value and mean_squared_value give the means, and the issue
# of these tests the standard deviations; of μ₁, μ₂, σ₁, σ₂ and the first weight.
MEANS = torch.tensor(
    [-2.73351447451795, 2.86983188566572, 1.02807388317639, 1.0238215386158, 0.621549344358064]
).double()
DEVIATIONS = torch.tensor([0.042029, 0.054133, 0.031371, 0.040492, 0.015368]).double()


@functools.cache
def normals_fit(prior: str) -> tuple[FitResult, Tensor, Tensor]:
    """Fit two Normals, the one of lower mean first, with the default priors or such that are near the reference's."""
    with (DATA / "low_dim_gauss_mix.csv").open() as file:
        y = torch.tensor([float(row["y"]) for row in csv.DictReader(file)]).double().unsqueeze(1)
    start = torch.nn.functional.one_hot((y[:, 0] > 0.0).long(), 2).double() + 0.05
    gate, experts = DirichletGate(2), GaussianExperts(2, 1)
    if prior == "near":
        gate = DirichletGate(2, concentration=5.0)
        experts = GaussianExperts(2, 1, mean=0.0, mean_precision=0.25, degrees_of_freedom=0.1, scale=0.1)
    mixture = MixtureOfExperts(gate, experts)
    return fit(mixture, y[:, :0], y, initial_responsibilities=start, progress=False), y[:, :0], y


def as_in_the_reference(quantities: Tensor) -> Tensor:
    """Return μ, σ and the first weight [..., 5] of the log ratio, means and log precisions."""
    return torch.cat([quantities[..., 1:3], (-0.5 * quantities[..., 3:]).exp(), (-quantities[..., :1]).sigmoid()], -1)


def assert_near(means: Tensor, deviations: Tensor, most: Tensor, *, ratio: float) -> None:
    """Assert that means are within shares of a standard deviation [5], and standard deviations within a ratio."""
    assert bool((((means - MEANS) / DEVIATIONS).abs() < most).all())
    assert float((deviations / DEVIATIONS - 1.0).abs().max()) < ratio


# Largest differences of μ₁, μ₂, σ₁, σ₂ and the weight, in standard deviations.
MOST = {"near": torch.full((5,), 0.1), "default": torch.tensor([0.1, 0.1, 0.25, 0.25, 0.1])}


@pytest.mark.parametrize("prior", list(MOST))
def test_refined_draws_are_those_of_the_reference(prior: str) -> None:
    """Of one refinement, 1,100 effective draws, the errors are 0.04 standard deviations and 2 %: four are joined."""
    found = [refine(*normals_fit(prior), seed=seed, progress=False).draws for seed in range(4)]
    draws = as_in_the_reference(torch.cat(found))
    assert_near(draws.mean(0), draws.std(0), MOST[prior], ratio=0.05)


@pytest.mark.parametrize("prior", list(MOST))
def test_linear_response_is_near_the_reference(prior: str) -> None:
    response = linear_response(*normals_fit(prior))
    derivative = torch.autograd.functional.jacobian(as_in_the_reference, response.estimates)
    deviations = (derivative @ response.covariance @ derivative.mT).diagonal().sqrt()
    assert_near(as_in_the_reference(response.estimates), deviations, MOST[prior], ratio=0.025)


def log_prior_ratio(pair: Pair, quantities: Tensor) -> Tensor:
    """Return the log density of the reference's prior less that of ours [S], both of the quantities."""
    gate, experts = pair.split(quantities)
    values = as_in_the_reference(quantities)
    means, sigmas, weight = values[:, :2], values[:, 2:4], values[:, 4]
    of_reference = (
        Normal(0.0, 2.0).log_prob(means).sum(-1)
        + (HalfNormal(2.0).log_prob(sigmas) + sigmas.log()).sum(-1)
        + Beta(5.0, 5.0).log_prob(weight)
        + (weight * (1.0 - weight)).log()
    )
    return of_reference - pair.gate.log_prior(gate) - pair.experts.log_prior(experts)


def test_under_the_priors_of_the_reference_the_draws_are_its_own() -> None:
    """The exact draws, reweighted: so it is the same posterior, and the priors explain what differs."""
    result, x, y = normals_fit("default")
    response, n_chains = linear_response(result, x, y), 20
    data = DataSets(*(rows.expand(n_chains, *rows.shape) for rows in (x, y, (y[:, 0] > 0.0).long())))
    near = Proposal(*(part.expand(n_chains, *part.shape) for part in (response.estimates, response.covariance)))
    draws = exact_draws([result] * n_chains, data, n_draws=500, near=near).flatten(0, 1)
    one = DataSets(*(rows[:1] for rows in data))
    pair = Pair(gate_sampler([result], one), experts_sampler([result], one), 2)
    weights = log_prior_ratio(pair, draws).softmax(0).unsqueeze(-1)
    values = as_in_the_reference(draws)
    means = (weights * values).sum(0)
    deviations = (weights * (values - means).square()).sum(0).sqrt()
    assert_near(means, deviations, torch.full((5,), 0.04), ratio=0.03)
    moved = (values.mean(0) - means) / DEVIATIONS
    torch.testing.assert_close(moved, torch.tensor([-0.02, 0.05, -0.12, -0.17, 0.06]).double(), atol=0.02, rtol=0.0)


pytestmark = pytest.mark.usefixtures("without_type_checks")
