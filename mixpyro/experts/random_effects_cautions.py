"""Where the prior of random effects says more than many rows or groups do."""

from collections.abc import Sequence

from mixpyro.conjugate.random_effects import RandomEffects
from mixpyro.experts.prior_cautions import MANY

# Rows of a group on average, with fewer of which hardly any has two.
FEW_ROWS = 1.1


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
