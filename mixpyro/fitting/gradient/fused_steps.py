"""Steps of a fused Adam in a row, without what torch does anew in each of them."""

from typing import Any

import torch
from torch import Tensor


class FusedSteps:
    """Take steps of torch's fused Adam: its kernel, on lists that are made once.

    ``torch.optim.Adam.step`` collects its tensors and counts the steps of every parameter by itself, which takes two
    thirds of the time of a step on a small network. Here all parameters have one count, until :meth:`end`.

    Args:
        adam: all of its parameters have gradients, a state and one step count; see :meth:`fit_for`.
    """

    def __init__(self, adam: torch.optim.Optimizer) -> None:
        (self.group,) = adam.param_groups
        self.parameters: list[Tensor] = self.group["params"]
        states = [adam.state[parameter] for parameter in self.parameters]
        self.averages = [state["exp_avg"] for state in states]
        self.squares = [state["exp_avg_sq"] for state in states]
        self.counts: list[Tensor] = [state["step"] for state in states]
        self.count = self.counts[0].clone()

    @classmethod
    def fit_for(cls, adam: torch.optim.Optimizer) -> bool:
        """Whether these steps are those of the optimiser, and nothing waits to be told of each.

        Args:
            adam: a ``torch.optim.Adam`` that holds gradients.
        """
        if len(adam.param_groups) != 1 or type(adam) is not torch.optim.Adam:
            return False
        group: dict[str, Any] = adam.param_groups[0]
        others = any(group.get(name) for name in ("amsgrad", "capturable", "differentiable", "decoupled_weight_decay"))
        numbers = not any(isinstance(value, Tensor) for value in (group["lr"], *group["betas"]))
        parameters = group["params"]
        return (
            bool(group["fused"])
            and numbers
            and not others
            and all(parameter.grad is not None and "step" in adam.state.get(parameter, ()) for parameter in parameters)
            and len({(parameter.dtype, parameter.device) for parameter in parameters}) == 1
            and len({float(adam.state[parameter]["step"]) for parameter in parameters}) == 1
        )

    def take(self) -> bool:
        """Take a step, unless a parameter has no gradient; return whether it is taken."""
        gradients = [parameter.grad for parameter in self.parameters]
        if any(gradient is None for gradient in gradients):
            return False
        self._step(gradients)  # type: ignore[arg-type]
        return True

    @torch.no_grad()
    def _step(self, gradients: list[Tensor]) -> None:
        group = self.group
        self.count.add_(1.0)
        torch._fused_adam_(
            self.parameters,
            gradients,
            self.averages,
            self.squares,
            [],
            [self.count] * len(gradients),
            amsgrad=False,
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=group["maximize"],
        )

    def end(self) -> None:
        """Tell the optimiser how many steps its parameters have taken."""
        for count in self.counts:
            count.copy_(self.count)
