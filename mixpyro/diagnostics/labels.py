"""Which component is which? One labelling for draws by MCMC, or for the solutions of several fits."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from mixpyro.diagnostics.arviz_versions import ArvizData, datasets_of, from_datasets

# Below this an alignment might as well be another one.
LEAST_CONFIDENCE = 0.5


class Alignment(NamedTuple):
    """One labelling of the components of S draws or solutions.

    The confidence compares, for every component, the distance from the reference under the best labelling with that
    under the best one that gives the component another label, over the components that the two label differently: 1
    where nothing else comes near, 0 where another labelling is as good.
    """

    order: np.ndarray  # [S, K]: component k of the reference is component order[s, k] of draw s
    confidence: np.ndarray  # [S, K], from 0 to 1
    reference: np.ndarray  # responsibilities [N, K] to which all are aligned
    n_passes: int

    @property
    def of_components(self) -> np.ndarray:
        """Mean confidence in each component's label [K]."""
        return self.confidence.mean(0)

    @property
    def trusted(self) -> bool:
        """Whether every component's label means the same in all draws."""
        return bool((self.of_components >= LEAST_CONFIDENCE).all())

    def __str__(self) -> str:
        """One sentence for a person."""
        moved = int((self.order != np.arange(self.order.shape[1])).any(1).sum())
        doubtful = np.flatnonzero(self.of_components < LEAST_CONFIDENCE).tolist()
        word = f"NOT to be trusted for components {doubtful}" if doubtful else "to be trusted"
        least = self.of_components.min()
        return f"{moved} of {len(self.order)} relabelled in {self.n_passes} passes; {word} (confidence {least:.2f})"


def align(
    responsibilities: Iterable[np.ndarray], *, reference: np.ndarray | None = None, max_passes: int = 20
) -> Alignment:
    """Relabel the components of every draw so that its responsibilities are nearest to a common reference.

    Labels and reference are found in turn: each draw's best labelling is an assignment problem, the reference is the
    mean of the relabelled draws, and the sum of squared Hellinger distances falls until no label changes. Stephens'
    algorithm has the Kullback-Leibler divergence, which one object that changes sides between two confident solutions
    makes infinite.

    Args:
        responsibilities: p(zᵢ = k | yᵢ, θₛ), an array [S, N, K] or blocks of it, [·, N, K] each. They are gone through
            several times, so that a list or an array will do and a generator will not. Solutions of several fits are
            ``[result.responsibilities.numpy() for result in results]``.
        reference: [N, K] to align to, such as a fit's; by default the first draw starts one that the draws move.
        max_passes: most times to go through the draws.

    Raises:
        ValueError: if the arrays do not fit each other.

    References:
        Stephens (2000), Dealing with label switching in mixture models, section 4, algorithm 2;
        Papastamoulis (2016), label.switching: an R package, section 2.2.
    """
    fixed = reference is not None
    root = np.sqrt(_first(responsibilities) if reference is None else reference)
    order = np.empty((0, root.shape[1]), dtype=np.int64)
    for n_passes in range(1, max_passes + 1):  # noqa: B007 (used after the loop)
        before = order
        order, confidence, mean_root = _one_pass(responsibilities, root)
        if fixed or np.array_equal(before, order):
            break
        root = mean_root
    return Alignment(order, confidence, root**2, n_passes)


def relabel(data: ArvizData, alignment: Alignment) -> ArvizData:
    """The draws with their components in the order of the alignment's reference.

    Args:
        data: of :func:`mixpyro.to_arviz`, whose draws, chains one after the other, were aligned.
        alignment: of :func:`align`.
    """
    import xarray

    datasets = datasets_of(data)
    posterior = datasets["posterior"]
    n_chains, n_draws = posterior.sizes["chain"], posterior.sizes["draw"]
    if n_chains * n_draws != len(alignment.order):
        raise ValueError(f"`alignment` must be of {n_chains * n_draws} draws; got {len(alignment.order)}.")
    axes = ("chain", "draw", "component")
    order = xarray.DataArray(alignment.order.reshape(n_chains, n_draws, -1), dims=axes)
    moved = {
        name: values.isel(component=order).transpose(*values.dims).assign_coords(component=values["component"])
        for name, values in posterior.data_vars.items()
        if "component" in values.dims
    }
    return from_datasets(datasets | {"posterior": posterior.assign(moved)})


def _first(responsibilities: Iterable[np.ndarray]) -> np.ndarray:
    block = np.asarray(next(iter(responsibilities), np.empty(0)))
    draw = block if block.ndim == 2 else block[0] if block.ndim == 3 else block
    if draw.ndim != 2:
        raise ValueError(f"`responsibilities` must be [draws, objects, components]; got shape {list(block.shape)}.")
    return draw


def _one_pass(responsibilities: Iterable[np.ndarray], root: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The best labelling of every draw, its confidence, and the mean of the relabelled roots."""
    order, confidence, total = [], [], np.zeros_like(root)
    for block in responsibilities:
        roots = np.sqrt(block if np.ndim(block) == 3 else np.asarray(block)[None])
        if roots.shape[1:] != root.shape:
            raise ValueError(f"`responsibilities` must be {list(root.shape)} a draw; got {list(roots.shape[1:])}.")
        for distances, draw in zip(_distances(root, roots), roots, strict=True):
            best = _assignment(distances)
            order.append(best)
            confidence.append(_confidence(distances, best))
            total += draw[:, best]
    return np.array(order), np.array(confidence), total / len(order)


def _distances(root: np.ndarray, roots: np.ndarray) -> np.ndarray:
    """½ Σᵢ (√qᵢₖ − √pₛᵢₗ)² [S, K, K]: what it costs to call component l of a draw k."""
    sizes = (root**2).sum(0)[:, None] + (roots**2).sum(1)[:, None, :]
    return np.clip(0.5 * sizes - np.einsum("nk,snl->skl", root, roots, optimize=True), 0.0, None)


def _assignment(distances: np.ndarray) -> np.ndarray:
    from scipy.optimize import linear_sum_assignment

    return np.asarray(linear_sum_assignment(distances)[1])


def _confidence(distances: np.ndarray, best: np.ndarray) -> np.ndarray:
    """1 − distance under the best labelling / under the best that labels k otherwise, where they differ [K]."""
    n_components = len(best)
    rows, found = np.arange(n_components), np.ones(n_components)
    if n_components == 1:
        return found
    forbidden = distances.sum() + 1.0
    for k in rows:
        barred = distances.copy()
        barred[k, best[k]] = forbidden
        other = _assignment(barred)
        differ = other != best
        ours, theirs = distances[rows, best][differ].sum(), distances[rows, other][differ].sum()
        found[k] = 1.0 - ours / theirs if theirs > 1e-12 else 0.0
    return np.clip(found, 0.0, 1.0)
