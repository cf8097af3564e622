"""Checks of arguments by the types that a function declares: flags, words, classes, functions and collections.

What has checks of its own, with a range or a shape, is left to them: data, tensors of a shape, floating numbers.
"""

import functools
import inspect
import types
import typing
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from numbers import Integral
from typing import Any, ParamSpec, TypeVar

import numpy as np
from torch import Tensor

from mixpyro.arguments.checked import can_be_called, is_iterable
from mixpyro.arguments.dense import is_dense
from mixpyro.arguments.messages import shown

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Rule = Callable[[object], bool]
# What a check says that a value must be, where the name of its class would not do.
WORDS: dict[object, str] = {
    bool: "True or False",
    int: "an integer",
    str: "a string",
    type(None): "None",
    Tensor: "a torch.Tensor",
    np.ndarray: "an array",
    type: "a class",
}
# The same by the name of the class, of classes that this module must not import.
WORDS_BY_NAME = {
    "FitResult": "what `fit` returned",
    "MixtureOfExperts": "a mixture",
    "Gate": "a gate",
    "Experts": "experts",
    "FormulaResult": "what `fit_formula` returned",
}
# Several of them.
PLURALS = {
    "a string": "strings",
    "an integer": "integers",
    "a function": "functions",
    "a class": "classes",
    "experts": "experts",
    "a torch.Tensor": "tensors",
    "a mixture": "mixtures",
    "what `fit` returned": "results of `fit`",
}
# What the values of a tensor may be.
OF_TENSORS = (WORDS[int], WORDS[Tensor])
# Where classes are from that other checks know: shapes of tensors, and what belongs to a Pyro program.
ELSEWHERE = ("jaxtyping", "pyro.")


class DeclaredTypes:
    """The types that a function declares, read when it is called first.

    Args:
        function: whose annotations say what its arguments are. One that this module has no rule for is not checked.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._rules: list[tuple[str, int, Rule, str]] | None = None

    def check(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Check the arguments of a call.

        Args:
            args: those given by position.
            kwargs: those given by name.

        Raises:
            TypeError: if one is of another type.
        """
        if self._rules is None:
            self._rules = list(_rules(self._function))
        for name, place, fits, wanted in self._rules:
            if name in kwargs:
                value = kwargs[name]
            elif 0 <= place < len(args):
                value = args[place]
            else:
                continue
            if not fits(value):
                kind = type(value).__name__
                got = kind if wanted == WORDS[Tensor] else f"{shown(value)} of type {kind}"
                raise TypeError(f"`{name}` must be {wanted}; got {got}.")


