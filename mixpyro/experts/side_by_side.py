"""Several banks of one family as one large bank: what each would do alone, in one pass over the data."""

import copy
from collections.abc import Sequence

import torch

from mixpyro.experts.base import Experts


def side_by_side(banks: Sequence[Experts]) -> Experts:
    """A bank of all the components of ``banks``, in order; they keep their own state.

    Args:
        banks: at least one, copies of each other but for their posteriors, with
            :attr:`~mixpyro.experts.base.Experts.has_separate_components`.
    """
    whole = copy.deepcopy(banks[0])
    whole.n_components = sum(bank.n_components for bank in banks)
    for name in whole.component_buffers:
        setattr(whole, name, torch.cat([getattr(bank, name) for bank in banks]))
    return whole


def hand_back(whole: Experts, banks: Sequence[Experts]) -> None:
    """Give each of ``banks`` what its components in ``whole`` have become."""
    sizes = [bank.n_components for bank in banks]
    for name in whole.component_buffers:
        for bank, state in zip(banks, getattr(whole, name).split(sizes), strict=True):
            setattr(bank, name, state.clone())
