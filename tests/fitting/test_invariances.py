"""What must make no difference to a fit, or a known one."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mixpyro import DirichletGate, FitResult, GLMExperts, LinearExperts, MixtureOfExperts, SoftmaxGate, fit
from mixpyro.experts import Experts
from mixpyro.experts.families import Gaussian
from mixpyro.gates import Gate
from tests.problems import lines

K = 3
N = 60
pytestmark = pytest.mark.filterwarnings("ignore:the best run has not converged in 8 iterations")
GATES: dict[str, Callable[[], Gate]] = {"dirichlet": lambda: DirichletGate(K), "softmax": lambda: SoftmaxGate(K, 1)}
EXPERTS: dict[str, Callable[[], Experts]] = {
    "linear": lambda: LinearExperts(K, 1),
    "glm": lambda: GLMExperts(K, 1, Gaussian()),
}


@pytest.fixture(params=GATES)
def gate(request: pytest.FixtureRequest) -> str:
    """Each gate in turn."""
    return str(request.param)


@pytest.fixture(params=EXPERTS)
def experts(request: pytest.FixtureRequest) -> str:
    """Each kind of experts in turn."""
    return str(request.param)


def within(gate: str, experts: str) -> float:
    """Of the bound in nats. Newton's method may stop a step sooner or later: its objective is flat to rounding."""
    return 1e-9 if (gate, experts) == ("dirichlet", "linear") else 1e-7


def problem() -> tuple[Tensor, Tensor, Tensor]:
    """x and y from three lines, and responsibilities to start from."""
    x, y, z = lines(N, K, noise=0.4, seed=4)
    return x, y, 0.7 * torch.nn.functional.one_hot(z, K) + 0.3 * torch.rand(N, K, dtype=torch.float64)


def fitted(
    gate: Gate, experts: Experts, x: Tensor, y: Tensor, start: Tensor, weights: Tensor | None = None
) -> FitResult:
    """A fit of a few iterations: each of them, and not the end alone, must be invariant."""
    mixture = MixtureOfExperts(gate, experts)
    return fit(mixture, x, y, weights=weights, initial_responsibilities=start, tolerance=0.0, max_iterations=8)


def test_the_order_of_the_rows(gate: str, experts: str) -> None:
    x, y, start = problem()
    order = torch.randperm(N)
    first = fitted(GATES[gate](), EXPERTS[experts](), x, y, start)
    second = fitted(GATES[gate](), EXPERTS[experts](), x[order], y[order], start[order])
    assert second.trace == pytest.approx(first.trace, abs=within(gate, experts))
    torch.testing.assert_close(second.responsibilities, first.responsibilities[order], rtol=0, atol=1e-6)


def test_the_order_of_the_components(gate: str, experts: str) -> None:
    """The softmax's coefficients are against another reference then; its weights are the same."""
    x, y, start = problem()
    order = torch.tensor([2, 0, 1])
    first = fitted(GATES[gate](), EXPERTS[experts](), x, y, start)
    second = fitted(GATES[gate](), EXPERTS[experts](), x, y, start[:, order])
    assert second.trace == pytest.approx(first.trace, abs=within(gate, experts))
    torch.testing.assert_close(second.responsibilities, first.responsibilities[:, order], rtol=0, atol=1e-6)
    torch.testing.assert_close(
        second.mixture.gate.weights(x), first.mixture.gate.weights(x)[:, order], rtol=0, atol=1e-5
    )


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize("factor", [1e-3, 250.0])
def test_the_unit_of_y(gate: str, experts: str, factor: float) -> None:
    """With the prior in the same unit the bound changes by the logarithm of the unit alone."""
    x, y, start = problem()
    priors = [(EXPERTS[experts](), EXPERTS[experts]())]
    if experts == "linear":
        priors = [
            (
                LinearExperts(K, 1, coefficient_mean=mean, noise_rate=0.02, noise_per_component=own),
                LinearExperts(
                    K, 1, coefficient_mean=factor * mean, noise_rate=0.02 * factor**2, noise_per_component=own
                ),
            )
            for mean, own in ((0.0, True), (1.5, True), (1.5, False))
        ]
    for one, scaled in priors:
        first = fitted(GATES[gate](), one, x, y, start)
        second = fitted(GATES[gate](), scaled, x, factor * y, start)
        trace = [bound + N * math.log(factor) for bound in second.trace]
        assert trace == pytest.approx(list(first.trace), abs=within(gate, experts))
        torch.testing.assert_close(second.responsibilities, first.responsibilities, rtol=0, atol=1e-6)
        torch.testing.assert_close(second.mixture.predict(x), factor * first.mixture.predict(x), rtol=1e-5, atol=1e-6)


def test_a_row_of_weight_n_is_n_rows(gate: str, experts: str) -> None:
    x, y, start = problem()
    counts = torch.arange(N) % 3
    rows = torch.arange(N).repeat_interleave(counts)
    first = fitted(GATES[gate](), EXPERTS[experts](), x[rows], y[rows], start[rows])
    second = fitted(GATES[gate](), EXPERTS[experts](), x, y, start, weights=counts.double())
    assert second.trace == pytest.approx(first.trace, abs=within(gate, experts))
    torch.testing.assert_close(second.responsibilities[rows], first.responsibilities, rtol=0, atol=1e-6)
