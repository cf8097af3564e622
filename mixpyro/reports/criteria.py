"""Criteria for model choice: bound, log likelihood, AIC, BIC and ICL of fitted mixtures."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch

from mixpyro import arguments
from mixpyro.fitting.result import FitResult
from mixpyro.shapes import GateInputs, Inputs, Targets


class Criteria(NamedTuple):
    """Criteria of one fitted mixture."""

    bound: float  # of the fit, nats; a lower bound on the log evidence where every parameter has a posterior
    log_likelihood: float  # Σᵢ log p(yᵢ | xᵢ) of the predictive distribution, nats
    n_parameters: int  # of gate and experts
    aic: float  # in units of two nats, as are bic and icl; smaller is better
    bic: float
    icl: float
    entropy: float  # Σᵢ of the entropy of object i's assignment, nats; 0 where all are certain


@arguments.outside_contexts
def criteria(result: FitResult, x: Inputs, y: Targets, *, gate_x: GateInputs | None = None) -> Criteria:
    """Compute criteria for model choice of one fit on the data that were fitted.

    aic = −2 log L + 2 p, bic = −2 log L + p log N, icl = bic − 2 Σᵢ log maxₖ rᵢₖ; smaller is better. For experts by
    maximum likelihood log L is the maximum. For experts with a posterior it is the predictive density, and aic and bic
    are approximate: prefer the bound then. Rows count by the weights of the fit, and N is the sum of these.

    Args:
        result: of a fit to x and y.
        x: inputs [N, D] that were fitted.
        y: outputs [N, P] or [N] that were fitted.
        gate_x: the gate's inputs [N, G], if they were not x.

    Raises:
        ValueError: if x has another number of rows than the fit.

    References:
        Schwarz (1978), Estimating the dimension of a model; Biernacki, Celeux, Govaert (2000), Assessing a mixture
        model for clustering with the integrated completed likelihood, eq. 9.
    """
    if len(x) != len(result.responsibilities):
        raise ValueError(f"`x` must be what was fitted, {len(result.responsibilities)} rows; got {len(x)}.")
    weights = x.new_ones(len(x)) if result.weights is None else result.weights
    counts = weights > 0
    log_prob = result.mixture.log_prob(x, y, gate_x=gate_x)
    log_likelihood = float(torch.where(counts, weights * log_prob, 0.0).sum(dtype=torch.float64))
    n_parameters = result.mixture.gate.n_parameters + result.mixture.experts.n_parameters
    r = result.responsibilities.double()[counts]
    weights = weights[counts]
    bic = n_parameters * math.log(float(weights.sum())) - 2.0 * log_likelihood
    return Criteria(
        bound=result.bound,
        log_likelihood=log_likelihood,
        n_parameters=n_parameters,
        aic=2.0 * n_parameters - 2.0 * log_likelihood,
        bic=bic,
        icl=bic - 2.0 * float((weights * r.amax(-1).log()).sum()),
        entropy=-float((weights.unsqueeze(-1) * torch.xlogy(r, r)).sum()),
    )


def compare(
    results: Mapping[str, FitResult], x: Inputs, y: Targets, *, gate_x: GateInputs | None = None
) -> dict[str, Criteria]:
    """Compute criteria of several fits to the same data, the smallest bic first.

    Print the rows with :func:`~mixpyro.as_table`.

    Args:
        results: fits by name.
        x: inputs [N, D] that were fitted.
        y: outputs [N, P] or [N] that were fitted.
        gate_x: the gate's inputs [N, G], if they were not x.

    Raises:
        ValueError: if x has another number of rows than a fit.
    """
    rows = {name: criteria(result, x, y, gate_x=gate_x) for name, result in results.items()}
    return dict(sorted(rows.items(), key=lambda row: row[1].bic))
