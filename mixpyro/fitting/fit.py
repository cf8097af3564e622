"""Variational EM on the full data, with restarts."""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from mixpyro import arguments
from mixpyro.arguments.module_contents import contents_of
from mixpyro.arguments.signals import undone_if_it_raises
from mixpyro.distributed.groups_of_processes import processes_given
from mixpyro.distributed.processes import Processes
from mixpyro.distributed.rows import on
from mixpyro.fitted_columns import FittedColumns
from mixpyro.fitting import em
from mixpyro.fitting.alike_on_ranks import check_alike, columns_of_all, names_of, refuse_undistributed
from mixpyro.fitting.cautions import cautions_of, warn_once
from mixpyro.fitting.checkpoint import Checkpoint
from mixpyro.fitting.ended_search import result_of
from mixpyro.fitting.findings import warnings_of
from mixpyro.fitting.given_up import finish_if_suspicious
from mixpyro.fitting.interrupts import stop_on_request
from mixpyro.fitting.moves.ends import move
from mixpyro.fitting.not_finite import not_finite
from mixpyro.fitting.on_all_ranks import on_all_ranks
from mixpyro.fitting.ranks import Ranks, rows_in_blocks, rows_to_check
from mixpyro.fitting.restarts import Search
from mixpyro.fitting.result import FitResult
from mixpyro.fitting.rows_of_fit import RowsOfFit, rows_of_fit
from mixpyro.fitting.runs import Options
from mixpyro.fitting.same_rows import same_rows
from mixpyro.fitting.starts import DEFAULT_STARTS, GivenResponsibilities, Start
from mixpyro.fitting.table import Table, checked_mixture
from mixpyro.fitting.watched import watched
from mixpyro.groups import GroupIds
from mixpyro.labels import with_known
from mixpyro.mixture import ExpertsPart, GatePart, MixtureOfExperts
from mixpyro.pyro_internals.random_networks import random_networks
from mixpyro.shapes import AnyTable, GateInputs, Inputs, Responsibilities, Targets


