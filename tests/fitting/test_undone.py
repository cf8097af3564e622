"""Batches and fits that are refused or interrupted: all is as it was."""

import copy
import functools
import random
import signal
import sys
import warnings
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from mixpyro import (
    BayesianSoftmaxGate,
    DirichletGate,
    GaussianExperts,
    GLMExperts,
    HeterogeneousExperts,
    LinearExperts,
    MarginalObjectDirichletGate,
    MixtureOfExperts,
    NeuralExperts,
    NeuralGate,
    SoftmaxGate,
    StreamingFit,
    fit,
    fit_batches,
    fit_minibatches,
)
from mixpyro.experts.families import Gaussian, Poisson
from tests.benchmarks.interrupts import main
from tests.state_of_objects import PressesControlC, of_module, of_stream

N = 60
GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(N, 2, generator=GENERATOR).double()
Y = X.sum(1, keepdim=True) + 0.3 * torch.randn(N, 1, generator=GENERATOR).double()
COUNTS = torch.poisson(X[:, :1].exp(), generator=GENERATOR)


def network() -> nn.Module:
    """One with statistics of batches, which training changes."""
    return nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2)).double()


MIXTURES: dict[str, tuple[Callable[[], MixtureOfExperts], Tensor]] = {
    "conjugate": (lambda: MixtureOfExperts(DirichletGate(2), LinearExperts(2, 2)), Y),
    "softmax": (lambda: MixtureOfExperts(SoftmaxGate(2, 2), GaussianExperts(2, 1)), Y),
    "bayesian": (lambda: MixtureOfExperts(BayesianSoftmaxGate(2, 2), LinearExperts(2, 2)), Y),
    "counts": (lambda: MixtureOfExperts(DirichletGate(2), GLMExperts(2, 2, Poisson())), COUNTS),
    "noises": (lambda: MixtureOfExperts(SoftmaxGate(2, 2), GLMExperts(2, 2, Gaussian())), Y),
    "networks": (
        lambda: MixtureOfExperts(NeuralGate(2, network()), NeuralExperts(2, 2, network(), Gaussian())),
        Y,
    ),
    "banks": (
        lambda: MixtureOfExperts(
            DirichletGate(2), HeterogeneousExperts([LinearExperts(1, 2), GLMExperts(1, 2, Gaussian())])
        ),
        Y,
    ),
    "objects": (lambda: MixtureOfExperts(MarginalObjectDirichletGate(2), LinearExperts(2, 2)), Y),
}


