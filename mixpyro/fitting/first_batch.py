"""The first batch of a stream, which is fitted in full from several starts."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from mixpyro.distributed.processes import Processes
from mixpyro.fitting.em import Snapshot
from mixpyro.fitting.findings import warnings_of
from mixpyro.fitting.pieces import of_objects, pieces_of, total_of
from mixpyro.fitting.restarts import GoesOn, Search
from mixpyro.fitting.runs import Options, Runs, Trace
from mixpyro.fitting.starts import DEFAULT_STARTS
from mixpyro.fitting.stream_limits import empty_components, no_moves
from mixpyro.fitting.stream_steps import trained_by_gradient
from mixpyro.fitting.table import Table
from mixpyro.fitting.watched import watched
from mixpyro.mixture import MixtureOfExperts
from mixpyro.shapes import Responsibilities

# Of parts that are trained by gradient: iterations from each start, and from the best of them; steps of each.
FIRST_ITERATIONS, LATER_ITERATIONS, N_GRADIENT_STEPS = 3, 50, 5


class FirstBatch(NamedTuple):
    """How the first batch is fitted; the fields are arguments of :class:`~mixpyro.StreamingFit`."""

    n_restarts: int
    max_iterations: int
    seed: int
    progress: bool


def fit_first_batch(
    mixture: MixtureOfExperts,
    table: Table,
    limits: FirstBatch,
    stop_requested: Callable[[], bool],
    processes: Processes | None = None,
) -> list[str]:
    """Fit the first batch from several starts, and return what a user must know, in words.

    Args:
        mixture: being fitted to a stream; it gets the best state.
        table: the batch.
        limits: of the search.
        stop_requested: whether Ctrl-C was pressed, which ends the search with the best state so far.
        processes: that hold the batch; None for one.

    Raises:
        KeyboardInterrupt: if Ctrl-C came before any run had a finite bound.
        RuntimeError: if no run reached a finite bound.
    """
    by_gradient = trained_by_gradient(mixture)
    options = Options(limits.max_iterations)
    if by_gradient:
        n_first = min(FIRST_ITERATIONS, limits.max_iterations)
        options = Options(n_first, n_gradient_steps=N_GRADIENT_STEPS)
    own: dict[str, Any] = {"n_restarts": limits.n_restarts, "seed": limits.seed, "processes": processes}
    if by_gradient:
        own["n_candidates"] = 1
    search = Search(mixture, table, options, DEFAULT_STARTS, **own)
    with watched(search, stop_requested, progress=limits.progress) as goes_on:
        search.go(goes_on)
        if search.stopped and not any(math.isfinite(run.bound) for run in search.ended):
            raise KeyboardInterrupt
        if by_gradient and not search.stopped:
            _go_on_from_best(search, limits.max_iterations, goes_on)
    _, responsibilities = search.adopt()
    found = [f"in the first batch, {caution}" for caution in warnings_of(mixture, table, responsibilities)]
    if search.stopped:
        found.append(f"the search on the first batch was interrupted after {len(search.ended)} restarts.")
    if mixture.gate.finds_components and mixture.n_components > 1:
        return [*found, no_moves(mixture)]
    found += [
        f"{empty} in the first batch; make it larger. It may be found in later ones."
        for empty in empty_components(_counts(table, responsibilities))
    ]
    return found


def _counts(table: Table, responsibilities: Responsibilities) -> Tensor:
    """Return the objects of each component [K], of all processes."""
    weighted = table.weighted(responsibilities.mT)
    found: Tensor = total_of(table, [of_objects(weighted, own).sum(-1) for own, _ in pieces_of(table)])
    return found


def _go_on_from_best(search: Search, max_iterations: int, goes_on: GoesOn) -> None:
    """Go on from the best of the short runs of parts that are trained by gradient."""
    if search.best is None or not math.isfinite(search.ended[search.best[0]].bound):
        return
    number, best = search.best
    options = dataclasses.replace(search.options, max_iterations=min(LATER_ITERATIONS, max_iterations))
    runs = Runs(search.scratch, search.table, options, [Trace()], [Snapshot(best.state)])
    runs.iterate(options.max_iterations, goes_on, lambda _: False)
    runs.close()
    if runs.traces[0].bounds and runs.traces[0].bounds[-1] >= search.ended[number].bound:
        search.best = number, runs.ended[0]._replace(statistics=None)
