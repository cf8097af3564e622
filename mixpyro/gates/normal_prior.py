"""Whether the Normal prior of a gate's coefficients says more of them than the data do."""

from typing import Any

from torch import Tensor

from mixpyro.numerics.prior_pull import MANY, MOST_PULL, pull_of_normal_prior
from mixpyro.numerics.weighted_sums import weighted_gram
from mixpyro.shapes import Inputs, Responsibilities

# Distance of a column's mean from zero in its standard deviations. The posterior, kept in the units of x, loses the
# square of it times eps: weights are off by up to 1e-5 there, and by 1e-3 at ten times the distance.
FARTHEST = 1e5
# Distance beyond which nothing is left of the posterior: weights are off by a tenth, and then no numbers.
REFUSED = 1e7


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
    q = gate.posterior
    prior, seen = gate.prior_given(q), gate.statistics_of(x, responsibilities)
    slope = (prior.precision @ (q.mean - prior.mean).unsqueeze(-1)).squeeze(-1)
    u = gate.design(x)
    moments = weighted_gram(responsibilities.sum(-1, keepdim=True), u).squeeze(0)
    pull = pull_of_normal_prior(seen.precision, slope, moments, curvature=0.25)
    far = warnings_of_far_columns(u[:, 1:])
    if pull <= MOST_PULL:
        return far
    return [
        *far,
        f"the prior says more of the gate's coefficients than the data do: `prior_scale`, {gate.prior_scale:.3g}, "
        f"has moved them by {pull:.1f} standard errors. They are per unit of x, and the intercept is at x = 0: "
        "give a larger `prior_scale`, or standardise x.",
    ]


def warnings_of_far_columns(columns: Tensor) -> list[str]:
    """Return which columns are so far from zero that the posterior has lost digits, in words.

    Args:
        columns: of the design, without the intercept [N, D].
    """
    return [
        f"the posterior of the gate's coefficients has lost digits: column {column} of its inputs is "
        f"{distance:.2g} standard deviations from zero, where the intercept is. Subtract its mean."
        for column, distance in _far_columns(columns, FARTHEST)[:1]
    ]


def refuse_far_columns(columns: Tensor) -> None:
    """Raise if a column is so far from zero that a posterior in the units of x has no digit left.

    Args:
        columns: of the design, without the intercept [N, D].

    Raises:
        ValueError: if one is more than 1e7 of its standard deviations from zero.
    """
    for column, distance in _far_columns(columns, REFUSED)[:1]:
        raise ValueError(
            f"`x` must have columns within {REFUSED:.0e} of their standard deviations from zero for this gate, whose "
            f"intercept is there; got {distance:.2g} in column {column} of the gate's inputs. Subtract its mean."
        )


def _far_columns(columns: Tensor, farthest: float) -> list[tuple[int, float]]:
    """Return the columns beyond a distance from zero, each with it, in standard deviations."""
    if len(columns) < 2:
        return []
    distances = columns.mean(0).abs() / columns.std(0).clamp_min(1e-300)
    # A constant column has no spread, and is the intercept once more.
    far = (distances > farthest) & (columns.amax(0) > columns.amin(0))
    return [(column, float(distances[column])) for column in far.nonzero().flatten().tolist()]
