"""What differs between ArviZ 0.23 and 1.x, and nothing else of the library knows.

Everything here is NumPy and xarray. ArviZ is imported when it is first needed: it takes as long as all of mixpyro.
"""

import functools
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, TypeAlias

import numpy as np

# An InferenceData of ArviZ 0.23, a DataTree of 1.x: groups of named arrays either way.
ArvizData: TypeAlias = Any
Dataset: TypeAlias = Any

# The names of an array's axes, and the array.
Variable: TypeAlias = tuple[tuple[str, ...], np.ndarray]


@functools.cache
def arviz() -> ModuleType:
    """ArviZ itself, without its word on the versions to come."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"\s*ArviZ is undergoing a major refactor", category=FutureWarning)
        import arviz as module
    return module


def has_data_trees() -> bool:
    """Whether this is ArviZ 1.x."""
    return int(arviz().__version__.split(".")[0]) >= 1


def container(
    groups: Mapping[str, Mapping[str, Variable]], coordinates: Mapping[str, np.ndarray], attributes: Mapping[str, Any]
) -> ArvizData:
    """Groups of variables as ArviZ has them; an axis without coordinates is numbered, attributes go everywhere."""
    import xarray

    datasets = {}
    for group, variables in groups.items():
        lengths = {
            axis: size for axes, values in variables.values() for axis, size in zip(axes, values.shape, strict=True)
        }
        along = {axis: coordinates.get(axis, np.arange(length)) for axis, length in lengths.items()}
        datasets[group] = xarray.Dataset(dict(variables), coords=along, attrs=dict(attributes))
    return from_datasets(datasets)


def from_datasets(datasets: Mapping[str, Dataset]) -> ArvizData:
    """Groups as ArviZ keeps them."""
    if not has_data_trees():
        return arviz().InferenceData(**datasets)
    import xarray

    return xarray.DataTree.from_dict(dict(datasets))


def datasets_of(data: ArvizData) -> dict[str, Dataset]:
    """Every group by its name."""
    if has_data_trees():
        return {name: node.to_dataset() for name, node in data.children.items()}
    return {name: data[name] for name in data.groups()}


def group(data: ArvizData, name: str) -> Dataset:
    """One group.

    Raises:
        ValueError: if there is none of that name.
    """
    found = datasets_of(data)
    if name not in found:
        raise ValueError(f"`data` must have a group {name!r}; got {', '.join(found) or 'none'}.")
    return found[name]


def from_netcdf(path: str | Path) -> ArvizData:
    """Read what ``data.to_netcdf(path)`` wrote, all of it, and close the file."""
    lazy = arviz().from_netcdf(str(path))
    read = {name: dataset.load() for name, dataset in datasets_of(lazy).items()}
    for closed in (*read.values(), lazy):
        closed.close()
    return from_datasets(read)


class Smoothed(NamedTuple):
    """Importance weights with their tail smoothed."""

    log_weights: np.ndarray  # [..., S], their exponentials sum to one
    pareto_k: np.ndarray  # [...]


def pareto_smoothed(log_ratios: np.ndarray) -> Smoothed:
    """Pareto smoothed importance sampling over the last axis, log p − log q in, the larger the more weight.

    0.23's psislw takes the logarithms of the weights, 1.x's takes minus the logarithms.

    References:
        Vehtari, Simpson, Gelman, Yao, Gabry (2024), Pareto smoothed importance sampling, JMLR 25 (72), algorithm 1.
    """
    log_ratios = np.asarray(log_ratios, dtype=np.float64)
    log_ratios = log_ratios - log_ratios.max(-1, keepdims=True)
    # Equal up to rounding: the draws are those of p, and a fit to the tail would be one to the rounding.
    varied = log_ratios.min(-1) < -1e-8
    log_weights = np.full_like(log_ratios, -np.log(log_ratios.shape[-1]))
    pareto_k = np.full(varied.shape, -np.inf)
    if varied.any():
        log_weights[varied], pareto_k[varied] = _psislw(log_ratios[varied])
    return Smoothed(log_weights, pareto_k)


def _psislw(log_ratios: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ArviZ's weights [M, S] and k-hat [M]."""
    if not has_data_trees():
        return arviz().psislw(log_ratios)
    from arviz_stats.base import array_stats

    log_weights, pareto_k = array_stats.psislw(-log_ratios)
    return log_weights - np.logaddexp.reduce(log_weights, axis=-1, keepdims=True), pareto_k


