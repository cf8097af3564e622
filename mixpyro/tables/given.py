"""Rows as a caller gave them, made into tensors once, at the door."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mixpyro.arguments import dense, is_dense, shown
from mixpyro.tables import frames
from mixpyro.tables.layout import Layout, Layouts
from mixpyro.tables.returned import RowLabels

# Arguments that are read by columns, and how numbered columns of each are called.
COLUMNS = {"x": "x", "y": "y", "gate_x": "g"}


class Names(NamedTuple):
    """Names of the columns of numbers."""

    x: tuple[str, ...]
    y: tuple[str, ...]
    gate_x: tuple[str, ...]  # those of x where the gate reads x


class GivenRows(NamedTuple):
    """Tensors of what a caller gave, with the names of columns and the labels of rows where they were frames."""

    tensors: dict[str, Any]  # by argument; None for what was not given
    layouts: Layouts = Layouts()
    index: Any = None  # labels of the rows; None where no frame had any
    package: str = ""  # "pandas" or "polars" where a frame was given
    is_series: bool = False  # whether y was a Series, so that a prediction is one

    @property
    def x(self) -> Tensor:
        """Inputs [N, D]."""
        return self.tensors["x"]

    @property
    def y(self) -> Tensor:
        """Outputs [N, P]."""
        y: Tensor = self.tensors["y"]
        return y.unsqueeze(1) if y.ndim == 1 else y

    @property
    def gate_x(self) -> Tensor | None:
        """What the gate reads [N, G]; None where it reads x."""
        return self.tensors.get("gate_x")

    @property
    def labels(self) -> RowLabels:
        """Labels of the rows."""
        return RowLabels(self.package, self.index)

    @property
    def names(self) -> Names:
        """Names of the columns: those of the frames, or numbered ones."""
        x, y = self._names("x"), self._names("y")
        return Names(x, y, x if self.gate_x is None else self._names("gate_x"))

    def _names(self, argument: str) -> tuple[str, ...]:
        """Return the names of an argument's columns."""
        value = self.tensors.get(argument)
        n_columns = 0 if value is None else value.shape[1] if value.ndim > 1 else 1
        return column_names(argument, getattr(self.layouts, argument), n_columns)


def column_names(argument: str, layout: Layout | None, n_columns: int) -> tuple[str, ...]:
    """Return names of columns of numbers: those of a layout, or numbered ones.

    Args:
        argument: "x", "y" or "gate_x".
        layout: of a frame; None where there was none.
        n_columns: how many there are.
    """
    if layout is not None and len(layout.coded_names) == n_columns and all(layout.coded_names):
        return layout.coded_names
    prefix = COLUMNS[argument]
    return ("y",) if argument == "y" and n_columns == 1 else tuple(f"{prefix}{i}" for i in range(n_columns))


def is_plain(value: object) -> bool:
    """Return whether a value needs no conversion: a dense tensor of floats, or nothing.

    Args:
        value: of an argument.
    """
    return value is None or (isinstance(value, Tensor) and value.is_floating_point() and is_dense(value))


def given_rows(
    arguments: Mapping[str, Any], *, known: Layouts | None = None, like: Tensor | None = None, groups: object = None
) -> GivenRows:
    """Return what a caller gave as tensors.

    Numbers of frames, Series, arrays and lists become float64, or the dtype of x or y where one of them is a tensor of
    floats, and float32 where all are arrays of float32. Integers and bools are numbers. One column may have one axis.

    Args:
        arguments: any of x, y, gate_x, weights, observed, mask, probabilities and responsibilities, by name.
        known: the layouts of the fit, empty ones of a fit to no frames; None for a new fit.
        like: a tensor of the model, whose device arrays are put on; the CPU by default.
        groups: ids of the rows, whose index must be that of the frames if they have one.

    Raises:
        TypeError: if one is neither a tensor nor a table, or a column has other values than numbers.
        ValueError: if tables have other columns than the fit, or their rows have different labels.
    """
    if all(map(is_plain, arguments.values())):
        return GivenRows(_with_inputs(dict(arguments)))
    arguments = _with_gate_columns(arguments, known)
    reader = _Reader(arguments, known, like)
    tensors = {name: reader.tensor(name, value) for name, value in arguments.items()}
    if "observed" in tensors:
        tensors["observed"], tensors["mask"] = _labels(tensors["observed"], tensors.get("mask"))
    reader.check_indices(groups)
    return GivenRows(_with_inputs(tensors), reader.layouts, reader.index, reader.package, reader.y_is_series)