@pytest.fixture(autouse=True)
def _default_handler() -> Iterator[None]:
    """As in a terminal: a shell starts its background jobs with Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@functools.cache
def first(name: str) -> StreamingFit:
    """A stream that has seen two batches."""
    make, y = MIXTURES[name]
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stream = StreamingFit(make(), n_restarts=1, max_iterations=3, progress=False).partial_fit(X, y)
        return stream.partial_fit(X[:30], y[:30])


def begun(name: str) -> tuple[StreamingFit, Tensor]:
    """A copy of a stream that has seen two batches, and its outputs."""
    return copy.deepcopy(first(name)), MIXTURES[name][1]


def pressed(call: Callable[[], object], when: int, n_times: int = 1) -> tuple[bool, int]:
    """Press Ctrl-C before a line; return whether it raised, and how many lines there were."""
    presses, raised = PressesControlC(when, n_times), False
    tracer = sys.gettrace()
    sys.settrace(presses)
    try:
        call()
    except KeyboardInterrupt:
        raised = True
    finally:
        sys.settrace(tracer)
    return raised, presses.n_lines


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", MIXTURES)
def test_an_interrupted_batch_changes_nothing(name: str) -> None:
    stream, y = begun(name)
    another, _ = begun(name)
    _, last = pressed(lambda: another.partial_fit(X[:30], y[:30]), 0)
    chosen = random.Random(0)
    moments = [*range(1, 12), *range(last - 12, last + 1), *(chosen.randint(1, last) for _ in range(15))]
    n_raised = 0
    for when in moments:
        before = of_stream(stream), torch.get_rng_state().tolist(), list(warnings.filters)
        raised, _ = pressed(lambda: stream.partial_fit(X[:30], y[:30]), when)
        n_raised += raised
        after = of_stream(stream), torch.get_rng_state().tolist(), list(warnings.filters)
        assert not raised or after == before, when
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert n_raised > 0.7 * len(moments)


@pytest.mark.parametrize("name", MIXTURES)
def test_a_refused_batch_changes_nothing(name: str) -> None:
    y = MIXTURES[name][1]
    twice = torch.stack([1e9 * X[:30, 0], 1e9 * X[:30, 0]], 1)
    for x, of_batch in ((twice, y[:30]), (1e200 * X[:30], y[:30]), (X[:30] * torch.nan, y[:30]), (X[:30], y[:20])):
        stream, _ = begun(name)
        before, seen = of_stream(stream), stream.n_seen
        try:
            stream.partial_fit(x, of_batch)
        except ValueError as error:
            assert "`" in str(error)
            assert of_stream(stream) == before
        else:
            # A batch of any values may be taken, as a whole.
            assert stream.n_seen == seen + 30


class Refusing(nn.Linear):
    """A network that raises when it has been evaluated so many times."""

    left = 10**9

    def forward(self, input: Tensor) -> Tensor:
        """As a linear one."""
        Refusing.left -= 1
        if Refusing.left < 0:
            raise OSError("no network")
        return super().forward(input)


def test_an_error_of_a_network_changes_nothing() -> None:
    Refusing.left = 10**9
    gate = NeuralGate(2, nn.Sequential(nn.BatchNorm1d(2), Refusing(2, 2)).double())
    stream = StreamingFit(MixtureOfExperts(gate, LinearExperts(2, 2)), n_restarts=0).partial_fit(X, Y)
    stream.partial_fit(X, Y)
    for left in range(2):
        before, Refusing.left = of_stream(stream), left
        with pytest.raises(OSError, match="no network"):
            stream.partial_fit(X, Y)
        assert of_stream(stream) == before


@pytest.mark.parametrize(
    "call",
    [
        lambda mixture, x, y: StreamingFit(mixture, n_restarts=2).partial_fit(x, y),
        lambda mixture, x, y: fit(mixture, x, y, n_restarts=2, max_iterations=1),
        lambda mixture, x, y: fit_minibatches(mixture, x, y, batch_size=20, n_epochs=1, n_restarts=2),
        lambda mixture, x, y: fit_batches(mixture, [(x, y), (x, y[:7])], n_epochs=1, n_restarts=2),
    ],
)
def test_a_warning_or_an_error_leaves_the_mixture(call: Callable[..., object]) -> None:
    """A component without rows, few iterations, one epoch: each says something, and a batch does not fit."""
    mixture = MixtureOfExperts(SoftmaxGate(4, 2), LinearExperts(4, 2))
    before = of_module(mixture)
    x, y = X[:12], (X[:12, :1] > 0).double()
    with warnings.catch_warnings(), pytest.raises((RuntimeWarning, ValueError)):
        warnings.simplefilter("error", RuntimeWarning)
        call(mixture, x, y)
    assert of_module(mixture) == before


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("n_times", [1, 2])
def test_a_fit_returns_its_result_or_leaves_the_mixture(n_times: int) -> None:
    """Ctrl-C once ends the runs, and comes too late after the last; twice it is an exception at once."""

    def new() -> MixtureOfExperts:
        return MixtureOfExperts(DirichletGate(2), LinearExperts(2, 2))

    def fitted(mixture: MixtureOfExperts) -> object:
        return fit(mixture, X, Y, n_restarts=1, n_candidates=1, max_iterations=2, progress=False)

    before = of_module(new())
    _, n_lines = pressed(lambda: fitted(new()), 0)
    chosen, n_raised = random.Random(0), 0
    moments = [*range(n_lines - 30, n_lines - 10), *(chosen.randint(n_lines // 2, n_lines - 10) for _ in range(15))]
    for when in moments:
        mixture = new()
        raised, _ = pressed(lambda of_this=mixture: fitted(of_this), when, n_times)  # type: ignore[misc]
        n_raised += raised
        assert (of_module(mixture) == before) == raised, when
    assert (n_raised > 0) == (n_times == 2)


def test_the_benchmark_of_interrupts_runs(capsys: pytest.CaptureFixture[str]) -> None:
    main(1, ["conjugate", "asyncio"])
    assert "TORN" not in capsys.readouterr().out
