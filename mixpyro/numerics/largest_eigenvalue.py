"""The largest eigenvalue of a symmetric matrix."""

import torch
from torch import Generator, Tensor

# Rows up to which all eigenvalues are computed, which then takes less time than the largest alone.
FEW_ROWS = 200
# Most steps, and the residual of the eigenvector at which they end, relative to the largest absolute eigenvalue. The
# error of the eigenvalue is about the square of that.
MOST_STEPS = 300
RESIDUAL = 1e-8


def largest_eigenvalue(matrix: Tensor) -> float:
    """Compute the largest eigenvalue by Lanczos' method with full reorthogonalisation.

    It takes one product with the matrix a step and a few dozen steps, where all eigenvalues take ten times as long.

    Args:
        matrix: symmetric and finite [P, P], float64, with P at least 1.

    Returns:
        The eigenvalue, within rounding errors; where 300 steps are too few, a lower bound.

    References:
        Golub, Van Loan (2013), Matrix Computations, sections 10.1 and 10.3.
    """
    if len(matrix) <= FEW_ROWS:
        return float(torch.linalg.eigvalsh(matrix)[-1])
    n_steps = min(MOST_STEPS, len(matrix))
    # One row a step. The start must have a share of every eigenvector, so it is random, and the same in every call.
    basis = matrix.new_zeros(n_steps, len(matrix))
    generator = Generator("cpu").manual_seed(0)
    vector = torch.randn(len(matrix), generator=generator, dtype=matrix.dtype, device="cpu").to(matrix.device)
    tridiagonal = torch.zeros(n_steps, n_steps, dtype=matrix.dtype, device="cpu")
    largest, beyond = 0.0, float(vector.norm())
    for step in range(n_steps):
        basis[step] = vector / beyond
        vector = matrix @ basis[step]
        tridiagonal[step, step] = float(vector @ basis[step])
        for _ in range(2):  # once more takes out what rounding has left
            vector = vector - basis[: step + 1].mT @ (basis[: step + 1] @ vector)
        beyond = float(vector.norm())
        values, vectors = torch.linalg.eigh(tridiagonal[: step + 1, : step + 1])
        largest = float(values[-1])
        if beyond * abs(float(vectors[-1, -1])) <= RESIDUAL * float(values.abs().max()):
            break
        if step + 1 < n_steps:
            tridiagonal[step, step + 1] = tridiagonal[step + 1, step] = beyond
    return largest
