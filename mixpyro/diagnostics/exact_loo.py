"""Leave-one-out cross-validation by fitting again without each object."""

import copy
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from mixpyro import arguments
from mixpyro.diagnostics.left_out import log_prob_of_group
from mixpyro.diagnostics.psis_loo import Elpd
from mixpyro.fitting.alike_on_ranks import refuse_processes
from mixpyro.fitting.fit import fit
from mixpyro.fitting.fitted_rows import fitted_rows, refuse_known_labels, refuse_missing
from mixpyro.fitting.reads_rows import reads_rows
from mixpyro.fitting.result import FitResult
from mixpyro.mixture import MixtureOfExperts
from mixpyro.shapes import AnyTable, GateInputs, Inputs, Targets


@reads_rows
@arguments.with_default_errors
@arguments.outside_contexts
def exact_loo(
    result: FitResult,
    x: Inputs | AnyTable = None,
    y: Targets | AnyTable = None,
    *,
    gate_x: GateInputs | AnyTable = None,
    progress: bool = True,
) -> Elpd:
    """Compute log p(yᵢ | all other objects) from N fits, each without one object.

    Every fit starts from the responsibilities of the full fit, so all follow the same optimum without restarts.
    Estimated parameters are fitted again too, unlike in :func:`~mixpyro.diagnostics.loo`. The densities are those of
    the variational posteriors, without correction. Of a fit with groups each is left out as a whole, and its
    density is that of its rows together, which share the parameters.

    Args:
        result: of a fit to x and y, whose rows have no weights.
        x: inputs [N, D] that were fitted; those that the result keeps by default, with y and gate_x.
        y: outputs [N, P] or [N] that were fitted.
        gate_x: the gate's inputs [N, G], if they were not x.
        progress: whether to show a progress bar after two seconds.

    Returns:
        The estimate, with k-hat −∞ for every object, since there are no importance weights.

    Raises:
        ValueError: if the data are not those of the fit, or rows have weights or known components.
    """
    refuse_known_labels(result, "the density of an object that is left out")
    refuse_missing(y, "the density of an object that is left out")
    fitted_rows(result, x, y, gate_x)
    refuse_processes(None, "exact_loo")
    if result.weights is not None:
        raise ValueError("`result` must be of rows that count once; got weights. Repeat the rows instead.")
    y = y.reshape(len(y), -1)
    data = _Rows(x, y, gate_x, None if result.groups is None else result.groups.index.to(x.device))
    n_objects = len(result.shares)
    numbers = tqdm(range(n_objects), unit="fit", delay=2.0, disable=not progress, leave=False)
    pointwise = np.array(list(_left_out_densities(result, data, numbers)))
    in_sample = _in_sample(result.mixture, data, n_objects)
    return Elpd(
        elpd=float(pointwise.sum()),
        standard_error=float(np.sqrt(n_objects * pointwise.var())),
        n_effective=float((in_sample - pointwise).sum()),
        pointwise=pointwise,
        pareto_k=np.full(n_objects, -np.inf),
        n_draws=0,
        observed=y.detach().double().cpu().numpy(),
        groups=None if result.groups is None else result.groups.index.cpu().numpy(),
    )


class _Rows(NamedTuple):
    """Some rows, and the numbers of their groups if there are any."""

    x: Tensor
    y: Tensor
    gate_x: Tensor | None
    groups: Tensor | None


def _rows(data: _Rows, chosen: Tensor) -> _Rows:
    """Return the rows that are chosen."""
    return _Rows(*(None if part is None else part[chosen] for part in data))  # type: ignore[arg-type]


def _left_out_densities(result: FitResult, data: _Rows, numbers: Iterable[int]) -> Iterator[float]:
    """Yield log p(yᵢ | all other objects), object by object."""
    names = ("max_iterations", "tolerance", "n_gradient_steps")
    options: dict[str, Any] = {name: result.options[name] for name in names if name in result.options}
    options["progress"] = False
    for number in numbers:
        is_left_out = _number_of_rows(data) == number
        mixture, others = copy.deepcopy(result.mixture), _rows(data, ~is_left_out)
        start = torch.cat([result.shares[:number], result.shares[number + 1 :]])
        own = {"gate_x": others.gate_x, "groups": others.groups, "initial_responsibilities": start}
        fit(mixture, others.x, others.y, **(options | own))
        yield _log_prob(mixture, _rows(data, is_left_out))


@torch.no_grad()
def _in_sample(mixture: MixtureOfExperts, data: _Rows, n_objects: int) -> np.ndarray:
    """Return the log density of each object under the fit to all [N]."""
    if data.groups is None:
        return mixture.log_prob(data.x, data.y, gate_x=data.gate_x).double().cpu().numpy()
    objects = (_rows(data, data.groups == number) for number in range(n_objects))
    return np.array([_log_prob(mixture, own) for own in objects])


def _number_of_rows(data: _Rows) -> Tensor:
    """Return the number of the object of each row."""
    return torch.arange(len(data.x), device=data.x.device) if data.groups is None else data.groups


@torch.no_grad()
def _log_prob(mixture: MixtureOfExperts, own: _Rows) -> float:
    """Return the log density of one object, a row or a group of rows."""
    if own.groups is None:
        return float(mixture.log_prob(own.x, own.y, gate_x=own.gate_x))
    return log_prob_of_group(mixture, own.x, own.y, own.gate_x)