class Elpd(NamedTuple):
    """Expected log predictive density of new data, by leave-one-out cross-validation."""

    elpd: float  # nats, the more the better
    standard_error: float
    n_effective: float  # effective number of parameters, p_loo
    pointwise: np.ndarray  # [N]
    pareto_k: np.ndarray  # [N], −∞ where no weights were needed
    n_draws: int  # 0 where nothing was drawn

    @property
    def good_k(self) -> float:
        """Above this k-hat an object's value is not to be trusted, for this number of draws."""
        return min(1.0 - 1.0 / float(np.log10(self.n_draws)), 0.7) if self.n_draws else 0.7

    @property
    def n_untrusted(self) -> int:
        """How many objects' values are not to be trusted."""
        return int((self.pareto_k > self.good_k).sum())

    def __str__(self) -> str:
        """One sentence for a person."""
        said = f"elpd {self.elpd:.2f} ± {self.standard_error:.2f} nats, {self.n_effective:.1f} effective parameters"
        return f"{said}; k-hat above {self.good_k:.2f} for {self.n_untrusted} of {len(self.pareto_k)} objects"


def leave_one_out(log_likelihood: np.ndarray, log_ratios: np.ndarray) -> Elpd:
    """PSIS-LOO from draws of an approximate posterior; ``loo_approximate_posterior`` of ArviZ 1.x, in both lines.

    Args:
        log_likelihood: log p(yᵢ | θₛ) [N, S].
        log_ratios: log p(y, θₛ) − log q(θₛ) up to a constant [S]; zeros for draws of the exact posterior.

    References:
        Magnusson, Andersen, Jonasson, Vehtari (2019), Bayesian leave-one-out cross-validation for large data, eq. 7.
    """
    smoothed = pareto_smoothed(log_ratios - log_likelihood)
    pointwise = np.logaddexp.reduce(smoothed.log_weights + log_likelihood, axis=-1)
    # As ArviZ has it: what the same draws, not reweighted, say of the objects.
    fitted = np.logaddexp.reduce(log_likelihood, axis=-1) - np.log(log_likelihood.shape[-1])
    standard_error = float(np.sqrt(len(pointwise) * pointwise.var()))
    return Elpd(
        float(pointwise.sum()),
        standard_error,
        float((fitted - pointwise).sum()),
        pointwise,
        smoothed.pareto_k,
        log_likelihood.shape[-1],
    )


def as_arviz(elpd: Elpd) -> Any:  # noqa: ANN401 (each line has its own class)
    """The same as an ``ELPDData``, for ArviZ's own tables and plots."""
    import xarray

    coordinates = {"object": np.arange(len(elpd.pointwise))}
    pointwise = xarray.DataArray(elpd.pointwise, dims="object", coords=coordinates)
    pareto_k = xarray.DataArray(elpd.pareto_k, dims="object", coords=coordinates)
    n_objects, untrusted = len(elpd.pointwise), elpd.n_untrusted > 0
    if has_data_trees():
        return arviz().ELPDDataLOO(
            elpd=elpd.elpd,
            se=elpd.standard_error,
            p=elpd.n_effective,
            n_samples=elpd.n_draws,
            n_data_points=n_objects,
            scale="log",
            warning=untrusted,
            good_k=elpd.good_k,
            elpd_i=pointwise,
            pareto_k=pareto_k,
            approx_posterior=True,
        )
    fields = {
        "elpd_loo": elpd.elpd,
        "se": elpd.standard_error,
        "p_loo": elpd.n_effective,
        "n_samples": elpd.n_draws,
        "n_data_points": n_objects,
        "warning": untrusted,
        "loo_i": pointwise.rename("loo_i"),
        "pareto_k": pareto_k.rename("pareto_shape"),
        "scale": "log",
        "good_k": elpd.good_k,
    }
    from arviz.stats.stats_utils import ELPDData

    return ELPDData(data=list(fields.values()), index=list(fields))
