"""Optimisers of torch as optimisers of Pyro: one for all parameters, where ``pyro.optim`` makes one for each."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from pyro.optim import PyroOptim
from torch import Tensor
from torch.nn import Parameter
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from mixpyro.arguments.late_imports import imported
from mixpyro.arguments.signals import pass_on
from mixpyro.fitting.gradient.fused_steps import FusedSteps

# What PyTorch imports when it makes its first optimiser; it takes a second or more.
COMPILER = "torch._dynamo"


class TorchOptimizer(PyroOptim):
    """Step one torch optimiser over all its parameters.

    Args:
        optimizer: any torch optimiser whose ``step`` works without a closure; it keeps its state from call to call.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        super().__init__(type(optimizer), {})
        self.optimizer = optimizer
        self._formats = formats(self.parameters)
        self._frozen: list[Tensor] = []

    @property
    def parameters(self) -> list[Tensor]:
        """All parameters that the optimiser changes."""
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def __call__(self, params: Iterable[Tensor], *args: object, **kwargs: object) -> None:
        """Take one step with the gradients that the parameters hold, then clear the gradients.

        Args:
            params: parameters that Pyro has registered; the optimiser changes its own list of parameters instead.
            *args: ignored.
            **kwargs: ignored.
        """
        # Pyro makes frozen parameters of a PyroModule trainable while its program runs (pyro issue 3438).
        for parameter in self._frozen:
            parameter.grad = None
        self._step()
        # Not by zero_grad, which reports to the profiler: 17 µs of the 1100 µs that a step of a small network takes.
        for parameter in self.parameters:
            parameter.grad = None

    def _step(self) -> None:
        """Take one step with the gradients that the parameters hold."""
        plain_step(self.optimizer)

    @contextmanager
    def steps_in_a_row(self) -> Iterator[None]:
        """Let nothing but this object use the optimiser inside, so that its steps may share some of their work."""
        yield

    def kept(self) -> Callable[[], None]:
        """Keep what this object and the optimiser are, and return what puts it back."""
        own, groups = dict(vars(self)), [dict(group) for group in self.optimizer.param_groups]
        lists = [list(group["params"]) for group in groups]
        state = {parameter: _copied(one) for parameter, one in self.optimizer.state.items()}

        def put_back() -> None:
            vars(self).update(own)
            del self.optimizer.param_groups[len(groups) :]
            for group, before, parameters in zip(self.optimizer.param_groups, groups, lists, strict=True):
                group.update(before)
                group["params"][:] = parameters
            self.optimizer.state.clear()
            self.optimizer.state.update(state)

        return put_back

    def follow(self, parameters: Iterable[Parameter]) -> None:
        """Note which parameters are frozen, and convert the state of those with another dtype or device than before.

        Args:
            parameters: all parameters of the module, frozen ones too. A given optimiser does not add them to its own.
        """
        if formats(self.parameters) != self._formats:
            # Loading casts the state to the present dtype and device of each parameter.
            self.optimizer.load_state_dict(self.optimizer.state_dict())
            self._formats = formats(self.parameters)
        self._frozen = [parameter for parameter in self.parameters if not parameter.requires_grad]


class FusedAdam(TorchOptimizer):
    """Step Adam over all parameters of a module, by one fused kernel where torch has one for them.

    Every parameter has its own step count, also one that is frozen for a while or added later.

    Args:
        parameters: all parameters of the module, frozen ones too.
        lr: step size, at least zero.
    """

    def __init__(self, parameters: Iterable[Parameter], *, lr: float = 1e-3) -> None:
        imported(COMPILER)
        super().__init__(torch.optim.Adam([{"params": list(parameters)}], lr=lr))
        self._choose_kernel()
        self._in_a_row = False
        self._steps: FusedSteps | None = None

    @contextmanager
    def steps_in_a_row(self) -> Iterator[None]:
        """Take the steps inside by :class:`FusedSteps` where they are the same; see the base class."""
        self._in_a_row = True
        try:
            yield
        finally:
            self._in_a_row = False
            self._end()

    def _step(self) -> None:
        if (
            self._steps is None
            and self._in_a_row
            and not is_watched(self.optimizer)
            and FusedSteps.fit_for(self.optimizer)
        ):
            self._steps = FusedSteps(self.optimizer)
        if self._steps is None or not self._steps.take():
            self._end()
            plain_step(self.optimizer)

    def _end(self) -> None:
        if self._steps is not None:
            self._steps.end()
            self._steps = None

    def follow(self, parameters: Iterable[Parameter]) -> None:
        """Add new parameters, and choose the kernel for the present dtypes and devices; see the base class.

        Args:
            parameters: all parameters of the module, frozen ones too.
        """
        held = set(map(id, self.parameters))
        added = [parameter for parameter in parameters if id(parameter) not in held]
        if added:
            self.optimizer.add_param_group({"params": added})
        if formats(self.parameters) != self._formats:
            self._choose_kernel()
        super().follow(parameters)

    def _choose_kernel(self) -> None:
        """Use the fused kernel if it takes every dtype and device of the parameters."""
        fused = all(can_be_fused(dtype, device) for dtype, device in set(formats(self.parameters)))
        for group in self.optimizer.param_groups:
            group["fused"] = fused


