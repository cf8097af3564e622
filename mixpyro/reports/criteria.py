"""Which model? The usual criteria of fitted mixtures, side by side."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch

from mixpyro.fitting.result import FitResult
from mixpyro.reports.coefficients import Coefficient
from mixpyro.shapes import GateInputs, Inputs, Targets


class Criteria(NamedTuple):
    """What speaks for a fitted mixture; all but the number of parameters in nats or, for aic, bic, icl, twice nats."""

    bound: float  # what the fit maximised; a lower bound on the log evidence where every parameter has a posterior
    log_likelihood: float  # Σᵢ log p(yᵢ | xᵢ) of the predictive distribution
    n_parameters: int
    aic: float
    bic: float
    icl: float
    entropy: float  # Σᵢ of the entropy of object i's assignment; 0 where all are certain


def criteria(result: FitResult, x: Inputs, y: Targets, *, gate_x: GateInputs | None = None) -> Criteria:
    """Criteria of one fit on the data that it was fitted to.

    aic = −2 log L + 2 p, bic = −2 log L + p log N, icl = bic − 2 Σᵢ log maxₖ rᵢₖ; less is better. For experts by
    maximum likelihood log L is the maximum; for those with a posterior it is the predictive density, which makes aic
    and bic rough: the bound is then the better guide. Rows count by the weights of the fit, N being their sum.

    Args:
        result: of a fit to x and y.
        x: inputs [N, D].
        y: outputs [N, P] or [N].
        gate_x: what the gate saw, where that was not x.

    References:
        Schwarz (1978), Estimating the dimension of a model; Biernacki, Celeux, Govaert (2000), Assessing a mixture
        model for clustering with the integrated completed likelihood, eq. 9.
    """
    if len(x) != len(result.responsibilities):
        raise ValueError(f"`x` must be what was fitted, {len(result.responsibilities)} rows; got {len(x)}.")
    weights = torch.ones(len(x)).to(x) if result.weights is None else result.weights
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
    """Criteria of several fits to the same data, the least bic first; print them with :func:`as_table`."""
    rows = {name: criteria(result, x, y, gate_x=gate_x) for name, result in results.items()}
    return dict(sorted(rows.items(), key=lambda row: row[1].bic))


def as_table(rows: Mapping[str, Criteria | Coefficient]) -> str:
    """One line a model or a coefficient, for a person."""
    width = max(map(len, rows), default=0)
    fields = next(iter(rows.values()))._fields if rows else Criteria._fields
    lines = [" ".join([" " * width, *(f"{name:>14}" for name in fields)])]
    for name, row in rows.items():
        lines.append(" ".join([f"{name:<{width}}", *map(_cell, row)]))
    return "\n".join(lines)


def _cell(value: float) -> str:
    if isinstance(value, int):
        return f"{value:>14d}"
    return f"{value:>14.3f}" if abs(value) >= 1.0 else f"{value:>14.3g}"
