"""Lanczos' method against all eigenvalues."""

import pytest
import torch

from mixpyro.numerics.largest_eigenvalue import largest_eigenvalue


@pytest.mark.parametrize("kind", ["low rank", "close to each other", "zero", "identity", "few rows", "negative"])
def test_it_is_the_largest_of_all(kind: str) -> None:
    n = 30 if kind == "few rows" else 400
    directions, _ = torch.linalg.qr(torch.randn(n, n).double())
    values = {
        "low rank": torch.cat([torch.tensor([0.9, 0.5, 0.1]), torch.zeros(n - 3)]),
        "close to each other": torch.cat([torch.tensor([0.99, 0.989]), torch.linspace(0.0, 0.98, n - 2)]),
        "zero": torch.zeros(n),
        "identity": torch.ones(n),
        "few rows": torch.linspace(0.0, 1.0, n),
        "negative": torch.linspace(-3.0, -1.0, n),
    }[kind].double()
    matrix = (directions * values) @ directions.mT
    matrix = 0.5 * (matrix + matrix.mT)
    assert abs(largest_eigenvalue(matrix) - float(values.max())) < 1e-12
