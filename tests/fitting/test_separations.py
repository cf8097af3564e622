"""Gates and experts that separate the rows: the likelihood has a limit, the estimates have none."""

import re
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor, nn

from mixpyro import (
    DirichletGate,
    GLMExperts,
    HeterogeneousExperts,
    LinearExperts,
    MixtureOfExperts,
    NeuralExperts,
    NeuralGate,
    SoftmaxGate,
    StreamingFit,
    fit,
    fit_minibatches,
)
from mixpyro.experts import Experts
from mixpyro.experts.families import Binomial, Categorical, Family, Poisson
from mixpyro.gates.base import Gate

pytestmark = pytest.mark.usefixtures("without_type_checks")
N = 60
FAMILIES = [Binomial(), Categorical(3), Poisson()]
LIMIT = "estimates grow without limit"


def linear(n_inputs: int, n_outputs: int, *, hidden: bool = False) -> nn.Module:
    """A network that is a linear function, with its last layer inside another module or not."""
    layer = nn.Linear(n_inputs, n_outputs).double()
    nn.init.zeros_(layer.weight)
    return nn.Sequential(nn.Identity(), layer) if hidden else layer


def glm(family: Family, prior_scale: float | None = None) -> Experts:
    return GLMExperts(1, 2, family, prior_scale=prior_scale)


def neural(family: Family, prior_scale: float | None = None) -> Experts:
    return NeuralExperts(1, 2, linear(2, family.n_predictors), family, prior_scale=prior_scale)


def banks(family: Family, prior_scale: float | None = None) -> Experts:
    return HeterogeneousExperts([glm(family, prior_scale)])


def rows(family: Family, *, separated: bool) -> tuple[Tensor, Tensor]:
    """A number and a dummy, and y that the dummy determines, or not."""
    generator = Generator().manual_seed(0)
    x = torch.randn(N, 2, generator=generator).double()
    x[:, 1] = (x[:, 1] > 0).double()
    eta = 0.5 * x[:, 0] + x[:, 1] - 0.5
    uniform = torch.rand(N, generator=generator).double()
    if isinstance(family, Poisson):
        y = torch.poisson((1 + eta).exp(), generator=generator)
        return x, torch.where(x[:, 1] > 0, 0.0, y) if separated else y
    y = (uniform < eta.sigmoid()).double()
    if isinstance(family, Categorical):
        y += torch.rand(N, generator=generator).double() < 0.4
    return x, torch.where(x[:, 1] > 0, 1.0, y) if separated else y


def said(fitted: Callable[[], object]) -> list[str]:
    """The warnings of a fit that speak of a limit."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fitted()
    return [str(one.message) for one in caught if LIMIT in str(one.message)]


@pytest.mark.parametrize("make", [glm, neural, banks])
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: type(family).__name__)
def test_experts_that_separate_are_told(make: Callable[..., Experts], family: Family) -> None:
    """A third of the rows is as it is: the flat direction is one of several."""
    x, y = rows(family, separated=True)
    (message,) = said(lambda: fit(MixtureOfExperts(DirichletGate(1), make(family)), x, y))
    assert re.search(r"component 0 has its maximum at infinity.*standard error of (inf|\d)", message)
    assert not said(lambda: fit(MixtureOfExperts(DirichletGate(1), make(family, 2.0)), x, y))


@pytest.mark.parametrize("make", [glm, neural, banks])
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: type(family).__name__)
def test_experts_with_a_maximum_are_not(make: Callable[..., Experts], family: Family) -> None:
    x, y = rows(family, separated=False)
    assert not said(lambda: fit(MixtureOfExperts(DirichletGate(1), make(family)), x, y))


def test_steep_lines_with_a_maximum_are_no_separation() -> None:
    """Log odds of ±100 at the ends, but y overlap in the middle."""
    generator = Generator().manual_seed(0)
    x = torch.rand(4000, 1, generator=generator).double() * 2 - 1
    y = (torch.rand(4000, generator=generator).double() < (100 * x[:, 0]).sigmoid()).double()
    mixture = MixtureOfExperts(DirichletGate(1), GLMExperts(1, 1, Binomial()))
    assert not said(lambda: fit(mixture, x, y))
    assert float(mixture.experts.coefficients[0, 0, 1].detach()) == pytest.approx(100, rel=0.3)


GATES: dict[str, Callable[[], Gate]] = {
    "softmax": lambda: SoftmaxGate(2, 1),
    "neural": lambda: NeuralGate(2, linear(1, 2)),
    "sequential": lambda: NeuralGate(2, linear(1, 2, hidden=True)),
}


def regimes(*, n_objects: int = 100, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two lines, one on either side of zero."""
    generator = Generator().manual_seed(seed)
    x = torch.rand(n_objects, 1, generator=generator).double() * 2 - 1
    y = torch.where(x[:, 0] > 0, 2 + x[:, 0], -2 - x[:, 0])
    return x, y + 0.1 * torch.randn(n_objects, generator=generator).double()


@pytest.mark.parametrize(("gate", "seed"), [("softmax", 0), ("softmax", 1), ("neural", 1), ("sequential", 2)])
def test_a_gate_that_separates_is_chosen_and_told(gate: str, seed: int) -> None:
    x, y = regimes(seed=seed)
    mixture = MixtureOfExperts(GATES[gate](), LinearExperts(2, 1))
    with pytest.warns(RuntimeWarning, match=f"{LIMIT}.*the gate separates its components"):
        result = fit(mixture, x, y, n_restarts=3)
    assert result.bound == max(run.bound for run in result.runs)
    assert not result.degeneracies
    assert (mixture.predict(x)[:, 0] - y).square().mean().sqrt() < 0.12


@pytest.mark.parametrize("gate", GATES)
def test_a_gate_with_a_maximum_is_not_told(gate: str) -> None:
    x, _ = regimes(n_objects=200)
    z = torch.rand(len(x), generator=Generator().manual_seed(1)).double() < (4 * x[:, 0]).sigmoid()
    y = torch.where(z, 2 + x[:, 0], -2 - x[:, 0]) + 0.1 * inputs_like(x)
    assert not said(lambda: fit(MixtureOfExperts(GATES[gate](), LinearExperts(2, 1)), x, y, n_restarts=2))


def inputs_like(x: Tensor) -> Tensor:
    """Standard normal numbers, one a row."""
    return torch.randn(len(x), generator=Generator().manual_seed(2)).double()


def test_batches_and_streams_tell_it_too() -> None:
    x, y = regimes()
    mixture = MixtureOfExperts(SoftmaxGate(2, 1), LinearExperts(2, 1))
    assert said(lambda: fit_minibatches(mixture, x, y, batch_size=50, n_restarts=2))
    (message,) = said(lambda: StreamingFit(mixture, n_restarts=2).partial_fit(x, y))
    assert message.startswith("in the first batch")
