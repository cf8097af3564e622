"""Time the M-step of a ``NeuralGate`` to within 10⁻³ nats an object of the optimum, beside Adam on minibatches of 128.

The responsibilities are those of a random teacher network with noise, so that they are soft and no network here fits
them exactly. Both methods start at the same weights. Adam has the settings of the older EM loops, lr 10⁻³ and a
DataLoader; by index and fused it would be 2.3 times as fast. Ours is one M-step with as many steps as one tolerance
allows; a fit takes twenty an iteration instead, and continues in the next.

A linear network has one optimum, which L-BFGS finds. A network with hidden layers has many, and none is reached in a
minute: its times are to within 10⁻³ of the best value that Adam reaches in all its epochs, and of the best value that
either method has reached. Where Adam has not come that near, its seconds are those of all its epochs, and the true
ratio is larger. The time of evaluating the objective for this comparison is not counted.

An evaluation with its gradient on all rows costs 3 · 2 N P operations for P weights, 0.23 · 10⁹ at P = 380 and N =
10⁵, 6 ms of a core; moving 30 arrays of N × 10 through memory makes it 25 to 40 ms. An epoch of Adam in 782 steps
costs 700 to 1300 ms. L-BFGS on all rows would need hundreds of evaluations. On a 64th of the rows, 1562, each takes 2
ms, and 3 to 20 steps on all rows remain. Pyro's share is 0.2 ms an evaluation, a tenth of that on the smallest
subsample.
"""

import copy
import time
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mixpyro.fitting.gradient.m_step import MStep
from mixpyro.gates import NeuralGate
from tests.benchmarks.speed.harness import Row, Sizes
from tests.benchmarks.speed.hyper_expert import replaced_loop

SIZES = Sizes(100_000, 20, 8)
TINY = Sizes(300, 20, 8)
HIDDEN = 10
NEAR = 1e-3
N_STEPS = 3000
TOLERANCE = 3e-5


class Point(NamedTuple):
    """The loss that a method has reached after some time."""

    seconds: float
    loss: float  # nats an object


def rows(sizes: Sizes) -> Iterator[Row]:
    """Yield the seconds to the optimum of a linear network, and to two goals of one with hidden layers."""
    x, r = data(sizes)
    size, tiny = str(sizes), sizes.tiny
    linear, hidden = networks(sizes)
    by_improve(linear, x[:200], r[:200], TOLERANCE)  # imports and other work that torch does once in a process
    ours, adam = by_improve(linear, x, r, TOLERANCE), by_adam(linear, x, r, n_epochs=2 if tiny else 8)
    yield compared("linear gate, to its optimum", size, ours, adam, by_improve(linear, x, r, 1e-9).loss)
    ours, adam = by_improve(hidden, x, r, TOLERANCE), by_adam(hidden, x, r, n_epochs=2 if tiny else 20)
    best_of_adam = min(point.loss for point in adam)
    yield compared("MLP gate, to Adam's best", size, ours, adam, best_of_adam)
    yield compared("MLP gate, to the best of both", size, ours, adam, min(best_of_adam, ours.loss))


def data(sizes: Sizes) -> tuple[Tensor, Tensor]:
    """Draw inputs [N, D], and responsibilities [N, K] of a random teacher."""
    n, d, k, _ = sizes
    torch.manual_seed(0)
    x, teacher = torch.randn(n, d), nn.Sequential(nn.Linear(d, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, k))
    with torch.no_grad():
        return x, (9.0 * teacher(3.0 * x) + 0.5 * torch.randn(n, k)).softmax(-1)


def networks(sizes: Sizes) -> tuple[nn.Module, nn.Module]:
    """Make a linear network, and that of ``HyperExpertNN``."""
    _, d, k, _ = sizes
    torch.manual_seed(1)
    layers = nn.Linear(d, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, k)
    return nn.Linear(d, k), nn.Sequential(*layers)


def by_improve(start: nn.Module, x: Tensor, r: Tensor, tolerance: float) -> Point:
    """Run ``MStep.improve`` on a copy of the network."""
    network = copy.deepcopy(start)
    m_step = MStep(NeuralGate(r.shape[1], network))
    started = time.perf_counter()
    m_step.improve(x, r, n_steps=N_STEPS, tolerance=tolerance)
    return Point(time.perf_counter() - started, loss(network, x, r))


def by_adam(start: nn.Module, x: Tensor, r: Tensor, *, n_epochs: int) -> list[Point]:
    """Run the loop of the older EM programs on a copy of the network, and return a point per epoch."""
    network = copy.deepcopy(start)
    epoch, points, seconds = replaced_loop(network, x, r), [], 0.0
    for _ in range(n_epochs):
        started = time.perf_counter()
        epoch()
        seconds += time.perf_counter() - started
        points.append(Point(seconds, loss(network, x, r)))
    return points


@torch.no_grad()
def loss(network: nn.Module, x: Tensor, r: Tensor) -> float:
    """Return −Σ r log π per object in nats."""
    return -float((r * network(x).log_softmax(-1)).sum(-1).double().mean())


def compared(what: str, size: str, ours: Point, adam: list[Point], goal: float) -> Row:
    """Return a row with the seconds until each method is near the goal."""
    taken, there = zip(*(until_near(points, goal) for points in ([ours], adam)), strict=True)
    beside = "Adam" if there[1] else f"Adam, not there in {len(adam)} epochs"
    return Row(what if there[0] else f"{what}, missed", size, taken[0], beside, taken[1], ">= 5")


def until_near(points: list[Point], goal: float) -> tuple[float, bool]:
    """Return the seconds until a point near the goal, and whether there is one; all seconds if not."""
    near = [point.seconds for point in points if point.loss <= goal + NEAR]
    return (near[0], True) if near else (points[-1].seconds, False)
