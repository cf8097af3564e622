"""Sites of a gate that something else in a program has taken, gives a value, or samples in the guide."""

from collections.abc import Iterable
from typing import Any

from pyro.poutine.block_messenger import BlockMessenger
from pyro.poutine.condition_messenger import ConditionMessenger
from pyro.poutine.do_messenger import DoMessenger
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import _PYRO_STACK
from pyro.poutine.trace_messenger import TraceMessenger


def refuse_taken_name(name: str) -> None:
    """Raise if the program already has a site of a name, with advice that Pyro's own error lacks.

    Args:
        name: full name of the site.

    Raises:
        RuntimeError: if it has.
    """
    for handler in reversed(_PYRO_STACK):
        if isinstance(handler, BlockMessenger):
            return
        if isinstance(handler, TraceMessenger) and not handler.param_only:
            if name in handler.trace:
                raise RuntimeError(
                    f"the name of a site must be used once in a program; got {name!r} twice. "
                    "Give each gate its own `name`, and call each once."
                )
            return


def refuse_given_value(name: str) -> None:
    """Raise if a handler gives a value for a site that the program integrates out.

    Args:
        name: full name of the site.

    Raises:
        ValueError: if one does.
    """
    for handler in _PYRO_STACK:
        if isinstance(handler, ConditionMessenger | DoMessenger) and name in handler.data:
            raise ValueError(
                f"`gates` must not have a gate whose weights are given; got a value for {name!r}, which would be "
                "ignored. Leave the gate out: then it is a part of the program like any other."
            )


def is_replaced(name: str) -> bool:
    """Return whether ``poutine.do`` gives the program another value of a site than the one that is scored.

    Args:
        name: full name of the site.
    """
    return any(isinstance(handler, DoMessenger) and name in handler.data for handler in _PYRO_STACK)


class DrawnFromPrior(Messenger):
    """Find out whether sites sampled inside are drawn from their prior: neither enumerated, given nor the guide's.

    Attributes:
        is_drawn: whether the last one is.
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_drawn = False
        self._infer: object = None

    def _pyro_sample(self, message: Any) -> None:  # noqa: ANN401
        self._infer = message["infer"]

    def _pyro_post_sample(self, message: Any) -> None:  # noqa: ANN401
        # A replayed site has the `infer` of the guide's.
        infer = message["infer"]
        is_own = infer is self._infer and not message["is_observed"] and not is_replaced(message["name"])
        # With `num_samples` Pyro enumerates draws.
        self.is_drawn = is_own and (infer.get("_enumerate_dim") is None or infer.get("num_samples") is not None)


class GuideWithoutSites(Messenger):
    """Raise where a guide samples a site that belongs to a gate.

    Args:
        names: full names of the sites.

    Raises:
        ValueError: if the guide, called inside or decorated, samples one of them.
    """

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__()
        self.names = set(names)

    def _pyro_sample(self, message: Any) -> None:  # noqa: ANN401
        if message["name"] in self.names:
            raise ValueError(
                f"`guide` must leave the sites of `gates` to the gates; got {message['name']!r}. Hide a gate's "
                "`latent_sites` from an automatic guide; of your own, call `gate.guide(x)`, without responsibilities."
            )


def is_trained_by_plain_svi() -> bool:
    """Return whether the call is inside ``SVI.step``, which trains parameters and no posterior.

    ``SVI.step`` collects the parameters of a program; :func:`~mixpyro.expected_weights` is for other trainers.
    """
    return any(isinstance(handler, TraceMessenger) and handler.param_only for handler in _PYRO_STACK)


def untrained(name: str) -> str:
    """Return in words that plain SVI trains no gate.

    Args:
        name: full name of the site of the weights.
    """
    return (
        f"{name!r} must be trained by ConjugateSVI, with the gate in `gates`; got plain SVI, which has no parameter of "
        "it to train. In a loop of your own call `gate.update` before each step."
    )
