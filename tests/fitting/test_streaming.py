"""Fits to batches, against fits to all data."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from mixpyro import (
    BayesianSoftmaxGate,
    DirichletGate,
    GLMExperts,
    LinearExperts,
    MarginalObjectDirichletGate,
    MixtureOfExperts,
    NeuralGate,
    ObjectDirichletGate,
    SoftmaxGate,
    StreamingFit,
    TreeGate,
    fit,
    fit_batches,
    fit_minibatches,
)
from mixpyro.experts.families import Gaussian, Poisson
from tests.problems import lines

K = 2
N = 1500
MIXTURES: dict[str, Callable[[], MixtureOfExperts]] = {
    "dirichlet": lambda: MixtureOfExperts(DirichletGate(K), LinearExperts(K, 1)),
    "marginal": lambda: MixtureOfExperts(MarginalObjectDirichletGate(K, learn_mean=True), LinearExperts(K, 1)),
    "softmax": lambda: MixtureOfExperts(SoftmaxGate(K, 1), LinearExperts(K, 1)),
    "bayesian softmax": lambda: MixtureOfExperts(BayesianSoftmaxGate(K, 1), LinearExperts(K, 1)),
    "tree": lambda: MixtureOfExperts(TreeGate(K, 1), LinearExperts(K, 1)),
    "neural": lambda: MixtureOfExperts(NeuralGate(K, nn.Linear(1, K).double()), LinearExperts(K, 1)),
}


@pytest.fixture(scope="module")
def data() -> tuple[Tensor, Tensor]:
    """Two lines, many rows."""
    x, y, _ = lines(N, K, noise=0.3, seed=3)
    return x, y


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize("name", MIXTURES)
def test_in_batches_the_bound_is_that_of_all_data(name: str, data: tuple[Tensor, Tensor]) -> None:
    full = fit(MIXTURES[name](), *data, n_restarts=2)
    batches = fit_minibatches(MIXTURES[name](), *data, n_restarts=2, batch_size=200)
    assert batches.bound <= full.bound + 1e-6
    assert batches.bound == pytest.approx(full.bound, rel=1e-3)
    assert batches.converged
    assert len(batches.trace) == 5
    torch.testing.assert_close(batches.mixture.assign(*data).responsibilities, batches.responsibilities)


@pytest.mark.usefixtures("without_type_checks")
def test_experts_without_a_closed_form_learn_from_batches() -> None:
    torch.manual_seed(0)
    x = torch.rand(N, 1).double()
    y = torch.where(torch.rand(N, 1) < 0.5, torch.poisson((1 + 2 * x).exp()), torch.poisson((0.5 - x).exp())).double()

    def make() -> MixtureOfExperts:
        return MixtureOfExperts(DirichletGate(K), GLMExperts(K, 1, Poisson()))

    full = fit(make(), x, y, n_restarts=2)
    batches = fit_minibatches(make(), x, y, n_restarts=2, batch_size=200)
    assert batches.bound == pytest.approx(full.bound, rel=1e-3)


def test_weights_of_rows_count(data: tuple[Tensor, Tensor]) -> None:
    x, y = data
    twice = fit_minibatches(
        MIXTURES["dirichlet"](), x, y, weights=torch.full((N,), 2.0).double(), batch_size=500, n_restarts=1
    )
    copies = fit(MIXTURES["dirichlet"](), x.repeat(2, 1), y.repeat(2, 1), n_restarts=1)
    assert twice.bound == pytest.approx(copies.bound, rel=1e-3)


def test_batches_from_a_loader_and_from_a_generator(data: tuple[Tensor, Tensor]) -> None:
    full = fit(MIXTURES["dirichlet"](), *data, n_restarts=2)
    loader = DataLoader(TensorDataset(*data), batch_size=300, shuffle=True, generator=torch.Generator().manual_seed(0))
    by_loader = fit_batches(MIXTURES["dirichlet"](), loader, n_restarts=2)

    def batches() -> Iterator[tuple[Tensor, ...]]:
        for start in range(0, N, 300):
            yield tuple(part[start : start + 300] for part in (*data, data[0]))

    by_generator = fit_batches(MIXTURES["softmax"](), batches(), n_epochs=1, n_restarts=2)
    assert float(by_loader.bound(*data)) == pytest.approx(full.bound, rel=5e-3)
    assert float(by_generator.bound(*data)) == pytest.approx(full.bound, rel=1e-2)


def test_a_stream_that_ends_has_counted_every_row_once(data: tuple[Tensor, Tensor]) -> None:
    mixture = MIXTURES["dirichlet"]()
    stream = StreamingFit(mixture, step_size=lambda t: 1.0 / (t + 1), n_restarts=2)
    for start in range(0, N, 500):
        stream.partial_fit(data[0][start : start + 500], data[1][start : start + 500])
    assert stream.n_seen == N
    assert float(mixture.gate.posterior_concentration.sum()) == pytest.approx(N + K)
    full = fit(MIXTURES["dirichlet"](), *data, n_restarts=2)
    assert float(mixture.bound(*data)) == pytest.approx(full.bound, rel=1e-2)


def test_a_fitted_mixture_goes_on_from_where_it_is(data: tuple[Tensor, Tensor]) -> None:
    mixture = fit(MIXTURES["dirichlet"](), *data, n_restarts=2).mixture
    before = float(mixture.bound(*data))
    StreamingFit(mixture, n_restarts=0).partial_fit(*data)
    assert float(mixture.bound(*data)) == pytest.approx(before, abs=1e-2)


@pytest.mark.usefixtures("bad_arguments")
def test_what_does_not_fit_is_refused(data: tuple[Tensor, Tensor]) -> None:
    x, y = data
    mixture = MIXTURES["dirichlet"]()
    keeps = MixtureOfExperts(ObjectDirichletGate(K), LinearExperts(K, 1))
    for make, error, message in (
        (lambda: StreamingFit(keeps), ValueError, "`mixture` must have a gate that forgets.*got ObjectDirichletGate"),
        (
            lambda: fit_minibatches(keeps, x, y, batch_size=10),
            ValueError,
            "`mixture` must have a gate that forgets its objects",
        ),
        (lambda: StreamingFit("mixture"), TypeError, "`mixture` must be a MixtureOfExperts; got str"),  # type: ignore[arg-type]
        (lambda: StreamingFit(mixture, step_size=1.5), ValueError, r"`step_size` must be in \(0, 1\]; got 1.5"),
        (lambda: fit_minibatches(mixture, x, y, batch_size=0), ValueError, "`batch_size` must be at least 1; got 0"),
        (
            lambda: fit_batches(mixture, []),
            ValueError,
            "`batches` must give some in each of 5 epochs; got none in epoch 1",
        ),
        (lambda: fit_batches(mixture, [x]), TypeError, r"`batches` must give tuples \(x, y\).*got Tensor"),  # type: ignore[list-item]
        (lambda: fit_batches(mixture, iter([(x, y)])), ValueError, "got none in epoch 2"),
        (
            lambda: StreamingFit(mixture).partial_fit(x, y[:5]),
            ValueError,
            "`y` must have as many rows as `x`, 1500; got 5",
        ),
    ):
        with pytest.raises(error, match=message):
            make()


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize("unit", [1e-4, 1.0, 15_000.0])
def test_batches_are_fitted_in_any_units(unit: float) -> None:
    """The gate reads an income, say: its coefficients are of the order of 1 / unit, its optimum is the same."""
    x, _, _ = lines(N, K)
    z = torch.bernoulli((-2 * x).sigmoid()).long()
    y = torch.tensor([0.0, 2.0]).double()[z] + 0.3 * torch.randn(N, 1).double()

    def make() -> MixtureOfExperts:
        return MixtureOfExperts(SoftmaxGate(K, 1), GLMExperts(K, 0, Gaussian()))

    full = fit(make(), unit * x, y, n_restarts=2)
    batches = fit_minibatches(make(), unit * x, y, n_restarts=2, batch_size=250)
    assert batches.bound == pytest.approx(full.bound, rel=1e-3)


@pytest.mark.parametrize("n_objects", [1001, 1249])
def test_a_short_batch_has_no_more_of_a_say(n_objects: int, data: tuple[Tensor, Tensor]) -> None:
    x, y = (part[:n_objects] for part in data)
    full = fit(MIXTURES["dirichlet"](), x, y, n_restarts=2)
    batches = fit_minibatches(MIXTURES["dirichlet"](), x, y, n_restarts=2, batch_size=250)
    assert batches.bound == pytest.approx(full.bound, rel=2e-3)
    loader = DataLoader(TensorDataset(x, y), batch_size=250)
    by_loader = fit_batches(MIXTURES["dirichlet"](), loader, n_restarts=2)
    assert float(by_loader.bound(x, y)) == pytest.approx(full.bound, rel=1e-2)


@pytest.mark.filterwarnings("ignore:the bound still changed")
def test_rows_count_by_their_weights(data: tuple[Tensor, Tensor]) -> None:
    """Weights of three, of zero, and batches of nothing but zeros."""
    x, y = data
    weights = torch.zeros(N).double()
    weights[:200] = 3.0
    mixture = MIXTURES["dirichlet"]()
    StreamingFit(mixture, n_restarts=2).partial_fit(x, y, weights=weights)
    assert float(mixture.gate.posterior_concentration.sum()) == pytest.approx(600 + K)
    result = fit_minibatches(MIXTURES["dirichlet"](), x, y, weights=weights, batch_size=20, n_restarts=2, n_epochs=2)
    assert float(result.mixture.gate.posterior_concentration.sum()) == pytest.approx(600 + K)
    assert len(result.responsibilities) == N


@pytest.mark.filterwarnings("ignore:in the first batch, the prior")
def test_a_component_without_objects_in_the_first_batch_is_told(data: tuple[Tensor, Tensor]) -> None:
    x, _ = data
    mixture = MixtureOfExperts(DirichletGate(5, concentration=0.01), LinearExperts(5, 1))
    with pytest.warns(RuntimeWarning, match=r"component \d has .* objects in the first batch; make it larger"):
        StreamingFit(mixture, n_restarts=2).partial_fit(x[:100], 2 * x[:100])


def test_a_batch_that_leads_to_no_posterior_is_refused() -> None:
    column = 300.0 * torch.randn(500, 1, dtype=torch.float64)
    x = torch.cat([column, column, torch.randn_like(column)], dim=1)
    experts = LinearExperts(2, 3, dtype=torch.float32, coefficient_precision=1e-4)
    stream = StreamingFit(MixtureOfExperts(DirichletGate(2), experts), n_restarts=0, n_objects=1e9)
    with pytest.raises(ValueError, match="`x` must lead to a positive definite matrix"):
        for _ in range(20):
            stream.partial_fit(x, x[:, 2:])
    assert all(torch.isfinite(value).all() for value in experts.state_dict().values())
