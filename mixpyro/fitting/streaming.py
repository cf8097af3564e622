"""Variational EM on a stream of batches: natural-gradient steps for posteriors, Newton's or Adam's for estimates."""

import contextlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from mixpyro import arguments
from mixpyro.arguments.signals import undone_if_it_raises
from mixpyro.distributed.groups_of_processes import FoundAtLoading, processes_given
from mixpyro.distributed.rows import on
from mixpyro.fitting.alike_on_ranks import check_alike, columns_of_all
from mixpyro.fitting.cautions import warn_once
from mixpyro.fitting.first_batch import FirstBatch, fit_first_batch
from mixpyro.fitting.interrupts import stop_on_request
from mixpyro.fitting.pieces import in_pieces
from mixpyro.fitting.ranks import rows_in_blocks, rows_to_check
from mixpyro.fitting.rows_of_fit import rows_of_fit
from mixpyro.fitting.same_rows import same_rows
from mixpyro.fitting.stream_limits import refuse_kept_posteriors
from mixpyro.fitting.stream_steps import reads_rows
from mixpyro.fitting.stream_updates import StreamUpdates
from mixpyro.fitting.table import Table, checked_mixture
from mixpyro.groups import GroupIds
from mixpyro.mixture import MixtureOfExperts
from mixpyro.numerics.step_sizes import RobbinsMonro
from mixpyro.pyro_internals.random_networks import random_networks
from mixpyro.shapes import AnyTable, GateInputs, Inputs, Targets
from mixpyro.tables.door import layouts_of


class GivenBatch(NamedTuple):
    """A batch as a user gives it; see :meth:`StreamingFit.partial_fit`."""

    x: object
    y: object
    gate_x: object = None
    groups: object = None
    missing: str = "error"
    given: Mapping[str, Any] = MappingProxyType({})  # weights and known components, by argument


