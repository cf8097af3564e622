"""Splits of components where merges and deletions do not raise the bound."""

from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor

from mixpyro import (
    BayesianSoftmaxGate,
    DirichletGate,
    GaussianExperts,
    GLMExperts,
    LinearExperts,
    MixtureOfExperts,
    SoftmaxGate,
    StickBreakingGate,
    StreamingFit,
    TreeGate,
    fit,
    fit_minibatches,
)
from mixpyro.experts.families import Poisson
from mixpyro.gates import Gate

pytestmark = [pytest.mark.usefixtures("without_type_checks"), pytest.mark.filterwarnings("ignore::RuntimeWarning")]


class CountingDirichlet(DirichletGate):
    """A Dirichlet gate that has a fit find how many components there are."""

    finds_components = True


class CountingBayesian(BayesianSoftmaxGate):
    """A gate whose statistics depend on its state."""

    finds_components = True


class CountingTree(TreeGate):
    """A gate whose statistics depend on its state, and whose components are not exchangeable."""

    finds_components = True


class CountingSoftmax(SoftmaxGate):
    """A gate whose parameters are estimated."""

    finds_components = True


def clouds(n_clouds: int = 3, distance: float = 8.0, seed: int = 0) -> Tensor:
    """Draw 40 rows of each cloud in a plane [N, 2]."""
    generator = Generator().manual_seed(seed)
    number = torch.arange(n_clouds)
    centres = distance * torch.stack([number % 3, number // 3 + number % 2], dim=1).double()
    z = torch.arange(40 * n_clouds) % n_clouds
    return centres[z] + torch.randn(len(z), 2, generator=generator).double()


def in_one(n_rows: int, k: int) -> Tensor:
    """Return responsibilities of a start with all rows in the first component [N, K]."""
    return torch.eye(k).double()[:1].expand(n_rows, k)


@pytest.mark.parametrize("gate", [StickBreakingGate, CountingDirichlet])
@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_a_run_that_has_merged_all_clouds_finds_them(gate: Callable[[int], Gate], covariance: str) -> None:
    y = clouds()

    def mixture(gate: Callable[[int], Gate]) -> MixtureOfExperts:
        return MixtureOfExperts(gate(6), GaussianExperts(6, 2, covariance=covariance))

    start = in_one(len(y), 6)
    plain = fit(mixture(DirichletGate), y[:, :0], y, initial_responsibilities=start, progress=False)
    assert plain.n_used == 1
    found = fit(mixture(gate), y[:, :0], y, initial_responsibilities=start, progress=False)
    assert found.n_used == 3
    assert found.responsibilities.sum(0).sort().values[-3:].tolist() == pytest.approx([40.0] * 3, abs=1.0)
    assert (torch.tensor(found.runs[0].trace).diff() > -1e-8).all()
    assert float(found.mixture.bound(y[:, :0], y)) == pytest.approx(found.bound, abs=1e-8)


def test_lines_and_counts_are_split() -> None:
    generator = Generator().manual_seed(0)
    x = torch.randn(120, 1, generator=generator).double()
    z = torch.arange(120) % 2
    y = torch.where(z == 0, 3.0, -3.0) * x[:, 0] + 0.3 * torch.randn(120, generator=generator).double()
    lines = MixtureOfExperts(StickBreakingGate(4), LinearExperts(4, 1))
    assert fit(lines, x, y, initial_responsibilities=in_one(120, 4), progress=False).n_used == 2
    rates = torch.tensor([2.0, 40.0]).double()[z].unsqueeze(-1)
    counts = torch.poisson(rates, generator=generator)
    poisson = MixtureOfExperts(StickBreakingGate(4), GLMExperts(4, 0, Poisson(), prior_scale=3.0))
    # A density of the estimates counts no loss of evidence for a component more.
    assert fit(poisson, x[:, :0], counts, initial_responsibilities=in_one(120, 4), progress=False).n_used >= 2


def test_known_rows_stay_in_their_component() -> None:
    y, z = clouds(), torch.arange(120) % 3
    observed, mask = 5 - z, torch.arange(120) < 30
    mixture = MixtureOfExperts(StickBreakingGate(6), GaussianExperts(6, 2))
    found = fit(mixture, y[:, :0], y, n_restarts=1, observed=observed, mask=mask, progress=False)
    assert (found.responsibilities.argmax(-1) == 5 - z).all()


def test_one_restart_finds_what_twenty_find() -> None:
    """Overlapping clusters, of which a run merges too many: four remain without splits, at a bound 8 nats lower."""
    generator, number = Generator().manual_seed(0), torch.arange(240) % 6
    centres = 3.0 * torch.stack([torch.arange(6) % 3, torch.arange(6) // 3], 1).double()
    y = centres[number] + 0.6 * torch.randn(240, 2, generator=generator).double()
    y = (y - y.mean(0)) / y.std(0)

    mixture = MixtureOfExperts(StickBreakingGate(12), GaussianExperts(12, 2))
    found = fit(mixture, y[:, :0], y, n_restarts=1, progress=False)
    # The best of twenty restarts with merges and deletions alone.
    assert found.bound > -657.53 - 0.05
    assert found.n_used == 5


@pytest.mark.parametrize(
    "gate",
    [
        lambda k: CountingBayesian(k, 2),
        lambda k: CountingTree(k, 2),
        lambda k: CountingSoftmax(k, 2, prior_scale=3.0),
    ],
    ids=["bayesian", "tree", "softmax"],
)
def test_gates_that_read_rows_move_too(gate: Callable[[int], Gate]) -> None:
    y = clouds(seed=1)
    x = y / 8.0
    mixture = MixtureOfExperts(gate(4), GaussianExperts(4, 2))
    found = fit(mixture, x, y, n_restarts=2, progress=False)
    for run in found.runs:
        assert (torch.tensor(run.trace).diff() > -1e-6).all()
    assert float(found.mixture.bound(x, y)) == pytest.approx(found.bound, abs=1e-6)
    assert found.responsibilities.sum(0).sort().values[-3:].tolist() == pytest.approx([40.0] * 3, abs=1.0)


def test_minibatches_find_the_components_on_their_sample() -> None:
    y = clouds()
    mixture = MixtureOfExperts(StickBreakingGate(8), GaussianExperts(8, 2))
    assert fit_minibatches(mixture, y[:, :0], y, batch_size=40, n_restarts=2, progress=False).n_used == 3


@pytest.mark.filterwarnings("default::RuntimeWarning")
def test_a_stream_says_that_it_makes_no_moves(recwarn: pytest.WarningsRecorder) -> None:
    y = clouds()
    mixture = MixtureOfExperts(StickBreakingGate(8), GaussianExperts(8, 2))
    StreamingFit(mixture, n_restarts=2).partial_fit(y[:, :0], y)
    said = [str(one.message) for one in recwarn if "in a stream StickBreakingGate" in str(one.message)]
    assert len(said) == 1
    assert "n_restarts=0" in said[0]
    recwarn.clear()
    fit(mixture, y[:, :0], y, n_restarts=2, progress=False)
    StreamingFit(mixture, n_restarts=0).partial_fit(y[:, :0], y)
    assert not [one for one in recwarn if "in a stream" in str(one.message)]
