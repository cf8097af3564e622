"""Trees that are grown."""

from typing import Any

import pytest
import torch

from mixpyro import DirichletGate, GLMExperts, LinearExperts, fit, grow_tree
from mixpyro.experts.families import Gaussian
from mixpyro.numerics.trees import leaves_of
from tests.tree_search.problems import rows_of, tree_of_lines

pytestmark = pytest.mark.usefixtures("without_type_checks")
TREE = ((0, 1), 2)
COEFFICIENTS = [[0.5, 4.0, 0.0], [0.0, 0.0, 4.0]]


def lines(n_components: int) -> LinearExperts:
    """Experts of the data."""
    return LinearExperts(n_components, 2)


def test_the_tree_that_made_the_data_is_found() -> None:
    """The number of leaves, which share a branch, and the bound that restarts of that tree reach."""
    x, y, leaves = rows_of(TREE, COEFFICIENTS, 200)
    grown = grow_tree(lines, x, y, n_restarts=3)
    assert len(grown.bounds) == 3
    assert len(grown.splits) == 2
    assert list(grown.bounds) == sorted(grown.bounds)
    assert grown.refused is not None
    assert grown.refused < grown.bounds[-1] == grown.result.bound
    found = grown.result.responsibilities.argmax(-1)
    number = [int(found[leaves == leaf].mode().values) for leaf in range(3)]
    assert float((torch.tensor(number)[leaves] == found).double().mean()) > 0.95
    pair = next(branch for branch in grown.tree if not isinstance(branch, int))  # type: ignore[union-attr]
    assert sorted(leaves_of(pair)) == sorted(number[:2])
    given = fit(tree_of_lines(TREE), x, y, n_restarts=5, progress=False)
    assert grown.result.bound == pytest.approx(given.bound, abs=1e-3)


def test_rows_of_one_line_are_not_split() -> None:
    x, y, _ = rows_of((0, 1), [[50.0, 0.0, 0.0]], 100)
    grown = grow_tree(lines, x, y, n_restarts=2)
    assert grown.tree == (0,)
    assert grown.splits == ()


def test_growth_stops_at_the_most_components_and_reads_weights() -> None:
    """A row of weight two is two rows."""
    x, y, _ = rows_of(TREE, COEFFICIENTS, 80)
    weights = torch.ones(80).double()
    weights[:30] = 2.0
    grown = grow_tree(lines, x, y, gate_x=x[:, :1], weights=weights, most_components=2, n_restarts=2)
    rows = [*range(80), *range(30)]
    twice = grow_tree(lines, x[rows], y[rows], gate_x=x[rows, :1], most_components=2, n_restarts=2)
    assert len(grown.bounds) == 2
    assert grown.refused is None
    assert grown.bounds == pytest.approx(twice.bounds, abs=1e-3)
    assert grown.result.mixture.gate.n_features == 1


@pytest.mark.usefixtures("bad_arguments")
@pytest.mark.parametrize(
    ("experts", "error", "message"),
    [
        (LinearExperts(2, 2), TypeError, "must be a function; got LinearExperts"),
        (torch.nn.Linear(1, 1), TypeError, "must be a function of the number of components; got Linear"),
        (lambda k: DirichletGate(k), TypeError, "must return experts; got DirichletGate"),
        (lambda k: LinearExperts(2, 2), ValueError, "must return as many experts as it is asked for, 1; got 2"),
        (lambda k: GLMExperts(k, 2, Gaussian()), ValueError, "must have posteriors of all their parameters"),
    ],
)
def test_experts_that_cannot_grow_are_refused(experts: Any, error: type[Exception], message: str) -> None:
    x, y, _ = rows_of(TREE, COEFFICIENTS, 20)
    with pytest.raises(error, match=f"`experts` {message}"):
        grow_tree(experts, x, y)
