"""The result of a search that has ended, with what is said of all rows that a process was given."""

import copy
import math

from mixpyro.fitted_columns import FittedColumns
from mixpyro.fitting.checkpoint import Checkpoint
from mixpyro.fitting.given_objects import shares_of_given, state_of_given
from mixpyro.fitting.optima import optima_of, options_of
from mixpyro.fitting.provenance import FittedData, versions
from mixpyro.fitting.ranks import Ranks
from mixpyro.fitting.restarts import Search
from mixpyro.fitting.result import FitResult
from mixpyro.fitting.table import Table
from mixpyro.gates.per_object import ObjectGate


def result_of(
    search: Search,
    table: Table,
    columns: FittedColumns,
    checkpoint: Checkpoint | None,
    interrupted: bool,
    ranks: Ranks | None,
) -> FitResult:
    """Put the best run's state into the user's mixture, and return the result.

    Args:
        search: that has ended.
        table: all rows that this process was given, those of weight zero too.
        columns: which columns they have.
        checkpoint: of the search; None where there is none.
        interrupted: whether Ctrl-C ended the runs.
        ranks: how the rows lie on the ranks; None where one process has all.

    Raises:
        KeyboardInterrupt: if Ctrl-C came before any run had a finite bound.
        RuntimeError: if no run reached a finite bound.
    """
    if interrupted and not any(math.isfinite(run.bound) for run in search.ended):
        raise KeyboardInterrupt
    best, responsibilities = search.adopt()
    search.mixture.fitted_columns = columns
    if checkpoint is not None:
        checkpoint.write_final()
    responsibilities = shares_of_given(search.mixture, table, responsibilities, ranks)
    if isinstance(search.mixture.gate, ObjectGate):
        search.mixture.hold(state_of_given(search.mixture, table, search.mixture.state(), ranks))
    n_rows = len(table.x) if ranks is None else sum(ranks.processes.numbers(len(table.x)))
    n_processes = 1 if ranks is None else ranks.processes.size
    return FitResult(
        search.mixture,
        responsibilities,
        best,
        tuple(search.ended),
        weights=table.weights,
        observed=table.labels,
        groups=table.groups,
        interrupted=interrupted,
        optima=optima_of(search, table, ranks),
        data=FittedData.of(search.table, columns, n_rows=n_rows, n_processes=n_processes),
        options=options_of(search),
        versions=versions(),
        _template=copy.deepcopy(search.mixture),
    )
