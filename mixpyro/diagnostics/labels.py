"""Labels of components: one labelling for draws by MCMC, or for the solutions of several fits."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from mixpyro import arguments
from mixpyro.arguments.late_imports import imported
from mixpyro.diagnostics.arviz_versions import ArvizData, Dataset, arviz_data, datasets_of, from_datasets
from mixpyro.diagnostics.estimates import names_of_estimates
from mixpyro.numerics.tree_automorphisms import automorphism
from mixpyro.numerics.trees import tree_of_names

# Mean confidence, from 0 to 1, below which another labelling of a component is nearly as good.
LEAST_CONFIDENCE = 0.5
# Axis of the components whose log odds against the first one a gate's coefficients are.
LOG_ODDS = "gate_component"
# Axis of the nodes of a gate that is a tree.
NODES = "gate_node"
# Axis of the sets of components that share coefficients.
SETS = "component_set"


class Alignment(NamedTuple):
    """One labelling of the components of S draws or solutions.

    The confidence in a label compares two distances from the reference: under the best labelling, and under the best
    one that gives the component another label, over the components that the two label differently. It is 1 where no
    other labelling comes near, and 0 where another one is as good.
    """

    order: np.ndarray  # [S, K]: component k of the reference is component order[s, k] of draw s
    confidence: np.ndarray  # [S, K], from 0 to 1
    reference: np.ndarray  # responsibilities [N, K] to which all draws are aligned
    n_passes: int  # passes over the draws

    @property
    def of_components(self) -> np.ndarray:
        """Mean confidence in each component's label [K], from 0 to 1."""
        return self.confidence.mean(0)

    @property
    def trusted(self) -> bool:
        """Whether every component's label means the same in all draws."""
        return bool((self.of_components >= LEAST_CONFIDENCE).all())

    def __str__(self) -> str:
        """Summarise the alignment in one sentence."""
        n_moved = int((self.order != np.arange(self.order.shape[1])).any(1).sum())
        doubtful = np.flatnonzero(self.of_components < LEAST_CONFIDENCE).tolist()
        verdict = f"NOT to be trusted for components {doubtful}" if doubtful else "to be trusted"
        least = self.of_components.min()
        return (
            f"{n_moved} of {len(self.order)} relabelled in {self.n_passes} passes; {verdict} (confidence {least:.2f})"
        )


_alignment = arguments.one_of_kinds("a result of `align`", Alignment)


def _blocks(name: str, value: object) -> object:
    """Return a value that can be iterated over."""
    if not arguments.is_iterable(value) or isinstance(value, str | bytes | Mapping):
        raise TypeError(f"`{name}` must be an array or blocks of one; got {arguments.shown(value)}.")
    return value


def _reference(name: str, value: object) -> np.ndarray:
    """Return responsibilities [N, K] to align to."""
    array = arguments.of_numbers(name, value)
    if array.ndim != 2 or not array.size:
        raise ValueError(f"`{name}` must have shape [objects, components], no axis empty; got {list(array.shape)}.")
    return _responsibilities(name, array)


def _responsibilities(name: str, array: np.ndarray) -> np.ndarray:
    """Return responsibilities if none is negative or NaN."""
    if not (array >= 0.0).all():
        bad = int((~(array >= 0.0)).sum())
        raise ValueError(f"`{name}` must be at least 0; got {bad} negative or NaN values of {array.size}.")
    return array


@arguments.with_default_errors
@arguments.checked(responsibilities=_blocks, reference=_reference, max_passes=arguments.integer)
def align(
    responsibilities: Iterable[np.ndarray], *, reference: np.ndarray | None = None, max_passes: int = 20
) -> Alignment:
    """Relabel the components of every draw so that its responsibilities are nearest to a common reference.

    Labels and reference are found in turn: each draw's best labelling is an assignment problem, and the reference is
    the mean of the relabelled draws. The sum of squared Hellinger distances falls until no label changes. Stephens'
    algorithm uses the Kullback-Leibler divergence, which is infinite as soon as one object changes between two
    solutions that are both certain.

    Args:
        responsibilities: p(zᵢ = k | yᵢ, θₛ), an array [S, N, K] or an iterable of blocks [·, N, K]. It is iterated
            several times, so pass a list or an array, not a generator; a
            :class:`~mixpyro.diagnostics.ResponsibilityDraws`, or a
            :class:`~mixpyro.diagnostics.ProgramResponsibilities` of a Pyro program. For the solutions of several fits
            pass ``[result.responsibilities.numpy() for result in results]``.
        reference: responsibilities [N, K] to align to, such as a fit's. By default the first draw is the first
            reference, and the mean of the relabelled draws replaces it.
        max_passes: largest number of passes over the draws, at least 1.

    Raises:
        ValueError: if the shapes do not fit each other.

    References:
        Stephens (2000), Dealing with label switching in mixture models, section 4, algorithm 2;
        Papastamoulis (2016), label.switching: an R package, section 2.2.
    """
    fixed = reference is not None
    root = np.sqrt(_first_draw(responsibilities) if reference is None else reference)
    order = np.empty((0, root.shape[1]), dtype=np.int64)
    for n_passes in range(1, max_passes + 1):  # noqa: B007 (used after the loop)
        before = order
        order, confidence, mean_root = _one_pass(responsibilities, root)
        if fixed or np.array_equal(before, order):
            break
        root = mean_root
    return Alignment(order, confidence, root**2, n_passes)


