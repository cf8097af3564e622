"""New rows far from all data, in float32 and float64, for every gate and every kind of experts."""

import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from mixpyro import (
    DirichletGate,
    GaussianExperts,
    GLMExperts,
    LinearExperts,
    MarginalObjectDirichletGate,
    MixtureOfExperts,
    NeuralExperts,
    NeuralGate,
    ObjectDirichletGate,
    RelevanceLinearExperts,
    SoftmaxGate,
    fit,
)
from mixpyro.experts import HeterogeneousExperts
from mixpyro.experts.base import Experts
from mixpyro.experts.families import Binomial, Gaussian, Poisson
from mixpyro.gates.base import Gate
from mixpyro.hyper_models import HyperExpertNN
from tests.problems import lines

pytestmark = pytest.mark.usefixtures("without_type_checks")
K = 2


def network() -> nn.Module:
    """A small network of float32."""
    return nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, K)).float()


GATES: dict[str, Callable[[], Gate]] = {
    "dirichlet": lambda: DirichletGate(K, dtype=torch.float32),
    "softmax": lambda: SoftmaxGate(K, 1, dtype=torch.float32),
    "objects": lambda: ObjectDirichletGate(K, mean=[0.3, 0.7], dtype=torch.float32),
    "marginal": lambda: MarginalObjectDirichletGate(K, mean=[0.3, 0.7], dtype=torch.float32),
    "neural": lambda: NeuralGate(K, network()),
}
EXPERTS: dict[str, Callable[[], Experts]] = {
    "linear": lambda: LinearExperts(K, 1),
    "relevance": lambda: RelevanceLinearExperts(K, 1),
    "full": lambda: GaussianExperts(K, 1),
    "diagonal": lambda: GaussianExperts(K, 1, covariance="diagonal"),
    "spherical": lambda: GaussianExperts(K, 1, covariance="spherical"),
    "glm": lambda: GLMExperts(K, 1, Gaussian()),
    "poisson": lambda: GLMExperts(K, 1, Poisson()),
    "binomial": lambda: GLMExperts(K, 1, Binomial()),
    "neural": lambda: NeuralExperts(K, 1, network(), Gaussian()),
    "heterogeneous": lambda: HeterogeneousExperts([LinearExperts(1, 1), GaussianExperts(1, 1)]),
}

# They meet in a sum of log weights and log likelihoods, so not all with all.
PAIRS = [*((gate, "linear") for gate in GATES), *(("softmax", experts) for experts in EXPERTS if experts != "linear")]
PAIRS += [("dirichlet", "relevance"), ("objects", "full"), ("marginal", "glm"), ("neural", "poisson")]


@functools.cache
def fitted(gate: str, experts: str) -> MixtureOfExperts:
    """A mixture after a few iterations."""
    torch.manual_seed(0)
    x, y, _ = lines(60, K)
    y = {"poisson": y.exp().clamp_max(50.0).floor(), "binomial": (y > 0).double()}.get(experts, y)
    mixture = MixtureOfExperts(GATES[gate](), EXPERTS[experts]())
    fit(mixture, x, y, n_restarts=1, n_candidates=1, max_iterations=5, n_gradient_steps=2, progress=False)
    return mixture


def assert_as_float64(ours: Tensor, exact: Tensor, *, tolerance: float = 1e-4) -> None:
    """Compare what float32 can hold of it."""
    held = exact.abs() < 0.1 * torch.finfo(torch.float32).max
    torch.testing.assert_close(ours.double()[held], exact[held], rtol=tolerance, atol=10.0 * tolerance)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("gate", "experts"), PAIRS)
def test_far_rows_in_float32_are_as_in_float64(gate: str, experts: str) -> None:
    mixture = fitted(gate, experts)
    # Whose digits are lost, and whose square overflows.
    for far in (1e10, 1e30):
        largest = {"poisson": 1e6, "binomial": 1.0}.get(experts, far)
        x = torch.tensor([[far], [0.0], [far], [0.3]])
        y = torch.tensor([[0.0], [largest], [largest], [1.0]])
        exact = mixture.assign(x.double(), y.double())
        ours = mixture.assign(x, y)
        torch.testing.assert_close(ours.responsibilities.sum(-1), torch.ones(4))
        torch.testing.assert_close(exact.responsibilities.sum(-1), torch.ones(4).double())
        assert bool(ours.log_evidence.isfinite().all())
        assert_as_float64(ours.responsibilities, exact.responsibilities, tolerance=5e-3)
        assert_as_float64(mixture.log_prob(x, y), mixture.log_prob(x.double(), y.double()))
        assert_as_float64(mixture.predict(x), mixture.predict(x.double()))
        assert_as_float64(mixture.gate.weights(x), mixture.gate.weights(x.double()))
        half = torch.tensor([0.5])
        assert_as_float64(mixture.quantile(x, half), mixture.quantile(x.double(), half.double()))


@pytest.mark.filterwarnings("ignore:the noise of component", "ignore:only one of")
@pytest.mark.parametrize("outlier", [1e20, 1e30])
def test_a_float32_fit_goes_on_with_a_row_whose_square_overflows(outlier: float) -> None:
    x, y, _ = lines(60, 1)
    y[7] = outlier
    mixture = MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1))
    result = fit(mixture, x.float(), y.float(), n_restarts=2, progress=False)
    torch.testing.assert_close(result.responsibilities.sum(-1), torch.ones(60))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("gate", GATES)
def test_what_float32_gates_give_float64_rows_sums_to_one_in_float64(gate: str) -> None:
    x, y, _ = lines(40, K)
    for experts in ("linear", "neural"):
        mixture = fitted(gate, experts)
        found = [mixture.gate.weights(x), mixture.assign(x, y).responsibilities]
        found += [mixture.gate.expected_log_weights(x).exp()] if gate in ("softmax", "marginal", "neural") else []
        for weights in map(Tensor.detach, found):
            assert weights.dtype == torch.float64
            assert float((weights.sum(-1) - 1.0).abs().max()) < 1e-15


def test_a_hyper_model_of_float32_gives_float64_rows_weights_of_float64() -> None:
    torch.manual_seed(0)
    model, x = HyperExpertNN(input_dim=3, output_dim=4), torch.randn(50, 3).double()
    for weights in (model.PredictPi(x, {}).detach(), model.LogPiExpectation(x, x, {}).detach().exp()):
        assert weights.dtype == torch.float64
        assert float((weights.sum(-1) - 1.0).abs().max()) < 1e-15
