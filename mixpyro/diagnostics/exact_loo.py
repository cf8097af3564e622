"""Leave-one-out cross-validation by fitting anew without each object."""

import copy
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from mixpyro.diagnostics.arviz_versions import Elpd
from mixpyro.fitting.fit import fit
from mixpyro.fitting.result import FitResult
from mixpyro.shapes import GateInputs, Inputs, Targets


def exact_loo(
    result: FitResult, x: Inputs, y: Targets, *, gate_x: GateInputs | None = None, progress: bool = True
) -> Elpd:
    """log p(yᵢ | all others) under N fits, each from where the fit of all ended: one optimum followed, no restarts.

    What importance sampling cannot charge for, parameters that are estimated, is charged for here. The densities are
    the variational posteriors' own, not corrected.

    Args:
        result: of a fit to x and y, without weights of rows.
        x: inputs [N, D].
        y: outputs [N, P] or [N].
        gate_x: what the gate saw, where that was not x.
        progress: show a progress bar once it has taken two seconds.

    Raises:
        ValueError: if the data are not those of the fit, or rows have weights.
    """
    x, y, gate_x = result.mixture.check_data(x, y, gate_x)
    if len(x) != len(result.responsibilities):
        raise ValueError(f"`x` must be what was fitted, {len(result.responsibilities)} rows; got {len(x)}.")
    if result.weights is not None:
        raise ValueError("`result` must be of rows that count once; got weights. Repeat the rows instead.")
    with torch.no_grad():
        fitted = result.mixture.log_prob(x, y, gate_x=gate_x).double().cpu().numpy()
    rows = tqdm(range(len(x)), unit="fit", delay=2.0, disable=not progress, leave=False)
    pointwise = np.array(list(_without_each(result, x, y, gate_x, rows)))
    error = float(np.sqrt(len(x) * pointwise.var()))
    exact = np.full(len(x), -np.inf)
    return Elpd(float(pointwise.sum()), error, float((fitted - pointwise).sum()), pointwise, exact, 0)


def _without_each(result: FitResult, x: Tensor, y: Tensor, gate_x: Tensor, rows: tqdm) -> Iterator[float]:
    """log p(yᵢ | all others), row by row."""
    for row in rows:
        others = torch.arange(len(x), device=x.device) != row
        mixture = copy.deepcopy(result.mixture)
        start = result.responsibilities[others]
        fit(mixture, x[others], y[others], gate_x=gate_x[others], initial_responsibilities=start, progress=False)
        left_out = slice(row, row + 1)
        with torch.no_grad():
            yield float(mixture.log_prob(x[left_out], y[left_out], gate_x=gate_x[left_out]))
