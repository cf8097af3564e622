"""L-BFGS as an optimiser of Pyro's."""

from collections.abc import Callable, Iterable

import torch
from pyro.optim import PyroOptim
from torch.nn import Parameter


class LineSearches(PyroOptim):
    """All the steps that one full-data M-step takes, by L-BFGS with strong Wolfe line searches.

    The data stand still, so there is no noise that Adam would be needed for; nor is there a step size to choose.

    Args:
        trainable: the parameters.
        n_steps: most steps.
        tolerance: the steps end with one that gains no more.
        loss_and_gradients: evaluates SVI's loss and leaves its gradients in the parameters.
    """

    def __init__(
        self,
        trainable: list[Parameter],
        n_steps: int,
        loss_and_gradients: Callable[[], float],
        *,
        tolerance: float = 1e-14,
    ) -> None:
        super().__init__(torch.optim.LBFGS, {})
        self.trainable = trainable
        self.n_steps = n_steps
        self.tolerance = tolerance
        self.loss_and_gradients = loss_and_gradients

    def __call__(self, params: Iterable[Parameter], *args: object, **kwargs: object) -> None:
        """Take the steps."""
        search = torch.optim.LBFGS(
            self.trainable,
            max_iter=self.n_steps,
            tolerance_grad=1e-10,
            tolerance_change=self.tolerance,
            line_search_fn="strong_wolfe",
        )

        def closure() -> float:
            search.zero_grad()
            return self.loss_and_gradients()

        search.step(closure)
