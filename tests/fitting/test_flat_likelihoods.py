"""Estimates of experts and gates whose likelihood is flat stay bounded, on every path of a fit."""

import pytest
import torch
from torch import Generator, Tensor

from mixpyro import (
    DirichletGate,
    GLMExperts,
    MixtureOfExperts,
    SoftmaxGate,
    StreamingFit,
    fit,
    fit_minibatches,
    observed_information,
)
from mixpyro.experts.families import Binomial, Categorical, Family, Gaussian, Poisson
from mixpyro.gates.base import Gate

pytestmark = pytest.mark.usefixtures("without_type_checks")
K, N = 13, 120
FAMILIES: dict[str, Family] = {
    "poisson": Poisson(),
    "binomial": Binomial(),
    "categorical": Categorical(3),
    "gaussian": Gaussian(),
}
PATHS = ("fit", "minibatches", "stream")
# Each family on each path, with the one gate or the other; each gate with each family and on each path.
TRIPLES = [
    (family, ("dirichlet", "softmax")[(i + j) % 2], path)
    for i, family in enumerate(FAMILIES)
    for j, path in enumerate(PATHS)
]


def data(family: str) -> tuple[Tensor, Tensor]:
    """Rows of two components, far too few for thirteen."""
    generator = Generator().manual_seed(0)
    x = torch.randn(N, 2, generator=generator).double()
    eta = torch.where(torch.rand(N, generator=generator) < 0.5, 1.0 + x[:, 0], 1.0 - x[:, 0]).unsqueeze(-1)
    y = {
        "poisson": torch.poisson(eta.exp(), generator=generator),
        "binomial": (torch.rand(N, 1, generator=generator) < eta.sigmoid()).double(),
        "categorical": torch.randint(3, (N, 1), generator=generator).double(),
        "gaussian": eta + 0.1 * torch.randn(N, 1, generator=generator),
    }
    return x, y[family]


def learn(path: str, mixture: MixtureOfExperts, x: Tensor, y: Tensor) -> None:
    """Fit a mixture in one of three ways."""
    if path == "fit":
        fit(mixture, x, y, n_restarts=1, n_candidates=1, max_iterations=8, progress=False)
    elif path == "minibatches":
        fit_minibatches(mixture, x, y, batch_size=20, n_epochs=2, n_restarts=1, max_iterations=5, progress=False)
    else:
        fit(mixture, x[:30], y[:30], n_restarts=1, n_candidates=1, max_iterations=5, progress=False)
        stream = StreamingFit(mixture, n_restarts=0)
        for rows in torch.arange(N).repeat(2).split(15):
            stream.partial_fit(x[rows], y[rows])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("family", "gate", "path"), TRIPLES)
def test_estimates_stay_bounded_where_components_are_too_many(family: str, gate: str, path: str) -> None:
    x, y = data(family)
    made: Gate = DirichletGate(K) if gate == "dirichlet" else SoftmaxGate(K, 2)
    mixture = MixtureOfExperts(made, GLMExperts(K, 2, FAMILIES[family]))
    learn(path, mixture, x, y)
    # Rows of unlike outcomes may be a ten-thousandth of the spread of x apart, and odds of e⁷⁴⁵ are infinite.
    assert all(bool((parameter.detach().abs() < 1e7).all()) for parameter in mixture.parameters())
    assert bool(mixture.log_prob(x, y).isfinite().all())
    assert bool(mixture.predict(x).isfinite().all())
    assert bool(observed_information(mixture, x, y).isfinite().all())


def test_derivatives_that_are_not_finite_are_refused_by_name() -> None:
    x, y = data("gaussian")
    mixture = MixtureOfExperts(DirichletGate(1), GLMExperts(1, 2, Gaussian()))
    with torch.no_grad():
        mixture.experts.coefficients.fill_(1e200)
    with pytest.raises(
        ValueError, match=r"finite derivatives; those of .*experts.coefficients_estimate \(up to 1e\+200"
    ):
        observed_information(mixture, x, y)
