"""Starts of fits that know the components of some rows."""

import pytest
import torch

from mixpyro import DirichletGate, MixtureOfExperts, fit
from mixpyro.fitting.known_labels import agreeing
from mixpyro.fitting.starts import k_means, random_assignments, random_subsets
from tests.fitting.known_labels import half_known, linear
from tests.problems import lines

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def test_every_start_is_put_in_the_order_of_the_labels() -> None:
    x, y, z = lines(300, 3, noise=0.1)
    labels = torch.where(half_known(300, 30), z, -1)
    mixture = MixtureOfExperts(DirichletGate(3), linear(3))
    for kind in (random_subsets, k_means, random_assignments):
        for seed in range(4):
            drawn = kind(mixture, x, y, torch.Generator().manual_seed(seed))
            ordered = agreeing(drawn, labels)
            of_known = torch.eye(3).double()[z[:30]]
            best = max(
                float((drawn[:30][:, list(order)] * of_known).sum())
                for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))
            )
            assert float((ordered[:30] * of_known).sum()) == pytest.approx(best)
    assert agreeing(drawn, None) is drawn
    # Components of which nothing is known stay.
    third = torch.where(labels == 2, 2, -1)
    moved = agreeing(torch.eye(3).double()[(z + 1) % 3], third)
    assert torch.equal(moved.sum(0).sort().values, z.bincount().double().sort().values)
    assert torch.equal(moved[third == 2], torch.eye(3).double()[z[third == 2]])


def test_a_start_of_the_users_is_not_permuted() -> None:
    x, y, z = lines(60, 2, noise=1.0)
    known, wrong = half_known(60, 3), torch.eye(2).double()[1 - z]
    mixture = MixtureOfExperts(DirichletGate(2), linear(2))
    result = fit(
        mixture, x, y, observed=z, mask=known, initial_responsibilities=wrong, max_iterations=1, progress=False
    )
    started = torch.where(known[:, None], torch.eye(2).double()[z], wrong)
    assert isinstance(mixture.gate, DirichletGate)
    torch.testing.assert_close(mixture.gate.posterior_concentration, 1.0 + started.sum(0))
    assert torch.equal(result.responsibilities[:3], torch.eye(2).double()[z[:3]])


def test_few_labels_among_many_rows_are_read_by_every_candidate() -> None:
    """Candidates are compared on a sample of the rows, which need not have a label."""
    x, y, z = lines(3000, 3, noise=0.2)
    known = torch.zeros(3000, dtype=torch.bool)
    known[[int((z == k).nonzero()[0]) for k in range(3)]] = True
    mixture = MixtureOfExperts(DirichletGate(3), linear(3))
    result = fit(mixture, x, y, observed=z, mask=known, n_restarts=4, progress=False)
    assert (result.responsibilities.argmax(1) == z).double().mean() > 0.85
