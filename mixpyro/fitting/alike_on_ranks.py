"""What all processes of a fit must be given alike, and what they cannot do."""

import hashlib
from collections.abc import Sequence
from typing import Any

from mixpyro.distributed.groups_of_processes import processes_given
from mixpyro.distributed.processes import Processes
from mixpyro.experts.base import Experts
from mixpyro.fitted_columns import FittedColumns
from mixpyro.fitting.rows_of_fit import RowsOfFit
from mixpyro.fitting.table import Table
from mixpyro.gates.per_object import ObjectGate
from mixpyro.mixture import MixtureOfExperts
from mixpyro.part import Part
from mixpyro.pyro_internals.parameter_store import has_parameters
from mixpyro.tables.layout import Layout


def names_of(starts: object) -> object:
    """Return the names of starts, as arguments that ranks compare.

    Args:
        starts: as for :func:`mixpyro.fit`.
    """
    if not isinstance(starts, Sequence):
        return repr(starts)
    return [getattr(start, "__qualname__", type(start).__qualname__) for start in starts]


def check_alike(processes: Processes, mixture: MixtureOfExperts, given: dict[str, Any]) -> None:
    """Raise unless all ranks fit the same mixture with the same arguments.

    Args:
        processes: of the fit.
        mixture: what shall be fitted.
        given: arguments by their names.

    Raises:
        ValueError: on all ranks, with the arguments that differ.
    """
    said = {name: repr(value) for name, value in given.items()}
    said["mixture"] = " ".join(repr(mixture).split())
    digest = hashlib.sha256()
    for name, value in mixture.state_dict().items():
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    said["parameters of mixture"] = digest.hexdigest()[:16]
    processes.same(said)


def columns_of_all(rows: RowsOfFit, table: Table, processes: Processes | None) -> FittedColumns:
    """Return which columns all processes have.

    Args:
        rows: of this process, or the first row of another where it has none.
        table: of these rows.
        processes: of the fit; None for one.

    Raises:
        ValueError: on all ranks, if they have different columns.
    """
    own = rows.columns(table)
    if processes is None:
        return own
    start = rows.given.tensors.get("initial_responsibilities")
    given = {"x": table.x, "y": table.y, "gate_x": None if own.gate_x is None else table.gate_x}
    said = {
        name: "None" if value is None else f"of shape [N, {', '.join(map(str, value.shape[1:]))}] and {value.dtype}"
        for name, value in (given | {"initial_responsibilities": start}).items()
    }
    said["groups"] = "given" if own.grouped else "None"
    layouts = rows.given.layouts._asdict()
    processes.same(said | {f"columns of {name}": _names_and_levels(layout) for name, layout in layouts.items()})
    flags = processes.objects((own.either, own.grouped, own.missing))
    either, grouped, missing = zip(*flags, strict=True)
    return own._replace(either=all(either), grouped=any(grouped), missing=any(missing))


def _names_and_levels(layout: Layout | None) -> str:
    """Return the names of columns and their levels in words; None is of a table without names."""
    if layout is None:
        return "without names"
    levels = ["" if one is None else f" (levels {', '.join(map(repr, one))})" for one in layout.levels]
    return ", ".join(f"{name!r}{own}" for name, own in zip(layout.names, levels, strict=True)) or "no columns"


def refuse_undistributed(mixture: MixtureOfExperts, most_objects: int) -> None:
    """Raise if a part of a mixture must see all rows at once to be estimated.

    Args:
        mixture: what shall be fitted to rows that no process has all of.
        most_objects: how many every process would have been given all of.

    Raises:
        ValueError: with the part and what to do.
    """
    where = f"on many processes with more than {most_objects} objects"
    for part in (one for one in mixture.modules() if isinstance(one, Part)):
        kind = type(part).__name__
        if isinstance(part, ObjectGate) and has_parameters(part):
            raise ValueError(
                f"`gate` must not learn the mean of a {kind} {where}; got `learn_mean=True`. Use a "
                "MarginalObjectDirichletGate, whose mean is learnt in closed form."
            )
        if part.finds_maximum and part.reads_rows and not getattr(part, "members", ()):
            raise ValueError(
                f"`{'experts' if isinstance(part, Experts) else 'gate'}` must be estimated from sums over the rows "
                f"{where}; got a {kind} with {part.n_parameters} parameters, whose Newton steps read every row."
            )


def refuse_processes(process_group: object, name: str) -> None:
    """Raise if there are many processes, for what is done on one.

    Args:
        process_group: of torch.distributed; None for the default group.
        name: of the function.

    Raises:
        ValueError: if there are.
    """
    if processes_given("process_group", process_group) is not None:
        raise ValueError(
            f"`{name}` must be called in one process; got an initialised process group of several. Use `fit`, each "
            "rank with its rows, or a StreamingFit of batches that lie on all ranks; or call it before the group is "
            "initialised."
        )
