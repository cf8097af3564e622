"""A fit by the default priors does not depend on the units, the origins or the order of the data."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from mixpyro import (
    DirichletGate,
    FitResult,
    GaussianExperts,
    GLMExperts,
    HeterogeneousExperts,
    HeterogeneousOutputs,
    LinearExperts,
    MarginalObjectDirichletGate,
    MixtureOfExperts,
    NeuralGate,
    ObjectDirichletGate,
    RelevanceLinearExperts,
    SoftmaxGate,
    StreamingFit,
    fit,
    fit_minibatches,
)
from mixpyro.experts import Experts
from mixpyro.experts.families import Gaussian, Poisson
from mixpyro.gates import Gate
from tests.problems import lines

K, D, P, N = 2, 2, 2, 80
pytestmark = [
    pytest.mark.usefixtures("without_type_checks"),
    pytest.mark.filterwarnings(
        "ignore:the best run has not converged", "ignore:only one of", "ignore:the noise of component"
    ),
]

GATES: dict[str, Callable[[], Gate]] = {
    "dirichlet": lambda: DirichletGate(K),
    "sparse": lambda: DirichletGate(K, concentration=0.1),
    "object": lambda: ObjectDirichletGate(K),
    "marginal": lambda: MarginalObjectDirichletGate(K),
    "softmax": lambda: SoftmaxGate(K, D),
}
EXPERTS: dict[str, Callable[[], Experts]] = {
    "linear": lambda: LinearExperts(K, D, P),
    "one noise": lambda: LinearExperts(K, D, P, noise_per_component=False),
    "relevance": lambda: RelevanceLinearExperts(K, D, P),
    "full": lambda: GaussianExperts(K, P),
    "diagonal": lambda: GaussianExperts(K, P, covariance="diagonal"),
    "glm": lambda: GLMExperts(K, D, Gaussian()),
    "apart": lambda: HeterogeneousOutputs([LinearExperts(K, D), LinearExperts(K, D)]),
    "both": lambda: HeterogeneousExperts([LinearExperts(1, D, P), GaussianExperts(1, P)]),
}
# Every gate and every family of experts; they meet in the responsibilities alone, so not all with all.
PAIRS = [*((gate, "linear") for gate in GATES), *(("dirichlet", experts) for experts in EXPERTS if experts != "linear")]
PAIRS += [("sparse", "full"), ("object", "relevance"), ("marginal", "both"), ("softmax", "glm")]
# Families that see the changes one by one too.
ONE_BY_ONE = ("linear", "relevance", "full", "glm")


class Change(NamedTuple):
    """New units and origins of the columns."""

    x_factor: tuple[float, float] = (1.0, 1.0)
    x_shift: tuple[float, float] = (0.0, 0.0)
    y_factor: tuple[float, float] = (1.0, 1.0)
    y_shift: tuple[float, float] = (0.0, 0.0)

    def of_x(self, x: Tensor) -> Tensor:
        return x * torch.tensor(self.x_factor, dtype=x.dtype) + torch.tensor(self.x_shift, dtype=x.dtype)

    def of_y(self, y: Tensor) -> Tensor:
        n = y.shape[1]
        return y * torch.tensor(self.y_factor[:n], dtype=y.dtype) + torch.tensor(self.y_shift[:n], dtype=y.dtype)

    def log_unit(self, n_outputs: int = P) -> float:
        """What the log density of a row loses."""
        return sum(math.log(abs(factor)) for factor in self.y_factor[:n_outputs])


CHANGES = {
    "a shift of y": Change(y_shift=(1000.0, -10.0)),
    "a unit of y": Change(y_factor=(1e-3, 1e5)),
    "y turned around": Change(y_factor=(-1.0, 2.0)),
    "a calendar year": Change(x_shift=(2000.0, -5.0)),
    "a unit of x": Change(x_factor=(1e6, -1e-4)),
    "all of it": Change((1e-4, 30.0), (0.1, 1e3), (-1e-4, 50.0), (0.01, 1e4)),
}


@functools.cache
def problem(experts: str = "") -> tuple[Tensor, Tensor, Tensor]:
    """x and y from two planes, one output where there is no other choice, and responsibilities to start from."""
    x, y, z = lines(N, K, n_features=D, n_outputs=P, noise=0.4, seed=4)
    noise = torch.rand(N, K, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return x, y[:, :1] if experts == "glm" else y, 0.6 * nn.functional.one_hot(z, K) + 0.4 * noise


def fitted(gate: str, experts: str, x: Tensor, y: Tensor, start: Tensor, *, weights: Tensor | None = None) -> FitResult:
    """A fit of a few iterations: each of them, and not the end alone, must be equivariant."""
    mixture = MixtureOfExperts(GATES[gate](), EXPERTS[experts]())
    return fit(mixture, x, y, weights=weights, initial_responsibilities=start, tolerance=0.0, max_iterations=6)


@functools.cache
def plain_fit(gate: str, experts: str) -> FitResult:
    """The fit in the units and the order of the problem, which others are compared with."""
    return fitted(gate, experts, *problem(experts))


def close(a: Tensor, b: Tensor, within: float = 1e-6) -> None:
    torch.testing.assert_close(a, b, rtol=within, atol=within)


@pytest.mark.parametrize(
    ("gate", "experts", "change"),
    [(*pair, "all of it") for pair in PAIRS]
    + [("dirichlet", experts, change) for experts in ONE_BY_ONE for change in CHANGES if change != "all of it"],
)
def test_units_and_origins(gate: str, experts: str, change: str) -> None:
    (x, y, start), by = problem(experts), CHANGES[change]
    plain = plain_fit(gate, experts)
    changed = fitted(gate, experts, by.of_x(x), by.of_y(y), start)
    assert [bound + N * by.log_unit(y.shape[1]) for bound in changed.trace] == pytest.approx(
        list(plain.trace), abs=1e-5
    )
    close(changed.responsibilities, plain.responsibilities)
    predicted = changed.mixture.predict(by.of_x(x))
    close((predicted - by.of_y(0 * y)) / by.of_y(0 * y + 1).sub(by.of_y(0 * y)), plain.mixture.predict(x))


@pytest.mark.parametrize("experts", ["linear", "relevance", "full"])
def test_units_and_origins_by_the_starts_of_the_library(experts: str) -> None:
    (x, y, _), by = problem(), CHANGES["all of it"]
    found = [
        fit(MixtureOfExperts(DirichletGate(K), EXPERTS[experts]()), *data, n_restarts=6, progress=False)
        for data in ((x, y), (by.of_x(x), by.of_y(y)))
    ]
    assert found[1].bound + N * by.log_unit() == pytest.approx(found[0].bound, abs=1e-5)
    assert [run.bound + N * by.log_unit() for run in found[1].runs] == pytest.approx(
        [run.bound for run in found[0].runs], abs=1e-4
    )


@pytest.mark.parametrize("experts", ["linear", "relevance", "glm"])
def test_coefficients_are_mapped(experts: str) -> None:
    (x, y, start), by = problem(experts), CHANGES["all of it"]
    plain, changed = plain_fit("dirichlet", experts), fitted("dirichlet", experts, by.of_x(x), by.of_y(y), start)
    slopes = plain.mixture.experts.coefficients[..., 1:]
    factors = torch.tensor(by.y_factor[: y.shape[1]]).double().unsqueeze(-1) / torch.tensor(by.x_factor).double()
    torch.testing.assert_close(changed.mixture.experts.coefficients[..., 1:], factors * slopes, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e8])
def test_counts_and_the_units_of_x(factor: float) -> None:
    x, _, start = problem()
    counts = torch.poisson((x[:, 0] + 1.0).exp(), generator=torch.Generator().manual_seed(0))
    found = [
        fit(
            MixtureOfExperts(SoftmaxGate(K, D), GLMExperts(K, D, Poisson())),
            columns,
            counts,
            initial_responsibilities=start,
            max_iterations=12,
        )
        for columns in (x, factor * x + 3.0 * factor)
    ]
    assert found[1].trace == pytest.approx(found[0].trace, abs=1e-6)
    close(found[1].responsibilities, found[0].responsibilities)


@pytest.mark.parametrize("change", ["a shift of y", "all of it"])
@pytest.mark.parametrize("path", ["minibatches", "stream"])
def test_units_and_origins_in_batches(path: str, change: str) -> None:
    by = CHANGES[change]
    x, y, _ = lines(600, K, n_features=D, n_outputs=P, noise=0.4, seed=4)
    found = []
    for columns, targets in ((x, y), (by.of_x(x), by.of_y(y))):
        mixture = MixtureOfExperts(DirichletGate(K), LinearExperts(K, D, P))
        if path == "minibatches":
            fit_minibatches(mixture, columns, targets, batch_size=200, n_epochs=2, n_restarts=3, progress=False)
        else:
            stream = StreamingFit(mixture, n_restarts=3)
            for rows in torch.arange(600).split(200):
                stream.partial_fit(columns[rows], targets[rows])
        assigned = mixture.assign(columns, targets)
        found.append((assigned.responsibilities, mixture.bound(columns, targets)))
    close(found[1][0], found[0][0])
    close(found[1][1] + 600 * by.log_unit(), found[0][1], 1e-7)


@pytest.mark.parametrize(("gate", "experts"), PAIRS)
def test_the_order_of_rows_columns_and_components(gate: str, experts: str) -> None:
    x, y, start = problem(experts)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(2))
    plain = plain_fit(gate, experts)
    moved = fitted(gate, experts, x[order], y[order], start[order])
    assert moved.trace == pytest.approx(plain.trace, abs=1e-6)
    close(moved.responsibilities, plain.responsibilities[order])
    flipped = fitted(gate, experts, x.flip(1), y.flip(1), start)
    assert flipped.trace == pytest.approx(plain.trace, abs=1e-6)
    close(flipped.responsibilities, plain.responsibilities)
    if experts != "both":
        relabelled = fitted(gate, experts, x, y, start.flip(1))
        assert relabelled.trace == pytest.approx(plain.trace, abs=1e-6)
        close(relabelled.responsibilities.flip(1), plain.responsibilities)


@pytest.mark.parametrize(("gate", "experts"), [pair for pair in PAIRS if pair[0] != "object"])
def test_repetition_is_weight(gate: str, experts: str) -> None:
    x, y, start = problem(experts)
    counts = torch.arange(N) % 3
    rows = torch.arange(N).repeat_interleave(counts)
    repeated = fitted(gate, experts, x[rows], y[rows], start[rows])
    weighted = fitted(gate, experts, x, y, start, weights=counts.double())
    # Rounding may end one of them an iteration sooner.
    assert weighted.trace[:5] == pytest.approx(repeated.trace[:5], abs=1e-6)
    close(weighted.responsibilities[rows], repeated.responsibilities)


@pytest.mark.parametrize(
    ("gate", "experts", "change"),
    [(*pair, "all of it") for pair in PAIRS]
    + [("dirichlet", "linear", change) for change in CHANGES if change != "all of it"],
)
def test_float32_finds_what_float64_finds(gate: str, experts: str, change: str) -> None:
    """Of the same numbers: rounding a column of mean 1000 to float32 is no fault of a fit."""
    (x, y, start), by = problem(experts), CHANGES[change]
    x, y, start = by.of_x(x).float(), by.of_y(y).float(), start.float()
    narrow = fitted(gate, experts, x, y, start)
    wide = fitted(gate, experts, x.double(), y.double(), start.double())
    torch.testing.assert_close(narrow.responsibilities.double(), wide.responsibilities, rtol=0, atol=2e-3)
    assert narrow.bound == pytest.approx(wide.bound, rel=1e-4, abs=0.05)


def test_a_network_does_not_depend_on_the_order_of_rows() -> None:
    """It reads x as it is, so units and origins are its own."""
    x, y, start = problem()
    order = torch.randperm(N, generator=torch.Generator().manual_seed(2))
    network = nn.Linear(D, K).double()
    weights = network.state_dict()
    found = []
    for rows in (torch.arange(N), order):
        copy = nn.Linear(D, K).double()
        copy.load_state_dict(weights)
        mixture = MixtureOfExperts(NeuralGate(K, copy), LinearExperts(K, D, P))
        found.append(fit(mixture, x[rows], y[rows], initial_responsibilities=start[rows], max_iterations=5))
    assert found[1].trace == pytest.approx(found[0].trace, abs=1e-3)
