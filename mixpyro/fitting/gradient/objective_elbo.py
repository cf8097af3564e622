"""Pyro's ELBO where nothing is latent."""

from collections.abc import Callable
from typing import Any

import torch
from pyro.distributions import Unit
from pyro.distributions.util import scale_and_mask
from pyro.infer import ELBO
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from pyro.util import warn_if_nan
from torch import Tensor

Program = Callable[..., object]


class ObjectiveELBO(ELBO):
    """−log p of a model that has no latent variable, and so no guide: one run of it, and no trace.

    The loss and the gradients are those of ``Trace_ELBO`` with an empty guide, which besides refuses log probabilities
    whose shape is not that of their plates.

    Raises:
        RuntimeError: if the model has a latent variable.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def loss(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> float:  # noqa: ANN401
        """−log p."""
        return _scored(model, *args, **kwargs).loss

    def loss_and_grads(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> float:  # noqa: ANN401
        """−log p, its gradient added to those that the parameters hold."""
        scores = _scored(model, *args, **kwargs)
        scores.backward()
        return scores.loss

    def _get_trace(self, model: Program, guide: Program, args: object, kwargs: object) -> None:
        raise NotImplementedError("an objective is scored as it runs, without a trace")


class Scores(Messenger):
    """Scores what a model observes, as it runs.

    Attributes:
        terms: log p of each site, and the number that it counts times.
    """

    def __init__(self) -> None:
        super().__init__()
        self.terms: list[tuple[Tensor, float]] = []

    def _pyro_post_sample(self, message: Any) -> None:  # noqa: ANN401
        if site_is_subsample(message):
            return
        if not message["is_observed"]:
            raise RuntimeError(f"an objective must have no latent variable; got the site {message['name']!r}.")
        log_density, scale = _log_density(message), message["scale"]
        if isinstance(scale, Tensor) or message["mask"] is not None:
            log_density, scale = scale_and_mask(log_density, scale, message["mask"]), 1.0
        self.terms.append((log_density.sum() if log_density.ndim else log_density, scale))

    def backward(self) -> None:
        """Add the gradient of the loss; the scales begin it, for a product with each would be two operations more."""
        terms = [(term, scale) for term, scale in self.terms if term.requires_grad]
        if terms:
            torch.autograd.backward([term for term, _ in terms], [term.new_tensor(-scale) for term, scale in terms])

    @property
    def loss(self) -> float:
        """−log p."""
        value = -sum((scale * float(term.item()) for term, scale in self.terms), 0.0)
        warn_if_nan(value, "loss")  # type: ignore[call-overload]
        return value


def _log_density(message: Any) -> Tensor:  # noqa: ANN401
    """Of a site's value; that of a factor is at hand."""
    if isinstance(message["fn"], Unit):
        return message["fn"].log_factor
    return message["fn"].log_prob(message["value"], *message["args"], **message["kwargs"])


def _scored(model: Program, *args: Any, **kwargs: Any) -> Scores:  # noqa: ANN401
    with Scores() as scores:
        model(*args, **kwargs)
    return scores