def _with_gate_columns(arguments: Mapping[str, Any], known: Layouts | None) -> Mapping[str, Any]:
    """Return the arguments with what the gate reads, where x is a frame that has these columns by name too."""
    x: Any = arguments.get("x")
    if known is None or known.gate_x is None or arguments.get("gate_x", x) is not None or not frames.is_frame(x):
        return arguments
    has_all = set(known.gate_x.names) <= {str(name) for name in x.columns}
    return {**arguments, "gate_x": x} if has_all else arguments


def _with_inputs(tensors: dict[str, Any]) -> dict[str, Any]:
    """Return the tensors with inputs [N, 0] where there are outputs alone: a density of y."""
    y = tensors.get("y")
    if isinstance(y, Tensor) and y.ndim and tensors.get("x", y) is None:
        tensors["x"] = y.new_zeros(len(y), 0)
    return tensors


def numeric_rows(argument: str, value: Any, *, like: Tensor | None = None) -> Any:  # noqa: ANN401 (any value)
    """Return a table of numbers as a tensor [N, D]; any other value as it is.

    Args:
        argument: its name, for messages.
        value: a tensor, a table, or what will be refused elsewhere.
        like: a tensor of the model, whose device the rows are put on; the CPU by default.

    Raises:
        TypeError: if a column has something else than numbers. Only a mixture remembers levels of categories.
    """
    if isinstance(value, Tensor) or not frames.is_table(value):
        return value
    table = frames.read(argument, value)
    columns = [frames.numbers(argument, name, column) for name, column in table.columns.items()]
    array = np.stack(columns, axis=1) if columns else np.empty((len(_rows(value)), 0))
    return torch.from_numpy(array).to("cpu" if like is None else like.device)


class _Reader:
    """Reads the arguments of one call."""

    def __init__(self, arguments: Mapping[str, Any], known: Layouts | None, like: Tensor | None) -> None:
        self.known, self.layouts = known, known or Layouts()
        self.dtype, self.device = _dtype_of(arguments), _device_of(arguments.values(), like)
        self.indices: dict[str, Any] = {}
        self.package, self.y_is_series = "", False

    @property
    def index(self) -> Any:  # noqa: ANN401 (labels of rows)
        """Labels of the rows; None without any."""
        return next(iter(self.indices.values()), None)

    def tensor(self, name: str, value: Any) -> Tensor | None:  # noqa: ANN401 (any table)
        """Return an argument as a tensor."""
        if isinstance(value, Tensor):
            value = dense(name, value)
            is_data = name in ("x", "y", "gate_x", "weights") and not value.is_complex()
            return value if value.is_floating_point() or not is_data else value.to(self.dtype)
        if value is None:
            return None
        if name in ("responsibilities", "initial_responsibilities", "probabilities", "quantiles"):
            array = frames.as_array(name, [value] if isinstance(value, int | float) else value)
            return torch.from_numpy(frames.numbers(name, "", array)).to(self.device, self.dtype)
        table = frames.read(name, value) if frames.is_table(value) else _refuse(name, value)
        self._note(name, table, value)
        if name not in COLUMNS:
            return self._of_rows(name, table)
        return self._columns(name, table, value)

    def _columns(self, name: str, table: frames.Frame, value: object) -> Tensor:
        """Return a tensor of columns."""
        known = None if self.known is None else getattr(self.known, name)
        layout = known
        if known is None or (name == "y" and table.is_series):
            layout = Layout.of(name, table)
            if name == "y" or self.known is not None:
                _refuse_levels(name, layout, table)
        assert layout is not None
        if known is None and table.package:
            self.layouts = self.layouts._replace(**{name: layout})
        coded = layout.coded(name, table)
        n_rows = len(next(iter(table.columns.values()))) if table.columns else len(_rows(value))
        array = np.stack(coded, axis=1) if coded else np.empty((n_rows, 0))
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device, self.dtype)

    def _of_rows(self, name: str, table: frames.Frame) -> Tensor:
        """Return a tensor [N] of one value for each row."""
        if len(table.columns) != 1:
            raise ValueError(f"`{name}` must have one value for each row; got {len(table.columns)} columns.")
        own, column = next(iter(table.columns.items()))
        values = torch.from_numpy(frames.numbers(name, own, column)).to(self.device)
        return values.bool() if name == "mask" else values if name == "observed" else values.to(self.dtype)

    def _note(self, name: str, table: frames.Frame, value: object) -> None:
        """Keep the labels of the rows, and the library of data."""
        if table.index is not None:
            self.indices[name] = table.index
        if name in COLUMNS and table.package:
            self.package = self.package or table.package
            self.y_is_series = self.y_is_series or (name == "y" and table.is_series)

    def check_indices(self, groups: object) -> None:
        """Raise if two tables label the rows differently."""
        own = getattr(groups, "index", None)
        if frames.is_series(groups) and own is not None and not callable(own):
            self.indices["groups"] = own
        first, *others = self.indices.items() or [("", ())]
        for name, index in others:
            if len(index) == len(first[1]) and not frames.same_index(first[1], index):
                raise ValueError(
                    f"`{name}` must have the row labels of `{first[0]}`, in order; got others of the same number. "
                    f"Align them, as by {name}.loc[{first[0]}.index], or pass arrays to go by position."
                )


