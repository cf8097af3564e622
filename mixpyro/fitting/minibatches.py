"""Fits in minibatches of rows that are all in memory."""

import copy
import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Integer
from torch import Generator, Tensor
from tqdm.auto import tqdm

from mixpyro import arguments
from mixpyro.arguments.module_contents import contents_of
from mixpyro.arguments.signals import undone_if_it_raises, without_interruption
from mixpyro.fitted_columns import FittedColumns
from mixpyro.fitting import em
from mixpyro.fitting.alike_on_ranks import refuse_processes
from mixpyro.fitting.cautions import warn_once
from mixpyro.fitting.findings import degeneracies, warnings_of
from mixpyro.fitting.interrupts import stop_on_request
from mixpyro.fitting.moves.ends import move
from mixpyro.fitting.noises import noise_ratio, unequal_noises
from mixpyro.fitting.optima import options_of
from mixpyro.fitting.outcomes import Optimum, Run
from mixpyro.fitting.provenance import FittedData, versions
from mixpyro.fitting.restarts import Search
from mixpyro.fitting.result import FitResult
from mixpyro.fitting.rows_of_fit import rows_of_fit
from mixpyro.fitting.runs import Options
from mixpyro.fitting.starts import DEFAULT_STARTS, Start
from mixpyro.fitting.stream_limits import refuse_kept_posteriors
from mixpyro.fitting.streaming import StreamingFit
from mixpyro.fitting.table import Table
from mixpyro.gates.per_object import ObjectGate
from mixpyro.groups import GroupIds
from mixpyro.mixture import ExpertsPart, GatePart, MixtureOfExperts
from mixpyro.numerics import nested
from mixpyro.pyro_internals.random_networks import random_networks
from mixpyro.shapes import AnyTable, GateInputs, Inputs, Responsibilities, Targets

# Rows of the sample on which the restarts run, where a batch has fewer.
SAMPLE_ROWS = 5000
# Nats an object by which the bound may change in the last epoch of a fit that has converged.
CHANGE = 1e-3


