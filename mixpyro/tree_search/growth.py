"""Trees grown by splitting leaves, one at a time, while the bound rises."""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mixpyro import arguments
from mixpyro.arguments.signals import pass_on
from mixpyro.experts.base import Experts
from mixpyro.fitting.alike_on_ranks import refuse_processes
from mixpyro.fitting.fit import fit
from mixpyro.fitting.result import FitResult
from mixpyro.fitting.rows_of_fit import with_names_of
from mixpyro.gates.tree import TreeGate
from mixpyro.groups import GroupIds, groups_of
from mixpyro.mixture import MixtureOfExperts
from mixpyro.numerics.trees import Tree, split_leaf
from mixpyro.shapes import AnyTable, GateInputs, Inputs, Responsibilities, Targets
from mixpyro.tables.given import given_rows
from mixpyro.tree_search.best_tree import MOST_COMPONENTS
from mixpyro.tree_search.rearrangement import rearranged

# Share of a row in a leaf below which the row has no part in finding how to split the leaf.
LEAST_SHARE = 1e-3
# Rows in a leaf below which it is not split.
LEAST_ROWS = 2.0


class GrownTree(NamedTuple):
    """A tree that was grown, and how."""

    result: FitResult  # of the last tree
    bounds: tuple[float, ...]  # of the trees of 1, 2, … leaves, in nats; rising
    splits: tuple[int, ...]  # the leaf that each split has parted; the new leaf has the next free number
    refused: float | None  # the best bound of one leaf more, which is no higher; None where no split was tried

    @property
    def tree(self) -> Tree:
        """The tree of the last fit as nested pairs, (0,) for a single leaf."""
        tree: Tree = self.result.mixture.gate.tree
        return tree


@arguments.outside_contexts
def grow_tree(
    experts: Callable[[int], Experts],
    x: Inputs | AnyTable,
    y: Targets | AnyTable,
    *,
    gate_x: GateInputs | AnyTable = None,
    weights: Float[Tensor, " N"] | AnyTable = None,
    groups: GroupIds | None = None,
    prior_scale: float = 2.0,
    most_components: int = 8,
    n_restarts: int = 5,
    max_iterations: int = 1000,
    tolerance: float = 1e-7,
    seed: int = 0,
) -> GrownTree:
    """Grow a tree gate and its experts: split the leaf that gains most by the bound, until no split gains.

    The first tree is a single leaf. To split a leaf, two experts are fitted to its rows, from several starts; all
    leaves are then fitted together from there, to convergence. Every leaf is tried, so that a step of K leaves takes K
    fits of two components and K of K + 1. The bound decides when to stop: no number of components need be given, and
    the priors of nodes and experts pay for what they add.

    After a split, up to six components, the best of all trees of the components is looked for, as
    :func:`mixpyro.rearrange_tree` does: which leaf was split first leaves no trace. Growth is greedy all the same: a
    split that gains nothing until a second one follows is not found. Compare the bound with that of
    :func:`mixpyro.fit` on the tree that was found, which starts elsewhere.

    Args:
        experts: called with a number of components; returns new experts of that many. A class with its other arguments
            fixed, such as ``lambda k: LinearExperts(k, n_features=2)``. Their parameters must have posteriors.
        x: inputs [N, D], finite.
        y: outputs [N, P] or [N], finite, of x's dtype.
        gate_x: what the gate reads [N, G], where that is not x.
        weights: how much each row counts [N], at least 0.
        groups: an id of the group of each row [N], as for :func:`mixpyro.fit`.
        prior_scale: of :class:`~mixpyro.TreeGate`.
        most_components: the number of leaves at which growth stops in any case, at least 1.
        n_restarts: how many starts each leaf's split is looked for from, at least 1.
        max_iterations: most iterations of a run.
        tolerance: of a run in nats an object; a split must gain more than this for each object.
        seed: of the starts, at least 0.

    Returns:
        The fit of the last tree, with the bounds of all.

    Raises:
        TypeError: if ``experts`` is not callable or returns anything but experts.
        ValueError: if an argument does not fit, or the experts are estimated: bounds of different K do not compare
            then.
        RuntimeError: if no run of the first tree reached a finite bound.

    Warns:
        RuntimeWarning: as :func:`mixpyro.fit` does, of the last tree.

    References:
        Jordan, Jacobs (1994), Hierarchical mixtures of experts and the EM algorithm;
        Fritsch, Finke, Waibel (1997), Adaptively growing hierarchical mixtures of experts, NIPS 9, by likelihood.
    """
    refuse_processes(None, "grow_tree")
    most = arguments.size("most_components", most_components)
    given = given_rows({"x": x, "y": y, "gate_x": gate_x, "weights": weights}, groups=groups)
    own, others = (given.x, given.tensors["y"], given.gate_x), given.tensors["weights"]
    tolerance = arguments.positive_number("tolerance", tolerance, zero=True)
    growth = _Growth(experts, *own, others, groups, prior_scale, n_restarts, seed, max_iterations, tolerance)
    best = growth.fit((0,), None)
    bounds, splits, refused = [best.bound], list[int](), None
    while len(bounds) < most:
        found = growth.best_split(best)
        if found is None:
            break
        leaf, result = found
        if result.bound <= best.bound + growth.least_gain:
            refused = result.bound
            break
        best = growth.rearranged(result)
        bounds.append(best.bound)
        splits.append(leaf)
    for caution in best.cautions:
        warnings.warn(caution, RuntimeWarning, stacklevel=3)
    return GrownTree(with_names_of(best, given), tuple(bounds), tuple(splits), refused)


