"""Pyro's ELBO where nothing is latent."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from pyro.distributions.util import scale_and_mask
from pyro.infer import ELBO
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from pyro.util import warn_if_nan
from torch import Tensor

Program = Callable[..., object]


class ObjectiveELBO(ELBO):
    """−log p of a model that has no latent variable, and so no guide: one run of it, and no trace.

    The loss and the gradients are those of ``Trace_ELBO`` with an empty guide.

    Raises:
        RuntimeError: if the model has a latent variable.
    """

    def loss(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> float:  # noqa: ANN401
        """−log p."""
        return _checked(_loss(model, *args, **kwargs))

    def loss_and_grads(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> float:  # noqa: ANN401
        """−log p, its gradients added to those that the parameters hold."""
        loss = _loss(model, *args, **kwargs)
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
        return _checked(loss)

    def _get_trace(self, model: Program, guide: Program, args: object, kwargs: object) -> None:
        raise NotImplementedError("an objective is scored as it runs, without a trace")


class Scores(Messenger):
    """Scores what a model observes, as it runs.

    Attributes:
        terms: log p of each site.
    """

    def __init__(self) -> None:
        super().__init__()
        self.terms: list[Tensor] = []

    def _pyro_post_sample(self, message: Any) -> None:  # noqa: ANN401
        if site_is_subsample(message):
            return
        if not message["is_observed"]:
            raise RuntimeError(f"an objective must have no latent variable; got the site {message['name']!r}.")
        log_density = message["fn"].log_prob(message["value"], *message["args"], **message["kwargs"])
        self.terms.append(scale_and_mask(log_density, message["scale"], message["mask"]).sum())


def _loss(model: Program, *args: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401
    with Scores() as scores:
        model(*args, **kwargs)
    return -functools.reduce(torch.add, scores.terms) if scores.terms else torch.zeros(())


def _checked(loss: Tensor) -> float:
    value = float(loss.item())
    warn_if_nan(value, "loss")
    return value
