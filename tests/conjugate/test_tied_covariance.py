"""Normal-Wishart distributions of one positive definite matrix that all components share, as values."""

import torch
from scipy.stats import wishart
from torch import Tensor

from mixpyro.conjugate.full_covariance import Full
from mixpyro.conjugate.tied_covariance import Tied
from tests.conjugate import test_full_covariance as full
from tests.conjugate.contract import assert_close
from tests.problems import inputs, responsibilities

K, P = full.K, full.P


class TestTied(full.NormalWishartContract):
    """The contract, for one matrix."""

    kind, scale = Tied, full.MATRIX
    n_parameters = K * P + 6

    def prior(self) -> Tied:
        mean, precision = inputs(1, P, seed=7).expand(K, P), torch.tensor(0.3).double().expand(K)
        return Tied(mean, precision, torch.tensor([3.5]).double(), full.MATRIX.unsqueeze(0))

    def in_form(self, matrices: Tensor) -> Tensor:
        return matrices

    def test_statistics_beyond_the_prior_lead_to_the_posterior(self) -> None:
        """Squares are known as their sum alone, which components share evenly."""
        runs, together = self.runs()
        for statistics in (runs[0], together):
            posterior = self.prior().updated(statistics)
            seen = posterior.statistics_beyond(self.prior())
            assert [part.shape for part in seen] == [part.shape for part in statistics]
            assert_close(self.prior().updated(seen), posterior, tolerance=1e-9)
            assert_close((seen.r, seen.y, seen.yy.sum(-3)), (statistics.r, statistics.y, statistics.yy.sum(-3)))


def test_the_divergence_is_that_of_a_wishart_and_of_normals_given_its_draws() -> None:
    """By scipy's distribution, averaged over draws of the matrix."""
    prior = TestTied().prior()
    q = prior.updated(TestTied().statistics(0))
    both = [wishart(float(one.degrees), one.scale[0].inverse().numpy()) for one in (q, prior)]
    draws = both[0].rvs(4000, random_state=0)
    normals = [
        torch.distributions.MultivariateNormal(
            one.mean, precision_matrix=one.mean_precision[:, None, None] * torch.as_tensor(draws).unsqueeze(1)
        )
        for one in (q, prior)
    ]
    of_means = torch.distributions.kl_divergence(*normals).sum(-1)
    columns = draws.transpose(1, 2, 0)
    of_matrix = torch.as_tensor(both[0].logpdf(columns) - both[1].logpdf(columns))
    found = of_means + of_matrix
    assert abs(float(found.mean() - q.kl(prior))) < 4.5 * float(found.std()) / len(draws) ** 0.5


def test_of_one_component_it_is_the_full_one() -> None:
    tied = Tied(*(part[:1] for part in TestTied().prior()))
    own = Full(*tied)
    seen = Tied.statistics(full.columns(), responsibilities(40, 1).mT)
    after, expected = tied.updated(seen), own.updated(seen)
    assert_close(tuple(after), tuple(expected))
    assert_close(after.kl(tied), expected.kl(own))
    assert_close(after.covariance, expected.covariance)