@arguments.outside_contexts
def fit_minibatches(
    mixture: MixtureOfExperts[GatePart, ExpertsPart],
    x: Inputs | AnyTable,
    y: Targets | AnyTable,
    *,
    batch_size: int,
    gate_x: GateInputs | AnyTable = None,
    weights: Float[Tensor, " N"] | AnyTable = None,
    observed: Integer[Tensor, " N"] | AnyTable = None,
    mask: Bool[Tensor, " N"] | AnyTable = None,
    groups: GroupIds | None = None,
    missing: str = "error",
    n_epochs: int = 5,
    n_restarts: int = 20,
    n_candidates: int = 3,
    starts: Sequence[Start] = DEFAULT_STARTS,
    max_iterations: int = 1000,
    tolerance: float = 1e-7,
    n_gradient_steps: int = 20,
    seed: int = 0,
    progress: bool = True,
) -> FitResult[GatePart, ExpertsPart]:
    """Fit a mixture of experts in minibatches, for more rows than iterations over all of them allow.

    The restarts run on a sample of the rows, as do the moves of a gate that finds how many components there are: with
    such a gate, clusters of which the sample has few rows are not found. Passes of :class:`~mixpyro.StreamingFit` over
    all rows follow, in shuffled batches. Ctrl-C ends the fit after the batch in progress.

    Args:
        mixture: what to fit, in place; it is left as it was if the fit raises.
        x: inputs [N, D], finite, on the mixture's device.
        y: outputs [N, P] or [N], finite, of x's dtype and device.
        batch_size: rows of a minibatch, at least 1.
        gate_x: what the gate reads [N, G], where that is not x.
        weights: how much each row counts [N], at least 0.
        observed: components of rows that are known [N], as for :func:`mixpyro.fit`.
        mask: in which rows they are known [N]; in all by default.
        groups: as for :func:`mixpyro.fit`. A minibatch has whole groups, of ``batch_size`` rows together on average.
        missing: as for :func:`mixpyro.fit`.
        n_epochs: passes over the rows, at least 1.
        n_restarts: how many starts to run from, on the sample.
        n_candidates: starts of one kind that each restart tries, to go on from the best of them.
        starts: ways to draw the first responsibilities, used in round-robin order.
        max_iterations: most iterations of a run on the sample.
        tolerance: of a run on the sample, in nats an object.
        n_gradient_steps: most steps of SVI an iteration on the sample, for what has no closed form.
        seed: of the starts and the batches, at least 0. The global random state is neither used nor changed.
        progress: show a progress bar once a fit has taken two seconds.

    Returns:
        The fitted mixture; its trace has the bound of all rows after each epoch. It has converged if the last epoch
        changed the bound by less than ``CHANGE`` nats an object.

    Raises:
        TypeError: if x or y is no floating tensor.
        ValueError: if a shape, dtype, device or value does not fit, the gate keeps a posterior of each object, or
            ``torch.distributed`` has many processes.
        RuntimeError: if no run on the sample reached a finite bound.
        KeyboardInterrupt: if Ctrl-C comes before the sample has been fitted, or twice.

    Warns:
        RuntimeWarning: if the bound still changed in the last epoch, the fit is degenerate, it was interrupted, a prior
            outweighs the data, the noises of components differ by more than 20 times, or a gate or experts separate the
            rows, so that estimates grow without limit.
    """
    refuse_processes(None, "fit_minibatches")
    progress = arguments.flag("progress", progress)
    batch_size, n_epochs = arguments.integer("batch_size", batch_size), arguments.integer("n_epochs", n_epochs)
    rows = rows_of_fit(mixture, x, y, gate_x, weights=weights, observed=observed, mask=mask, groups=groups)
    table = rows.table(mixture, groups=groups, missing=missing)
    columns = rows.columns(table)
    refuse_kept_posteriors(mixture)
    options = Options(max_iterations, tolerance, n_gradient_steps)
    generator = Generator("cpu").manual_seed(arguments.integer("seed", seed, least=0))
    sample = _sample(table, max(batch_size, SAMPLE_ROWS), generator)
    restarts: dict[str, Any] = {"n_restarts": n_restarts, "n_candidates": n_candidates, "seed": seed}
    described = {"batch_size": batch_size, "n_epochs": n_epochs}

    def fitted(stop_requested: Callable[[], bool]) -> FitResult[GatePart, ExpertsPart]:
        with torch.no_grad(), random_networks(seed):
            search = Search(mixture, sample, options, starts, **restarts)
            result = _fit(search, table, generator, described, stop_requested, progress=progress)
            result = dataclasses.replace(_described(result, search, table, columns), rows=rows.data)
            cautions = _warnings(result, n_epochs) + warnings_of(mixture, table, result.shares)
        warn_once(cautions, None)
        result = dataclasses.replace(result, cautions=tuple(cautions), options={**result.options, **described})
        return cast(FitResult[GatePart, ExpertsPart], result)

    with stop_on_request() as stop_requested:
        return undone_if_it_raises(lambda: fitted(stop_requested), lambda: contents_of(mixture))


def _sample(table: Table, n_rows: int, generator: Generator) -> Table:
    """Return some of the rows whose weight is not zero."""
    counted = table.observed()
    n_objects = max(1, round(n_rows * counted.size / len(counted.x)))
    order = torch.randperm(counted.size, generator=generator, device="cpu").to(table.x.device)
    chosen = order[:n_objects]
    if counted.labels is not None:
        # Objects that say which component is which are few, perhaps.
        known = (counted.labels >= 0)[order].nonzero().squeeze(-1)
        chosen = torch.cat([chosen, order[known[known >= n_objects][:n_objects]]])
    return counted.block(chosen)


