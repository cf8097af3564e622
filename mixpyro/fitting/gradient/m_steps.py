"""The gradient M-steps of all parts of a mixture."""

from torch import Tensor

from mixpyro.fitting.gradient.m_step import MStep
from mixpyro.part import Part


class GradientMSteps:
    """Pyro's SVI for every part without a method of its own, each with an optimiser of its own.

    Args:
        n_steps: most steps of L-BFGS of each M-step.
    """

    def __init__(self, *, n_steps: int) -> None:
        self.n_steps = n_steps
        self._m_steps: dict[Part, MStep] = {}

    def __call__(self, part: Part, *rows: Tensor) -> None:
        """Raise the part's share of the bound in its trainable parameters.

        Args:
            part: a gate or experts.
            *rows: what its objective reads, the responsibilities [N, K] last.
        """
        self._m_steps.setdefault(part, MStep(part)).improve(*rows, n_steps=self.n_steps)
