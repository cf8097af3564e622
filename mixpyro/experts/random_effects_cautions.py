"""Where the prior of regressions with random effects says more than many rows or groups do."""

from collections.abc import Sequence

from torch import Tensor

from mixpyro.conjugate.random_effects import RandomEffects
from mixpyro.experts.linear_prior import MANY

# Rows of a group on average, with fewer of which hardly any has two.
FEW_ROWS = 1.1


def of_noise(before: RandomEffects, after: RandomEffects, rate: Tensor) -> list[str]:
    """Return a sentence if the prior says more of a noise than many rows do.

    Args:
        before: the prior.
        after: the posterior.
        rate: b₀.
    """
    seen = 2.0 * (after.shape - before.shape)
    if not bool(((after.rate - before.rate < 2.0 * before.rate) & (seen > MANY)).any()):
        return []
    return [
        f"the prior says more of the noise than the data do: `noise_rate`, {float(rate):.3g}, is large for y in these "
        "units. Set it to about the variance of the noise."
    ]


def of_effects(before: RandomEffects, after: RandomEffects, names: Sequence[int | str]) -> list[str]:
    """Return a sentence if the prior says more of the variance of a random effect than many groups do.

    Args:
        before: the prior.
        after: the posterior.
        names: of the effects, as the user gave them.
    """
    own = before.scale.diagonal(dim1=-2, dim2=-1)
    of_data = after.scale.diagonal(dim1=-2, dim2=-1) - own
    outweighed = (of_data < 2.0 * own) & (after.degrees - before.degrees > MANY).unsqueeze(-1)
    if not bool(outweighed.any()):
        return []
    number = int(outweighed.any(0).nonzero()[0])
    return [
        f"the prior says more of the variance of the random effect {names[number]!r} than the data do: `effect_scale`, "
        f"{float(own[0, number]):.3g}, is large for y in these units, or groups do not differ in it. Set it to about "
        "the variance expected, or leave the effect out."
    ]


def of_sizes(before: RandomEffects, after: RandomEffects) -> list[str]:
    """Return a sentence if most groups have a single row, whose random intercept is one with its noise.

    Args:
        before: the prior.
        after: the posterior.
    """
    rows = 2.0 * float((after.shape - before.shape).sum())
    groups = float((after.degrees - before.degrees).sum())
    if not MANY < rows < FEW_ROWS * groups:
        return []
    return [
        f"groups have {rows / groups:.2f} rows on average, so that random intercepts and noise cannot be told "
        "apart but by their priors. Leave the random intercept out."
    ]


def of_coefficients(before: RandomEffects, after: RandomEffects, first_component: int) -> list[str]:
    """Return a sentence if the prior says more of a coefficient than many rows do.

    Args:
        before: the prior.
        after: the posterior.
        first_component: number of the first component in messages.
    """
    own = before.precision.diagonal(dim1=-2, dim2=-1)
    of_data = after.precision.diagonal(dim1=-2, dim2=-1) - own
    seen = (2.0 * (after.shape - before.shape)).expand(len(own))
    outweighed = (own > of_data) & (of_data > 0.0) & (seen > MANY).unsqueeze(-1)
    if not bool(outweighed.any()):
        return []
    k, column = (int(number) for number in outweighed.nonzero()[0])
    return [
        f"the prior says more of coefficient {column} of component {k + first_component} than the data do: "
        "`coefficient_precision` is large for x in these units. Make it smaller, or leave it out."
    ]
