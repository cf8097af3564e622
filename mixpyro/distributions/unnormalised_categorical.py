"""Categorical distributions with some of the probability beyond their values."""

from collections.abc import Sequence

import torch
from pyro.distributions import Categorical
from torch import Tensor

from mixpyro.distributions.checked_values import checked_as


class UnnormalisedCategorical(Categorical):
    """Values 0 to K − 1 whose probabilities sum to less than one: the rest is that of no value at all.

    Draws are given that there is a value, with the probabilities over their sum. The log density is the logarithm of
    the probability itself, so that a program that scores a value scores that there is one.

    Args:
        logits: log probabilities [..., K], as they are.
        validate_args: as for every distribution of PyTorch.
    """

    def __init__(self, logits: Tensor, validate_args: bool | None = None) -> None:
        super().__init__(logits=logits, validate_args=validate_args)
        self.logits = logits

    def expand(self, batch_shape: Sequence[int], _instance: None = None) -> "UnnormalisedCategorical":
        """Return the same distribution of a larger batch.

        Args:
            batch_shape: to which the batch shape broadcasts.
        """
        shape = torch.Size([*batch_shape, self.logits.shape[-1]])
        return checked_as(self, UnnormalisedCategorical(self.logits.expand(shape), validate_args=False))

    def entropy(self) -> Tensor:
        """Return the entropy in nats of a draw."""
        probabilities: Tensor = self.probs
        return -torch.xlogy(probabilities, probabilities).sum(-1)
