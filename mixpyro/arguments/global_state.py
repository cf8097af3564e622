"""State of the process that work changes for a while, kept so that it can be put back."""

import functools
import warnings
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from pyro.poutine import NonlocalExit

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def global_state() -> Callable[[], None]:
    """Keep the warnings filters and torch's random state, and return a function that puts them back.

    That is the state of the CPU and, where CUDA is in use, of the current device.

    Contexts do so too, unless an interrupt comes while they are entered or left.
    """
    filters, entries, random_state = warnings.filters, list(warnings.filters), torch.get_rng_state()
    of_device = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None

    def put_back() -> None:
        if warnings.filters is not filters or list(filters) != entries:
            warnings.filters = filters
            warnings.filters[:] = entries  # type: ignore[index]
            warnings._filters_mutated()  # type: ignore[attr-defined]
        if not torch.equal(torch.get_rng_state(), random_state):
            torch.set_rng_state(random_state)
        if of_device is not None and not torch.equal(torch.cuda.get_rng_state(), of_device):
            torch.cuda.set_rng_state(of_device)

    return put_back


def unchanged_if_refused(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorate a function that draws random numbers to put the state of the process back where it raises.

    Pyro leaves a program at a site in order to run it anew with values of that site: the numbers drawn so far count.

    Args:
        function: such as a Pyro model.
    """

    @functools.wraps(function)
    def drawing(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        if torch.compiler.is_compiling():
            return function(*args, **kwargs)
        put_back = global_state()
        try:
            return function(*args, **kwargs)
        except NonlocalExit:
            raise
        except BaseException:
            put_back()
            raise

    return drawing
