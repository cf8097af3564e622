"""Networks that draw random numbers in a fit, as those with dropout in training mode do."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from weakref import WeakSet

from torch import Tensor, nn

from mixpyro.numerics.random_numbers import Generators


class _Numbers:
    """Random numbers of the networks of one fit.

    Args:
        seed: at least 0.
    """

    def __init__(self, seed: int) -> None:
        self.generators = Generators(seed)
        # Networks that have drawn nothing when they were called first are called directly from then on.
        self.without: WeakSet[nn.Module] = WeakSet()

    def called(self, network: nn.Module, x: Tensor) -> Any:  # noqa: ANN401 (what the network returns)
        """Return the output of a network that draws from the generators.

        Args:
            network: any torch module.
            x: its inputs.
        """
        if network in self.without:
            return network(x)
        self.generators.have_drawn = False
        with self.generators.in_use():
            output = network(x)
        if not self.generators.have_drawn:
            self.without.add(network)
        return output


_NUMBERS: ContextVar[_Numbers | None] = ContextVar("mixpyro_random_networks", default=None)


@contextmanager
def random_networks(seed: int) -> Iterator[None]:
    """Let networks draw from a generator of their own inside, so that a fit leaves the global random state alone.

    Args:
        seed: at least 0.
    """
    token = _NUMBERS.set(_Numbers(seed))
    try:
        yield
    finally:
        _NUMBERS.reset(token)


def called(network: nn.Module, x: Tensor) -> Any:  # noqa: ANN401
    """Return the output of a network, which draws from the fit's own generator inside :func:`random_networks`.

    Args:
        network: any torch module.
        x: its inputs.
    """
    numbers = _NUMBERS.get()
    return network(x) if numbers is None else numbers.called(network, x)
