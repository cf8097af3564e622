"""Normal-Gamma distributions as values."""

from typing import ClassVar

import pytest
import torch
from torch import Tensor

from mixpyro.conjugate.normal_gamma import LinearStatistics, NormalGamma
from mixpyro.numerics.design_matrix import Origin
from tests.conjugate.contract import PosteriorContract, assert_close
from tests.problems import inputs, responsibilities

K, P, E = 4, 2, 3


def design() -> tuple[Tensor, Tensor]:
    """u [N, E] and y [N, P]."""
    return torch.cat([torch.ones(30, 1).double(), inputs(30, E - 1)], 1), inputs(30, P, seed=9)


def sums(r: Tensor) -> LinearStatistics:
    """Statistics of the design under responsibilities [N, K], by einsum."""
    u, y = design()
    uu, uy = torch.einsum("nk,ne,nf->kef", r, u, u), torch.einsum("nk,ne,np->kep", r, u, y)
    return LinearStatistics(r.sum(0), uu, uy, r.mT @ y.square())


class TestNormalGamma(PosteriorContract):
    """The contract, with a noise for every component and output."""

    noises: ClassVar[tuple[int, int]] = (K, P)

    @property
    def n_parameters(self) -> int:  # type: ignore[override]
        """Coefficients and noises."""
        return K * P * E + self.noises[0] * self.noises[1]

    def prior(self) -> NormalGamma:
        precision = torch.tensor([[0.5, 0.1, 0.0], [0.1, 0.3, 0.0], [0.0, 0.0, 2.0]]).double()
        mean, rate = inputs(K * P, E, seed=5).reshape(K, P, E), torch.tensor(0.7).double()
        shape = torch.tensor(2.0).double().expand(self.noises[0])
        return NormalGamma(mean, precision.expand(K, -1, -1), shape, rate.expand(self.noises))

    def statistics(self, seed: int) -> LinearStatistics:
        return sums(responsibilities(30, K, seed=seed))

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
    def test_squared_residuals_of_several_runs_are_those_of_each(self, dtype: torch.dtype) -> None:
        runs, together = self.runs()
        u, y = design()
        columns = torch.cat([u, y], 1).mT.to(dtype).contiguous()
        alone = [self.prior().updated(seen) for seen in runs]
        posterior = self.prior().updated(together)
        tolerance = 1e-12 if dtype == torch.float64 else 1e-5
        expected = torch.stack([q.expected_squared_residuals(columns) for q in alone])
        assert_close(posterior.expected_squared_residuals(columns), expected, tolerance=tolerance)
        leverages = torch.stack([q.leverage(columns[:E]) for q in alone])
        assert_close(posterior.leverage(columns[:E]), leverages, tolerance=tolerance)

    def test_the_divergence_is_the_mean_log_ratio_of_draws(self) -> None:
        q, p = self.prior().updated(self.statistics(0)), self.prior()
        draws = 4000
        shape, rate = (part.expand(q.rate.shape) for part in (q.shape.unsqueeze(-1), q.rate))
        tau = torch.distributions.Gamma(shape, rate).sample((draws,))
        ratio = torch.zeros(draws).double()
        for sign, given in ((1.0, q), (-1.0, p)):
            gamma = torch.distributions.Gamma(given.shape.unsqueeze(-1), given.rate)
            matrices = (tau.expand(draws, K, P)[..., None, None] * given.precision.unsqueeze(1)).contiguous()
            normal = torch.distributions.MultivariateNormal(given.mean, precision_matrix=matrices)
            if sign > 0:
                w = normal.sample()
            ratio += sign * (gamma.log_prob(tau).sum((-2, -1)) + normal.log_prob(w).sum((-2, -1)))
        assert abs(ratio.mean() - q.kl(p)) < 4.5 * ratio.std() / draws**0.5

    def test_there_and_back_from_an_origin(self) -> None:
        origin = Origin(torch.tensor([3.0, -2.0]).double(), torch.tensor([1.0, 5.0]).double(), True)
        q = self.prior().updated(self.statistics(0))
        assert_close(q.from_origin(origin).from_zero(origin), q)


class TestOneNoiseForAllComponents(TestNormalGamma):
    """The contract again."""

    noises = (1, P)


class TestOneNoiseForAllOutputs(TestNormalGamma):
    """The contract again."""

    noises = (K, 1)


class TestOneNoise(TestNormalGamma):
    """The contract again."""

    noises = (1, 1)
