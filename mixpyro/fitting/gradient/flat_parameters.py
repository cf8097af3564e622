"""Parameters laid end to end, so that an optimiser has one tensor to step over instead of many small ones."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import Parameter


class FlatParameters:
    """Parameters of one dtype on one device, and one leaf that holds them while they are trained.

    Inside :meth:`laid_out` each parameter, still the same object, is a part of the leaf. Afterwards each is back in the
    storage that it had, with its new values, so that whatever else looks at that storage sees them. A parameter that is
    alone is its own leaf.

    Args:
        parameters: different ones, none of which shares its storage with another.

    Attributes:
        leaf: all of them, flat.
        dtype: that they had when they were laid out, and device: where.
    """

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        self.parameters = tuple(parameters)
        self.dtype, self.device = parameters[0].dtype, parameters[0].device
        self.leaf: Tensor = parameters[0] if self._is_alone else self.joined(self.parameters).requires_grad_()
        self.gradient: Tensor | None = None
        self.gradients: list[Tensor] = []

    @property
    def _is_alone(self) -> bool:
        return len(self.parameters) == 1

    def joined(self, parts: Sequence[Tensor]) -> Tensor:
        """A tensor for each parameter, as one like the leaf."""
        return parts[0].detach().clone() if self._is_alone else torch.cat([part.detach().flatten() for part in parts])

    def parts(self, flat: Tensor) -> list[Tensor]:
        """What of a tensor like the leaf belongs to each parameter."""
        parts = flat.flatten().split([p.numel() for p in self.parameters])
        return [part.view(p.shape) for part, p in zip(parts, self.parameters, strict=True)]

    @contextmanager
    def laid_out(self) -> Iterator[Tensor]:
        """Make the parameters parts of the leaf, their gradients parts of one gradient, and give the leaf."""
        if self._is_alone:
            yield self.leaf
            return
        own = [p.data for p in self.parameters]
        self.leaf.data = self.joined(own)
        self.gradient = torch.zeros_like(self.leaf)
        self.gradients = self.parts(self.gradient)
        try:
            self._place(self.parts(self.leaf.detach()), self.gradients)
            yield self.leaf
        finally:
            for data, parameter in zip(own, self.parameters, strict=True):
                data.copy_(parameter.data)
            self._place(own, [None] * len(own))
            # Whoever holds a graph of the old values is told that they are gone, as after any step in place.
            torch.autograd.graph.increment_version(self.parameters)
            self.gradient, self.gradients = None, []
            # Pyro's weak reference, with which the leaf could not be pickled.
            vars(self.leaf).pop("unconstrained", None)

    def _place(self, places: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
        for parameter, place, gradient in zip(self.parameters, places, gradients, strict=True):
            parameter.grad = None
            parameter.data = place
            parameter.grad = gradient

    def take_gradients(self) -> None:
        """Give the leaf the gradients of the parameters, zero where the objective does not depend on one."""
        for parameter, gradient in zip(self.parameters, self.gradients, strict=False):
            # Pyro puts zeros of its own in place of the gradients of parameters that it has seen itself.
            if parameter.grad is not gradient:
                gradient.copy_(torch.zeros_like(gradient) if parameter.grad is None else parameter.grad)
                parameter.grad = gradient
        if self.gradient is not None:
            self.leaf.grad = self.gradient

    def drop_gradients(self) -> None:
        """Begin the next ones from zero."""
        self.leaf.grad = None
        if self.gradient is not None:
            self.gradient.zero_()


def own_storage(parameters: Iterable[Parameter]) -> dict[Parameter, bool]:
    """Whether each is alone in its storage, as the weights of a recurrent network on a GPU are not."""
    storages = {parameter: parameter.untyped_storage().data_ptr() for parameter in parameters}
    shared = Counter(storages.values())
    return {parameter: shared[storage] == 1 for parameter, storage in storages.items()}