class _Growth:
    """The data, and fits of trees to them."""

    def __init__(
        self,
        experts: Callable[[int], Experts],
        x: Tensor,
        y: Tensor,
        gate_x: Tensor | None,
        weights: Tensor | None,
        groups: GroupIds | None,
        prior_scale: float,
        n_restarts: int,
        seed: int,
        max_iterations: int,
        tolerance: float,
    ) -> None:
        if not arguments.can_be_called(experts) or isinstance(experts, nn.Module):
            raise TypeError(
                f"`experts` must be a function of the number of components; got {type(experts).__name__}. "
                "Pass `lambda k: LinearExperts(k, n_features=2)` or the like."
            )
        arguments.function_of("experts", experts, 2)
        self.experts, self.x, self.y, self.gate_x = experts, x, y, gate_x
        self.weights, self.prior_scale = weights, prior_scale
        self.groups = None if groups is None else groups_of(groups, like=arguments.inputs(x))
        self.options: dict[str, Any] = {"max_iterations": max_iterations, "tolerance": tolerance, "seed": seed}
        self.n_restarts, self.tolerance = n_restarts, tolerance

    @property
    def n_objects(self) -> int:
        """Number of rows, or of groups where there are any."""
        return len(self.x) if self.groups is None else len(self.groups)

    def of_objects(self, values: Tensor) -> Tensor:
        """Return for each object what its rows have [N, …], which differ only where no fit with these groups is.

        Args:
            values: of the rows [rows, …].
        """
        return values if self.groups is None else values[self.groups.first_rows]

    @property
    def least_gain(self) -> float:
        """Nats that a larger or another tree must gain."""
        return self.tolerance * (self.n_objects if self.weights is None else float(self.of_objects(self.weights).sum()))

    def mixture(self, tree: Tree) -> MixtureOfExperts:
        """Return a new mixture with this tree."""
        inputs = arguments.inputs(self.x if self.gate_x is None else self.gate_x)
        gate = TreeGate(tree, inputs.shape[1], prior_scale=self.prior_scale, device=inputs.device)
        bank = self.experts(gate.n_components)
        if not isinstance(bank, Experts):
            raise TypeError(f"`experts` must return experts; got {type(bank).__name__}.")
        if bank.n_components != gate.n_components:
            raise ValueError(
                f"`experts` must return as many experts as it is asked for, {gate.n_components}; "
                f"got {bank.n_components}."
            )
        if bank.is_estimated:
            raise ValueError(
                f"`experts` must have posteriors of all their parameters; got {type(bank).__name__}, whose estimates "
                "have no price in the bound, so that it would grow for ever. Fit trees of given sizes, and compare "
                "them by `criteria`."
            )
        return MixtureOfExperts(gate, bank)

    def fit(self, tree: Tree, start: Responsibilities | None) -> FitResult:
        """Fit a tree from given responsibilities, without warnings: those are in the result."""
        return self._fitted(self.mixture(tree), self.weights, initial_responsibilities=start)

    def _fitted(self, mixture: MixtureOfExperts, weights: Tensor | None, **options: Any) -> FitResult:  # noqa: ANN401
        """Fit a mixture to the rows."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            return fit(
                mixture,
                self.x,
                self.y,
                gate_x=self.gate_x,
                weights=weights,
                groups=self.groups,
                progress=False,
                **self.options,
                **options,
            )

    def rearranged(self, present: FitResult) -> FitResult:
        """Return the fit of the best tree of these components, if they are not too many to try all trees."""
        if present.mixture.n_components > MOST_COMPONENTS:
            return present
        inputs = self.x if self.gate_x is None else self.gate_x
        weights = None if self.weights is None else self.of_objects(self.weights)
        return rearranged(present, self.of_objects(inputs), weights, self.fit, least_gain=self.least_gain)

    def best_split(self, present: FitResult) -> tuple[int, FitResult] | None:
        """Split each leaf in turn; return the leaf of the highest bound and the fit, None if no leaf has rows."""
        tree: Tree = present.mixture.gate.tree
        found = []
        for leaf in range(present.mixture.n_components):
            start = self._parted(present.shares, leaf)
            if start is not None:
                found.append((leaf, self.fit(split_leaf(tree, leaf), start)))
        return max(found, key=lambda split: split[1].bound) if found else None

    def _parted(self, responsibilities: Responsibilities, leaf: int) -> Responsibilities | None:
        """Return responsibilities [N, K + 1] with a leaf parted in two; None if it has too few rows."""
        share = responsibilities[:, leaf]
        weights = torch.where(share < LEAST_SHARE, 0.0, share)
        weights = weights if self.weights is None else weights * self.of_objects(self.weights)
        if float(weights.sum()) < LEAST_ROWS:
            return None
        try:
            weights = weights if self.groups is None else self.groups.spread(weights)
            two = self._fitted(self.mixture((0, 1)), weights, n_restarts=self.n_restarts).shares
        except RuntimeError as error:
            pass_on(error)
            return None  # No start has led to a finite bound on so few rows.
        return torch.cat([responsibilities, (share * two[:, 1]).unsqueeze(-1)], dim=1).index_copy(
            1, torch.tensor([leaf], device=share.device), (share * two[:, 0]).unsqueeze(-1)
        )