def _fit(
    search: Search,
    table: Table,
    generator: Generator,
    described: dict[str, int],
    stop_requested: Callable[[], bool],
    *,
    progress: bool,
) -> FitResult:
    """Fit the sample, then go through all rows; put the state into the search's mixture at the end."""
    mixture, trace, n_epochs = copy.deepcopy(search.mixture), list[float](), described["n_epochs"]
    with tqdm(total=n_epochs, unit="epoch", delay=2.0, disable=not progress, leave=False) as bar:
        stream = _begun(search, mixture, table.n_objects, stop_requested)
        table = table.with_columns(mixture.experts)
        while len(trace) < n_epochs and not stop_requested():
            for rows in _batches(table, described["batch_size"], generator):
                if not stop_requested():
                    stream.learn(table.block(rows))
            bound, responsibilities = _bound_of_all(mixture, table)
            trace.append(bound)
            bar.update()
        if not trace:
            _, responsibilities = _bound_of_all(mixture, table)
        interrupted = stop_requested()
    without_interruption(lambda: search.mixture.load_state_dict(mixture.state_dict()))
    run = Run(
        tuple(trace) or (-float("inf"),), _has_settled(trace, table), degeneracies(mixture, table, responsibilities)
    )
    return FitResult(search.mixture, responsibilities, 0, (run,), table.weights, interrupted)


def _described(result: FitResult, search: Search, table: Table, columns: FittedColumns) -> FitResult:
    """Return the result with what it was made from, and its one optimum; let the mixture know its columns."""
    mixture, run = search.mixture, result.runs[0]
    mixture.fitted_columns = columns
    weighted = table.weighted(result.shares.mT)
    counts, row_counts = weighted.sum(-1), table.of_rows(weighted).sum(-1)
    cautions = tuple(unequal_noises(mixture.experts, row_counts))
    share, ratio = float(counts.amin() / counts.sum()), noise_ratio(mixture.experts, row_counts)
    optimum = Optimum(run.bound, (0,), run.converged, run.degeneracies, cautions, mixture.state(), share, ratio)
    return dataclasses.replace(
        result,
        optima=(optimum,),
        groups=table.groups,
        observed=table.labels,
        data=FittedData.of(table, columns),
        options=options_of(search),
        versions=versions(),
        _template=copy.deepcopy(mixture),
    )


def _begun(
    search: Search, mixture: MixtureOfExperts, n_objects: float, stop_requested: Callable[[], bool]
) -> StreamingFit:
    """Fit the sample from several starts, and return a stream that has seen it."""
    search.go(lambda trace: not stop_requested())
    if not stop_requested():
        move(search, lambda trace: not stop_requested())
    if stop_requested():
        raise KeyboardInterrupt
    search.scratch.hold(search.best_state)
    without_interruption(lambda: mixture.load_state_dict(search.scratch.state_dict()))
    stream = StreamingFit(mixture, n_restarts=0, n_objects=n_objects)
    stream.learn(search.table)
    return stream


def _batches(table: Table, batch_size: int, generator: Generator) -> Sequence[Tensor]:
    """Return shuffled objects in batches of nearly one size: a short one at the end would count too much."""
    order = torch.randperm(table.size, generator=generator, device="cpu").to(table.x.device)
    return order.tensor_split(min(len(order), -(-len(table.x) // batch_size)))


def _bound_of_all(mixture: MixtureOfExperts, table: Table) -> tuple[float, Responsibilities]:
    """Return the bound of all rows and their responsibilities [N, K], objects' posteriors brought up to date."""
    state = nested.stack([mixture.state()])
    if isinstance(mixture.gate, ObjectGate):
        r = em.responsibilities_of(mixture, mixture.state(), table)
        mixture.gate.update(mixture.gate.statistics(table.gate_x, table.weighted(r.mT).mT))
        state = nested.stack([mixture.state()])
    step = em.e_step(mixture, state, table, keep=True)
    assert step.responsibilities is not None
    return float(step.evidence[0]), step.responsibilities[0].mT


def _has_settled(trace: Sequence[float], table: Table) -> bool:
    """Return whether the last epoch has changed the bound by little."""
    changes = [abs(last - before) for before, last in itertools.pairwise(trace)]
    return bool(changes) and changes[-1] < CHANGE * table.n_objects


def _warnings(result: FitResult, n_epochs: int) -> list[str]:
    """Return what a user must know before trusting the result."""
    found = []
    if result.interrupted:
        found.append(f"the fit was interrupted in epoch {result.n_iterations} of {n_epochs}.")
    elif not result.converged:
        found.append(f"the bound still changed in the last of {n_epochs} epochs; raise `n_epochs`.")
    if result.degeneracies:
        found.append(f"the fit is degenerate: {'; '.join(result.degeneracies)}.")
    found += [f"{caution}." for caution in result.optima[0].cautions]
    return found
