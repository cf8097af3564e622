"""The best tree of components, against all trees."""

from collections.abc import Iterator, Sequence
from itertools import combinations

import pytest
import torch
from torch import Tensor

from mixpyro.gates import TreeGate
from mixpyro.numerics.tree_automorphisms import without_sides
from mixpyro.numerics.trees import Tree
from mixpyro.tree_search.best_tree import best_tree
from tests.problems import inputs, responsibilities


def all_trees(leaves: Sequence[int]) -> Iterator[Tree]:
    """Every tree of these leaves, left and right apart."""
    first, *others = leaves
    if not others:
        yield first
    for n_left in range(len(others)):
        for left in combinations(others, n_left):
            for a in all_trees([first, *left]):
                for b in all_trees([leaf for leaf in others if leaf not in left]):
                    yield a, b


def problem(n_components: int) -> tuple[Tensor, Tensor]:
    """Rows [N, 2] and responsibilities that depend on them, some rows with weights."""
    x, r = inputs(80), responsibilities(80, n_components)
    r[:, 0] += 3.0 * (x[:, 0] > 0)
    r[:, -1] += 3.0 * (x[:, 1] > 0.5) * (x[:, 0] > 0)
    r = r / r.sum(-1, keepdim=True)
    r[:20] *= 3.0
    return x, r


@pytest.mark.parametrize("n_components", [2, 3, 4])
def test_it_is_the_best_of_all(n_components: int) -> None:
    x, r = problem(n_components)
    tree, share = best_tree(x, r, prior_scale=1.5)
    bounds = {}
    for other in all_trees(range(n_components)):
        gate = TreeGate(other, 2, prior_scale=1.5)
        gate.maximise(x, r)
        bounds[without_sides(other)] = float(gate.partial_bound(x, r))
    assert len(bounds) == {2: 1, 3: 3, 4: 15}[n_components]
    assert share == pytest.approx(max(bounds.values()), abs=1e-5)
    assert bounds[without_sides(tree)] == max(bounds.values())


def test_rows_that_splits_separate_are_no_trouble() -> None:
    """Steps of some splits are halved and those of others are not."""
    x = 3.0 * inputs(100)
    labels = 2 * (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
    tree, share = best_tree(x, torch.nn.functional.one_hot(labels).double(), prior_scale=20.0)
    assert without_sides(tree) in [without_sides(((0, 1), (2, 3))), without_sides(((0, 2), (1, 3)))]
    assert -100.0 < share < 0.0


def test_groups_of_splits_are_fitted_as_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    x, r = problem(4)
    together = best_tree(x, r)
    monkeypatch.setattr("mixpyro.tree_search.best_tree.MOST_NUMBERS", 1000)
    tree, share = best_tree(x, r)
    assert tree == together[0]
    assert share == pytest.approx(together[1], abs=1e-6)


def test_one_component_is_one_leaf() -> None:
    assert best_tree(inputs(5), torch.ones(5, 1).double()) == ((0,), 0.0)


def test_too_many_components_are_refused() -> None:
    with pytest.raises(ValueError, match="`responsibilities` must have at most 6 components; got 7"):
        best_tree(inputs(5), responsibilities(5, 7))
