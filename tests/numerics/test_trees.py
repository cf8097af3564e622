"""Trees: checks, names, and matrices of the branches."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from mixpyro.numerics import trees
from mixpyro.numerics.trees import Tree

TREES: list[Tree] = [
    (0,),
    (0, 1),
    ((0, 1), 2),
    (0, (1, (2, 3))),
    ((0, 1), (2, 3)),
    (((0, 1), 2), (3, (5, 4))),
    ((1, (0, 2)), ((3, 4), 5)),
]


def log_weights(tree: Tree, predictors: Tensor) -> Tensor:
    """Log weights of the leaves [..., N, K] given log odds [..., N, V] at the nodes."""
    found = trees.leaf_log_weights(logsigmoid(predictors.mT), logsigmoid(-predictors.mT), trees.branches_of(tree))
    return found.mT


@pytest.mark.parametrize("tree", TREES)
def test_weights_are_products_of_the_branches_taken(tree: Tree) -> None:
    """Against a walk from the root to every leaf."""
    nodes = trees.nodes_of(tree)
    predictors = torch.randn(2, 4, len(nodes), dtype=torch.float64)
    found = log_weights(tree, predictors).exp()
    torch.testing.assert_close(found.sum(-1), torch.ones(2, 4, dtype=torch.float64))

    def walk(branch: Tree, weight: Tensor) -> None:
        if isinstance(branch, int):
            torch.testing.assert_close(found[..., branch], weight)
            return
        eta = predictors[..., nodes.index(trees.Node(*branch))]
        walk(branch[0], weight * torch.sigmoid(eta))
        walk(branch[1], weight * torch.sigmoid(-eta))

    walk(tree if len(nodes) else 0, torch.ones(2, 4, dtype=torch.float64))


def test_default_trees() -> None:
    assert trees.balanced_tree(1) == trees.caterpillar_tree(1) == (0,)
    assert trees.balanced_tree(4) == ((0, 1), (2, 3))
    assert trees.balanced_tree(5) == (((0, 1), 2), (3, 4))
    assert trees.caterpillar_tree(4) == (0, (1, (2, 3)))


def test_a_split_leaf_has_the_new_one_on_its_right() -> None:
    tree = trees.split_leaf((0,), 0)
    assert tree == (0, 1)
    assert trees.split_leaf(trees.split_leaf(tree, 1), 0) == ((0, 3), (1, 2))


def test_nodes_are_named_by_the_components_they_part() -> None:
    assert trees.node_names(((0, 1), 2)) == ["components 0, 1 against 2", "component 0 against 1"]


@pytest.mark.parametrize("tree", TREES)
def test_names_tell_the_tree(tree: Tree) -> None:
    assert trees.tree_of_names(trees.node_names(tree)[::-1]) == tree


def test_lists_are_read_as_tuples() -> None:
    assert trees.checked_tree([[0, 1], 2]) == ((0, 1), 2)
    assert trees.checked_tree([0]) == (0,)


@pytest.mark.usefixtures("bad_arguments")
@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (((0, 1, 2), 3), ValueError, "two branches at every node; got 3 at"),
        ((1,), ValueError, "two branches at every node; got 1 at"),
        ((0, 2), ValueError, "the leaves 0 to 1, each once"),
        (((0, 1), 1), ValueError, "the leaves 0 to 2, each once"),
        ((0, -1), ValueError, "the leaves 0 to 1, each once"),
        ((0, True), TypeError, "nested pairs of integers"),
        ((0, 1.0), TypeError, "nested pairs of integers"),
        ("01", TypeError, "nested pairs of integers"),
    ],
)
def test_a_bad_tree_is_refused(bad: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"`tree` must (be|have) {message}"):
        trees.checked_tree(bad)
