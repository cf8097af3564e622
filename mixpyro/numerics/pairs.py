"""Products of pairs of columns, each pair once."""

import functools

import torch
from torch import Tensor

from mixpyro.arguments import has_derivatives


def pair_products(columns: Tensor) -> Tensor:
    """Multiply each pair of rows of [F, N], [F (F + 1) / 2, N], in the order of :func:`pair_indices`.

    Args:
        columns: [F, N].
    """
    if has_derivatives(columns):
        # `out=` below has no gradient.
        return torch.cat([columns[number:] * columns[number] for number in range(len(columns))])
    products = columns.new_empty(number_of_pairs(len(columns)), columns.shape[1])
    end = 0
    for number in range(len(columns)):
        start, end = end, end + len(columns) - number
        torch.mul(columns[number:], columns[number], out=products[start:end])
    return products


def number_of_pairs(size: int) -> int:
    """Count the entries of a triangle with its diagonal.

    Args:
        size: F.
    """
    return size * (size + 1) // 2


@functools.lru_cache(maxsize=64)
def places_of_pairs(size: int, device: torch.device) -> Tensor:
    """Return for each entry of a symmetric matrix the number of its pair [F²].

    Args:
        size: F.
        device: of the result.
    """
    # A tensor of inference mode could not take part in derivatives later.
    with torch.inference_mode(False):
        first, second = pair_indices(size, device)
        places = torch.empty(size, size, dtype=torch.long, device=device)
        numbers = torch.arange(len(first), device=device)
        places[first, second] = numbers
        places[second, first] = numbers
        return places.flatten()


def pair_indices(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Index the rows and columns of a matrix's upper triangle, row by row.

    Args:
        size: F.
        device: of the result.
    """
    first, second = torch.triu_indices(size, size, device=device)
    return first, second