@arguments.with_default_errors
@arguments.checked(data=arviz_data, alignment=_alignment, axis=arguments.text)
def relabel(data: ArvizData, alignment: Alignment, *, axis: str = "component") -> ArvizData:
    """Put the components of every draw in the order of the alignment's reference.

    Log odds against the first component, of a gate's coefficients, become those against the component that is first
    then. Those at the nodes of a tree change places and signs with the components that a node parts.

    Args:
        data: result of :func:`mixpyro.to_arviz` or :func:`~mixpyro.diagnostics.program_to_arviz`, whose S draws,
            chains one after the other, were aligned.
        alignment: result of :func:`align`.
        axis: name of the axis of components, ``<gate>.component`` where a program has several gates.

    Raises:
        ValueError: if the alignment has another number of draws, a site of a program has an axis that may be of the
            components, as it is as long and has not been named, components move that have a point estimate, or to
            another set that shares coefficients, or a draw's order is that of another tree than a gate's.
    """
    import xarray

    datasets = datasets_of(data)
    posterior = datasets["posterior"]
    n_chains, n_draws = posterior.sizes["chain"], posterior.sizes["draw"]
    if n_chains * n_draws != len(alignment.order):
        raise ValueError(f"`alignment` must be of {n_chains * n_draws} draws; got {len(alignment.order)}.")
    _refuse_unknown_axes(posterior, alignment.order.shape[1], axis)
    _refuse_moved_estimates(data, alignment, axis)
    if axis == "component":
        _refuse_other_sets(posterior, alignment.order)
    axes = ("chain", "draw", axis)
    order = xarray.DataArray(alignment.order.reshape(n_chains, n_draws, -1), dims=axes)
    reordered = {
        name: values.isel({axis: order}).transpose(*values.dims).assign_coords({axis: values[axis]})
        for name, values in posterior.data_vars.items()
        if axis in values.dims
    }
    if axis == "component":
        reordered |= {
            name: _log_odds(values, alignment.order)
            for name, values in posterior.data_vars.items()
            if LOG_ODDS in values.dims
        }
        reordered |= {
            name: _of_nodes(values, alignment.order)
            for name, values in posterior.data_vars.items()
            if NODES in values.dims
        }
    return from_datasets(datasets | {"posterior": posterior.assign(reordered)})


def _refuse_moved_estimates(data: ArvizData, alignment: Alignment, axis: str) -> None:
    """Raise if components change places in some draws that have an estimate, which is the same in all draws."""
    constants = datasets_of(data).get("constant_data", {})
    named = [name for name in names_of_estimates(data) if name in constants]
    estimates = [name for name in named if {axis, LOG_ODDS} & set(constants[name].dims)]
    if estimates and bool((alignment.order != np.arange(alignment.order.shape[1])).any()):
        raise ValueError(
            f"`alignment` must keep the labels of components with a point estimate, {', '.join(estimates)}; got one "
            "that moves them. Align to the labels of the estimates with `reference=`."
        )


def _refuse_other_sets(posterior: Dataset, order: np.ndarray) -> None:
    """Raise if a component takes a place in another set, with which it shares no coefficients."""
    if posterior.sizes.get(SETS, 1) == 1:
        return
    sets = [[int(number) for number in re.findall(r"\d+", str(label))] for label in posterior[SETS].values]
    set_of = np.zeros(order.shape[1], dtype=np.int64)
    for number, components in enumerate(sets):
        set_of[components] = number
    if bool((set_of[order] != set_of).any()):
        raise ValueError(
            "`alignment` must keep components within the sets that share coefficients, "
            f"{[str(label) for label in posterior[SETS].values]}; got one that moves some to another set. Align to the "
            "labels of the fit with `reference=`."
        )


def _log_odds(coefficients: Any, order: np.ndarray) -> Any:  # noqa: ANN401 (an xarray DataArray)
    """Return coefficients of log odds against the component that is first in the new order of each draw."""
    moved = coefficients.transpose("chain", "draw", LOG_ODDS, ...)
    drawn = moved.values.reshape(len(order), *moved.shape[2:])
    of_all = np.concatenate([np.zeros_like(drawn, shape=(len(drawn), 1, *drawn.shape[2:])), drawn], axis=1)
    of_all = np.take_along_axis(of_all, order.reshape(*order.shape, *[1] * (of_all.ndim - 2)), axis=1)
    against_first = (of_all - of_all[:, :1])[:, 1:]
    return moved.copy(data=against_first.reshape(moved.shape)).transpose(*coefficients.dims)


