"""The differences between ArviZ 0.23 and ArviZ 1.x; no other module depends on the version.

Everything here is NumPy and xarray. ArviZ is imported on first use, because its import takes as long as mixpyro's.
"""

import functools
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np

from mixpyro import arguments
from mixpyro.arguments.signals import pass_on

# An InferenceData in ArviZ 0.23, a DataTree in 1.x: groups of named arrays in both.
ArvizData: TypeAlias = Any
Dataset: TypeAlias = Any

# The names of an array's axes, the array, and attributes if it has any.
Variable: TypeAlias = tuple[tuple[str, ...], np.ndarray] | tuple[tuple[str, ...], np.ndarray, dict[str, str]]


@functools.cache
def arviz() -> ModuleType:
    """Import ArviZ without its warning about the coming versions."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"\s*ArviZ is undergoing a major refactor", category=FutureWarning)
        import arviz as module
    return module


def has_data_trees() -> bool:
    """Whether the installed ArviZ is 1.x, which keeps groups in an xarray DataTree."""
    return int(arviz().__version__.split(".")[0]) >= 1


def container(
    groups: Mapping[str, Mapping[str, Variable]], coordinates: Mapping[str, np.ndarray], attributes: Mapping[str, Any]
) -> ArvizData:
    """Build ArviZ's container from named groups of arrays.

    Args:
        groups: variables by name, by the name of their group.
        coordinates: the labels along each axis, by the axis's name. An axis without any, or of another length in its
            group, is numbered from 0.
        attributes: stored with every group.
    """
    import xarray

    datasets = {}
    for group_name, variables in groups.items():
        lengths = {
            axis: size for axes, values, *_ in variables.values() for axis, size in zip(axes, values.shape, strict=True)
        }
        labels = {
            axis: coordinates[axis]
            if len(coordinates.get(axis, [])) == length and axis in coordinates
            else np.arange(length)
            for axis, length in lengths.items()
        }
        datasets[group_name] = xarray.Dataset(dict(variables), coords=labels, attrs=dict(attributes))
    return from_datasets(datasets)


def from_datasets(datasets: Mapping[str, Dataset]) -> ArvizData:
    """Build ArviZ's container from xarray datasets.

    Args:
        datasets: by the name of the group.
    """
    if not has_data_trees():
        return arviz().InferenceData(**datasets)
    import xarray

    return xarray.DataTree.from_dict(dict(datasets))


def arviz_data(name: str, value: object) -> ArvizData:
    """Return a value if it is ArviZ's container.

    Args:
        name: of the argument, for the message.
        value: what the user passed.

    Raises:
        TypeError: if it is something else.
    """
    if has_data_trees():
        import xarray

        kind: type = xarray.DataTree
    else:
        kind = arviz().InferenceData
    if not isinstance(value, kind):
        got = f"{arguments.shown(value)} of type {type(value).__name__}"
        raise TypeError(f"`{name}` must be an {kind.__name__} of ArviZ, as of `mixpyro.to_arviz`; got {got}.")
    return value


def datasets_of(data: ArvizData) -> dict[str, Dataset]:
    """Return every group as an xarray dataset, by its name.

    Args:
        data: ArviZ's container.
    """
    if has_data_trees():
        return {name: node.to_dataset() for name, node in data.children.items()}
    return {name: data[name] for name in data.groups()}


def group(data: ArvizData, name: str) -> Dataset:
    """Return one group as an xarray dataset.

    Args:
        data: ArviZ's container.
        name: of the group, such as ``posterior``.

    Raises:
        ValueError: if there is no group of that name.
    """
    datasets = datasets_of(data)
    if name not in datasets:
        raise ValueError(f"`data` must have a group {name!r}; got {', '.join(datasets) or 'none'}.")
    return datasets[name]


@arguments.with_default_errors
@arguments.checked(path=arguments.path)
def from_netcdf(path: str | Path) -> ArvizData:
    """Read a file that ``data.to_netcdf(path)`` wrote.

    Everything is read into memory and the file is closed, so that it may be replaced or removed.

    Args:
        path: of the file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is none in the format of netCDF 4.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"`path` must be a file that `data.to_netcdf` wrote; got {os.fspath(path)!r}.")
    # xarray adds a filter of warnings when it reads, and leaves it.
    with warnings.catch_warnings():
        try:
            lazy = arviz().from_netcdf(str(path))
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            pass_on(error)
            wanted = "a netCDF file that `data.to_netcdf` wrote"
            raise ValueError(f"`path` must be {wanted}; got {os.fspath(path)!r}, unreadable: {error}") from error
        datasets = {name: dataset.load() for name, dataset in datasets_of(lazy).items()}
    for opened in (*datasets.values(), lazy):
        opened.close()
    return from_datasets(datasets)


def psislw(log_ratios: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Smooth the tail of importance weights with ArviZ's own implementation.

    Its argument is log p − log q in ArviZ 0.23, and minus that in 1.x.

    Args:
        log_ratios: log p − log q [M, S] of S draws, up to a constant a row.

    Returns:
        Logarithms of normalised weights [M, S], and k-hat [M].
    """
    if not has_data_trees():
        return arviz().psislw(log_ratios)
    from arviz_stats.base import array_stats

    log_weights, pareto_k = array_stats.psislw(-log_ratios)
    return log_weights - np.logaddexp.reduce(log_weights, axis=-1, keepdims=True), pareto_k


def elpd_data(
    *,
    elpd: float,
    standard_error: float,
    n_effective: float,
    n_draws: int,
    good_k: float,
    pointwise: np.ndarray,
    pareto_k: np.ndarray,
) -> Any:  # noqa: ANN401 (each version has its own class)
    """Build ArviZ's own object for a result of leave-one-out cross-validation.

    Args:
        elpd: expected log predictive density of all N objects, in nats.
        standard_error: of ``elpd``, in nats.
        n_effective: effective number of parameters.
        n_draws: number of draws.
        good_k: largest k-hat at which an object's value is reliable.
        pointwise: each object's part of ``elpd`` [N], in nats.
        pareto_k: k-hat of each object [N].
    """
    import xarray

    coordinates = {"object": np.arange(len(pointwise))}
    by_object = xarray.DataArray(pointwise, dims="object", coords=coordinates)
    k = xarray.DataArray(pareto_k, dims="object", coords=coordinates)
    counts = {"n_samples": n_draws, "n_data_points": len(pointwise), "warning": bool((pareto_k > good_k).any())}
    options = {"scale": "log", "good_k": good_k}
    if has_data_trees():
        estimates = {"elpd": elpd, "se": standard_error, "p": n_effective, "elpd_i": by_object, "pareto_k": k}
        return arviz().ELPDDataLOO(**estimates, **counts, **options, approx_posterior=True)
    from arviz.stats.stats_utils import ELPDData

    # ArviZ reads these by their positions.
    totals = {"elpd_loo": elpd, "se": standard_error, "p_loo": n_effective}
    by_objects = {"loo_i": by_object.rename("loo_i"), "pareto_k": k.rename("pareto_shape")}
    fields = {**totals, **counts, **by_objects, **options}
    return ELPDData(data=list(fields.values()), index=list(fields))
