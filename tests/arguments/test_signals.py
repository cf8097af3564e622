"""Work that raises or is interrupted changes nothing."""

import signal
import threading
import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import Generator, Tensor, nn

from mixpyro import DirichletGate, GLMExperts, HeterogeneousExperts, NeuralExperts
from mixpyro.arguments.module_contents import contents_of
from mixpyro.arguments.signals import held_at_the_end, undone_if_it_raises, without_interruption
from mixpyro.experts.families import Gaussian, Poisson
from tests.state_of_objects import of_module


@pytest.fixture(autouse=True)
def _default_handler() -> Iterator[None]:
    """As in a terminal: a shell starts its background jobs with Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def changed(network: nn.Module) -> None:
    """Change all that a module has."""
    network.train(not network.training)
    network.added = 1  # type: ignore[assignment]
    for parameter in network.parameters():
        with torch.no_grad():
            parameter.add_(1.0)
        parameter.grad = torch.ones_like(parameter)
        parameter.requires_grad_(not parameter.requires_grad)
    for part in network.modules():
        for name, buffer in list(part._buffers.items()):
            part._buffers[name] = None if buffer is None else 2 * buffer
        part.register_forward_hook(lambda *_: None)


@pytest.mark.parametrize("signals", [(), (signal.SIGINT,), (signal.SIGINT, signal.SIGINT)])
def test_a_module_is_put_back(signals: tuple[int, ...]) -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    tensors = {name: id(one) for name, one in (*network.named_parameters(), *network.named_buffers())}
    before, filters, random_state = of_module(network), list(warnings.filters), torch.get_rng_state()

    def work() -> None:
        warnings.simplefilter("ignore")
        torch.randn(3)
        changed(network)
        for number in signals:
            signal.raise_signal(number)
        raise ValueError

    with pytest.raises(KeyboardInterrupt if signals else ValueError):
        undone_if_it_raises(work, lambda: contents_of(network))
    assert of_module(network) == before
    assert {name: id(one) for name, one in (*network.named_parameters(), *network.named_buffers())} == tensors
    assert list(warnings.filters) == filters
    assert torch.equal(torch.get_rng_state(), random_state)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_timer_of_the_program_interrupts_too() -> None:
    def late(*_: object) -> None:
        raise TimeoutError

    gate = DirichletGate(2)
    before, handler = of_module(gate), signal.signal(signal.SIGALRM, late)

    def work() -> None:
        gate.update(gate.statistics(torch.zeros(3, 0).double(), torch.ones(3, 2).double()))
        signal.raise_signal(signal.SIGALRM)

    try:
        with pytest.raises(TimeoutError):
            undone_if_it_raises(work, lambda: contents_of(gate))
        assert signal.getsignal(signal.SIGALRM) is late
    finally:
        signal.signal(signal.SIGALRM, handler)
    assert of_module(gate) == before


def test_a_handler_that_the_program_replaces_meanwhile_stays() -> None:
    def second(*_: object) -> None:
        pass

    def first(*_: object) -> None:
        signal.signal(signal.SIGALRM, second)

    before = signal.signal(signal.SIGALRM, first)
    try:
        undone_if_it_raises(lambda: signal.raise_signal(signal.SIGALRM), lambda: lambda: None)
        assert signal.getsignal(signal.SIGALRM) is second
    finally:
        signal.signal(signal.SIGALRM, before)


def test_signals_that_are_held_back_come_later() -> None:
    done: list[str] = []

    def work() -> None:
        signal.raise_signal(signal.SIGINT)
        done.append("work")

    with pytest.raises(KeyboardInterrupt):
        without_interruption(work)
    with pytest.raises(KeyboardInterrupt), held_at_the_end() as signals:
        signals.held = True
        work()
    with pytest.raises(KeyboardInterrupt), held_at_the_end():
        work()
    assert done == ["work", "work"]


def test_other_threads_work_alike() -> None:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(undone_if_it_raises(lambda: 3, lambda: lambda: None)))
    thread.start()
    thread.join()
    assert found == [3]


@pytest.mark.usefixtures("bad_arguments")
def test_experts_that_refuse_rows_stay_as_they_were() -> None:
    x = torch.randn(20, 2, generator=Generator().manual_seed(0)).double()
    y = 1.0 + x[:, :1].abs().round()

    class Refusing(GLMExperts):
        def centre(self, x: Tensor, y: Tensor, weights: Tensor | None = None) -> None:
            raise ValueError("`y` must be kind")

    banks = HeterogeneousExperts([GLMExperts(1, 2, Poisson()), Refusing(1, 2, Poisson())])
    before = of_module(banks)
    with pytest.raises(ValueError, match="`y` must be kind"):
        banks.centre(x, y)
    assert of_module(banks) == before

    def refuse(*_: Tensor | nn.Module) -> None:
        raise RuntimeError("not today")

    experts = NeuralExperts(2, 2, nn.Linear(2, 2).double(), Gaussian())
    before = of_module(experts)
    with pytest.raises(RuntimeError, match="not today"):
        experts.maximise(x, y, torch.full((20, 2), 0.5).double(), by_gradient=refuse)
    assert of_module(experts) == before
