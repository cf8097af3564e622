"""One call of a public function, with what is needed to judge it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


def nothing_wrong(result: Any, arguments: dict[str, Any]) -> list[str]:
    """Return no complaint: of a result that has no rule of its own."""
    return []


@dataclass
class Call:
    """A call that has not been made yet.

    Attributes:
        name: of the public function or method, as in ``MixtureOfExperts.assign``.
        function: what is called.
        arguments: of the call, by name; all of them right before one is replaced.
        owner: what the call belongs to, which must be as before if the call fails.
        changes: whether a call that succeeds may change its owner.
        adopts: names of arguments that a call that succeeds may change, as a fit its mixture.
        may_refuse: whether a right call may end in a clear error, as reports of fits that have not converged do.
        draws: whether a call that succeeds may draw from the global random state.
        registers: whether a call may register parameters of the program that it runs in Pyro's store.
        check: returns what is wrong with a result, in words.
        replaced: the arguments that were replaced, with a word for what they were replaced by.
        fixed: arguments that stay as they are.
        is_related: whether to compare the result with those of related calls.
        positional: values that come before the others, for functions that take any number of them.
    """

    name: str
    function: Callable[..., Any]
    arguments: dict[str, Any]
    owner: Any = None
    changes: bool = False
    adopts: tuple[str, ...] = ()
    may_refuse: bool = False
    draws: bool = False
    registers: bool = False
    check: Callable[[Any, dict[str, Any]], list[str]] = nothing_wrong
    replaced: dict[str, str] = field(default_factory=dict)
    fixed: frozenset[str] = frozenset()
    positional: tuple[Any, ...] = ()
    is_related: bool = False

    def __call__(self) -> Any:
        """Make the call."""
        return self.function(*self.positional, **self.arguments)

    def described(self) -> str:
        """Return the call in words, with the arguments that were replaced."""
        words = ", ".join(f"{name}: {kind}" for name, kind in self.replaced.items())
        return f"{self.name} ({words or 'nothing replaced'})"
