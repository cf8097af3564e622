"""Rows of regressions on the leaves of a tree."""

from typing import NamedTuple

import torch
from torch import Tensor

from mixpyro import LinearExperts, MixtureOfExperts, TreeGate
from mixpyro.numerics.trees import Tree


class Rows(NamedTuple):
    """x [N, 2], y [N] and the leaves [N]."""

    x: Tensor
    y: Tensor
    leaves: Tensor


def rows_of(tree: Tree, coefficients: list[list[float]], n_objects: int) -> Rows:
    """Draw rows of at most four lines that lie apart."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n_objects, 2, generator=generator, dtype=torch.float64)
    gate = TreeGate(tree, 2)
    weights = gate.log_weights_at(x, torch.tensor(coefficients, dtype=torch.float64)).exp()
    leaves = torch.multinomial(weights, 1, generator=generator).squeeze(1)
    lines = torch.tensor([[2.0, 1.0, 0.0], [-2.0, 0.0, 1.0], [0.0, -1.0, -1.0], [5.0, 0.0, 0.0]]).double()
    noise = 0.2 * torch.randn(n_objects, generator=generator, dtype=torch.float64)
    return Rows(x, (lines[leaves, 0] + (lines[leaves, 1:] * x).sum(-1)) + noise, leaves)


def tree_of_lines(tree: Tree) -> MixtureOfExperts:
    """A mixture of lines on the leaves of a tree."""
    gate = TreeGate(tree, 2)
    return MixtureOfExperts(gate, LinearExperts(gate.n_components, 2))
