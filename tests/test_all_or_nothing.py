"""Methods that fail half-way leave gates and experts as they were."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from mixpyro import DirichletGate, HeterogeneousExperts, LinearExperts, NeuralExperts
from mixpyro.experts.families import Gaussian
from tests.state_of_objects import of_module

X = torch.linspace(-1, 1, 12).double().unsqueeze(1)
Y = 1.0 + X.square()
R = torch.softmax(torch.cat([X, -X, 2 * X], 1), 1)


class StopError(Exception):
    """What ends a method half-way."""


def stop(*args: object) -> None:
    """Fail, as an M-step may."""
    raise StopError


def network() -> nn.Module:
    """A network with running averages."""
    return nn.Sequential(nn.BatchNorm1d(1), nn.Linear(1, 3)).double()


def mixed() -> HeterogeneousExperts:
    """Conjugate experts beside a network."""
    return HeterogeneousExperts([LinearExperts(1, 1), NeuralExperts(2, 1, nn.Linear(1, 2).double(), Gaussian())])


CALLS: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module], object], type[BaseException]]] = {
    "statistics of the first member alone": (
        lambda: HeterogeneousExperts([LinearExperts(1, 1), LinearExperts(2, 1)]),
        lambda bank: bank.update(  # type: ignore[operator]
            (bank.statistics(X, Y, R)[0], bank.statistics(X, Y, R)[0])  # type: ignore[operator]
        ),
        ValueError,
    ),
    "a network whose steps end": (
        lambda: NeuralExperts(3, 1, network(), Gaussian()),
        lambda experts: experts.maximise(X, Y, R, by_gradient=stop),  # type: ignore[operator]
        StopError,
    ),
    "a bank with a network whose steps end": (
        mixed,
        lambda experts: experts.maximise(X, Y, R, by_gradient=stop),  # type: ignore[operator]
        StopError,
    ),
    "statistics of fewer columns": (
        lambda: LinearExperts(3, 1),
        lambda experts: experts.update(LinearExperts(3, 0).statistics(X[:, :0], Y, R)),  # type: ignore[operator]
        ValueError,
    ),
    "statistics of one component": (
        lambda: DirichletGate(3),
        lambda gate: gate.update(DirichletGate(1).statistics(X, R[:, :1])),  # type: ignore[operator]
        ValueError,
    ),
    "a bank of which the second member refuses y": (
        lambda: HeterogeneousExperts([LinearExperts(1, 1), NeuralExperts(2, 1, nn.Linear(1, 2).double(), Gaussian())]),
        lambda bank: bank.centre(X, Y.float()),  # type: ignore[operator]
        ValueError,
    ),
}


@pytest.mark.parametrize("case", CALLS)
@pytest.mark.usefixtures("bad_arguments")
def test_a_method_that_fails_changes_nothing(case: str) -> None:
    make, call, error = CALLS[case]
    part = make()
    before = of_module(part)
    with pytest.raises(error):
        call(part)
    assert of_module(part) == before
