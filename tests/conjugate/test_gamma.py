"""Gamma distributions as values."""

import torch
from torch.distributions import kl_divergence

from mixpyro.conjugate.gamma import Gamma


def test_it_is_the_distribution_of_pytorch() -> None:
    q = Gamma(torch.tensor([[0.5], [3.0]]).double(), torch.tensor([[0.1, 2.0, 30.0], [1.0, 2.0, 3.0]]).double())
    p = Gamma(torch.tensor(1.5).double(), torch.tensor([0.2, 4.0, 1.0]).double())
    theirs, prior = (torch.distributions.Gamma(*distribution) for distribution in (q, p))
    torch.testing.assert_close(q.kl(p), kl_divergence(theirs, prior))
    torch.testing.assert_close(q.mean, theirs.mean)
    assert (q.kl(q) == 0).all()


def test_the_expected_logarithm_is_the_mean_over_draws() -> None:
    q = Gamma(torch.tensor([0.5, 3.0]).double(), torch.tensor([0.1, 2.0]).double())
    draws = torch.distributions.Gamma(*q).sample((20_000,)).log()
    assert ((draws.mean(0) - q.expected_log).abs() < 4.5 * draws.std(0) / len(draws) ** 0.5).all()
