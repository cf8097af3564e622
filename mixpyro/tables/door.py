"""Methods of a mixture that take tables, and return frames where they were given frames."""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pyro.poutine.runtime import am_i_wrapped
from torch import Tensor

from mixpyro.arguments import has_derivatives
from mixpyro.tables.given import GivenRows, given_rows, is_plain
from mixpyro.tables.layout import Layouts

# Arguments that may be tables.
DATA = (
    "x",
    "y",
    "gate_x",
    "weights",
    "observed",
    "mask",
    "responsibilities",
    "initial_responsibilities",
    "probabilities",
)
# Called with the mixture, the result and what was given, as tensors and otherwise.
Returned = Callable[[Any, Any, GivenRows, Mapping[str, Any]], Any]


def takes_tables(method: Callable[..., Any], returned: Returned | None) -> Callable[..., Any]:
    """Decorate a method of a mixture so that its rows may be tables.

    Args:
        method: of a module with ``fitted_columns``; tensors reach it.
        returned: makes the result of the method a frame, where a frame was given; None for a result that stays.
    """
    signature = inspect.signature(method)

    @functools.wraps(method)
    def with_tables(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 (any method)
        if all(map(is_plain, args)) and all(map(is_plain, kwargs.values())):
            return method(self, *args, **kwargs)
        try:
            bound = signature.bind(self, *args, **kwargs)
        except TypeError:
            return method(self, *args, **kwargs)
        data = {name: bound.arguments[name] for name in DATA if name in bound.arguments}
        data |= {"gate_x": data.get("gate_x")} if "gate_x" in signature.parameters else {}
        if all(map(is_plain, data.values())):
            return method(self, *args, **kwargs)
        known = layouts_of(self)
        given = given_rows(data, known=known, like=first_tensor(self), groups=bound.arguments.get("groups"))
        others = {name: value for name, value in bound.arguments.items() if name not in data}
        bound.arguments.update(given.tensors)
        result = method(*bound.args, **bound.kwargs)
        # A table asks for no derivatives; tensors beside it, transforms and programs may.
        if isinstance(result, Tensor) and not _asks_for_derivatives(data.values()):
            result = result.detach()
        return returned(self, result, given, others) if returned is not None and given.package else result

    return with_tables


def _asks_for_derivatives(values: Iterable[object]) -> bool:
    """Return whether derivatives are asked for: by a tensor, a transform, forward mode or a Pyro program."""
    return bool(am_i_wrapped()) or has_derivatives(*(value for value in values if isinstance(value, Tensor)))


def layouts_of(mixture: Any) -> Layouts:  # noqa: ANN401 (a module that remembers columns)
    """Return the names of the columns that a mixture was fitted to; empty layouts where it was fitted to no frames.

    Args:
        mixture: a module with ``fitted_columns``.
    """
    known = mixture.fitted_columns
    return Layouts() if known is None else known.layouts


def first_tensor(module: Any) -> Tensor | None:  # noqa: ANN401 (a module)
    """Return a parameter or a buffer of a module; None where it has none.

    Args:
        module: of PyTorch.
    """
    return next(module.parameters(), next(module.buffers(), None))
