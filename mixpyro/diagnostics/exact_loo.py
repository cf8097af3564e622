"""Leave-one-out cross-validation by fitting again without each object."""

import copy
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from mixpyro import arguments
from mixpyro.diagnostics.psis_loo import Elpd
from mixpyro.fitting.fit import fit
from mixpyro.fitting.fitted_rows import fitted_rows, refuse_groups, refuse_known_labels, refuse_missing
from mixpyro.fitting.result import FitResult
from mixpyro.shapes import GateInputs, Inputs, Targets


@arguments.outside_contexts
def exact_loo(
    result: FitResult, x: Inputs, y: Targets, *, gate_x: GateInputs | None = None, progress: bool = True
) -> Elpd:
    """Compute log p(yᵢ | all other objects) from N fits, each without one object.

    Every fit starts from the responsibilities of the full fit, so all follow the same optimum without restarts.
    Estimated parameters are fitted again too, unlike in :func:`~mixpyro.diagnostics.loo`. The densities are those of
    the variational posteriors, without correction.

    Args:
        result: of a fit to x and y, whose rows have no weights.
        x: inputs [N, D] that were fitted.
        y: outputs [N, P] or [N] that were fitted.
        gate_x: the gate's inputs [N, G], if they were not x.
        progress: whether to show a progress bar after two seconds.

    Returns:
        The estimate, with k-hat −∞ for every object, since there are no importance weights.

    Raises:
        ValueError: if the data are not those of the fit, or rows have weights or known components.
    """
    refuse_known_labels(result, "the density of an object that is left out")
    refuse_groups(result, "the density of an object that is left out")
    refuse_missing(y, "the density of an object that is left out")
    fitted_rows(result, x, y, gate_x)
    if result.weights is not None:
        raise ValueError("`result` must be of rows that count once; got weights. Repeat the rows instead.")
    y = y.reshape(len(y), -1)
    with torch.no_grad():
        in_sample = result.mixture.log_prob(x, y, gate_x=gate_x).double().cpu().numpy()
    rows = tqdm(range(len(x)), unit="fit", delay=2.0, disable=not progress, leave=False)
    pointwise = np.array(list(_left_out_densities(result, x, y, gate_x, rows)))
    return Elpd(
        elpd=float(pointwise.sum()),
        standard_error=float(np.sqrt(len(x) * pointwise.var())),
        n_effective=float((in_sample - pointwise).sum()),
        pointwise=pointwise,
        pareto_k=np.full(len(x), -np.inf),
        n_draws=0,
        observed=y.detach().double().cpu().numpy(),
    )


def _left_out_densities(result: FitResult, x: Tensor, y: Tensor, gate_x: Tensor | None, rows: tqdm) -> Iterator[float]:
    """Yield log p(yᵢ | all other objects), row by row."""
    names = ("max_iterations", "tolerance", "n_gradient_steps")
    options = {name: result.options[name] for name in names if name in result.options}
    for row in rows:
        others = torch.arange(len(x), device=x.device) != row
        mixture = copy.deepcopy(result.mixture)
        start = result.responsibilities[others]
        own = None if gate_x is None else gate_x[others]
        fit(mixture, x[others], y[others], gate_x=own, initial_responsibilities=start, progress=False, **options)
        left_out = slice(row, row + 1)
        own = None if gate_x is None else gate_x[left_out]
        with torch.no_grad():
            yield float(mixture.log_prob(x[left_out], y[left_out], gate_x=own))
