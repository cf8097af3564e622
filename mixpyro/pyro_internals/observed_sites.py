"""Log densities of the observed sites of a program, added up while it runs."""

from functools import lru_cache
from typing import Any

import torch
from pyro.distributions import Unit
from pyro.distributions.util import scale_and_mask
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from pyro.util import warn_if_nan
from torch import Tensor

from mixpyro.arguments.late_imports import import_symbolic_shapes


class ObservedSites(Messenger):
    """Score the sites of a program that has no latent variable, without recording a trace.

    Raises:
        RuntimeError: if the program, run inside, samples a latent variable.
    """

    def __init__(self) -> None:
        super().__init__()
        # The log density of each site, and the factor that it is scaled by.
        self._terms: list[tuple[Tensor, float]] = []

    def _process_message(self, message: Any) -> None:  # noqa: ANN401
        """Pass every site on: to look for a method of each kind, as Pyro does, takes 20 µs for six parameters."""

    def _postprocess_message(self, message: Any) -> None:  # noqa: ANN401
        if message["type"] == "sample":
            self._pyro_post_sample(message)

    def _pyro_post_sample(self, message: Any) -> None:  # noqa: ANN401
        if site_is_subsample(message):
            return
        if not message["is_observed"]:
            raise RuntimeError(f"an objective must have no latent variable; got the site {message['name']!r}.")
        log_density, scale = _log_density(message), message["scale"]
        if isinstance(scale, Tensor) or message["mask"] is not None:
            log_density, scale = scale_and_mask(log_density, scale, message["mask"]), 1.0
        self._terms.append((log_density.sum() if log_density.ndim else log_density, scale))

    def backward(self) -> None:
        """Add the gradient of the loss to those of the parameters."""
        terms = [(term, scale) for term, scale in self._terms if term.requires_grad]
        if terms:
            import_symbolic_shapes()
            # The scales are passed as gradients of the terms: multiplying by them would cost two operations per term.
            torch.autograd.backward([term for term, _ in terms], [_minus(scale, term) for term, scale in terms])

    @property
    def loss(self) -> float:
        """Minus the log density of all sites in nats."""
        value = -sum((scale * float(term.item()) for term, scale in self._terms), 0.0)
        warn_if_nan(value, "loss")  # type: ignore[call-overload]
        return value


def _minus(scale: float, like: Tensor) -> Tensor:
    """Return −scale as a scalar of the dtype and device of a term; it is not to be changed."""
    return _scalar(-scale, like.dtype, like.device)


# The full minibatches of an epoch have one scale: to make the tensor anew takes 8 µs of each.
@lru_cache(maxsize=16)
def _scalar(value: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.tensor(value, dtype=dtype, device=device)


def _log_density(message: Any) -> Tensor:  # noqa: ANN401
    """Return the log density of a site's value; that of a factor is its distribution's attribute."""
    if isinstance(message["fn"], Unit):
        return message["fn"].log_factor
    return message["fn"].log_prob(message["value"], *message["args"], **message["kwargs"])
