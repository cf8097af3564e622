"""The smallest eigenvalue of a matrix that is known by its products."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

# Relative to the largest eigenvalue: a smaller coupling to the next vector moves no eigenvalue beyond rounding.
SMALLEST_COUPLING = 1e-14


def smallest_eigenvalue(
    product: Callable[[Float[Tensor, " Q"]], Float[Tensor, " Q"]], start: Float[Tensor, " Q"], *, n_products: int
) -> Float[Tensor, ""]:
    """Return an upper limit of the smallest eigenvalue of a symmetric matrix, by the Lanczos method.

    It is the smallest eigenvalue within the Krylov space of the start, exact from Q products on and close to it after
    far fewer where the start has a large share of the eigenvector. Memory is that of ``n_products`` vectors.

    Args:
        product: multiplies the matrix [Q, Q] by a vector [Q].
        start: a vector with a share of every eigenvector [Q], float64, not zero.
        n_products: most products.

    References:
        Golub, Van Loan (2013), Matrix Computations, sections 10.1 and 10.3.

    Example:
        >>> matrix = torch.tensor([[2.0, 1.0], [1.0, 2.0]]).double()
        >>> round(float(smallest_eigenvalue(lambda v: matrix @ v, torch.tensor([1.0, 0.0]).double(), n_products=2)), 9)
        1.0
    """
    basis = (start / start.norm()).unsqueeze(0)
    projected = start.new_zeros(0, 0)
    for _ in range(min(n_products, len(start))):
        image = product(basis[-1])
        projected = torch.nn.functional.pad(projected, (0, 1, 0, 1))
        projected[-1] = projected[:, -1] = basis @ image
        # Twice, for once leaves rounding errors that grow from vector to vector.
        for _ in range(2):
            image = image - basis.mT @ (basis @ image)
        coupling = image.norm()
        if not bool(coupling > SMALLEST_COUPLING * projected.abs().max()):
            break
        basis = torch.cat([basis, (image / coupling).unsqueeze(0)])
    return torch.linalg.eigvalsh(projected)[0]
