"""Bounds of a gate by Pyro and in closed form, their gradients, and the gradient M-step, for the contract of gates."""

from typing import Any

import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO
from torch import Tensor

from mixpyro.fitting.gradient.m_step import MStep
from mixpyro.gates import Gate
from mixpyro.part import Part
from tests.problems import in_plate


def by_svi(part: Part, *rows: Tensor) -> None:
    """The gradient M-step."""
    MStep(part).improve(*rows, n_steps=20)


def elbo(gate: Gate, x: Tensor, r: Tensor) -> float:
    """One evaluation of Pyro's ELBO on the gate's model and guide, z enumerated in the guide with q(z) = r."""

    def guide(x: Tensor) -> None:
        in_plate(gate.guide)(x, responsibilities=r, objects=slice(None))

    return -float(TraceEnum_ELBO(max_plate_nesting=1).loss(in_plate(gate.model), guide, x))


def closed_form(gate: Gate, x: Tensor, r: Tensor) -> float:
    """Σ r (E log π − log r) − KL."""
    with torch.no_grad():
        return float(gate.partial_bound(x, r) - torch.xlogy(r, r).sum())


def closed_form_gradient(gate: Gate, x: Tensor, r: Tensor) -> Tensor:
    """Of the closed form, with respect to the guide's concentration."""
    gate.posterior_concentration = gate.posterior_concentration.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(gate.partial_bound(x, r), gate.posterior_concentration)
    return gradient


def elbo_gradient(gate: Gate, x: Tensor, r: Tensor) -> Tensor:
    """Of one evaluation of Pyro's ELBO, with respect to the guide's concentration.

    The score of q has mean zero and is left out, as in Roeder et al. (2017), Sticking the landing, eq. 8: what is left
    is unbiased and, at the optimum, zero for every sample of π.
    """
    concentration = gate.posterior_concentration.clone().requires_grad_()
    gate.posterior_concentration = concentration

    class Stick(poutine.messenger.Messenger):
        def _pyro_sample(self, message: Any) -> None:
            if message["name"] == gate.site("weights"):
                q = message["fn"]
                message.update(fn=type(q)(q.concentration.detach()), value=q.rsample())

    def guide(x: Tensor) -> None:
        with Stick():
            in_plate(gate.guide)(x, responsibilities=r, objects=slice(None))

    loss = TraceEnum_ELBO(max_plate_nesting=1).differentiable_loss(in_plate(gate.model), guide, x)
    (gradient,) = torch.autograd.grad(loss, concentration)
    return gradient
