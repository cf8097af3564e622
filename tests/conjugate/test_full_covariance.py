"""Normal-Wishart distributions of positive definite matrices, as values."""

from typing import Any

import torch
from torch import Tensor

from mixpyro.conjugate.full_covariance import Full
from mixpyro.conjugate.normal_wishart import GaussianStatistics, NormalWishart
from mixpyro.numerics import nested
from tests.conjugate.contract import N_RUNS, PosteriorContract, assert_close
from tests.problems import inputs, responsibilities

K, P = 4, 3
MATRIX = torch.tensor([[0.5, 0.2, 0.0], [0.2, 0.8, -0.1], [0.0, -0.1, 0.4]], dtype=torch.float64)


def columns(*, dtype: torch.dtype = torch.float64, distance: float = 0.0) -> Tensor:
    """Ones and three columns of y [1 + P, N]."""
    return torch.cat([torch.ones(1, 40), inputs(40, P).mT + distance]).to(dtype)


class NormalWishartContract(PosteriorContract):
    """The contract for one of the forms that a precision has, with the sums over objects."""

    kind: type[NormalWishart]
    scale: Any

    def prior(self) -> NormalWishart:
        scale = torch.as_tensor(self.scale, dtype=torch.float64)
        parts = (inputs(1, P, seed=7)[0], torch.tensor(0.3).double(), torch.tensor(3.5).double(), scale)
        return self.kind(*(part.expand(K, *part.shape) for part in parts))

    def statistics(self, seed: int) -> GaussianStatistics:
        return self.kind.statistics(columns(), responsibilities(40, K, seed=seed).mT)

    def plain(self, r: Tensor) -> GaussianStatistics:
        """The sums by einsum."""
        y = columns()[1:].mT
        return GaussianStatistics(r.sum(0), r.mT @ y, self.in_form(torch.einsum("nk,np,nq->kpq", r, y, y)))

    def in_form(self, matrices: Tensor) -> Tensor:
        """The part of matrices [K, P, P] that the form keeps."""
        raise NotImplementedError

    def test_sums_of_several_runs_are_those_of_each_and_the_plain_ones(self) -> None:
        shares = [responsibilities(40, K, seed=seed) for seed in range(N_RUNS)]
        sums = self.kind.statistics(columns(), torch.stack(shares).mT)
        assert_close(sums, nested.stack([self.plain(r) for r in shares]))

    def test_squared_distances_of_several_runs_are_those_of_each(self) -> None:
        runs, together = self.runs()
        for distance in (0.0, 1e4):
            for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
                rows = columns(dtype=dtype, distance=distance)
                alone = torch.stack([self.prior().updated(seen).squared_distances(rows) for seen in runs])
                assert alone.dtype == dtype
                assert_close(self.prior().updated(together).squared_distances(rows), alone, tolerance=tolerance)

    def test_squared_distances_are_the_plain_formula(self) -> None:
        q, y = self.prior().updated(self.statistics(0)), columns()[1:].mT
        precision = q.matrices(q.scale, P).inverse() * q.degrees[:, None, None]
        difference = y.unsqueeze(1) - q.mean
        plain = torch.einsum("nkp,kpq,nkq->kn", difference, precision, difference)
        torch.testing.assert_close(q.squared_distances(columns()), plain)


class TestFull(NormalWishartContract):
    """The contract, for matrices."""

    kind, scale = Full, MATRIX
    n_parameters = K * (P + 6)

    def in_form(self, matrices: Tensor) -> Tensor:
        return matrices


def test_jitter_of_the_least_correlations_keeps_a_small_column() -> None:
    """Where there is no Cholesky factor; nothing is changed where there is one."""
    singular = torch.tensor([[1e16, 1e16, 0.0], [1e16, 1e16, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    mended = Full.representable(torch.stack([singular, MATRIX]), torch.float64)
    assert (torch.linalg.cholesky_ex(mended).info == 0).all()
    torch.testing.assert_close(mended[0], singular, rtol=1e-13, atol=1e-6)
    assert torch.equal(mended[1], MATRIX)
    runs = Full.representable(torch.stack([singular, MATRIX]).expand(3, -1, -1, -1), torch.float64)
    assert torch.equal(runs, mended.expand(3, -1, -1, -1))
