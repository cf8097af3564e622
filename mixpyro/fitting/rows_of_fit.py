"""The rows that a fit is given: tables become tensors once, and their names are kept."""

import dataclasses
from typing import Any, NamedTuple

from mixpyro.fitted_columns import FittedColumns
from mixpyro.fitting.result import FitResult
from mixpyro.fitting.table import Table, checked_mixture, checked_table
from mixpyro.mixture import MixtureOfExperts
from mixpyro.tables.door import first_tensor
from mixpyro.tables.given import COLUMNS, GivenRows, given_rows
from mixpyro.tables.layout import Layouts

# Columns that a message lists.
N_LISTED = 12
# What says how many columns there are.
SIZES = {
    "x": "`n_features` of the experts and of a gate that reads x",
    "y": "`n_outputs` of the experts",
    "gate_x": "`n_features` of the gate",
}


class RowsOfFit(NamedTuple):
    """What a fit was given, as tensors, with the names of columns."""

    given: GivenRows

    def table(self, mixture: MixtureOfExperts, *, groups: object, missing: object, new_fit: bool = True) -> Table:
        """Return the rows that the fit works on, if they fit the mixture and each other.

        Args:
            mixture: what shall be fitted.
            groups: an id of the group of each row [N]; None where every row is an object.
            missing: "ignore" where NaN in y was not observed, else "error".
            new_fit: whether the columns may be others than those of the last fit.
        """
        own = self.given.tensors
        labels = {"observed": own.get("observed"), "mask": own.get("mask")}
        options: dict[str, Any] = {"groups": groups, "missing": missing, "new_fit": new_fit, **labels}
        try:
            return checked_table(mixture, own["x"], own["y"], own["gate_x"], own.get("weights"), **options)
        except ValueError as error:
            raise ValueError(f"{error}{self._columns_in_words(str(error))}") from error

    def _columns_in_words(self, message: str) -> str:
        """Return what to add to a message about the shape of a frame: its columns."""
        argument = message.split("`")[1] if message.startswith("`") else ""
        if not self.given.package or "must have shape" not in message or argument not in COLUMNS:
            return ""
        names = getattr(self.given.names, argument)
        listed = ", ".join(names[:N_LISTED]) + ", …" * (len(names) > N_LISTED)
        layout = getattr(self.given.layouts, argument)
        has_levels = layout is not None and any(own is not None for own in layout.levels)
        coding = ", a category or text as one for each level but the first" if has_levels else ""
        advice = "" if 0 in self.given.tensors[argument].shape else f" Choose among them, or set {SIZES[argument]}."
        return f" Its columns are {listed}{coding}.{advice}"

    def columns(self, table: Table) -> FittedColumns:
        """Return which columns these are.

        Args:
            table: of these rows.
        """
        own, grouped = self.given.tensors, table.groups is not None
        layouts = self.given.layouts
        return FittedColumns.of(own["x"], own["gate_x"], grouped=grouped, missing=table.misses, layouts=layouts)

    @property
    def data(self) -> GivenRows:
        """x, y and gate_x with their names, as a result keeps them: the caller's own tensors, not copies."""
        kept = {name: self.given.tensors[name] for name in ("x", "y", "gate_x")}
        return self.given._replace(
            tensors={name: value if value is None else value.detach() for name, value in kept.items()}
        )


def with_names_of(result: FitResult, given: GivenRows) -> FitResult:
    """Return a result of a fit to tensors with the names of the frames that these were made from.

    Args:
        result: of a fit; its mixture gets the names too.
        given: the frames as tensors.
    """
    if not given.package or result.rows is None:
        return result
    columns = result.mixture.fitted_columns
    if columns is not None:
        result.mixture.fitted_columns = columns._replace(layouts=given.layouts)
    return dataclasses.replace(result, rows=given._replace(tensors=result.rows.tensors))


def rows_of_fit(
    mixture: object,
    x: object,
    y: object,
    gate_x: object,
    *,
    known: Layouts | None = None,
    groups: object = None,
    **others: object,
) -> RowsOfFit:
    """Return what a fit was given as tensors.

    Args:
        mixture: what shall be fitted.
        x: inputs [N, D], or a table of them; None for none.
        y: outputs [N, P] or [N], or a table of them.
        gate_x: what the gate reads [N, G], or a table of it; None for x.
        known: names of the columns of batches before; None for a new fit.
        groups: ids of the rows, for their row labels.
        **others: weights, observed, mask, and responsibilities to begin with.

    Raises:
        TypeError: if the mixture is none, or an argument is neither a tensor nor a table.
        ValueError: if tables do not fit each other, or the batches before.
    """
    like = first_tensor(checked_mixture(mixture))
    data = {"x": x, "y": y, "gate_x": gate_x, **others}
    return RowsOfFit(given_rows(data, known=known, like=like, groups=groups))
