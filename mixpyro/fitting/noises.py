"""A caution where the noises of components differ by much: the mark of a spurious maximum."""

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro.experts.base import Experts

# Largest noise of an output over the smallest, beyond which an analyst should look at the other optima.
MOST_RATIO = 20.0


def noises_differ(experts: Experts) -> bool:
    """Return whether noises differ by more than ``MOST_RATIO``, components without objects not left out.

    Args:
        experts: fitted.
    """
    noises = experts.noises()
    return noises is not None and float(_ratios(noises).amax()) > MOST_RATIO


@torch.no_grad()
def unequal_noises(experts: Experts, counts: Float[Tensor, " K"]) -> list[str]:
    """Return a sentence if the noise of one component is far smaller than another's in the same output.

    Args:
        experts: fitted.
        counts: number of objects in each component. Components with less than one have no noise to speak of.
    """
    noises = experts.noises()
    if noises is None:
        return []
    noises = torch.where((counts.to(noises) >= 1.0).unsqueeze(-1), noises, torch.nan)
    ratios = _ratios(noises)
    output = int(ratios.argmax())
    if float(ratios[output]) <= MOST_RATIO:
        return []
    column = noises[:, output]
    low, high = int(column.nan_to_num(torch.inf).argmin()), int(column.nan_to_num(-torch.inf).argmax())
    share = float(counts[low] / counts.sum())
    return [
        f"the noise of component {low} is {float(ratios[output]):.3g} times smaller than that of component {high}, on "
        f"{share:.0%} of the rows: a maximum on rows that happen to lie close together may be spurious. Look at the "
        "other `optima` of the result"
    ]


def _ratios(noises: Float[Tensor, "K P"]) -> Float[Tensor, " P"]:
    """Return the largest noise over the smallest in every output, 1 where there are none."""
    known = noises.isfinite()
    high = torch.where(known, noises, -torch.inf).amax(0)
    low = torch.where(known, noises, torch.inf).amin(0)
    return torch.where(known.any(0), high / low, 1.0)
