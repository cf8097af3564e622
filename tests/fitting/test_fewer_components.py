"""Results without the components that have no objects."""

from collections.abc import Callable

import pytest
import torch
from pyro.distributions import Gamma

from mixpyro import (
    DirichletGate,
    GaussianExperts,
    GLMExperts,
    HeterogeneousExperts,
    LinearExperts,
    MixtureOfExperts,
    NeuralExperts,
    RelevanceLinearExperts,
    StickBreakingGate,
    coefficients,
    criteria,
    fit,
    load,
    save,
    to_arviz,
)
from mixpyro.experts import Experts
from mixpyro.experts.families import Gaussian
from mixpyro.fitting.fewer_components import with_components
from tests.problems import lines

pytestmark = [pytest.mark.filterwarnings("ignore::RuntimeWarning"), pytest.mark.usefixtures("without_type_checks")]

K = 5
EXPERTS: dict[str, Callable[[], Experts]] = {
    "linear": lambda: LinearExperts(K, 1),
    "own means": lambda: LinearExperts(K, 1, coefficient_mean=torch.zeros(K, 1, 2).double()),
    "shared noise": lambda: LinearExperts(K, 1, noise_per_component=False),
    "relevance": lambda: RelevanceLinearExperts(K, 1),
    "gaussian": lambda: GaussianExperts(K, 1),
    "diagonal": lambda: GaussianExperts(K, 1, covariance="diagonal"),
    "spherical": lambda: GaussianExperts(K, 1, covariance="spherical"),
    "two banks": lambda: HeterogeneousExperts([LinearExperts(2, 1), LinearExperts(3, 1)]),
}


def start(z: torch.Tensor) -> torch.Tensor:
    """Responsibilities of two of the components, in no order."""
    r = torch.zeros(len(z), K).double()
    r[torch.arange(len(z)), torch.tensor([3, 1])[z]] = 1.0
    return r + 1e-6


@pytest.mark.parametrize("name", EXPERTS)
@pytest.mark.parametrize("concentration", [1.0, Gamma(1.0, 1.0)], ids=["given", "learnt"])
def test_what_is_left_has_the_same_bound_and_predictions(name: str, concentration: object, tmp_path: object) -> None:
    x, y, z = lines(60, 2, noise=0.2)
    y = y + 4.0 * z.unsqueeze(1)
    gate = StickBreakingGate(K, concentration=concentration)  # type: ignore[arg-type]
    result = fit(MixtureOfExperts(gate, EXPERTS[name]()), x, y, initial_responsibilities=start(z), progress=False)
    assert result.n_used == 2
    fewer = result.without_empty()
    assert fewer.mixture.n_components == fewer.n_used == 2
    assert result.mixture.n_components == K
    assert fewer.counts.diff() <= 0.0 or name == "two banks"
    assert float(fewer.mixture.bound(x, y)) == pytest.approx(fewer.bound, abs=1e-2)
    if concentration == 1.0 and name != "relevance":
        assert fewer.bound == pytest.approx(result.bound, abs=1e-2)
    weights, few = result.mixture.gate.weights(x)[0], fewer.mixture.gate.weights(x)[0]
    kept = result.counts.argsort(descending=True)[:2]
    kept = kept.sort().values if name == "two banks" else kept
    torch.testing.assert_close(few, weights[kept] / weights[kept].sum(), rtol=0.02, atol=0.0)
    torch.testing.assert_close(fewer.mixture.experts.predict(x), result.mixture.experts.predict(x)[:, kept])
    torch.testing.assert_close(fewer.at(0).predict(x), fewer.mixture.predict(x))
    assert fewer.optimum(0).bound == fewer.bound
    assert fewer.optima[0].smallest_share == pytest.approx(float(fewer.counts.min() / 60), abs=1e-3)
    file = tmp_path / "file"  # type: ignore[operator]
    save(fewer.mixture, file)
    torch.testing.assert_close(load(file).predict(x), fewer.mixture.predict(x))


def test_estimates_are_those_of_the_components_kept() -> None:
    mixture = MixtureOfExperts(StickBreakingGate(K), GLMExperts(K, 1, Gaussian(), prior_scale=3.0))
    for parameter in mixture.parameters():
        torch.nn.init.normal_(parameter)
    x, y, _ = lines(10, 2)
    mixture.experts.log_scale.requires_grad_(False)
    fewer = with_components(mixture, [3, 1])
    columns = mixture.experts.columns(x, y)
    expected = mixture.experts.log_likelihoods(columns)[[3, 1]]
    torch.testing.assert_close(fewer.experts.log_likelihoods(fewer.experts.columns(x, y)), expected)
    assert [parameter.requires_grad for parameter in fewer.parameters()] == [True, False]


@pytest.mark.usefixtures("bad_arguments")
def test_networks_are_refused() -> None:
    experts = NeuralExperts(2, 1, [torch.nn.Linear(1, 1).double() for _ in range(2)], Gaussian())
    with pytest.raises(ValueError, match="components that can be told apart; got NeuralExperts"):
        with_components(MixtureOfExperts(StickBreakingGate(2), experts), [1])


def test_all_reports_take_what_is_left() -> None:
    x, y, z = lines(60, 2, noise=0.2)
    known, where = torch.tensor([3, 1])[z], torch.arange(60) < 10
    mixture = MixtureOfExperts(StickBreakingGate(K), LinearExperts(K, 1))
    weights = torch.full((60,), 2.0).double()
    result = fit(mixture, x, y, weights=weights, observed=known, mask=where, n_restarts=2, progress=False)
    fewer = result.without_empty()
    assert criteria(fewer, x, y).bound == fewer.bound
    assert fewer.observed is not None
    assert set(fewer.observed.unique().tolist()) == {-1, 0, 1}
    assert len(coefficients(fewer, x, y, weights=weights)) == 2 + 2 * 3
    again = fit(fewer.mixture, x, y, n_restarts=2, progress=False)
    assert to_arviz(again, x, y, n_draws=20, progress=False)["posterior"]["gate.sticks"].shape == (1, 20, 2)


def test_a_gate_whose_prior_depends_on_the_number_is_refused() -> None:
    x, y, _ = lines(30, 2)
    result = fit(MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1)), x, y, n_restarts=1, progress=False)
    with pytest.raises(ValueError, match=r"must be a StickBreakingGate, .*got DirichletGate. Fit a mixture of"):
        result.without_empty()
