"""Small random problems for the tests."""

import functools
from collections.abc import Callable
from typing import Any

import pyro
import torch
from torch import Generator, Tensor


def responsibilities(n_objects: int, n_components: int, *, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    """Draw rows on the simplex [N, K], every entry well above zero."""
    generator = Generator().manual_seed(seed)
    raw = torch.rand(n_objects, n_components, generator=generator, dtype=dtype) + 0.05
    return raw / raw.sum(-1, keepdim=True)


def inputs(n_objects: int, n_features: int = 2, *, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    """Draw standard normal inputs [N, D]."""
    return torch.randn(n_objects, n_features, generator=Generator().manual_seed(seed), dtype=dtype)


def lines(
    n_objects: int, n_components: int, *, n_features: int = 1, n_outputs: int = 1, noise: float = 0.3, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw data on random planes: x [N, D], y [N, P] and their components [N], float64."""
    generator = Generator().manual_seed(seed)
    draw = functools.partial(torch.randn, generator=generator, dtype=torch.float64)
    x = draw(n_objects, n_features)
    coefficients = 2.0 * draw(n_components, n_features, n_outputs)
    z = torch.randint(n_components, (n_objects,), generator=generator)
    y = torch.einsum("nd,ndp->np", x, coefficients[z]) + noise * draw(n_objects, n_outputs)
    return x, y, z


def in_plate(call: Callable[..., Any], name: str = "objects") -> Callable[..., Any]:
    """Return a call of a gate's model or guide in a plate over the rows of x."""

    def called(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        return call(x, *args, plate=pyro.plate(name, len(x), dim=-1), **kwargs)

    return called
