"""q(π) fitted to the bound in which z is summed out given π, not under a factor of its own."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from mixpyro.conjugate.dirichlet import Dirichlet
from mixpyro.gates.dirichlet import DirichletGate
from mixpyro.numerics.blocks import slices
from mixpyro.numerics.dirichlet_nodes import dirichlet_nodes
from mixpyro.pyro_internals.evidence import Evidence
from mixpyro.pyro_internals.expected_weights import GateRecord

# Numbers of one block of points × objects.
BLOCK = 1 << 22
# A natural-gradient step is halved so often at most, until the bound rises.
N_HALVINGS = 8
# Nats: a step to a q(π) that is no further from the last one is taken unseen.
SMALL_STEP = 1e-4


class Collapsed(NamedTuple):
    """What a program says of the weights once z is summed out given them."""

    bound: float  # E_q[log p(y | π)] beyond its value at the mean weights, in nats
    counts: Tensor  # [K], float64: a step of the natural gradient leads to q(π) = Dirichlet(α + counts)
    derivative: Tensor  # of the bound with respect to q(z) at the mean weights [K, N]


def differentiate(loss: Tensor, gate: DirichletGate, record: GateRecord) -> float:
    """Differentiate minus the collapsed bound by the parameters of a program, and give the record the gate's counts.

    One enumeration at the mean weights μ gives r(μ), and with it the likelihood of every object in every component, up
    to a factor: log p(yᵢ | π) = log p(yᵢ | μ) + log Σₖ (πₖ / μₖ) rᵢₖ(μ). So the expectation over q(π) needs no other
    run of the program.

    Args:
        loss: minus the bound of the program at the mean weights, with its graph.
        gate: in the program.
        record: of the program.

    Returns:
        The loss in nats.

    Raises:
        ValueError: if an object has more than one assignment to the gate.
    """
    gradients = derivatives(loss, record, create_graph=True)
    if not gradients:
        return float(loss.detach())
    found = expectation(gate, record)
    parts = found.derivative.split(
        [one.responsibilities(gate.n_components).numel() // gate.n_components for one in _sites(record)], 1
    )
    weights = [_like(one, part) for one, part in zip(_sites(record), parts, strict=True)]
    # Derivatives by an assignment that is given, or has one value, are constant.
    pairs = [(loss, torch.ones_like(loss)), *zip(gradients, weights, strict=True)]
    varying = [pair for pair in pairs if pair[0].requires_grad]
    torch.autograd.backward([pair[0] for pair in varying], [pair[1] for pair in varying])
    record.given_counts = _rising(gate, record, found)
    return float(loss.detach()) - found.bound


def derivatives(loss: Tensor, record: GateRecord, *, create_graph: bool = False) -> list[Tensor]:
    """Differentiate the loss by the terms of a gate's assignments, and leave the derivatives in the record.

    Args:
        loss: of the program.
        record: of the program.
        create_graph: whether the derivatives are to be differentiated again.
    """
    evidence = [one for run in record.runs for one in run.evidence]
    if any(len(run.evidence) > 1 for run in record.runs):
        raise ValueError("`collapsed` must have one assignment of an object to the gate; got several sites.")
    leaves = [one.terms for one in evidence]
    found = torch.autograd.grad(loss, leaves, create_graph=create_graph, retain_graph=True, allow_unused=True)
    for one, gradient in zip(evidence, found, strict=True):
        one.derivative = None if gradient is None else gradient.detach()
    return [gradient for gradient in found if gradient is not None]


@torch.no_grad()
def expectation(gate: DirichletGate, record: GateRecord, q_weights: Dirichlet | None = None) -> Collapsed:
    """Return the expectation of the log likelihood under q(π), beyond its value at the mean weights.

    Args:
        gate: whose mean weights the program had.
        record: of the program, with derivatives.
        q_weights: q(π), for which there is no derivative; by default the gate's.
    """
    q = torch.cat([one.responsibilities(gate.n_components).flatten(0, -2).mT for one in _sites(record)], 1)
    nodes = dirichlet_nodes((gate.posterior if q_weights is None else q_weights).concentration)
    ratio = (nodes.log_weights - gate.posterior.mean.log()).exp().to(q.dtype)
    share = nodes.expectation.to(q.dtype)
    totals, derivative = q.new_zeros(len(ratio), dtype=torch.float64), torch.empty_like(q)
    for rows in slices(q.shape[1], max(1, BLOCK // len(ratio))):
        weight = q[:, rows].sum(0)
        r = q[:, rows] / weight.clamp_min(torch.finfo(q.dtype).tiny)
        likelihood = (ratio @ r).clamp_min(torch.finfo(q.dtype).tiny)
        totals += (weight * likelihood.log()).sum(1, dtype=torch.float64)
        if q_weights is None:
            derivative[:, rows] = ratio.mT @ (share.unsqueeze(1) / likelihood)
    return Collapsed(float(nodes.expectation @ totals), (nodes.regression @ totals).clamp_min(0.0), derivative)


@torch.no_grad()
def _rising(gate: DirichletGate, record: GateRecord, found: Collapsed) -> Tensor:
    """Return counts on the way from q(π) to the end of a full natural-gradient step, at which the bound is higher.

    The bound is not conjugate in q(π): a full step from far away may lead past the optimum, and back, for ever. How
    high the bound is under another q(π) takes no other run of the program.

    Args:
        gate: with q(π).
        record: of the program, with derivatives, after that by the scale of the gate.
        found: under q(π).

    Returns:
        Counts [K] times the scale of the gate.
    """
    prior, own, scale = gate.prior.concentration, gate.posterior, record.scale
    before, way = found.bound - scale * float(gate.kl(own)), prior + found.counts / scale - own.concentration
    share = 1.0
    for _ in range(N_HALVINGS):
        after = Dirichlet(own.concentration + share * way)
        if float(after.kl(own)) < SMALL_STEP:
            break
        if expectation(gate, record, after).bound - scale * float(gate.kl(after)) >= before:
            break
        share *= 0.5
    return scale * (own.concentration + share * way - prior)


def responsibilities(gate: DirichletGate, record: GateRecord) -> Tensor:
    """Return q(z) [*plates, K] under q(π), times the weight of the object in the bound, summed over runs.

    Args:
        gate: with q(π).
        record: of the program, with derivatives.
    """
    at_mean = [one.responsibilities(gate.n_components) for one in _sites(record)]
    parts = expectation(gate, record).derivative.mT.split([one.numel() // gate.n_components for one in at_mean])
    return torch.stack([one * part.reshape(one.shape) for one, part in zip(at_mean, parts, strict=True)]).sum(0)


def _sites(record: GateRecord) -> list[Evidence]:
    """Return the assignment sites that the loss depends on."""
    return [one for run in record.seen for one in run.seen]


def _like(site: Evidence, derivative: Tensor) -> Tensor:
    """Return derivatives [K, N] in the shape of the terms of a site; zeros where z is given, for q(z) stays then."""
    if site.values_axis is None:
        return torch.zeros_like(site.terms)
    return derivative.reshape(site.terms.movedim(site.values_axis, 0).shape).movedim(0, site.values_axis)


class OnlyObjects(Messenger):
    """Raise where a program enumerates a variable outside the plate of the objects, which would couple them.

    Raises:
        ValueError: if a model, called inside, does.
    """

    def _pyro_post_sample(self, message: Any) -> None:  # noqa: ANN401
        if message["infer"].get("_enumerate_dim") is not None and not any(
            frame.vectorized for frame in message["cond_indep_stack"]
        ):
            raise ValueError(
                f"`collapsed` must have objects that are independent given the weights; got {message['name']!r}, which "
                "is enumerated for all of them."
            )


def collapsible(model: Callable[..., Any]) -> Callable[..., Any]:
    """Return a model that raises where its objects are not independent given the weights.

    Args:
        model: the program's.
    """
    checked: Callable[..., Any] = OnlyObjects()(model)
    return checked
