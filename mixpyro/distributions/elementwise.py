"""Functions of ``scipy.special`` on tensors, which transforms of ``torch.func`` go through."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from mixpyro.arguments.late_imports import imported


def student_t_density(df: Tensor, standardised: Tensor) -> Tensor:
    """Return the density of a standard Student-t, the derivative of ``stdtr``; Bishop (2006), eq. 2.159.

    Args:
        df: degrees of freedom, above 0, float64.
        standardised: values of the same shape.
    """
    normaliser = torch.lgamma(0.5 * (df + 1.0)) - torch.lgamma(0.5 * df) - 0.5 * (torch.pi * df).log()
    return (normaliser - 0.5 * (df + 1.0) * torch.log1p(standardised.square() / df)).exp()


# Derivatives in the last argument, by the name of the function.
SLOPES: Mapping[str, Callable[..., Tensor]] = MappingProxyType({"stdtr": student_t_density})


class Elementwise(torch.autograd.Function):
    """A function of ``scipy.special``: ``Elementwise.apply(name, *arguments)``, float64.

    The arguments are tensors of one shape. The derivative in the last one goes through where ``SLOPES`` has it.
    """

    @staticmethod
    def forward(function: str, *arguments: Tensor) -> Tensor:
        """Call the function."""
        result = getattr(imported("scipy.special"), function)(
            *(argument.detach().cpu().numpy() for argument in arguments)
        )
        return torch.as_tensor(result, dtype=torch.float64, device=arguments[0].device)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ANN401
        """Keep the arguments."""
        ctx.function = inputs[0]
        ctx.save_for_backward(*inputs[1:])
        ctx.save_for_forward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        """Multiply the gradient by the slope."""
        slope = SLOPES.get(ctx.function)
        before = (None,) * len(ctx.saved_tensors)
        return *before, None if slope is None else gradients[0] * slope(*ctx.saved_tensors)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:  # noqa: ANN401
        """Multiply the tangent of the last argument by the slope."""
        slope, last = SLOPES.get(ctx.function), ctx.saved_tensors[-1]
        if slope is None or tangents[-1] is None:
            return torch.zeros_like(last, dtype=torch.float64)
        return tangents[-1] * slope(*ctx.saved_tensors)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], function: str, *arguments: Tensor) -> tuple[Tensor, int]:  # noqa: ANN401
        """Call the function on all of the batch at once."""
        moved = [
            argument if dim is None else argument.movedim(dim, 0)
            for dim, argument in zip(in_dims[1:], arguments, strict=True)
        ]
        return Elementwise.apply(function, *torch.broadcast_tensors(*moved)), 0  # type: ignore[no-untyped-call]
