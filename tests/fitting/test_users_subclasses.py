"""Fits of mixtures, gates and experts whose methods a user has changed."""

from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor

from mixpyro import (
    DirichletGate,
    LinearExperts,
    MixtureOfExperts,
    fit,
)
from mixpyro.conjugate.dirichlet import Counts, Dirichlet
from tests.fitting.mixtures import MIXTURES, K, table

pytestmark = [
    pytest.mark.filterwarnings("ignore:the noise of component"),
    pytest.mark.usefixtures("without_type_checks"),
]


class Tempered(MixtureOfExperts):
    """A mixture whose likelihood counts by half."""

    def log_joint(self, *arguments: Any, **options: Any) -> Tensor:
        """Half of it."""
        return 0.5 * super().log_joint(*arguments, **options)


class Penalised(LinearExperts):
    """Experts with a term of their own in the bound."""

    def kl(self, posterior: Any) -> Tensor:
        """And half the squared coefficients."""
        return super().kl(posterior) + 0.5 * posterior.mean.square().sum((-3, -2, -1))


class Capped(DirichletGate):
    """A gate that counts fifty objects, whatever their number."""

    def updated(self, statistics: Counts, before: Dirichlet) -> Dirichlet:
        """From their shares alone."""
        counts = statistics.counts
        posterior: Dirichlet = super().updated(Counts(50.0 * counts / counts.sum(-1, keepdim=True)), before)
        return posterior


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    "make",
    [
        lambda: Tempered(DirichletGate(K), LinearExperts(K, 1)),
        lambda: MixtureOfExperts(DirichletGate(K), Penalised(K, 1)),
        lambda: MixtureOfExperts(Capped(K), LinearExperts(K, 1)),
    ],
)
def test_what_a_users_subclass_does_is_done(make: Callable[[], MixtureOfExperts]) -> None:
    data, mixture = table(), make()
    result = fit(mixture, data.x, data.y, n_restarts=2, progress=False)
    assert result.bound == pytest.approx(float(mixture.bound(data.x, data.y)), abs=1e-7)
    plain = fit(MIXTURES["linear"](), data.x, data.y, n_restarts=2, progress=False)
    assert result.bound != pytest.approx(plain.bound, abs=1e-3)
