"""Methods that change a module as a whole or not at all."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from torch import nn

from mixpyro.arguments.module_contents import contents_of
from mixpyro.arguments.signals import undone_if_it_raises

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def all_or_nothing(method: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorate a method so that its module is as it was if the method raises or is interrupted.

    Args:
        method: of a module, which changes the module.
    """

    @functools.wraps(method)
    def undone(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        module = args[0]
        assert isinstance(module, nn.Module)
        return undone_if_it_raises(lambda: method(*args, **kwargs), lambda: contents_of(module))

    return undone
