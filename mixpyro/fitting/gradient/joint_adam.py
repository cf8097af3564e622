"""Adam over all parameters of a module together."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import groupby
from typing import Any

import torch
from pyro.optim import PyroOptim
from torch import Tensor
from torch.nn import Parameter

from mixpyro.fitting.gradient.flat_parameters import FlatParameters, own_storage


class JointAdam(PyroOptim):
    """One Adam over all parameters laid end to end; Pyro's own keeps one optimiser a parameter.

    Adam treats every number by itself, so its steps are the same to the last bit. Its state belongs to the parameters:
    it is kept from call to call, and follows them to another dtype or device. One that is trained later than the others
    has a count of steps of its own, and one that is frozen for a while finds its state again.

    Args:
        lr: step size.
    """

    def __init__(self, lr: float = 1e-3) -> None:
        super().__init__(torch.optim.Adam, {"lr": lr})
        self.lr = lr
        self.groups: list[FlatParameters] = []
        self.adam: torch.optim.Adam | None = None
        self._resting: dict[Parameter, dict[str, Any]] = {}

    @contextmanager
    def over(self, parameters: Sequence[Parameter]) -> Iterator[list[Tensor]]:
        """Train these parameters from now on; gives the leaves that hold them inside."""
        if not self._holds(parameters):
            self._regroup(parameters)
        with ExitStack() as stack:
            yield [stack.enter_context(group.laid_out()) for group in self.groups]

    def __call__(self, params: Iterable[Tensor], *args: object, **kwargs: object) -> None:
        """Take one step with the gradients that the parameters hold, and take these away."""
        for group in self.groups:
            group.take_gradients()
        if self.adam is not None:
            self.adam.param_groups[0]["lr"] = self.lr
            self.adam.step()
        for group in self.groups:
            group.drop_gradients()

    def _holds(self, parameters: Sequence[Parameter]) -> bool:
        held = {id(p): (group.dtype, group.device) for group in self.groups for p in group.parameters}
        return held == {id(p): (p.dtype, p.device) for p in parameters}

    def _regroup(self, parameters: Sequence[Parameter]) -> None:
        """Lay out what is alike: of one dtype, on one device, with as many steps behind it."""
        states, apart = self._states(), own_storage(parameters)

        def likeness(parameter: Parameter) -> str:
            steps = float(states[parameter]["step"]) if parameter in states else 0.0
            return f"{parameter.dtype} {parameter.device} {steps} {0 if apart[parameter] else id(parameter)}"

        ordered = sorted(parameters, key=likeness)
        self.groups = [FlatParameters(list(group)) for _, group in groupby(ordered, key=likeness)]
        leaves = [group.leaf for group in self.groups]
        # Several tensors at once, the default elsewhere, would be slower for one.
        self.adam = torch.optim.Adam(leaves, lr=self.lr, foreach=False) if leaves else None
        for group in self.groups:
            self._restore(group, states)
        self._resting = {parameter: state for parameter, state in states.items() if parameter not in apart}

    def _restore(self, group: FlatParameters, states: dict[Parameter, dict[str, Any]]) -> None:
        """What Adam knows of a group's parameters, in their dtype; all of them are known or none."""
        if self.adam is None or group.parameters[0] not in states:
            return
        self.adam.state[group.leaf] = {
            "step": states[group.parameters[0]]["step"],
            **{
                name: group.joined([states[parameter][name] for parameter in group.parameters]).to(group.leaf)
                for name in ("exp_avg", "exp_avg_sq")
            },
        }

    def _states(self) -> dict[Parameter, dict[str, Any]]:
        """What Adam knows of each parameter, trained at present or not."""
        states = dict(self._resting)
        for group in self.groups:
            known = {} if self.adam is None else self.adam.state.get(group.leaf, {})
            parts = [group.parts(known[name]) for name in ("exp_avg", "exp_avg_sq") if known]
            for parameter, mean, square in zip(group.parameters, *parts, strict=True) if known else ():
                states[parameter] = {"step": known["step"].clone(), "exp_avg": mean, "exp_avg_sq": square}
        return states
