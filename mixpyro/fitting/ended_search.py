"""The result of a search that has ended, with what is said of all rows that a process was given."""

import copy
import math

from torch import Tensor

from mixpyro.fitted_columns import FittedColumns
from mixpyro.fitting import em
from mixpyro.fitting.checkpoint import Checkpoint
from mixpyro.fitting.optima import optima_of, options_of
from mixpyro.fitting.pieces import in_pieces
from mixpyro.fitting.provenance import FittedData, versions
from mixpyro.fitting.ranks import Ranks
from mixpyro.fitting.restarts import Search
from mixpyro.fitting.result import FitResult
from mixpyro.fitting.table import Table
from mixpyro.gates.per_object import ObjectGate
from mixpyro.mixture import MixtureOfExperts
from mixpyro.shapes import Responsibilities


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
    if ranks is not None:
        responsibilities = _of_given(search, table, responsibilities, ranks)
    elif table.size > len(responsibilities):
        responsibilities = _assign_all(search.mixture, table, responsibilities)
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
        data=FittedData.of(table if ranks is None else search.table, columns),
        options=options_of(search),
        versions=versions(),
        _template=copy.deepcopy(search.mixture),
    )


def _assign_all(mixture: MixtureOfExperts, table: Table, counted: Tensor) -> Responsibilities:
    """Return responsibilities [N, K] of all rows, those of weight zero too, which had no part in the fit."""
    responsibilities = _with_others(mixture, in_pieces(table), table.counted(), counted)
    if isinstance(mixture.gate, ObjectGate):
        mixture.gate.update(mixture.gate.statistics(table.gate_x, table.weighted(responsibilities.mT).mT))
    return responsibilities


def _with_others(mixture: MixtureOfExperts, table: Table, counted: slice | Tensor, found: Tensor) -> Responsibilities:
    """Return responsibilities of all rows; those of rows that count have the digits that the fit has found."""
    shares = em.responsibilities_of(mixture, mixture.state(), table.with_columns(mixture.experts)).clone()
    shares[counted] = found
    return shares


def _of_given(search: Search, table: Table, held: Responsibilities, ranks: Ranks) -> Responsibilities:
    """Return responsibilities [n, K] of all rows that this rank was given, those of weight zero too."""
    mixture, found = search.mixture, ranks.given(held)
    if len(found) < table.size:
        found = _with_others(mixture, table, table.counted(), found)
    if isinstance(mixture.gate, ObjectGate):
        # Its posterior is of the objects that this rank held in the fit.
        given = ranks.given(mixture.gate.posterior[-1])
        mixture.gate.hold_posterior(mixture.gate.posterior._replace(**{mixture.gate.posterior._fields[-1]: given}))
    return found
