"""A tighter tolerance gives no worse a fit."""

from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor, nn

from mixpyro import DirichletGate, GLMExperts, LinearExperts, MixtureOfExperts, NeuralGate, SoftmaxGate, fit
from mixpyro.experts.families import Binomial, Gaussian, Poisson

TOLERANCES = (1e-4, 1e-7)
Problem = tuple[Callable[[], MixtureOfExperts], Tensor, Tensor, Tensor]


def network() -> nn.Module:
    layer = nn.Linear(1, 2).double()
    nn.init.zeros_(layer.weight)
    return layer


def flagged(seed: int) -> Problem:
    """A yes/no column decides the component of a third of the rows: the gate separates these."""
    generator = Generator().manual_seed(seed)
    n = 27
    flag = (torch.arange(n) % 3 == 2).double().unsqueeze(1)
    block = torch.arange(n) // 9
    x = nn.functional.one_hot(block, 3)[:, 1:].double()
    z = torch.where(flag[:, 0] > 0, 1, (torch.rand(n, generator=generator) < 0.4).long())
    odds = torch.tensor([[0.15, -0.3, 0.4], [-0.3, -1.1, -0.7]])[z, block]
    y = (torch.rand(n, 50, generator=generator) < odds.sigmoid().unsqueeze(1)).sum(1).double()
    x = torch.cat([x, torch.full((n, 1), 50.0).double()], 1)
    return lambda: MixtureOfExperts(SoftmaxGate(2, 1), GLMExperts(2, 2, Binomial(), exposure=True)), x, y, flag


def regimes(make_gate: Callable[[], SoftmaxGate | NeuralGate]) -> Callable[[int], Problem]:
    """Two lines, one on either side of zero."""

    def problem(seed: int) -> Problem:
        generator = Generator().manual_seed(seed)
        x = torch.rand(60, 1, generator=generator).double() * 2 - 1
        y = torch.where(x[:, 0] > 0, 1 + x[:, 0], -1 - x[:, 0]) + 0.3 * torch.randn(60, generator=generator).double()
        return lambda: MixtureOfExperts(make_gate(), LinearExperts(2, 1)), x, y, x

    return problem


def counts(seed: int) -> Problem:
    """Two rates, one of which is zero where x is negative."""
    generator = Generator().manual_seed(seed)
    x = torch.randn(60, 1, generator=generator).double()
    z = torch.rand(60, generator=generator) < 0.5
    y = torch.poisson(torch.where(z, (1 + x[:, 0]).exp(), 4.0 * (x[:, 0] > 0)), generator=generator)
    return lambda: MixtureOfExperts(DirichletGate(2), GLMExperts(2, 1, Poisson())), x, y, x


def noises(seed: int) -> Problem:
    """Few rows and noises of their own, which collapse in some runs."""
    generator = Generator().manual_seed(seed)
    x = torch.randn(20, 1, generator=generator).double()
    y = x[:, 0] + torch.randn(20, generator=generator).double()
    return lambda: MixtureOfExperts(SoftmaxGate(2, 0), GLMExperts(2, 1, Gaussian())), x, y, x[:, :0]


PROBLEMS = {
    "a flag": flagged,
    "softmax": regimes(lambda: SoftmaxGate(2, 1)),
    "neural": regimes(lambda: NeuralGate(2, network())),
    "counts": counts,
    "noises": noises,
}


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("name", "seed"), [*((name, 0) for name in PROBLEMS), ("a flag", 1)])
def test_the_bound_never_falls_as_the_tolerance_is_tightened(name: str, seed: int) -> None:
    make, x, y, gate_x = PROBLEMS[name](seed)
    looser, tighter = (
        fit(make(), x, y, gate_x=gate_x, n_restarts=2, tolerance=tolerance).bound for tolerance in TOLERANCES
    )
    assert tighter > looser - 1e-6


@pytest.mark.parametrize(("n_rows", "seed"), [(2000, 1), (5000, 0), (5000, 2)])
def test_a_last_digit_of_the_bound_is_no_fall(n_rows: int, seed: int) -> None:
    """Steps that seem to lower it would be halved again and again, each time with a pass over the rows."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n_rows, 10, generator=generator).double()
    y = torch.poisson((0.1 * x.sum(1, keepdim=True)).exp(), generator=generator)
    mixture = MixtureOfExperts(DirichletGate(1), GLMExperts(1, 10, Poisson()))
    (run,) = fit(mixture, x, y, n_restarts=1, progress=False).runs
    assert run.converged
    assert len(run.trace) == 4