class StreamingFit(StreamUpdates):
    """Fit a mixture to a stream of batches, in memory that does not grow with the stream.

    The first batch is fitted in full, from several starts: make it large enough to show every component. Those that it
    lacks are found where rows of later batches are badly explained: components that are needed least take them, if that
    raises the bound of a sample of the rows so far. None is looked for where components of rows are known, and where
    the mixture has networks, or regressions whose components share estimates. Each later batch gives responsibilities
    under the posteriors so far; its statistics per row enter a running average, and the conjugate posteriors follow
    from N times that average, a natural-gradient step. Parameters go part of the way along a step of Newton's method on
    the batch, where their part has one. Else they take a step of Adam on the bound, its data term counted N / B times,
    with a rate that falls as the step sizes do.

    A stream can be pickled between two batches, and goes on from there: in the process that loads it, or in all of the
    default group of processes where it is initialised and each of them loads the file.

    Args:
        mixture: what to fit, in place. Its gate must not keep a posterior of each object.
        n_objects: N, how many rows, or what sum of weights, the posteriors shall speak of; by default those seen.
        step_size: of the running average, a number in (0, 1] or a function of the step's number, from one on.
        lr: step size of Adam at the first step.
        n_restarts: for the first batch; 0 to begin with the posteriors that the mixture has.
        max_iterations: most iterations of a run on the first batch, at least 1.
        seed: of the restarts.
        progress: show a progress bar once the search on the first batch has taken two seconds.
        process_group: of torch.distributed; the default group if that is initialised. A batch is then that of all
            ranks, each of which passes a part, perhaps none; all ranks have all of it where a part of the mixture reads
            every row.

    Attributes:
        n_steps: batches seen, the first not counted.
        n_seen: rows seen, or the sum of their weights.

    Warns:
        RuntimeWarning: if a component is empty in the first batch, or a gate or experts separate its rows; if the gate
            is one whose components a fit merges, deletes and splits, which a stream does not.

    Raises:
        TypeError: if the mixture is none.
        ValueError: if the gate keeps a posterior of each object, or an argument is out of range.

    References:
        Hoffman, Blei, Wang, Paisley (2013), Stochastic variational inference, fig. 4;
        Cappé, Moulines (2009), On-line expectation-maximization algorithm for latent data models, eq. 8.

    Example:
        >>> from mixpyro import DirichletGate, LinearExperts
        >>> mixture = MixtureOfExperts(DirichletGate(1), LinearExperts(1, n_features=1))
        >>> stream = StreamingFit(mixture)
        >>> for start in range(0, 100, 20):
        ...     x = torch.arange(start, start + 20).double().unsqueeze(1) / 100
        ...     stream = stream.partial_fit(x, 1 - x + 0.1 * torch.sin(50 * x))
        >>> stream.n_seen, mixture.gate.posterior_concentration.tolist()
        (100.0, [101.0])
    """

    @arguments.declared
    def __init__(
        self,
        mixture: MixtureOfExperts,
        *,
        n_objects: float | None = None,
        step_size: float | Callable[[int], float] = RobbinsMonro(),  # noqa: B008 (frozen)
        lr: float = 0.01,
        n_restarts: int = 20,
        max_iterations: int = 1000,
        seed: int = 0,
        progress: bool = True,
        process_group: object = None,
    ) -> None:
        self.processes = processes_given("process_group", process_group)
        refuse_kept_posteriors(checked_mixture(mixture))
        super().__init__(
            mixture,
            n_objects=None if n_objects is None else arguments.positive_number("n_objects", n_objects),
            step_size=arguments.step_sizes(step_size),
            lr=arguments.positive_number("lr", lr),
            seed=arguments.integer("seed", seed, least=0),
        )
        self.n_restarts = arguments.integer("n_restarts", n_restarts, least=0)
        self.max_iterations = arguments.integer("max_iterations", max_iterations)
        self.progress = arguments.flag("progress", progress)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "processes": FoundAtLoading(self.processes)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, processes=state["processes"].processes)

    def partial_fit(
        self,
        x: Inputs | AnyTable,
        y: Targets | AnyTable,
        *,
        gate_x: GateInputs | AnyTable | None = None,
        weights: Float[Tensor, " N"] | AnyTable | None = None,
        observed: Integer[Tensor, " N"] | AnyTable | None = None,
        mask: Bool[Tensor, " N"] | AnyTable | None = None,
        groups: GroupIds | None = None,
        missing: str = "error",
    ) -> "StreamingFit":
        """Learn from one batch, and return this object.

        A batch that is refused or interrupted leaves this object and the mixture as they were. Ctrl-C ends the search
        on the first batch with what it has.

        Args:
            x: inputs [B, D].
            y: outputs [B, P] or [B].
            gate_x: what the gate reads [B, G], where that is not x.
            weights: how much each row counts [B], at least 0.
            observed: components of rows that are known [B], as for :func:`mixpyro.fit`.
            mask: in which rows they are known [B]; in all by default.
            groups: an id of the group of each row [B], as for :func:`mixpyro.fit`; all batches have groups, or none. A
                group must be in one batch as a whole: a part of it in a later batch is taken as another group. Where
                there are groups, ``n_objects`` and ``n_seen`` count groups.
            missing: as for :func:`mixpyro.fit`. Objects without any y are not counted.

        Raises:
            TypeError: if one is no floating tensor.
            ValueError: if a shape, dtype, device or value does not fit, the columns are not those of the batches
                before, or the values are too large.
            RuntimeError: if no run on the first batch reached a finite bound.
            KeyboardInterrupt: if Ctrl-C comes before there is anything to end with, or twice.
        """
        given = {"weights": weights, "observed": observed, "mask": mask}
        batch = GivenBatch(x, y, gate_x, groups, missing, given)

        def learn(stop_requested: Callable[[], bool]) -> StreamingFit:
            warn_once(self.learn_rows(batch, stop_requested), self.processes)
            return self

        if self.n_seen or not self.n_restarts:
            # Later batches are short, and Ctrl-C leaves them at once.
            return undone_if_it_raises(lambda: learn(_never), self.kept)
        with stop_on_request() as stop_requested:
            return undone_if_it_raises(lambda: learn(stop_requested), self.kept)

    @arguments.outside_contexts
    def learn_rows(self, batch: GivenBatch, stop_requested: Callable[[], bool]) -> list[str]:
        """Learn from the rows of one batch, or from those of this rank; return what a user must know, in words.

        Args:
            batch: not checked yet.
            stop_requested: whether Ctrl-C was pressed, which ends the search on the first batch.
        """
        together = contextlib.nullcontext() if self.processes is None else self.processes.together()
        named = arguments.renamed(statistics="x")  # of rows whose squares leave float64
        with together, named, random_networks(self.seed + self.n_steps):
            return self._learn_rows(batch, stop_requested)

    def _learn_rows(self, batch: GivenBatch, stop_requested: Callable[[], bool]) -> list[str]:
        new_fit = not self.n_seen and self.n_restarts > 0
        known = None if new_fit else self.mixture.fitted_columns
        layouts = None if known is None else layouts_of(self.mixture)
        x, y, gate_x, given_groups, missing, given = batch
        if self.processes is not None:
            check_alike(self.processes, self.mixture, {"missing": missing, **self._options()})
        rows = rows_of_fit(self.mixture, x, y, gate_x, known=layouts, groups=given_groups, **given)
        checked, groups, has_rows = rows_to_check(rows, given_groups, self.processes)
        with on(self.processes, counted=has_rows):
            table = checked.table(self.mixture, groups=groups, missing=missing, new_fit=new_fit)
        grouped = table.groups is not None
        if known is not None and grouped and not known.grouped:
            raise ValueError("`groups` must be None, as in the batches before; got groups.")
        columns = columns_of_all(checked, table, self.processes).after(known)
        if self.processes is not None and not has_rows:
            table = table.block(slice(0, 0))
        repeated = same_rows(table, self.processes) if new_fit and self.processes is not None else []
        try:
            cautions = self.learn(self._in_blocks(table), stop_requested)
        except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
            raise ValueError(
                f"`x` and `y` must allow a finite posterior; got rows of which a matrix has no factors ({error}). "
                "Scale the columns to unit order, or drop columns that are linear combinations of others."
            ) from error
        self.mixture.fitted_columns = columns
        return cautions + repeated

    def _in_blocks(self, table: Table) -> Table:
        """Return the rows that this process learns from, of one that was given some, in blocks."""
        whole = reads_rows(self.mixture)
        if self.processes is not None:
            return rows_in_blocks(table, self.processes, whole=whole)[1]
        seen = table.observed() if table.misses else table
        return seen if whole else in_pieces(seen)

    def _options(self) -> dict[str, object]:
        """Return what all ranks must have alike."""
        own: dict[str, object] = {
            "n_objects": self.n_objects,
            "lr": self.lr,
            "seed": self.seed,
            "batches before": self.n_steps,
        }
        return own | {"n_restarts": self.n_restarts, "max_iterations": self.max_iterations}

    @torch.no_grad()
    def learn(self, table: Table, stop_requested: Callable[[], bool] | None = None) -> list[str]:
        """Learn from a batch that has been checked, and return what a user must know, in words.

        Args:
            table: the batch.
            stop_requested: whether Ctrl-C was pressed, which ends the search on the first batch.
        """
        cautions: list[str] = []
        if not self.n_seen and self.n_restarts:
            limits = FirstBatch(self.n_restarts, self.max_iterations, self.seed, self.progress)
            cautions = fit_first_batch(self.mixture, table, limits, stop_requested or _never, self.processes)
        if table.n_objects:
            self.step(table)
        return cautions


def _never() -> bool:
    """Return that no stop is requested."""
    return False
