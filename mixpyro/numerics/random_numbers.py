"""Random numbers from a seed of their own, in any thread, which leave PyTorch's global random state alone."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

# A dispatch mode belongs to one thread, and sees each operation of PyTorch, also those inside of distributions and of
# the user's programs and networks, none of which takes a generator. `with` would set flags of the whole process.
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode, _pop_mode, _push_mode

from mixpyro import arguments

# Seeds of torch's generators are below this.
MOST_SEEDS = 2**63
# Kinds of devices that have generators.
DEVICE_TYPES = ("cpu", "cuda")

# Operations that take no generator, as dropout on a CUDA device, borrow the global one, one thread at a time.
_ONE_AT_A_TIME = threading.Lock()
# Global generators that are borrowed, and the states to put back.
_BORROWED: dict[Generator, Tensor] = {}


@contextmanager
def own_random_numbers(seed: int) -> Iterator[None]:
    """Draw random numbers from a generator of this block's own inside, the same ones for the same seed.

    Every operation of PyTorch inside draws from it, on the device that it runs on. The global random state is neither
    read nor changed, whatever other threads draw meanwhile.

    Args:
        seed: at least 0.

    Raises:
        TypeError: if the seed is not an integer.
        ValueError: if it is negative.
    """
    generators = Generators(arguments.integer("seed", seed, least=0))
    with generators.in_use():
        yield


@contextmanager
def nothing_drawn() -> Iterator[None]:
    """Leave :func:`own_random_numbers` inside, for a computation that draws nothing: it is up to twice as fast."""
    mode = _get_current_dispatch_mode()
    if not isinstance(mode, _DrawFrom):
        yield
        return
    _pop_mode()
    try:
        yield
    finally:
        _push_mode(mode)


class Generators:
    """A generator for each device, all from one seed.

    Args:
        seed: at least 0.
    """

    def __init__(self, seed: int) -> None:
        self.seed = int(seed) % MOST_SEEDS
        self.have_drawn = False
        self._of_devices: dict[torch.device, Generator] = {}

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Draw from these generators inside."""
        mode = _get_current_dispatch_mode()
        if isinstance(mode, _DrawFrom):
            # One mode is enough: each costs microseconds an operation.
            before, mode.generators = mode.generators, self
            try:
                yield
            finally:
                mode.generators = before
            return
        _push_mode(_DrawFrom(self))
        try:
            yield
        finally:
            _pop_mode()

    def of(self, device: torch.device) -> Generator:
        """Return the generator of a device.

        Args:
            device: a CPU or CUDA device.
        """
        self.have_drawn = True
        if device not in self._of_devices:
            self._of_devices[device] = Generator(device).manual_seed(self.seed)
        return self._of_devices[device]


class _Drawing(NamedTuple):
    """How an operation draws random numbers."""

    operation: Any  # the overload that takes a generator, or the operation itself where none does
    position: int  # of the generator, behind all arguments that may be given by position
    takes_generator: bool


class _DrawFrom(TorchDispatchMode):
    """Give each operation that draws random numbers a generator.

    Args:
        generators: to draw from.
    """

    def __init__(self, generators: Generators) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.generators = generators

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return that nothing is to be compiled here, so that PyTorch's compiler, seconds of imports, is not loaded."""
        return False

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Return that compiled networks stay compiled."""
        return True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        kwargs = kwargs or {}
        drawing = _drawing(func)
        if drawing is None or _has_generator(drawing, args, kwargs):
            return func(*args, **kwargs)
        device = _device(args, kwargs)
        if device.type not in DEVICE_TYPES:
            return func(*args, **kwargs)
        generator = self.generators.of(device)
        if not drawing.takes_generator:
            return _with_borrowed_state(generator, lambda: func(*args, **kwargs))
        return drawing.operation(*args[: drawing.position], **{**kwargs, "generator": generator})


@cache
def _drawing(operation: Any) -> _Drawing | None:  # noqa: ANN401 (an overload of torch's)
    """Return how an operation draws random numbers; None if it draws none."""
    names = _argument_names(operation)
    if "generator" in names:
        return _Drawing(operation, names.index("generator"), True)
    if torch.Tag.nondeterministic_seeded not in operation.tags:
        return None
    packet = operation.overloadpacket
    for other in (getattr(packet, name) for name in packet.overloads()):
        if [name for name in _argument_names(other) if name != "generator"] == names and _is_alike(operation, other):
            return _Drawing(other, len(names), True)
    return _Drawing(operation, len(names), False)


def _argument_names(operation: Any) -> list[str]:  # noqa: ANN401
    """Return the names of an operation's arguments, in order."""
    return [argument.name for argument in operation._schema.arguments]


def _is_alike(operation: Any, other: Any) -> bool:  # noqa: ANN401
    """Return whether an overload takes arguments of the same types as another one, and a generator."""
    kinds = {argument.name: str(argument.type) for argument in other._schema.arguments}
    return "generator" in kinds and all(kinds[a.name] == str(a.type) for a in operation._schema.arguments)


def _has_generator(drawing: _Drawing, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Return whether the caller has given a generator."""
    return kwargs.get("generator", args[drawing.position] if len(args) > drawing.position else None) is not None


def _device(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.device:
    """Return the device that an operation runs on."""
    given = kwargs.get("device")
    if given is None:
        given = next((value.device for value in args if isinstance(value, Tensor)), "cpu")
    device = torch.device(given)
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def _with_borrowed_state(generator: Generator, draw: Any) -> Any:  # noqa: ANN401
    """Draw with the global generator of a device at the state of another one, and restore it."""
    is_cuda = generator.device.type == "cuda"
    default = torch.cuda.default_generators[generator.device.index] if is_cuda else torch.default_generator
    with _ONE_AT_A_TIME:
        _BORROWED[default] = default.get_state()
        default.set_state(generator.get_state())
        try:
            return draw()
        finally:
            generator.set_state(default.get_state())
            default.set_state(_BORROWED.pop(default))


def _after_fork() -> None:
    """Give back in the child of a fork what a thread had borrowed that the child does not have."""
    global _ONE_AT_A_TIME
    _ONE_AT_A_TIME = threading.Lock()
    while _BORROWED:
        default, before = _BORROWED.popitem()
        if default.device.type == "cpu":
            default.set_state(before)


# Not on Windows, which has no fork.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
