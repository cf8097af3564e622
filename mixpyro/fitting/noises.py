"""A caution where the noises of components differ by much: the mark of a spurious maximum."""

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro.experts.base import Experts

# Largest noise of an output over the smallest, beyond which an analyst should look at the other optima.
MOST_RATIO = 20.0
# Rows of a component for each of its parameters, below which a small noise is the mark of a spurious maximum.
ROWS_A_PARAMETER = 5.0


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
    noises = _known_noises(experts, counts)
    if noises is None:
        return []
    ratios = _ratios(noises)
    output = int(ratios.argmax())
    if float(ratios[output]) <= MOST_RATIO:
        return []
    column = noises[:, output]
    low, high = int(column.nan_to_num(torch.inf).argmin()), int(column.nan_to_num(-torch.inf).argmax())
    share, few = float(counts[low] / counts.sum()), ROWS_A_PARAMETER * experts.n_parameters / len(counts)
    judgement = (
        f"a handful ({float(counts[low]):.1f}), the mark of a spurious maximum on rows that happen to lie close "
        "together (McLachlan, Peel, 2000, section 3.10)"
        if float(counts[low]) < few
        else "a maximum on rows that happen to lie close together may be spurious"
    )
    return [
        f"the noise of component {low} is {float(ratios[output]):.3g} times smaller than that of component {high}, on "
        f"{share:.0%} of the rows: {judgement}. Look at the other `optima` of the result"
    ]


@torch.no_grad()
def noise_ratio(experts: Experts, counts: Float[Tensor, " K"]) -> float | None:
    """Return the smallest noise over the largest, in the output where they differ most; None without any noise.

    Args:
        experts: fitted.
        counts: number of objects in each component. Components with less than one are left out.
    """
    noises = _known_noises(experts, counts)
    return None if noises is None or not bool(noises.isfinite().any()) else 1.0 / float(_ratios(noises).amax())


def _known_noises(experts: Experts, counts: Float[Tensor, " K"]) -> Float[Tensor, "K P"] | None:
    """Return the noises, NaN of a component with less than one object."""
    noises = experts.noises()
    return None if noises is None else torch.where((counts.to(noises) >= 1.0).unsqueeze(-1), noises, torch.nan)


def _ratios(noises: Float[Tensor, "K P"]) -> Float[Tensor, " P"]:
    """Return the largest noise over the smallest in every output, 1 where there are none."""
    known = noises.isfinite()
    high = torch.where(known, noises, -torch.inf).amax(0)
    low = torch.where(known, noises, torch.inf).amin(0)
    return torch.where(known.any(0), high / low, 1.0)
