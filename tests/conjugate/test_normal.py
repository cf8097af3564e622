"""Normal posteriors of coefficients, against the distributions of PyTorch."""

import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from mixpyro.conjugate.normal import NaturalSums, NormalCoefficients
from mixpyro.numerics import nested

B, Q = 2, 3


def value(seed: int, *leading: int) -> NormalCoefficients:
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(*leading, B, Q, Q, dtype=torch.float64, generator=generator)
    mean = torch.randn(*leading, B, Q, dtype=torch.float64, generator=generator)
    return NormalCoefficients(mean, root @ root.mT + torch.eye(Q, dtype=torch.float64))


def test_the_divergence_is_that_of_torch_summed_over_blocks() -> None:
    q, p = value(0, 4), value(1)
    expected = kl_divergence(
        MultivariateNormal(q.mean, precision_matrix=q.precision),
        MultivariateNormal(p.mean, precision_matrix=p.precision),
    ).sum(-1)
    torch.testing.assert_close(q.kl(p), expected)
    assert p.kl(p) == 0.0
    torch.testing.assert_close(q.covariance, torch.linalg.inv(q.precision))
    assert q.n_parameters == B * Q


@pytest.mark.parametrize("leading", [(), (4,)])
def test_sums_beyond_a_prior_lead_back(leading: tuple[int, ...]) -> None:
    q, p = value(0, *leading), value(1)
    again = p.updated(q.statistics_beyond(p))
    torch.testing.assert_close(again.mean, q.mean)
    torch.testing.assert_close(again.precision, q.precision)


def test_an_update_by_rows_is_the_posterior_of_a_regression() -> None:
    """Of known noise one: Λ = Λ₀ + u'u and Λm = Λ₀m₀ + u'y."""
    p = value(2)
    u, y = torch.randn(20, Q).double(), torch.randn(20, B).double()
    gram = (u.mT @ u).expand(B, Q, Q)
    found = p.updated(NaturalSums(y.mT @ u, gram))
    for block in range(B):
        stacked = torch.cat([torch.linalg.cholesky(p.precision[block]).mT, u])
        target = torch.cat([torch.linalg.cholesky(p.precision[block]).mT @ p.mean[block], y[:, block]])
        torch.testing.assert_close(found.mean[block], torch.linalg.lstsq(stacked, target.unsqueeze(1)).solution[:, 0])
    halves = [
        NaturalSums(y[rows].mT @ u[rows], (u[rows].mT @ u[rows]).expand(B, Q, Q)) for rows in (range(9), range(9, 20))
    ]
    torch.testing.assert_close(p.updated(nested.add(*halves)).mean, found.mean)


def test_a_precision_that_is_not_positive_definite_is_no_number() -> None:
    q = value(0)
    bad = q._replace(precision=-q.precision)
    assert bool(bad.covariance.isnan().all())
    assert not bool(bad.kl(q).isfinite())