def declared(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorate a public function to refuse arguments of other types than those it declares.

    Args:
        function: with annotations.
    """
    declared_types = DeclaredTypes(function)

    @functools.wraps(function)
    def checked(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        declared_types.check(args, kwargs)
        return function(*args, **kwargs)

    return checked


def _rules(function: Callable[..., Any]) -> Iterator[tuple[str, int, Rule, str]]:
    """Yield name, place, rule and words of every argument that there is a rule for.

    Constructors check all but flags and words themselves, since what is allowed depends on their other arguments.
    """
    plain = inspect.unwrap(function)
    try:
        hints = typing.get_type_hints(plain)
    except NameError:  # some names are imported for type checkers alone
        hints = {name: hint for name, hint in plain.__annotations__.items() if not isinstance(hint, str)}
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    for place, (name, parameter) in enumerate(inspect.signature(plain).parameters.items()):
        is_one = parameter.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        rule = _rule(hints[name]) if name in hints and is_one else None
        if rule is not None and (plain.__name__ != "__init__" or hints[name] in (bool, str)):
            yield name, place if parameter.kind in kinds else -1, *rule


def _rule(hint: object) -> tuple[Rule, str] | None:
    """Return a rule for a declared type with words for it; None where there is no rule."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        rules = [_rule(part) for part in typing.get_args(hint)]
        known = [rule for rule in rules if rule is not None]
        # A tensor that may be left out, or be numbers of another kind, has a check of its own.
        if len(known) < len(rules) or Tensor in typing.get_args(hint):
            return None
        # That an argument may be left out helps nobody who gave one.
        words = [words for _, words in known if words != "None"] or ["None"]
        return (lambda value: any(fits(value) for fits, _ in known)), " or ".join(words)
    if hint is None or hint is type(None):
        return (lambda value: value is None), "None"
    if hint is bool:
        return (lambda value: isinstance(value, bool | np.bool_)), WORDS[bool]
    if hint is int:
        return (lambda value: isinstance(value, Integral) and not isinstance(value, bool)), WORDS[int]
    if origin is not None and inspect.isclass(origin):
        return _of_collection(origin, typing.get_args(hint))
    return _of_class(hint)


def _of_class(hint: object) -> tuple[Rule, str] | None:
    """Return the rule for a plain class, but for numbers and types that other checks know."""
    own = (
        inspect.isclass(hint)
        and hint not in (object, float, complex, Any, Hashable)
        and not _module(hint).startswith(ELSEWHERE)
    )
    if not own or typing.is_typeddict(hint) or getattr(hint, "_is_protocol", False):
        return None
    return (lambda value: isinstance(value, hint)), _word(hint)  # type: ignore[arg-type]


def _of_collection(origin: type, inside: tuple[object, ...]) -> tuple[Rule, str] | None:
    """Return the rule for a class with types in brackets, whose values are checked where there is a rule for them."""
    if issubclass(origin, Callable):  # type: ignore[arg-type]
        return can_be_called, "a function"
    if issubclass(origin, Mapping):
        fits = _rule(inside[1]) if len(inside) > 1 else None
        words = "a mapping" + _several(" of ", fits)
        return (lambda value: isinstance(value, Mapping) and _all(fits, value.values())), words
    if issubclass(origin, Iterable):
        is_tuple = issubclass(origin, tuple) and (len(inside) < 2 or inside[1] is not Ellipsis)
        fits = _rule(inside[0]) if inside and not is_tuple else None
        words = "a sequence" + _several(" of ", fits)
        return functools.partial(_is_sequence, origin=origin, fits=fits), words
    return (lambda value: isinstance(value, origin)), _word(origin)


def _is_sequence(value: object, *, origin: type, fits: tuple[Rule, str] | None) -> bool:
    """Return whether a value can be gone through in order, each of its own values as declared."""
    if isinstance(value, str | bytes | Mapping):
        return False
    if not issubclass(origin, Collection):
        return _has(value, "__iter__")  # perhaps a generator, which can be read once
    if isinstance(value, Tensor | np.ndarray):
        is_read = fits is None or fits[1] in OF_TENSORS
        return value.ndim > 0 and (is_read and is_dense(value) if isinstance(value, Tensor) else _all(fits, value))
    needed = ("__len__", "__getitem__" if issubclass(origin, Sequence) else "__iter__")
    return all(_has(value, method) for method in needed) and is_iterable(value) and _all(fits, value)


def _has(value: object, method: str) -> bool:
    """Return whether the class of a value has a method; that of an enumeration has some for itself alone."""
    return any(method in vars(cls) for cls in type(value).__mro__)


def _several(before: str, rule: tuple[Rule, str] | None) -> str:
    """Return in words what the values of a collection are."""
    if rule is None:
        return ""
    return before + PLURALS[rule[1]] if rule[1] in PLURALS else f" whose values are each {rule[1]}"


def _all(rule: tuple[Rule, str] | None, values: Any) -> bool:  # noqa: ANN401 (of whatever a user passes)
    """Return whether every value fits."""
    return rule is None or all(rule[0](value) for value in values)


def _module(hint: object) -> str:
    """Return where a class is defined."""
    return str(getattr(hint, "__module__", ""))


def _word(hint: object) -> str:
    """Return what an instance of a class is called."""
    name = getattr(hint, "__name__", str(hint))
    article = "an" if name[:1] in "AEIOU" else "a"
    other = WORDS_BY_NAME.get(name, f"{article} {'path' if name == 'PathLike' else name}")
    return WORDS.get(hint, other)