@on_all_ranks
def fit(
    mixture: MixtureOfExperts[GatePart, ExpertsPart],
    x: Inputs | AnyTable,
    y: Targets | AnyTable,
    *,
    gate_x: GateInputs | AnyTable = None,
    weights: Float[Tensor, " N"] | AnyTable = None,
    observed: Integer[Tensor, " N"] | AnyTable = None,
    mask: Bool[Tensor, " N"] | AnyTable = None,
    groups: GroupIds | None = None,
    missing: str = "error",
    n_restarts: int = 20,
    n_candidates: int = 3,
    starts: Sequence[Start] = DEFAULT_STARTS,
    initial_responsibilities: Float[Tensor, "objects K"] | AnyTable = None,
    max_iterations: int = 1000,
    tolerance: float = 1e-7,
    n_gradient_steps: int = 20,
    n_annealing: int = 0,
    seed: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_seconds: float = 30.0,
    progress: bool = True,
    process_group: object = None,
) -> FitResult[GatePart, ExpertsPart]:
    """Fit a mixture of experts by variational EM, from several starts, and keep the best.

    An iteration computes the responsibilities and the bound, then the conjugate updates of gate and experts, then
    Pyro's SVI on the parameters that have no closed form (a network, a learnt prior). The bound never falls, rounding
    apart, if a network is a function of its parameters: no dropout in training mode. A run stops when what is left to
    gain, extrapolated from the last three bounds (Aitken), is below ``tolerance`` nats an object. For more rows than
    iterations over all of them allow, see :func:`fit_minibatches`.

    A run that is slow near its optimum is accelerated: its iterations are extrapolated by Anderson's method, and a
    state of a lower bound is not taken. Its E-step is an iteration too, which repeats the bound before. Parts that SVI
    trains, gates with a posterior of each object and gates with one of their coefficients are not accelerated.

    Pyro's parameter store, its settings and the global random state are as before afterwards. Fits in several threads
    wait for each other where they use SVI, and no other Pyro program may run beside them. Dropout in training mode
    draws from a generator of the fit's own, from ``seed``.

    A fit is the same to the last digit with one number of threads of PyTorch; with another, GLM experts and networks
    agree to rounding. Processes beside it should be spawned: after operations in several threads a forked child hangs,
    as in plain PyTorch.

    Ctrl-C ends the fit with what it has, under ``asyncio.run`` too; a second one, at once, with nothing: it leaves the
    mixture as it was. A fit with a ``checkpoint`` that was
    ended by whatever means goes on from there when it is called again with the same arguments, and ends as if it had
    not been interrupted.

    Where ``torch.distributed`` is initialised with several processes, each of them passes rows of its own, perhaps
    none, and the same other arguments: one fit of all rows in the order of the ranks, with the digits of one process.
    Every rank has the result, with the responsibilities of its own rows. An error on one rank ends all. The checkpoint
    is a file of rank 0, and goes on with any number of processes. Up to 131072 objects go to every rank, which computes
    the same from all of them. See :mod:`mixpyro.distributed`.

    Args:
        mixture: what to fit, in place; it is left as it was if the fit raises.
        x: inputs [N, D], finite, on the mixture's device.
        y: outputs [N, P] or [N], finite, of x's dtype and device.
        gate_x: what the gate reads [N, G], where that is not x: other columns, or none.
        weights: how much each row counts [N], at least 0; a row of weight three is three rows. Not for the mean-field
            per-object gate, where three objects are not one.
        observed: components that are known [N], integers from 0 to K − 1: component k of the mixture. A row of a known
            component has a q(z) that is certain, and its E log π + E log p(y | k) enters the bound. A start is put in
            the order of components that agrees best with them.
        mask: in which rows they are known, bool [N]; in all by default. Values of ``observed`` in other rows are not
            read. A group is of the component of its known rows.
        groups: an id of the group of each row [N], hashable: a tensor or array of numbers, a list, a column of a frame.
            All rows of a group have one component, drawn for the group: a patient, a firm, a centre. Everything that
            is said of objects is said of groups then, in the order of their first rows; ``result.groups`` has them.
            The gate reads one row of a group, so ``gate_x`` must not vary within one, nor ``weights``: a group of
            weight three is three groups. A group of one row is a row without groups.
        missing: "ignore" where NaN in y is an output that was not observed, at random given what was. A row without any
            y is assigned by the gate, or by the other rows of its group, and nothing else depends on it: its weight in
            the result is 0 if it is an object, unless its component is known. Of a row with some outputs,
            GaussianExperts and LinearExperts take what is there; a missing one has a Normal q of its own, and counts as
            seen in the spreads of the posterior. HeterogeneousOutputs, with a bank for each output, leave it out.
            "error" where NaN is an error. Values of x and ``gate_x`` are never missing.
        n_restarts: how many starts to run from, at least 1. No start is run twice: there are fewer runs where there are
            fewer different starts, as for K = 1. A network's weights are the same in each of them.
        n_candidates: starts of one kind that each restart tries for a few iterations, to go on from the best of them;
            Biernacki, Celeux, Govaert (2003), Choosing starting values for the EM algorithm.
        starts: kinds of start, which draw the first responsibilities. The restarts use them in round-robin order; see
            :mod:`mixpyro.fitting.starts`.
        initial_responsibilities: a start of your own [N, K], a row for each object, non-negative, which ``observed``
            overrides; it is the only one then.
        max_iterations: most iterations of a run, at least 1.
        tolerance: in nats an object, at least 0. In float32 the tolerance is never below rounding.
        n_gradient_steps: most steps of SVI an iteration, by L-BFGS, for what has no closed form.
        n_annealing: iterations before the first, in which responsibilities are tempered: flat at first, then less so.
        seed: of the starts, at least 0. Same seed and same mixture, same result; the global random state is neither
            used nor changed. Coefficients of Bayesian gates, means that a gate learns, scales of experts and networks
            start from where they are: another fit of a fitted mixture agrees with the first to the tolerance, with
            networks perhaps not. To repeat a fit exactly, copy the mixture before the first one.
        checkpoint: a file to write the state of the fit to, and to go on from if it exists and is of this very fit: of
            the same data, options, starts and mixture, with all that functions in these read.
        checkpoint_seconds: least time between two writes of it, at least 0.
        progress: show a progress bar once a fit has taken two seconds.
        process_group: of torch.distributed; the default group if that is initialised.

    Returns:
        The fitted mixture with the bound, its trace, the responsibilities and what each restart reached.

    Raises:
        TypeError: if x or y is no floating tensor, ``observed`` none of integers, or ``mask`` none of bool.
        ValueError: if a shape, dtype, device or value does not fit, N = 0, or the checkpoint is of another fit.
        RuntimeError: if no run reached a finite bound.
        KeyboardInterrupt: if Ctrl-C comes before there is anything to end with, or twice.

    Warns:
        RuntimeWarning: if the best run has not converged, if every run is degenerate, if one that was not chosen has a
            higher bound, if only one of several reached the best bound, if a gate or experts separate the rows, so that
            estimates grow without limit, if a prior outweighs the data, if the noises of components differ by more than
            20 times, if log densities of the rows are not finite, or if the fit was interrupted. The result keeps them
            as ``cautions``.

    References:
        Bishop (2006), Pattern Recognition and Machine Learning, section 10.2;
        McLachlan, Peel (2000), Finite Mixture Models, section 2.11 (the stopping rule);
        Henderson, Varadhan (2019), Damped Anderson acceleration with restarts and monotonicity control for accelerating
        EM and EM-like algorithms, J. Comput. Graph. Statist. 28.
    """
    given: dict[str, Any] = {"weights": weights, "observed": observed, "mask": mask}
    given["initial_responsibilities"] = initial_responsibilities
    options: dict[str, Any] = {"max_iterations": max_iterations, "tolerance": tolerance}
    options |= {"n_gradient_steps": n_gradient_steps, "n_annealing": n_annealing}
    restarts = {"n_restarts": n_restarts, "n_candidates": n_candidates, "seed": seed}
    processes = processes_given("process_group", process_group)
    together = contextlib.nullcontext if processes is None else processes.together
    with together():
        progress, _ = arguments.flag("progress", progress), checked_mixture(mixture)

    def fitted(stop_requested: Callable[[], bool]) -> FitResult[GatePart, ExpertsPart]:
        with together(), random_networks(arguments.integer("seed", seed, least=0)), torch.no_grad():
            rows = rows_of_fit(mixture, x, y, gate_x, groups=groups, **given)
            found = _prepared(mixture, rows, groups, missing, starts, options, restarts, processes, checkpoint)
            search, table, columns, ranks = found
            seconds = arguments.positive_number("checkpoint_seconds", checkpoint_seconds, zero=True)
            kept = None if checkpoint is None else Checkpoint(checkpoint, search, seconds=seconds)
            interrupted = _run(search, kept, stop_requested, progress)
            result = result_of(search, table, columns, kept, interrupted, ranks)
            result = dataclasses.replace(result, rows=rows.data)
            cautions = _cautions(result, search, table, ranks)
        warn_once(cautions, processes)
        result = dataclasses.replace(result, cautions=tuple(cautions))
        return cast(FitResult[GatePart, ExpertsPart], result)

    with stop_on_request() as stop_requested:
        return undone_if_it_raises(lambda: fitted(stop_requested), lambda: contents_of(mixture))


