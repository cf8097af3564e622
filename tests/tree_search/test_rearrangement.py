"""Trees rearranged after a fit."""

from typing import Any

import pytest
import torch

from mixpyro import DirichletGate, LinearExperts, MixtureOfExperts, fit, rearrange_tree
from mixpyro.numerics.tree_automorphisms import without_sides
from tests.tree_search.problems import rows_of, tree_of_lines

pytestmark = pytest.mark.usefixtures("without_type_checks")
TREE = ((0, 1), (2, 3))
COEFFICIENTS = [[0.0, 6.0, 0.0], [0.0, 0.0, 6.0], [0.0, 0.0, -6.0]]


@pytest.mark.filterwarnings("ignore:only one of", "ignore:the noise of component")
def test_another_tree_is_found_from_the_components_of_a_wrong_one() -> None:
    """A tree of sticks becomes the balanced one that made the data, and the result before stays as it was."""
    x, y, leaves = rows_of(TREE, COEFFICIENTS, 200)
    start = torch.nn.functional.one_hot(leaves, 4).double() + 0.01
    wrong = fit(tree_of_lines((0, (1, (2, 3)))), x, y, initial_responsibilities=start, progress=False)
    bound, tree = wrong.bound, wrong.mixture.gate.tree
    found = rearrange_tree(wrong, x, y)
    assert without_sides(found.mixture.gate.tree) == without_sides(TREE)
    assert found.bound > bound + 5.0
    assert float(found.mixture.bound(x, y)) == pytest.approx(found.bound, abs=1e-6)
    assert float(wrong.mixture.bound(x, y)) == pytest.approx(bound, abs=1e-6)
    assert wrong.mixture.gate.tree == tree
    assert rearrange_tree(found, x, y) is found


@pytest.mark.filterwarnings("ignore:only one of", "ignore:the noise of component")
def test_weights_known_components_and_inputs_of_the_gate_are_those_of_the_fit() -> None:
    x, y, leaves = rows_of(TREE, COEFFICIENTS, 120)
    weights = torch.rand(120, generator=torch.Generator().manual_seed(0)).double() + 0.5
    known = torch.arange(120) < 30
    gate_x = x.flip(-1)
    mixture = tree_of_lines((0, (2, (1, 3))))
    wrong = fit(
        mixture, x, y, gate_x=gate_x, weights=weights, observed=leaves, mask=known, n_restarts=3, progress=False
    )
    found = rearrange_tree(wrong, x, y, gate_x=gate_x)
    assert found.bound >= wrong.bound
    assert found.weights is not None
    assert torch.equal(found.weights, weights)
    assert found.observed is not None
    assert torch.equal(found.observed, torch.where(known, leaves, -1))
    assert torch.equal(found.responsibilities[known].argmax(-1), leaves[known])


@pytest.mark.filterwarnings("ignore:only one of", "ignore:the noise of component", "ignore:the best run has not")
def test_what_has_no_tree_is_refused() -> None:
    x, y, _ = rows_of(TREE, COEFFICIENTS, 40)
    other: Any = fit(MixtureOfExperts(DirichletGate(2), LinearExperts(2, 2)), x, y, n_restarts=1, progress=False)
    with pytest.raises(TypeError, match="`result` must be of a mixture with a TreeGate; got a DirichletGate"):
        rearrange_tree(other, x, y)
    with pytest.raises(TypeError, match=r"`result` must be what `fit` returned; got .* of type MixtureOfExperts"):
        rearrange_tree(other.mixture, x, y)
    many = fit(tree_of_lines(7), x, y, n_restarts=1, max_iterations=3, progress=False)
    with pytest.raises(ValueError, match=r"`result` must have at most 6 components.*got 7"):
        rearrange_tree(many, x, y)
