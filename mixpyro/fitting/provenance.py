"""What a fit was made from: its data and the versions of the libraries."""

import importlib
import platform
from dataclasses import dataclass

import pyro
import torch

from mixpyro.fitted_columns import FittedColumns
from mixpyro.fitting.stopping import least_tolerance
from mixpyro.fitting.table import Table

# Nats by which the bounds of two runs that stopped at one optimum may differ, at least.
LEAST_DIFFERENCE = 1e-3


@dataclass(frozen=True)
class FittedData:
    """The data of a fit, described without keeping them.

    Attributes:
        n_rows: N.
        n_objects: N, or the sum of the weights.
        n_features: D, columns of x.
        n_outputs: P, columns of y.
        n_gate_features: G, columns of the gate's own inputs; None where the gate read x.
        dtype: of x and y.
        device: of x and y.
        feature_names: names of the columns of x, where the caller gave any.
        output_names: names of the columns of y, where the caller gave any.
        gate_feature_names: names of the columns of the gate's inputs, where the caller gave any.
        n_processes: that had the rows, each some of them.
    """

    n_rows: int
    n_objects: float
    n_features: int
    n_outputs: int
    n_gate_features: int | None
    dtype: torch.dtype
    device: torch.device
    feature_names: tuple[str, ...] | None = None
    output_names: tuple[str, ...] | None = None
    gate_feature_names: tuple[str, ...] | None = None
    n_processes: int = 1

    @classmethod
    def of(
        cls, table: Table, columns: FittedColumns, *, n_rows: int | None = None, n_processes: int = 1
    ) -> "FittedData":
        """Describe the rows of a fit.

        Args:
            table: those that count.
            columns: numbers of the columns that the caller gave.
            n_rows: of all processes, those of weight zero too; those of the table by default.
            n_processes: that had them.
        """
        n_rows, n_outputs = table.n_rows_of_all if n_rows is None else n_rows, table.y.shape[1]
        kind, place = table.y.dtype, table.y.device
        names = [None if own is None else own.coded_names for own in columns.layouts]
        own = table.n_objects, columns.x, n_outputs, columns.gate_x, kind, place
        return cls(n_rows, *own, names[0], names[1], names[2], n_processes=n_processes)


def difference_at_one_optimum(bound: float, tolerance: float, n_objects: float, dtype: torch.dtype) -> float:
    """Return by how many nats the bounds of two runs may differ that have stopped at the same optimum.

    Each run may stop short of the optimum by what the stopping rule leaves, in proportion to N.

    Args:
        bound: of one of them, in nats.
        tolerance: of the stopping rule, in nats an object.
        n_objects: N, or the sum of the weights.
        dtype: of the data.
    """
    rounding = least_tolerance(n_objects + abs(bound), dtype)
    return max(LEAST_DIFFERENCE, 2.0 * max(tolerance * n_objects, rounding))


def versions() -> dict[str, str]:
    """Return the versions of mixpyro and of what its results depend on."""
    own = importlib.import_module("mixpyro").__version__
    return {"mixpyro": own, "torch": torch.__version__, "pyro": pyro.__version__, "python": platform.python_version()}
