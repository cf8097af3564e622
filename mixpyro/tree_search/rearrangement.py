"""Trees rearranged after a fit: the components stay, and what decides between them changes."""

import copy
import warnings
from collections.abc import Callable
from typing import Any

from jaxtyping import Float
from torch import Tensor

from mixpyro import arguments
from mixpyro.fitting.alike_on_ranks import refuse_processes
from mixpyro.fitting.fit import fit
from mixpyro.fitting.fitted_rows import fitted_rows
from mixpyro.fitting.reads_rows import reads_rows
from mixpyro.fitting.result import FitResult
from mixpyro.fitting.rows_of_fit import with_names_of
from mixpyro.fitting.table import Table
from mixpyro.gates.tree import TreeGate
from mixpyro.groups import Groups
from mixpyro.mixture import MixtureOfExperts
from mixpyro.numerics.tree_automorphisms import without_sides
from mixpyro.numerics.trees import Tree
from mixpyro.shapes import AnyTable, GateInputs, Inputs, Responsibilities, Targets
from mixpyro.tree_search.best_tree import MOST_COMPONENTS, best_tree

# Fits of a tree from given responsibilities.
Refit = Callable[[Tree, Responsibilities], FitResult]


@reads_rows
@arguments.outside_contexts
def rearrange_tree(
    result: FitResult,
    x: Inputs | AnyTable = None,
    y: Targets | AnyTable = None,
    *,
    gate_x: GateInputs | AnyTable = None,
    weights: Float[Tensor, " N"] | AnyTable = None,
    max_iterations: int = 1000,
    tolerance: float = 1e-7,
) -> FitResult:
    """Look for the best tree of a fit's components, and fit that, until the bound rises no more.

    Given the responsibilities, the best of all trees is found exactly, by the bound. Which tree a fit was given, and in
    which order its components came to sit on the leaves, then matters little: the starts of a fit search over orders of
    the leaves of one tree, and this over all trees.

    Args:
        result: of a mixture with a :class:`~mixpyro.TreeGate` of at most six components; it is left as it is.
        x: inputs [N, D] of the fit.
        y: outputs [N, P] or [N] of the fit.
        gate_x: as in the fit.
        weights: of the rows [N]; those of the fit by default.
        max_iterations: most iterations of a run.
        tolerance: of a run, in nats an object; a tree must gain more than this for each object.

    Returns:
        The fit of the best tree found; ``result`` itself if that is its own.

    Raises:
        TypeError: if ``result`` is no result of a fit, or its gate no tree.
        ValueError: if the gate has more than six components, or the rows are not those of the fit.
        RuntimeError: if no run of a tree reached a finite bound.

    Warns:
        RuntimeWarning: as :func:`mixpyro.fit` does, of the last tree.
    """
    _refuse_other_gates(result)
    table = fitted_rows(result, x, y, gate_x, weights)
    refuse_processes(None, "rearrange_tree")
    tolerance = arguments.positive_number("tolerance", tolerance, zero=True)
    options = {"max_iterations": max_iterations, "tolerance": tolerance, **_options_of_rows(table, result.groups)}

    def refit(tree: Tree, responsibilities: Responsibilities) -> FitResult:
        mixture = _with_tree(result.mixture, tree)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            start: dict[str, Any] = {"initial_responsibilities": responsibilities}
            return fit(mixture, x, y, gate_x=gate_x, groups=result.groups, progress=False, **start, **options)

    found = rearranged(result, table.gate_x, table.weights, refit, least_gain=tolerance * float(table.n_objects))
    for caution in found.cautions if found is not result else ():
        warnings.warn(caution, RuntimeWarning, stacklevel=4)
    return found if found is result or result.rows is None else with_names_of(found, result.rows)


def _refuse_other_gates(result: object) -> None:
    """Raise if it is no result of a fit with a tree of a few components."""
    if not isinstance(result, FitResult):
        raise TypeError(f"`result` must be what `fit` returned; got {type(result).__name__}.")
    gate = result.mixture.gate
    if not isinstance(gate, TreeGate):
        raise TypeError(f"`result` must be of a mixture with a TreeGate; got a {type(gate).__name__}.")
    if gate.n_components > MOST_COMPONENTS:
        raise ValueError(
            f"`result` must have at most {MOST_COMPONENTS} components, for all trees of more are too many to try; got "
            f"{gate.n_components}. Fit the trees that you have in mind, and compare their bounds."
        )


def _options_of_rows(table: Table, groups: Groups | None) -> dict[str, Any]:
    """Return the options of a fit that the rows of another one have: weights, known components, missing outputs."""

    def of_rows(values: Tensor | None) -> Tensor | None:
        return values if groups is None or values is None else groups.spread(values)

    options: dict[str, Any] = {"weights": of_rows(table.weights)}
    if table.misses:
        options["missing"] = "ignore"
    known = of_rows(table.labels)
    return options if known is None else options | {"observed": known.clamp_min(0), "mask": known >= 0}


def rearranged(
    present: FitResult, gate_x: GateInputs, weights: Tensor | None, refit: Refit, *, least_gain: float
) -> FitResult:
    """Return the fit of the best tree of the components, found by turns of tree and responsibilities.

    Args:
        present: a fit.
        gate_x: what the gate reads of the objects [N, G].
        weights: of the objects [N].
        refit: fits another tree from given responsibilities.
        least_gain: nats that another tree must gain.
    """
    while True:
        gate: TreeGate = present.mixture.gate  # type: ignore[assignment]
        r = present.shares if weights is None else present.shares * weights.unsqueeze(-1)
        tree, _ = best_tree(gate_x, r, prior_scale=gate.prior_scale)
        if without_sides(tree) == without_sides(gate.tree):
            return present
        other = refit(tree, present.shares)
        if not other.bound > present.bound + least_gain:
            return present
        present = other


def _with_tree(mixture: MixtureOfExperts, tree: Tree) -> MixtureOfExperts:
    """Return a copy of a mixture with another tree, its gate as new."""
    copied = copy.deepcopy(mixture)
    old: TreeGate = mixture.gate  # type: ignore[assignment]
    like = old.coefficients
    copied.gate = TreeGate(tree, old.n_features, prior_scale=old.prior_scale, device=like.device, dtype=like.dtype)
    return copied
