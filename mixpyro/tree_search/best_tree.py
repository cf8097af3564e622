"""The tree of components with the highest bound, given responsibilities."""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

from mixpyro import arguments
from mixpyro.conjugate.normal import NormalCoefficients
from mixpyro.gates.natural_steps import converged
from mixpyro.gates.tree import TreeGate
from mixpyro.numerics import nested
from mixpyro.numerics.trees import Tree
from mixpyro.shapes import Inputs, Responsibilities

# Components of which all splits are tried, 301 of six; each component more makes them three times as many.
MOST_COMPONENTS = 6
# Numbers in the responsibilities of splits that are fitted together; 32 MB of float64.
MOST_NUMBERS = 2**22
# Steps of Newton's method for each split. Most take fewer than ten.
N_STEPS = 25


class Split(NamedTuple):
    """A node that could be: the components under its branches. The least of all is on the left."""

    left: frozenset[int]
    right: frozenset[int]


class _Node(TreeGate):
    """One node, with the prior mean of the intercept that it has in a larger tree.

    Args:
        log_ratio: of the numbers of leaves on its left and on its right.
        n_features: D.
        prior_scale: of the tree.
        device: of the posterior.
    """

    def __init__(self, log_ratio: float, n_features: int, *, prior_scale: float, device: torch.device) -> None:
        self.__dict__["log_ratio"] = log_ratio  # before there is a module to set attributes of
        super().__init__((0, 1), n_features, prior_scale=prior_scale, device=device)

    @property
    def prior(self) -> NormalCoefficients:
        """Normal(m₀, 2s² I)."""
        prior = super().prior
        mean = prior.mean.clone()
        mean[:, 0] = self.log_ratio
        return prior._replace(mean=mean)


def best_tree(x: Inputs, responsibilities: Responsibilities, *, prior_scale: float = 2.0) -> tuple[Tree, float]:
    """Return the tree of the components that has the highest bound given responsibilities.

    The share of a node in the bound, Σᵢ [ℓᵢ mᵢ − bᵢ E softplus(ηᵢ)] − KL, depends on which components are under its two
    branches and on nothing else of the tree. Every split of every set of components is fitted once, and the best tree
    of a set is the best split of it with the best trees of its two parts.

    Args:
        x: gate inputs [N, D].
        responsibilities: [N, K], non-negative, K at most 6; a row that does not sum to one carries a weight.
        prior_scale: of :class:`~mixpyro.TreeGate`.

    Returns:
        The tree, and the share of its gate in the bound in nats.

    Raises:
        ValueError: if a shape or value does not fit, or there are more than six components.

    Example:
        >>> x = torch.linspace(-3, 3, 300).double().unsqueeze(1)
        >>> groups = torch.tensor([0, 2, 1])[((x > -1).long() + (x > 1).long()).squeeze(1)]
        >>> best_tree(x, torch.nn.functional.one_hot(groups).double())[0] in [((0, 2), 1), (0, (1, 2))]
        True
    """
    x = arguments.inputs(x)
    k = responsibilities.shape[-1]
    r = arguments.responsibilities(responsibilities, k, len(x)).mT.double()
    if k > MOST_COMPONENTS:
        raise ValueError(f"`responsibilities` must have at most {MOST_COMPONENTS} components; got {k}.")
    splits = _splits(k)
    shares = _shares(splits, x, r, prior_scale)
    best: dict[frozenset[int], tuple[Tree, float]] = {frozenset([leaf]): (leaf, 0.0) for leaf in range(k)}
    for split in splits:  # those of smaller sets come first
        left, right = best[split.left], best[split.right]
        share, whole = shares[split] + left[1] + right[1], split.left | split.right
        if whole not in best or share > best[whole][1]:
            best[whole] = (left[0], right[0]), share
    tree, share = best[frozenset(range(k))]
    return (0,) if isinstance(tree, int) else tree, share


def _splits(n_components: int) -> list[Split]:
    """Return all splits of all sets of components, those of smaller sets first."""
    found = []
    for size in range(2, n_components + 1):
        for first, *others in combinations(range(n_components), size):
            for n_left in range(size - 1):
                for left in combinations(others, n_left):
                    found.append(Split(frozenset([first, *left]), frozenset(others) - frozenset(left)))
    return found


def _shares(splits: Sequence[Split], x: Tensor, r: Tensor, prior_scale: float) -> dict[Split, float]:
    """Return the highest share of each split in the bound; splits of one prior are fitted together."""
    size, shares = max(1, MOST_NUMBERS // (2 * max(1, len(x)))), dict[Split, float]()
    by_sizes: dict[tuple[int, int], list[Split]] = {}
    for split in splits:
        by_sizes.setdefault((len(split.left), len(split.right)), []).append(split)
    for (n_left, n_right), alike in by_sizes.items():
        node = _Node(math.log(n_left / n_right), x.shape[1], prior_scale=prior_scale, device=x.device)
        for start in range(0, len(alike), size):
            group = alike[start : start + size]
            shares |= dict(zip(group, _shares_of(node, group, x, r), strict=True))
    return shares


def _shares_of(node: _Node, splits: Sequence[Split], x: Tensor, r: Tensor) -> list[float]:
    """Return the highest share of each of some splits, each a run of the node."""
    sides = [torch.stack([r[sorted(branch)].sum(0) for branch in split]) for split in splits]
    responsibilities, start = torch.stack(sides), nested.stack([node.posterior] * len(splits))
    found = converged(node, x, responsibilities, start, n_steps=N_STEPS)
    return [float(share) for share in node.shares(x, responsibilities, found)]
