"""The rows that a model by formulas is fitted to: finite ones, and cautions on how they were made."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mixpyro.arguments import shown
from mixpyro.experts.families import CensoredGaussian
from mixpyro.frontends.design import Design
from mixpyro.frontends.formula_data import DROP, IGNORE, rows_of
from mixpyro.frontends.formula_model import FormulaModel, FormulaRows

if TYPE_CHECKING:
    import pandas as pd

# Levels of text for each row beyond which it may be numbers that were not read as such.
MOST_LEVELS = 0.5
# Columns that a caution names.
N_NAMED = 3


class Built(NamedTuple):
    """A model, and the rows that it is fitted to."""

    model: FormulaModel
    rows: FormulaRows
    weights: np.ndarray | None
    beside: dict[str, Any]
    dropped: "pd.Index"
    cautions: tuple[str, ...]


def cautions_of(
    argument: str, design: Design | None, data: "pd.DataFrame", columns: "pd.DataFrame | None"
) -> list[str]:
    """Return cautions: on terms of a row that depend on which other rows there are, and on text with many levels.

    Args:
        argument: whose formula it is.
        design: of it; None without.
        data: the rows of the fit.
        columns: that they have, and perhaps others.
    """
    if design is None or columns is None or not design.names:
        return []
    cautions = [
        f"column {name!r} in `{argument}` has text, and each of its {n_levels} levels in {len(data)} rows a "
        f"coefficient. If it should be numbers, use pandas.to_numeric(data[{name!r}], errors='coerce') in its place; "
        f"C({name}) keeps the levels without this warning."
        for name, n_levels in _many_levels(design, data)
    ]
    found = design.rows_that_depend(data, columns[list(design.names)])
    if not found:
        return cautions
    return [
        *cautions,
        f"the value of {', '.join(found)} in `{argument}` depends on which other rows there are, and new rows would be "
        "on another scale. Use a transform that keeps its state, as center(x), scale(x), bs(x, df=4) or poly(x, 2).",
    ]


def _many_levels(design: Design, data: "pd.DataFrame") -> list[tuple[str, int]]:
    """Return columns of text, or of other objects, in which most rows have a level of their own, with how many."""
    states = {str(factor): state for factor, (_, state) in design.spec.encoder_state.items()}
    found = [
        (name, len(states[name]["categories"]))
        for name in design.data_columns
        if "categories" in states.get(name, {}) and data[name].dtype == object
    ]
    return [(name, n_levels) for name, n_levels in found if n_levels > max(2.0, MOST_LEVELS * len(data))]


def finite(built: Built, missing: str) -> Built:
    """Return what was built without the rows in which a term is not a number, if they may be dropped.

    Args:
        built: of all rows without missing values.
        missing: the argument of that name.

    Raises:
        ValueError: if a term is infinite, or is not a number where rows may not be dropped.
    """
    rows = built.rows
    assert rows.y is not None
    frames = {"formula": rows.x, "gate": rows.gate_x, "response": rows.y if missing != IGNORE else None}
    is_nan = np.zeros(len(rows.x), dtype=bool)
    for frame in frames.values():
        if frame is not None:
            is_nan |= np.isnan(frame.to_numpy()).any(1)
    if bool(is_nan.any()):
        if missing != DROP or bool(is_nan.all()):
            raise ValueError(
                f"`formula` must have terms that are numbers; got NaN in {int(is_nan.sum())} rows, "
                f"{shown(rows.x.index[is_nan][0])} among them, as of the logarithm of a number below zero."
            )
        named = [name for name, own in zip(_names(frames), _have_nan(frames), strict=True) if own][:N_NAMED]
        caution = (
            f"{int(is_nan.sum())} rows were dropped in which {', '.join(named)} is not a number, as the logarithm of a "
            "number below zero is not."
        )
        built = _without(built, is_nan)._replace(cautions=(*built.cautions, caution))
    _refuse_infinite(built)
    return built


def _names(frames: Mapping[str, "pd.DataFrame | None"]) -> list[str]:
    """Return the names of all columns."""
    return [str(name) for frame in frames.values() if frame is not None for name in frame.columns]


def _have_nan(frames: Mapping[str, "pd.DataFrame | None"]) -> list[bool]:
    """Return whether each column has NaN."""
    return [bool(one) for frame in frames.values() if frame is not None for one in np.isnan(frame.to_numpy()).any(0)]


def _without(built: Built, lacks: np.ndarray) -> Built:
    """Return what was built for the other rows."""
    kept, rows = ~lacks, built.rows
    of_kept = [None if frame is None else frame.loc[kept] for frame in (rows.x, rows.gate_x, rows.y)]
    groups = None if rows.groups is None else rows_of("groups", rows.groups, kept)
    return built._replace(
        rows=FormulaRows(of_kept[0], of_kept[1], of_kept[2], groups),
        weights=None if built.weights is None else built.weights[kept],
        beside={name: values[kept] for name, values in built.beside.items()},
        dropped=built.dropped.append(rows.x.index[lacks]),
    )


def _refuse_infinite(built: Built) -> None:
    """Raise if a term is infinite, with its name and a row."""
    rows = built.rows
    may_be = isinstance(built.model.family, CensoredGaussian)
    for argument, frame in (("formula", rows.x), ("gate", rows.gate_x), ("formula", None if may_be else rows.y)):
        if frame is None:
            continue
        bad = np.isinf(frame.to_numpy())
        if bool(bad.any()):
            row, column = (int(one[0]) for one in np.nonzero(bad))
            raise ValueError(
                f"`{argument}` must have finite terms; got {int(bad.sum())} infinite values, of "
                f"{shown(frame.columns[column])} in row {shown(frame.index[row])}. Is it the logarithm of zero?"
            )