def _prepared(
    mixture: MixtureOfExperts,
    rows: RowsOfFit,
    groups: GroupIds | None,
    missing: str,
    starts: Sequence[Start],
    options: dict[str, Any],
    restarts: dict[str, int],
    processes: Processes | None,
    checkpoint: object,
) -> tuple[Search, Table, FittedColumns, Ranks | None]:
    """Return the search of a fit, all rows that this process was given, their columns, and how they lie on the ranks.

    Raises:
        TypeError: if an argument has another type.
        ValueError: if one does not fit.
    """
    if processes is not None:
        own: dict[str, Any] = {**options, **restarts, "missing": missing, "starts": names_of(starts)}
        check_alike(processes, mixture, own | {"checkpoint": "none" if checkpoint is None else "a file"})
    checked, ids, has_rows = rows_to_check(rows, groups, processes)
    with on(processes, counted=has_rows):
        table = checked.table(mixture, groups=ids, missing=missing)
    columns = columns_of_all(checked, table, processes)
    start = checked.given.tensors["initial_responsibilities"]
    if start is not None:
        table = table._replace(start=_checked_start(start, mixture.n_components, table))
    table = table if has_rows else table.block(slice(0, 0))
    ranks, counted = rows_in_blocks(table, processes)
    if processes is not None and counted.blocks_of_all is not None:
        refuse_undistributed(mixture, counted.blocks_of_all.size)
    own = {**restarts, "processes": processes}
    if counted.start is not None:
        starts, own = [GivenResponsibilities(counted.start)], {**own, "n_restarts": 1, "n_candidates": 1}
    return Search(mixture, counted, Options(**options), starts, **own), table, columns, ranks


def _cautions(result: FitResult, search: Search, table: Table, ranks: Ranks | None) -> list[str]:
    """Return what a user must know before trusting the result, in words."""
    # The rows that count in the search, of many processes those that are held.
    judge = search.mixture if ranks is None else search.scratch
    shares = _shares(search, result, table, ranks)
    found = cautions_of(result, search.n_restarts) + warnings_of(judge, search.table, shares)
    found += not_finite(judge, table, result.shares, search.processes)
    return found + same_rows(table, search.processes)


def _run(search: Search, checkpoint: Checkpoint | None, stop_requested: Callable[[], bool], progress: bool) -> bool:
    """Make the runs; return whether Ctrl-C ended them."""
    with watched(search, stop_requested, progress=progress, checkpoint=checkpoint) as goes_on:
        search.go(goes_on)
        if checkpoint is not None and not search.stopped:
            checkpoint.hold()
        if not search.stopped:
            finish_if_suspicious(search, goes_on)
        if not search.stopped:
            move(search, goes_on)
        return search.stopped


def _checked_start(start: Tensor, n_components: int, table: Table) -> Tensor:
    """Return the caller's responsibilities, certain where components are known, if a run can begin with them."""
    name = "initial_responsibilities"
    arguments.responsibilities(start, n_components, table.size, name=name)
    start = with_known(start, table.labels)
    if bool((start.sum(-1) <= 0).any()):
        raise ValueError(f"`{name}` must have a positive sum in every row; got a row of zeros.")
    if n_components > 1 and bool((start == start[:, :1]).all()):
        raise ValueError(f"`{name}` must differ between components; got equal ones, a saddle that no update leaves.")
    return start.detach()


def _shares(search: Search, result: FitResult, table: Table, ranks: Ranks | None) -> Responsibilities:
    """Return the responsibilities of what :func:`warnings_of` reads."""
    if ranks is None:
        return result.shares[table.counted()]
    search.scratch.hold(search.best_state)
    return em.responsibilities_of(search.scratch, search.best_state, search.table)
