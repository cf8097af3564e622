"""What objects are, as plain values that can be compared, and signals at chosen lines."""

import signal
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Generator, Tensor, nn

import mixpyro
from mixpyro import StreamingFit
from mixpyro.fitting.kept_rows import KeptRows

PACKAGE = str(Path(mixpyro.__file__).parent)


def plain(value: object) -> object:
    """Return a value of which two that are equal were equal bit for bit."""
    if isinstance(value, Tensor):
        gradient = plain(value.grad) if value.is_leaf and value.grad is not None else None
        return value.requires_grad, value.dtype, value.shape, value.detach().numpy().tobytes(), gradient
    if isinstance(value, KeptRows):
        return plain(vars(value))
    if isinstance(value, Generator):
        return value.get_state().numpy().tobytes()
    if isinstance(value, torch.optim.Optimizer):
        return [len(group["params"]) for group in value.param_groups], [plain(one) for one in value.state.values()]
    if isinstance(value, dict):
        return [(key if isinstance(key, str) else repr(type(key)), plain(one)) for key, one in value.items()]
    if isinstance(value, list | tuple | set):
        return [plain(one) for one in value]
    return value if isinstance(value, int | float | str | None) else repr(type(value))


def of_module(module: nn.Module) -> object:
    """Return parameters, buffers and attributes of a module and all in it."""
    return [plain({name: one for name, one in vars(part).items() if name != "_modules"}) for part in module.modules()]


def of_stream(stream: StreamingFit) -> object:
    """Return what a stream and its mixture are."""
    others = "mixture", "_lost", "_m_steps", "processes", "step_size"
    own = {name: one for name, one in vars(stream).items() if name not in others}
    lost = {name: one for name, one in vars(stream._lost or stream).items() if name != "mixture"}
    optimizers = [
        None if one._optimizer is None else plain(one._optimizer.optimizer) for one in stream._m_steps.values()
    ]
    return of_module(stream.mixture), plain(own), plain(lost) if stream._lost else None, optimizers


class PressesControlC:
    """A trace function, for ``sys.settrace``, that presses Ctrl-C before the n-th line of this library.

    Args:
        when: n, from one on; 0 for never.
        n_times: how often it presses there.
    """

    def __init__(self, when: int, n_times: int = 1) -> None:
        self.n_lines, self.when, self.n_times = 0, when, n_times

    def __call__(self, frame: FrameType, event: str, argument: object) -> Any:
        """Look at the lines of this library's functions alone."""
        return self._line if frame.f_code.co_filename.startswith(PACKAGE) else None

    def _line(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "line":
            self.n_lines += 1
            if self.n_lines == self.when:
                for _ in range(self.n_times):
                    signal.raise_signal(signal.SIGINT)
        return self._line
