"""How many components a StickBreakingGate finds."""

from typing import Any

import pytest
import torch
from pyro.distributions import Gamma
from torch import Tensor

from mixpyro import GaussianExperts, LinearExperts, MixtureOfExperts, StickBreakingGate, fit
from tests.conftest import read_table
from tests.problems import lines

pytestmark = [pytest.mark.filterwarnings("ignore::RuntimeWarning"), pytest.mark.usefixtures("without_type_checks")]


def standardised(*columns: Tensor) -> Tensor:
    """Columns of mean zero and variance one."""
    y = torch.cat(columns, 1)
    return (y - y.mean(0)) / y.std(0)


def test_the_eruptions_of_a_geyser_are_two_clusters_of_25() -> None:
    """Two with any number of components to begin with, of one bound, and the same sizes."""
    y = standardised(*read_table("old_faithful.csv", "eruptions", "waiting"))
    bounds = []
    for k in (2, 6, 25):
        mixture = MixtureOfExperts(StickBreakingGate(k), GaussianExperts(k, 2))
        result = fit(mixture, y[:, :0], y, n_restarts=3, progress=False)
        assert result.n_used == 2
        fewer = result.without_empty()
        assert fewer.counts.round().tolist() == [175.0, 97.0]
        assert result.optima[0].smallest_share == pytest.approx(97 / 272, abs=0.01)
        assert float(fewer.mixture.bound(y[:, :0], y)) == pytest.approx(fewer.bound, abs=1e-3)
        bounds.append(result.bound)
    assert max(bounds) - min(bounds) < 1e-2


@pytest.mark.parametrize("concentration", [1.0, Gamma(1.0, 1.0)], ids=["given", "learnt"])
def test_clusters_that_are_apart_are_all_found(concentration: object) -> None:
    generator = torch.Generator().manual_seed(1)
    z = torch.multinomial(torch.arange(3.0, 9.0), 360, replacement=True, generator=generator)
    centres = 10.0 * torch.tensor([[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]).double()
    y = centres[z] + torch.randn(360, 2, generator=generator, dtype=torch.float64)
    gate = StickBreakingGate(12, concentration=concentration)  # type: ignore[arg-type]
    result = fit(MixtureOfExperts(gate, GaussianExperts(12, 2)), y, y, n_restarts=8, progress=False)
    assert result.n_used == 6
    sizes = torch.bincount(z).sort(descending=True).values
    assert (result.without_empty().counts - sizes).abs().max() < 2.0


@pytest.mark.parametrize("prior", [{"concentration": 1.0}, {"concentration": 0.5, "discount": 0.2}])
def test_lines_are_found_in_float32_with_weights_and_known_components(prior: dict[str, Any]) -> None:
    x, y, z = lines(120, 2, noise=0.2, seed=3)
    y = y + 3.0 * z.unsqueeze(1)

    def mixture() -> MixtureOfExperts:
        return MixtureOfExperts(StickBreakingGate(7, **prior), LinearExperts(7, 1))

    known: dict[str, Any] = {"observed": 5 - z, "mask": torch.arange(120) < 20}
    assert fit(mixture(), x.float(), y.float(), n_restarts=3, progress=False).n_used == 2
    assert fit(mixture(), x, y, weights=2.0 * torch.ones(120).double(), n_restarts=3, progress=False).n_used == 2
    result = fit(mixture(), x, y, n_restarts=3, progress=False, **known)
    assert result.n_used == 2
    assert bool((result.responsibilities.argmax(-1) == 5 - z).double().mean() > 0.95)
    assert result.without_empty().observed is not None
