"""Relabellings that map a tree onto itself."""

from itertools import permutations
from typing import Any

import pytest
import torch

from mixpyro.numerics import tree_automorphisms, trees
from mixpyro.numerics.trees import Tree
from tests.numerics.test_trees import TREES, log_weights


def without_sides(tree: Tree) -> Any:
    """The tree as nested sets: left and right do not matter."""
    return tree if isinstance(tree, int) else frozenset(without_sides(branch) for branch in tree)


@pytest.mark.parametrize("tree", TREES)
def test_relabellings_are_all_that_map_the_tree_onto_itself(tree: Tree) -> None:
    k = len(trees.leaves_of(tree))
    same = [
        order
        for order in permutations(range(k))
        if without_sides(trees.relabelled_tree(tree, order)) == without_sides(tree)
    ]
    found = tree_automorphisms.automorphisms(tree)
    assert sorted(one.order for one in found) == sorted(same)
    assert found[0].order == tuple(range(k))
    assert found[0].nodes == tuple(range(k - 1))


@pytest.mark.parametrize("tree", TREES)
def test_leaves_of_other_labels_stay(tree: Tree) -> None:
    labels = ["a", "a", "b", "a", "b", "a"][: len(trees.leaves_of(tree))]
    kept = [
        one.order for one in tree_automorphisms.automorphisms(tree) if [labels[leaf] for leaf in one.order] == labels
    ]
    found = [one.order for one in tree_automorphisms.automorphisms(tree, labels)]
    assert sorted(found) == sorted(kept)
    assert len(found) == 2 ** tree_automorphisms.n_swaps(tree, labels)


def test_an_order_that_is_another_tree_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`order` must map the tree .* onto itself; got \[2, 1, 0\]"):
        tree_automorphisms.automorphism(((0, 1), 2), [2, 1, 0])


@pytest.mark.parametrize("tree", TREES)
def test_a_relabelling_of_the_nodes_permutes_the_weights(tree: Tree) -> None:
    predictors = torch.randn(5, len(trees.nodes_of(tree)), dtype=torch.float64)
    expected = log_weights(tree, predictors)
    for order, nodes, signs in tree_automorphisms.automorphisms(tree):
        moved = predictors[:, list(nodes)] * torch.tensor(signs, dtype=torch.float64)
        torch.testing.assert_close(log_weights(tree, moved), expected[:, list(order)])
