"""Binary trees whose leaves are components, and the weights of leaves from the log odds at the nodes.

A tree is a leaf's number or a pair of trees, such as ``((0, 1), 2)``. Its inner nodes are numbered from the root down,
a node before those on its left and these before those on its right.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro.arguments.messages import shown

# A leaf, or (left, right); (0,) is the tree of one leaf.
Tree: TypeAlias = int | tuple[Any, ...]
GivenTree: TypeAlias = int | Sequence[Any]

CPU = torch.device("cpu")


class Node(NamedTuple):
    """An inner node: the subtrees under its two branches."""

    left: Tree
    right: Tree


class Branches(NamedTuple):
    """Which leaves are under the branches of every node, float64 matrices of zeros and ones."""

    left: Tensor  # [V, K]
    right: Tensor  # [V, K]


def checked_tree(tree: GivenTree, *, name: str = "tree") -> Tree:
    """Return a tree as nested tuples.

    Args:
        tree: nested pairs of the numbers 0 to K − 1, each once; ``(0,)`` for one leaf.
        name: of the argument, for messages.

    Raises:
        TypeError: if it holds anything but integers and pairs.
        ValueError: if a node has not two branches, or the leaves are not 0 to K − 1, each once.
    """
    if isinstance(tree, tuple | list) and len(tree) == 1 and type(tree[0]) is int and tree[0] == 0:
        return (0,)
    checked = _pairs(tree, name, whole=tree)
    leaves = sorted(leaves_of(checked))
    if leaves != list(range(len(leaves))):
        raise ValueError(
            f"`{name}` must have the leaves 0 to {len(leaves) - 1}, each once; got {shown(tree)}. "
            "Number the components from 0 without gaps."
        )
    return checked


def _pairs(tree: GivenTree, name: str, whole: GivenTree) -> Tree:
    """Return nested pairs of integers as tuples."""
    if isinstance(tree, int) and not isinstance(tree, bool):
        return tree
    if not isinstance(tree, tuple | list):
        raise TypeError(f"`{name}` must be nested pairs of integers, such as ((0, 1), 2); got {shown(whole)}.")
    if len(tree) != 2:
        raise ValueError(
            f"`{name}` must have two branches at every node; got {len(tree)} at {shown(tree)}. "
            "Nest pairs: a node of three branches is two nodes, such as ((0, 1), 2)."
        )
    return tuple(_pairs(branch, name, whole) for branch in tree)


def balanced_tree(n_leaves: int) -> Tree:
    """Return the tree whose nodes halve their leaves, the larger half on the left.

    Args:
        n_leaves: K, at least 1.

    Example:
        >>> balanced_tree(5)
        (((0, 1), 2), (3, 4))
    """
    return _halved(0, n_leaves) if n_leaves > 1 else (0,)


def _halved(first: int, n_leaves: int) -> Tree:
    """Return a balanced tree of the leaves from ``first``."""
    if n_leaves == 1:
        return first
    n_left = (n_leaves + 1) // 2
    return _halved(first, n_left), _halved(first + n_left, n_leaves - n_left)


def caterpillar_tree(n_leaves: int) -> Tree:
    """Return the tree of stick-breaking: every node has a leaf on its left, and all later leaves on its right.

    Args:
        n_leaves: K, at least 1.

    Example:
        >>> caterpillar_tree(4)
        (0, (1, (2, 3)))
    """
    tree: Tree = n_leaves - 1
    for leaf in range(n_leaves - 2, -1, -1):
        tree = (leaf, tree)
    return tree if n_leaves > 1 else (0,)


def split_leaf(tree: Tree, leaf: int) -> Tree:
    """Return the tree with a leaf replaced by a node: the leaf on its left, and the new leaf K on its right.

    Args:
        tree: of K leaves.
        leaf: from 0 to K − 1.
    """
    return _replaced(0 if tree == (0,) else tree, leaf, (leaf, len(leaves_of(tree))))


def _replaced(tree: Tree, leaf: int, new: Tree) -> Tree:
    """Return the tree with another tree in place of a leaf."""
    if isinstance(tree, int):
        return new if tree == leaf else tree
    return tuple(_replaced(branch, leaf, new) for branch in tree)


def relabelled_tree(tree: Tree, order: Sequence[int]) -> Tree:
    """Return the tree with leaf ``order[k]`` where leaf k was.

    Args:
        tree: of K leaves.
        order: a permutation of 0 to K − 1.
    """
    if isinstance(tree, int):
        return int(order[tree])
    return tuple(relabelled_tree(branch, order) for branch in tree)


def leaves_of(tree: Tree) -> list[int]:
    """Return the numbers of the leaves from left to right.

    Args:
        tree: any.
    """
    return [tree] if isinstance(tree, int) else [leaf for branch in tree for leaf in leaves_of(branch)]


def nodes_of(tree: Tree) -> list[Node]:
    """Return the K − 1 inner nodes, a node before those on its left and these before those on its right.

    Args:
        tree: of K leaves.
    """
    if isinstance(tree, int) or len(tree) == 1:
        return []
    return [Node(*tree), *nodes_of(tree[0]), *nodes_of(tree[1])]


def node_names(tree: Tree) -> list[str]:
    """Return a name for every node, such as ``components 0, 1 against 2``: the log odds of left against right.

    Args:
        tree: of K leaves.
    """
    return [f"{_listed(node.left)} against {_listed(node.right).split(' ', 1)[1]}" for node in nodes_of(tree)]


def _listed(tree: Tree) -> str:
    """Return the leaves in words."""
    leaves = leaves_of(tree)
    return f"component{'s' if len(leaves) > 1 else ''} {', '.join(map(str, leaves))}"


def tree_of_names(names: Sequence[str]) -> Tree:
    """Return the tree whose nodes have these names; inverse of :func:`node_names`.

    Args:
        names: of the K − 1 nodes, in any order.
    """
    sides = [
        [[int(leaf) for leaf in side.split(", ")] for side in name.split(" ", 1)[1].split(" against ")]
        for name in names
    ]
    nodes = {frozenset(left + right): (left, right) for left, right in sides}

    def tree_of(leaves: list[int]) -> Tree:
        return leaves[0] if len(leaves) == 1 else tuple(tree_of(side) for side in nodes[frozenset(leaves)])

    return tree_of(list(range(len(names) + 1))) if names else (0,)


@functools.cache
def branches_of(tree: Tree, device: torch.device = CPU) -> Branches:
    """Return which leaves are under the branches of every node; computed once.

    Args:
        tree: of K leaves.
        device: of the matrices.
    """
    nodes, k = nodes_of(tree), len(leaves_of(tree))
    left, right = (torch.zeros(len(nodes), k, dtype=torch.float64, device=device) for _ in range(2))
    for number, node in enumerate(nodes):
        left[number, leaves_of(node.left)] = 1.0
        right[number, leaves_of(node.right)] = 1.0
    return Branches(left, right)


def leaf_log_weights(
    left: Float[Tensor, "*R V N"], right: Float[Tensor, "*R V N"], branches: Branches
) -> Float[Tensor, "*R K N"]:
    """Return the sum over a leaf's path of the logarithms of the branches that lead to it.

    Args:
        left: logarithms of the left branches' weights, or their expectations.
        right: of the right branches.
        branches: which leaves are under them.
    """
    return branches.left.mT @ left + branches.right.mT @ right
