"""Networks that a caller has given, which are as they were if a model cannot be built with them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import nn

from mixpyro.arguments import shown

Networks = Mapping[str, nn.Module | Sequence[nn.Module]]


def checked(networks: object) -> Networks:
    """Return networks by name if they are that, an empty mapping for None.

    Args:
        networks: of the argument.

    Raises:
        TypeError: if they are no mapping of strings to modules or sequences of modules.
    """
    if networks is None:
        return {}
    if not isinstance(networks, Mapping):
        raise TypeError(f"`networks` must be a dict of modules by name, or None; got {type(networks).__name__}.")
    for name, value in networks.items():
        is_sequence = isinstance(value, Sequence | nn.ModuleList) and not isinstance(value, str)
        members = value if is_sequence else [value]
        if not isinstance(name, str) or not all(isinstance(one, nn.Module) for one in members):
            raise TypeError(
                f"`networks` must have a module, or a sequence of modules, for each name; got {type(value).__name__} "
                f"for {shown(name)}."
            )
    return networks


@contextmanager
def unchanged_by_errors(networks: Networks, *, always: bool = False) -> Iterator[None]:
    """Undo what is done inside to modules, if an error is raised there: tensors, attributes and gradients' flags.

    Tensors must be replaced inside, not written to.

    Args:
        networks: by name.
        always: whether to undo it without an error too.
    """
    given = [one for value in networks.values() for one in ([value] if isinstance(value, nn.Module) else value)]
    modules = list(dict.fromkeys(module for one in given for module in one.modules()))
    kept = [(module, type(module), _copy(vars(module))) for module in modules]
    flags = [(parameter, parameter.requires_grad) for one in given for parameter in one.parameters()]
    done = False
    try:
        yield
        done = not always
    finally:
        if not done:
            for module, kind, attributes in kept:
                module.__class__ = kind
                # Another thread may call the module meanwhile: it has its attributes at any moment.
                vars(module).update(attributes)
                for name in vars(module).keys() - attributes.keys():
                    del vars(module)[name]
            for parameter, flag in flags:
                parameter.requires_grad_(flag)


def _copy(attributes: dict[str, object]) -> dict[str, object]:
    """Return a copy of a module's attributes, and of the dicts among them, which hold its tensors."""
    return {name: value.copy() if isinstance(value, dict) else value for name, value in attributes.items()}