class FullDataLBFGS(PyroOptim):
    """All steps of one M-step on full data, by L-BFGS with strong Wolfe line searches.

    Without minibatches the objective has no noise, so no step size has to be chosen.

    Args:
        trainable: the parameters.
        n_steps: maximum number of steps, at least one.
        loss_and_gradients: evaluates SVI's loss and adds its gradients to those of the parameters.
        tolerance: the steps end when one lowers the loss, or moves every parameter, by less than this.
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
        imported(COMPILER)
        self.trainable = trainable
        self.n_steps = n_steps
        self.tolerance = tolerance
        self.loss_and_gradients = loss_and_gradients

    def __call__(self, params: Iterable[Parameter], *args: object, **kwargs: object) -> None:
        """Take all the steps.

        Args:
            params: parameters that Pyro has registered; ``trainable`` is changed instead.
            *args: ignored.
            **kwargs: ignored.
        """
        lbfgs = torch.optim.LBFGS(
            self.trainable,
            max_iter=self.n_steps,
            tolerance_grad=1e-10,
            tolerance_change=self.tolerance,
            line_search_fn="strong_wolfe",
        )

        def closure() -> float:
            lbfgs.zero_grad()
            return self.loss_and_gradients()

        lbfgs.step(closure)


def _copied(state: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of what an optimiser keeps of one parameter."""
    return {name: value.clone() if isinstance(value, Tensor) else value for name, value in state.items()}


def plain_step(optimizer: torch.optim.Optimizer) -> None:
    """Take one step, without the report to the profiler where nothing waits for it.

    The report takes 40 to 70 µs, a third of a fused step on a small network.

    Args:
        optimizer: any torch optimiser whose ``step`` works without a closure.
    """
    if is_watched(optimizer):
        optimizer.step()
    else:
        type(optimizer).step.__wrapped__(optimizer)  # type: ignore[attr-defined]


def is_watched(optimizer: torch.optim.Optimizer) -> bool:
    """Whether hooks, a scheduler of the step size or the profiler want to be told of each step.

    Args:
        optimizer: any torch optimiser.
    """
    hooks = (
        optimizer._optimizer_step_pre_hooks,
        optimizer._optimizer_step_post_hooks,
        _global_optimizer_pre_hooks,
        _global_optimizer_post_hooks,
    )
    # A scheduler counts steps by a function of its own, which it puts on the object.
    own = "step" in vars(optimizer) or not getattr(type(optimizer).step, "hooked", False)
    return own or any(hooks) or bool(torch._C._autograd._profiler_enabled())


def formats(parameters: Sequence[Tensor]) -> list[tuple[torch.dtype, torch.device]]:
    """List the dtype and device of each parameter.

    Args:
        parameters: tensors of any shapes.
    """
    return [(parameter.dtype, parameter.device) for parameter in parameters]


def can_be_fused(dtype: torch.dtype, device: torch.device) -> bool:
    """Try one step of a fused Adam on a parameter of this kind.

    Args:
        dtype: of the parameter.
        device: of the parameter.

    Returns:
        Whether torch took the step. It refuses complex numbers and the meta device, for example.
    """
    parameter = torch.zeros((), dtype=dtype, device=device, requires_grad=True)
    parameter.grad = torch.zeros_like(parameter)
    try:
        torch.optim.Adam([parameter], fused=True).step()
    except RuntimeError as error:
        pass_on(error)
        return False
    return True
