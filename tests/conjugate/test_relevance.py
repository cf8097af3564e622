"""Posteriors of regressions with a precision for each column, as values."""

import torch

from mixpyro.conjugate.gamma import Gamma
from mixpyro.conjugate.normal_gamma import LinearStatistics, NormalGamma
from mixpyro.conjugate.relevance import Relevance, RelevancePrior
from mixpyro.numerics import nested
from tests.conjugate.contract import N_RUNS, PosteriorContract, assert_close
from tests.conjugate.test_normal_gamma import E, K, P, sums
from tests.problems import inputs, responsibilities


class TestRelevance(PosteriorContract):
    """The contract; an update starts from precisions of one."""

    n_parameters = K * P * E + K * P

    def prior(self) -> RelevancePrior:
        precision = torch.zeros(K, E, E).double()
        precision[:, 0, 0] = 0.3
        mean, shape = inputs(K * P, E, seed=5).reshape(K, P, E), torch.tensor(2.0).double()
        regression = NormalGamma(mean, precision, shape.expand(K), 0.35 * shape.expand(K, P))
        return RelevancePrior(regression, Gamma(torch.tensor(0.5).double(), torch.tensor(0.1).double()))

    def statistics(self, seed: int) -> LinearStatistics:
        return sums((seed + 1) * responsibilities(30, K, seed=seed))

    def start(self, statistics: LinearStatistics) -> Relevance:
        """Precisions of one for all columns but the first, of every run."""
        ones = torch.ones(*statistics.r.shape, E - 1).double()
        return Relevance(self.prior().given(ones), ones)

    def updated(self, prior: RelevancePrior, statistics: LinearStatistics) -> Relevance:
        return prior.updated(statistics, self.start(statistics))

    def test_a_prior_has_no_divergence_from_itself(self) -> None:
        """But it has: coefficients depend on the precisions of their columns in the prior, and not in a posterior."""
        prior, ones = self.prior(), torch.ones(K, E - 1).double()
        assert Relevance(prior.given(ones), ones).kl(prior) > 0

    def test_every_run_stops_by_itself(self) -> None:
        """However long the others go on, it takes the sweeps that it takes alone."""
        runs, together = self.runs()
        alone = [self.prior().updated(seen, self.start(seen), n_sweeps=5000) for seen in runs]
        assert_close(self.prior().updated(together, self.start(together), n_sweeps=5000), nested.stack(alone))
        again = self.prior().updated(runs[0], alone[0], n_sweeps=1)
        assert_close(again, alone[0], tolerance=1e-8)
        assert len(alone) == N_RUNS
