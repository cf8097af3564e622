"""Whether the Normal prior of a gate's coefficients says more of them than the data do."""

from typing import Any

from mixpyro.numerics.prior_pull import MANY, MOST_PULL, pull_of_normal_prior
from mixpyro.numerics.weighted_sums import weighted_gram
from mixpyro.shapes import Inputs, Responsibilities


def warnings_of_normal_prior(
    gate: Any,  # noqa: ANN401 (BayesianLogitGate imports this module)
    x: Inputs,
    responsibilities: Responsibilities,
) -> list[str]:
    """Return whether the prior has moved the coefficients far from what the data say, in words.

    Args:
        gate: with Normal coefficients and a ``prior_scale``.
        x: gate inputs [N, D].
        responsibilities: [N, K].
    """
    if gate.n_components == 1 or float(responsibilities.sum()) <= MANY:
        return []
    q, prior, seen = gate.posterior, gate.prior, gate.statistics_of(x, responsibilities)
    slope = (prior.precision @ (q.mean - prior.mean).unsqueeze(-1)).squeeze(-1)
    moments = weighted_gram(responsibilities.sum(-1, keepdim=True), gate.design(x)).squeeze(0)
    pull = pull_of_normal_prior(seen.precision, slope, moments, curvature=0.25)
    if pull <= MOST_PULL:
        return []
    return [
        f"the prior says more of the gate's coefficients than the data do: `prior_scale`, {gate.prior_scale:.3g}, "
        f"has moved them by {pull:.1f} standard errors. They are per unit of x, and the intercept is at x = 0: "
        "give a larger `prior_scale`, or standardise x."
    ]
