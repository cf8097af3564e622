"""Cholesky factors, their inverses and determinants."""

import torch

from mixpyro.numerics.cholesky import cholesky, inverted, log_determinants


def matrices() -> torch.Tensor:
    """Positive definite matrices [3, 4, 4]."""
    root = torch.randn(3, 4, 6).double()
    return root @ root.mT


def test_factors_inverses_and_determinants_agree_with_pytorch() -> None:
    factors = cholesky(matrices())
    torch.testing.assert_close(factors, torch.linalg.cholesky(factors @ factors.mT))
    torch.testing.assert_close(inverted(factors), torch.linalg.inv(factors))
    torch.testing.assert_close(log_determinants(factors), torch.logdet(factors @ factors.mT))


def test_a_matrix_that_is_not_positive_definite_has_a_nan_factor_and_spoils_no_other() -> None:
    mixed = matrices()
    mixed[1] = -torch.eye(4).double()
    factors = cholesky(mixed)
    assert factors[1].isnan().all()
    assert log_determinants(factors).isnan().tolist() == [False, True, False]
