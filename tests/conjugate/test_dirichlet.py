"""Dirichlet distributions as values."""

import torch
from torch.distributions import kl_divergence

from mixpyro.conjugate.dirichlet import Counts, Dirichlet
from tests.conjugate.contract import PosteriorContract
from tests.problems import responsibilities

K = 4


class TestDirichlet(PosteriorContract):
    """The contract."""

    n_parameters = K - 1

    def prior(self) -> Dirichlet:
        return Dirichlet(torch.tensor([0.5, 1.0, 2.0, 0.1], dtype=torch.float64))

    def statistics(self, seed: int) -> Counts:
        return Counts(responsibilities(20, K, seed=seed).sum(0))

    def test_it_is_the_distribution_of_pytorch(self) -> None:
        prior = self.prior()
        q = prior.updated(self.statistics(0))
        theirs, prior_of_theirs = torch.distributions.Dirichlet(*q), torch.distributions.Dirichlet(*prior)
        torch.testing.assert_close(q.kl(prior), kl_divergence(theirs, prior_of_theirs))
        torch.testing.assert_close(q.mean, theirs.mean)
        draws = theirs.sample((20_000,)).log()
        error = draws.std(0) / len(draws) ** 0.5
        assert ((draws.mean(0) - q.expected_log).abs() < 4.5 * error).all()
