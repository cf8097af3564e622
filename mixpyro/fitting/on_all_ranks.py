"""Arguments of a wrong type on one process, which no other would hear of before it waits for that one."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from mixpyro import arguments
from mixpyro.arguments.declared import DeclaredTypes
from mixpyro.distributed.groups_of_processes import processes_given

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def on_all_ranks(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorate a function as ``arguments.outside_contexts`` does; a wrong type on one rank is an error on all.

    Args:
        function: a public one with a ``process_group``, which all ranks call.
    """
    own, declared_types = arguments.outside_contexts(function), DeclaredTypes(function)

    @functools.wraps(own)
    def called(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        processes = processes_given("process_group", kwargs.get("process_group"))
        if processes is not None:
            with processes.together():
                declared_types.check(args, kwargs)
        return own(*args, **kwargs)

    return called
