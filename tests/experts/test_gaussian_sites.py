"""The Pyro sites of Gaussian densities."""

from typing import Any

import pyro
import pytest
import torch
from pyro.infer import MCMC, NUTS, Predictive, TraceEnum_ELBO
from torch import Tensor

from mixpyro import DirichletGate, GaussianExperts, MixtureOfExperts
from tests.experts.contract import K
from tests.experts.test_gaussian import MATRIX, STRUCTURES, clusters, learn, make
from tests.problems import in_plate, responsibilities


@pytest.mark.parametrize("covariance", STRUCTURES)
def test_particles_may_be_vectorised(covariance: str) -> None:
    x, y = clusters(20)
    r = responsibilities(20, K)
    mixture = MixtureOfExperts(DirichletGate(K), learn(make(covariance), x, y, r))
    mixture.gate.update(mixture.gate.statistics(x, r))

    def guide(x: Tensor, y: Tensor) -> None:
        mixture.experts.guide(x)
        in_plate(mixture.gate.guide)(x, responsibilities=r)

    elbos = [
        TraceEnum_ELBO(max_plate_nesting=1, num_particles=3, vectorize_particles=vectorised).loss(
            mixture.model, guide, x, y
        )
        for vectorised in (False, True)
    ]
    assert abs(elbos[0] - elbos[1]) < 1e-9


def test_the_factors_of_the_precision_are_wishart() -> None:
    """The density of the two sites is the Wishart's of PyTorch, times the volume of the change of variables."""
    experts = make("full", 1)
    trace: Any = pyro.poutine.trace(experts.guide).get_trace(torch.zeros(1, 0).double())
    sites = [trace.nodes[f"experts.{name}"] for name in ("conditional_precision", "regression")]
    density = sum(site["fn"].log_prob(site["value"]) for site in sites)
    variables = [site["value"].squeeze(0) for site in sites]

    def entries(conditional_precision: Tensor, regression: Tensor) -> Tensor:
        rows, columns = torch.tril_indices(3, 3, -1)
        coefficients = torch.zeros(3, 3).double().index_put((rows, columns), regression)
        residual = torch.eye(3).double() - coefficients
        precision = residual.T @ conditional_precision.diag() @ residual
        return torch.cat([precision.diagonal(), precision[rows, columns]])

    jacobian = torch.cat(torch.autograd.functional.jacobian(entries, tuple(variables)), dim=1)
    values = entries(*variables)
    rows, columns = torch.tril_indices(3, 3, -1)
    precision = values[:3].diag()
    precision[rows, columns] = precision[columns, rows] = values[3:]
    wishart = torch.distributions.Wishart(torch.tensor(3.5).double(), precision_matrix=MATRIX)
    expected = wishart.log_prob(precision) + torch.linalg.slogdet(jacobian).logabsdet
    torch.testing.assert_close(torch.as_tensor(density), expected)


def test_nuts_samples_the_exact_posterior_of_a_full_covariance() -> None:
    """In the parameters of the autoregression; those of a positive definite matrix have no Jacobian in PyTorch."""
    x, y = clusters(12, 2, apart=0.5)
    experts = GaussianExperts(1, 2, mean_precision=0.5, degrees_of_freedom=6.0, scale=2.0)

    def model() -> None:
        parameters = experts.model(x)
        pyro.deterministic("covariance", experts.covariances_of(parameters), event_dim=3)
        with pyro.plate("objects", len(x)):
            pyro.sample("y", experts.likelihood(x, parameters, torch.zeros(len(x), dtype=torch.int64)), obs=y)

    kernel = NUTS(model, step_size=0.3, adapt_step_size=False, max_tree_depth=3)
    sampler = MCMC(kernel, num_samples=70, warmup_steps=20, disable_progbar=True)
    sampler.run()
    draws = sampler.get_samples()
    covariance = Predictive(model, draws)()["covariance"]
    learn(experts, x, y)
    # Draws of NUTS depend on each other: a third of them is counted.
    for drawn, exact in ((draws["experts.mean"], experts.means), (covariance, experts.covariances)):
        assert ((drawn.mean(0).squeeze() - exact).abs() < 4.5 * drawn.std(0).squeeze() * (3 / 70) ** 0.5).all()
