"""Searches that have less memory: fewer runs at a time, and the same result."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import pytest
import torch

from mixpyro import DirichletGate, GaussianExperts, GLMExperts, LinearExperts, MixtureOfExperts, SoftmaxGate, fit
from mixpyro.experts.families import Poisson
from mixpyro.fitting.moves import reduce
from mixpyro.numerics import blocks
from tests.problems import lines

pytestmark = [pytest.mark.usefixtures("without_type_checks"), pytest.mark.filterwarnings("ignore::RuntimeWarning")]


class CountingGate(DirichletGate):
    """A Dirichlet gate that has a fit find how many components there are."""

    finds_components = True


MIXTURES: Mapping[str, Callable[[], MixtureOfExperts]] = MappingProxyType(
    {
        "lines": lambda: MixtureOfExperts(DirichletGate(3), LinearExperts(3, 1)),
        "rates": lambda: MixtureOfExperts(SoftmaxGate(2, 1), GLMExperts(2, 1, Poisson())),
        "moves": lambda: MixtureOfExperts(CountingGate(3, concentration=0.1), GaussianExperts(3, 1)),
    }
)


@pytest.mark.parametrize(("name", "numbers"), [("lines", 1), ("rates", 3000), ("moves", 1)])
def test_a_search_in_small_groups_finds_the_same(name: str, numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, _ = lines(40, 2)
    x = x[:, :0] if name == "moves" else x
    y = y.exp().clamp_max(9.0).floor() if name == "rates" else y
    whole = fit(MIXTURES[name](), x, y, n_restarts=2, progress=False)
    monkeypatch.setattr(blocks, "LIMITS", blocks.LIMITS._replace(search_numbers=numbers))
    monkeypatch.setattr(reduce, "MOST_NUMBERS", numbers)
    parted = fit(MIXTURES[name](), x, y, n_restarts=2, progress=False)
    assert len(parted.runs) == len(whole.runs)
    assert parted.bound == pytest.approx(whole.bound, rel=1e-9)
    # Moves that are equal but for rounding leave the components in another order.
    torch.testing.assert_close(parted.counts.sort().values, whole.counts.sort().values, rtol=0, atol=1e-2)