def _of_nodes(coefficients: Any, order: np.ndarray) -> Any:  # noqa: ANN401 (an xarray DataArray)
    """Return coefficients at the nodes of a tree in the new order of each draw."""
    tree = tree_of_names([str(name) for name in coefficients[NODES].values])
    moved = coefficients.transpose("chain", "draw", NODES, ...)
    drawn = moved.values.reshape(len(order), *moved.shape[2:])
    chosen, position = np.unique(order, axis=0, return_inverse=True)
    images = [automorphism(tree, one.tolist()) for one in chosen]
    nodes = np.array([image.nodes for image in images])[position.reshape(-1)]
    signs = np.array([image.signs for image in images])[position.reshape(-1)]
    widened = (*order.shape[:1], -1, *[1] * (drawn.ndim - 2))
    found = np.take_along_axis(drawn, nodes.reshape(widened), axis=1) * signs.reshape(widened)
    return moved.copy(data=found.reshape(moved.shape)).transpose(*coefficients.dims)


def _refuse_unknown_axes(posterior: Dataset, n_components: int, axis: str) -> None:
    """Raise if an axis of a program's site might be that of the components, which only its author knows."""
    not_named = str(posterior.attrs.get("axes_not_named", "")).split(",")
    unknown = [(name, own) for name in not_named for own in posterior.data_vars.values() if name in own.dims]
    unknown = [(name, own) for name, own in unknown if own.sizes[name] == n_components and axis not in own.dims]
    if unknown:
        name, own = unknown[0]
        site = own.name if name.startswith(f"{own.name}_dim_") else name
        raise ValueError(
            f"`data` must name the axes of components; got {name!r} of {own.name!r}, of length {n_components}. "
            f"Pass axes={{{site!r}: ({axis!r},)}} to program_to_arviz, or any other name if it is not."
        )


def _first_draw(responsibilities: Iterable[np.ndarray]) -> np.ndarray:
    """Return the first draw [N, K] of an array or of the first block."""
    block = arguments.of_numbers("responsibilities", next(iter(responsibilities), np.empty(0)))
    draw = block if block.ndim == 2 else block[0] if block.ndim == 3 else block
    if draw.ndim != 2:
        raise ValueError(f"`responsibilities` must be [draws, objects, components]; got shape {list(block.shape)}.")
    return draw


def _one_pass(responsibilities: Iterable[np.ndarray], root: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the best labelling of every draw, its confidence, and the mean of the relabelled square roots."""
    order, confidence, total = [], [], np.zeros_like(root)
    for block in responsibilities:
        array = _responsibilities("responsibilities", arguments.of_numbers("responsibilities", block))
        roots = np.sqrt(array if array.ndim == 3 else array[None])
        if roots.shape[1:] != root.shape:
            raise ValueError(f"`responsibilities` must be {list(root.shape)} a draw; got {list(roots.shape[1:])}.")
        for distances, draw in zip(_distances(root, roots), roots, strict=True):
            best = _assignment(distances)
            order.append(best)
            confidence.append(_confidence(distances, best))
            total += draw[:, best]
    return np.array(order), np.array(confidence), total / len(order)


def _distances(root: np.ndarray, roots: np.ndarray) -> np.ndarray:
    """Return ½ Σᵢ (√qᵢₖ − √pₛᵢₗ)² [S, K, K]: the cost of giving component l of draw s the label k."""
    sizes = (root**2).sum(0)[:, None] + (roots**2).sum(1)[:, None, :]
    return np.clip(0.5 * sizes - np.einsum("nk,snl->skl", root, roots, optimize=True), 0.0, None)


def _assignment(distances: np.ndarray) -> np.ndarray:
    """Return the labelling of least total distance [K]."""
    # SciPy reads no longer floats.
    return np.asarray(imported("scipy.optimize").linear_sum_assignment(distances.astype(np.float64))[1])


def _confidence(distances: np.ndarray, best: np.ndarray) -> np.ndarray:
    """Return the confidence in each component's label [K]; see :class:`Alignment`."""
    n_components = len(best)
    rows, confidence = np.arange(n_components), np.ones(n_components)
    if n_components == 1:
        return confidence
    forbidden = distances.sum() + 1.0
    for k in rows:
        barred = distances.copy()
        barred[k, best[k]] = forbidden
        other = _assignment(barred)
        differ = other != best
        ours, theirs = distances[rows, best][differ].sum(), distances[rows, other][differ].sum()
        # Below the rounding error of the distances both labellings are equally good.
        confidence[k] = 1.0 - ours / theirs if theirs > 1e-12 else 0.0
    return np.clip(confidence, 0.0, 1.0)
