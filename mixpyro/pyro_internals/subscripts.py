"""Classes with type parameters that are PyroModules, which have a meaning of their own for square brackets."""

from typing import Any

from pyro.nn.module import _PyroModuleMeta


class Subscriptable(_PyroModuleMeta):
    """Metaclass of a generic PyroModule: ``Class[A, B]`` is the class itself.

    ``A`` and ``B`` are for type checkers. Of other PyroModules, ``PyroModule[Class]`` has the methods of that class.
    """

    def __getitem__(cls, parameters: Any) -> Any:  # noqa: ANN401 (types)
        """Return the class."""
        return cls