def _refuse(name: str, value: object) -> frames.Frame:
    """Raise for what is no table."""
    wanted = "a tensor, an array, a list, a DataFrame or a Series"
    raise TypeError(f"`{name}` must be {wanted}; got {type(value).__name__}.")


def _refuse_levels(name: str, layout: Layout, table: frames.Frame) -> None:
    """Raise for a column of levels where none are known: of y, or of a table beside a fit that had none."""
    for own, levels, column in zip(layout.names, layout.levels, table.columns.values(), strict=True):
        if levels is not None and name == "y":
            frames.numbers(name, own, column)
        if levels is not None:
            raise TypeError(
                f"`{name}` must have numbers in column {shown(own)}; got values of dtype {column.dtype}, and the fit "
                "had no levels. Give the columns of the fit."
            )


def _rows(value: Any) -> Any:  # noqa: ANN401 (a table without columns)
    """Return the rows of a table without columns."""
    return value if not hasattr(value, "index") or callable(value.index) else value.index


def _dtype_of(arguments: Mapping[str, Any]) -> torch.dtype:
    """Return the dtype that numbers shall have."""
    data = [arguments[name] for name in COLUMNS if arguments.get(name) is not None]
    for value in data:
        if isinstance(value, Tensor) and value.is_floating_point():
            return value.dtype
    kinds = [str(getattr(value, "dtype", "")) for value in data]
    return torch.float32 if kinds and all(kind == "float32" for kind in kinds) else torch.float64


def _device_of(values: Iterable[object], like: Tensor | None) -> torch.device:
    """Return the device of the first tensor, or that of the model."""
    first = next((value for value in values if isinstance(value, Tensor)), like)
    return torch.device("cpu") if first is None else first.device


def _labels(observed: Tensor | None, mask: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Return known components as integers; numbers that are missing are not known."""
    if observed is None or not observed.is_floating_point():
        return observed, mask
    observed = observed.double()  # which dtypes of eight bits cannot be rounded in
    missing = observed.isnan()
    whole = torch.where(missing, 0.0, observed)
    if bool((whole != whole.round()).any()):
        wrong = whole[whole != whole.round()][0].item()
        raise ValueError(f"`observed` must be whole numbers, or NaN where a component is not known; got {wrong}.")
    if bool(missing.any()):
        mask = ~missing if mask is None else mask & ~missing
    return whole.long(), mask
