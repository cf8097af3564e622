"""Where the prior of a regression says more than many objects do, in words."""

from torch import Tensor

# Number of objects beyond which the data should outweigh the prior.
MANY = 10.0
# Share of a noise that the distance of its coefficients from their prior mean may have without a word.
LARGE_SHARE = 0.5


def of_distance(share: Tensor, first_component: int) -> list[str]:
    """Return a sentence if the coefficients are far from their prior mean.

    Args:
        share: of each noise that the distance makes up [K, P], from 0 to 1.
        first_component: number of the first component in messages.
    """
    if not bool((share > LARGE_SHARE).any()):
        return []
    k = int(share.amax(-1).argmax()) + first_component
    return [
        f"the prior of the coefficients is far from the data: the distance from `coefficient_mean` is "
        f"{float(share.max()):.0%} of the noise of component {k}. Give a nearer `coefficient_mean` or a "
        "smaller `coefficient_precision`."
    ]


def of_noise(own: Tensor, of_data: Tensor, seen: Tensor, rate: Tensor) -> list[str]:
    """Return a sentence if the prior says more of a noise than many objects do.

    Args:
        own: the prior's rate of each noise.
        of_data: what the data add to it.
        seen: number of objects behind each noise.
        rate: the argument ``noise_rate``.
    """
    if not bool(((of_data < 2.0 * own) & (seen > MANY)).any()):
        return []
    return [
        f"the prior says more of the noise than the data do: `noise_rate`, {float(rate.max()):.3g}, is large for y in "
        "these units. Set it to about the variance of the noise."
    ]


def of_coefficients(own: Tensor, of_data: Tensor, seen: Tensor, first_component: int) -> list[str]:
    """Return a sentence if the prior says more of a coefficient than many objects do.

    Args:
        own: the prior's precision of each coefficient [K, E].
        of_data: what the data add to it [K, E].
        seen: number of objects behind each component's noise [K or 1].
        first_component: number of the first component in messages.
    """
    outweighed = (own > of_data) & (of_data > 0.0) & (seen.expand(len(own)) > MANY).unsqueeze(-1)
    if not bool(outweighed.any()):
        return []
    k, column = (int(number) for number in outweighed.nonzero()[0])
    return [
        f"the prior says more of coefficient {column} of component {k + first_component} than the data do: "
        "`coefficient_precision` is large for x in these units. Make it smaller, or leave it out."
    ]
