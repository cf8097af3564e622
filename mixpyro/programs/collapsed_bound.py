"""q(π) fitted to the bound in which z is summed out given π, not under a factor of its own."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from mixpyro.arguments.late_imports import import_symbolic_shapes
from mixpyro.conjugate.dirichlet import Dirichlet
from mixpyro.gates.dirichlet import DirichletGate
from mixpyro.numerics.blocks import slices
from mixpyro.numerics.dirichlet_nodes import N_DRAWS, DirichletNodes, dirichlet_nodes
from mixpyro.pyro_internals.evidence import Evidence
from mixpyro.pyro_internals.expected_weights import GateRecord

# Numbers of one block of points × objects.
BLOCK = 1 << 22
# Draws × objects, for as many draws as a step has time for, and the fewest of them.
WORK = 5_000_000
LEAST_DRAWS = 256
# Of a step of the natural gradient.
MOST_HALVINGS = 6
# Nats: a step to a q(π) that is no further from the last one is taken unseen.
SMALL_STEP = 1e-4


class Likelihoods(NamedTuple):
    """Likelihoods of objects in every component, up to a factor each: responsibilities at known weights."""

    q: Tensor  # r(μ), times the objects' weights [K, N]
    weights: Tensor  # μ [K]

    def nodes(self, concentration: Tensor) -> DirichletNodes:
        """Return points of a Dirichlet, for many objects fewer of them.

        Args:
            concentration: [K], float64.
        """
        return dirichlet_nodes(concentration, n_draws=min(N_DRAWS, max(LEAST_DRAWS, WORK // self.q.shape[1])))

    def log_density(self, nodes: DirichletNodes, derivative: Tensor | None = None) -> Tensor:
        """Return Σᵢ log p(yᵢ | π) − log p(yᵢ | μ) at points π [S], in nats.

        Args:
            nodes: the points.
            derivative: where to put the derivative of the expectation with respect to q [K, N].
        """
        ratio = (nodes.log_weights - self.weights.log()).exp().to(self.q.dtype)
        share = nodes.expectation.to(self.q.dtype).unsqueeze(1)
        total = ratio.new_zeros(len(ratio), dtype=torch.float64)
        for rows in slices(self.q.shape[1], max(1, BLOCK // len(ratio))):
            weight = self.q[:, rows].sum(0)
            r = self.q[:, rows] / weight.clamp_min(torch.finfo(weight.dtype).tiny)
            likelihood = (ratio @ r).clamp_min_(torch.finfo(weight.dtype).tiny)
            if derivative is not None:
                derivative[:, rows] = ratio.mT @ (share / likelihood)
            total += (likelihood.log_() @ weight).double()
        return total


class Expectation(NamedTuple):
    """The expectation of the log likelihood under q(π), beyond its value at the weights of the likelihoods."""

    value: float  # nats
    counts: Tensor  # [K], float64: the natural gradient leads to Dirichlet(α + counts)
    derivative: Tensor  # with respect to q(z) [K, N]


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
    likelihoods = likelihoods_of(gate, record)
    now = expectation(gate, likelihoods)
    sites = _sites(record)
    parts = now.derivative.split([one.responsibilities(gate.n_components)[..., 0].numel() for one in sites], 1)
    weights = [_like(one, part) for one, part in zip(sites, parts, strict=True)]
    # Derivatives by an assignment that is given, or has one value, are constant.
    pairs = [(loss, torch.ones_like(loss)), *zip(gradients, weights, strict=True)]
    varying = [pair for pair in pairs if pair[0].requires_grad]
    import_symbolic_shapes()
    torch.autograd.backward([pair[0] for pair in varying], [pair[1] for pair in varying])
    record.given_counts = record.scale * (improved(gate, likelihoods, now, record.scale) - gate.prior.concentration)
    return float(loss.detach()) - now.value


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


def likelihoods_of(gate: DirichletGate, record: GateRecord) -> Likelihoods:
    """Return the likelihoods of the objects of a program.

    Args:
        gate: whose mean weights the program had.
        record: of the program, with derivatives.
    """
    q = torch.cat([one.responsibilities(gate.n_components).flatten(0, -2).mT for one in _sites(record)], 1)
    return Likelihoods(q, gate.posterior.mean)


@torch.no_grad()
def expectation(gate: DirichletGate, likelihoods: Likelihoods) -> Expectation:
    """Return E_q[log p(y | π)] − log p(y | μ) of the gate's q(π).

    Args:
        gate: with q(π).
        likelihoods: of the objects.
    """
    nodes, derivative = likelihoods.nodes(gate.posterior.concentration), torch.empty_like(likelihoods.q)
    log_density = likelihoods.log_density(nodes, derivative)
    return Expectation(float(nodes.expectation @ log_density), nodes.regression @ log_density, derivative)


@torch.no_grad()
def improved(gate: DirichletGate, likelihoods: Likelihoods, now: Expectation, scale: float) -> Tensor:
    """Return a concentration of q(π) with a higher bound, by a step of the natural gradient, halved while it falls.

    Args:
        gate: with q(π) and the prior.
        likelihoods: of the objects.
        now: the expectation under q(π).
        scale: of the program.
    """
    prior, start = gate.prior, gate.posterior.concentration

    def bound(concentration: Tensor) -> float:
        nodes = likelihoods.nodes(concentration)
        value = nodes.expectation @ likelihoods.log_density(nodes) / scale
        return float(value - Dirichlet(concentration).kl(prior))

    least = now.value / scale - float(Dirichlet(start).kl(prior))
    optimum = prior.concentration + (now.counts / scale).clamp_min(0.0)
    steps = [torch.lerp(start, optimum, 0.5**halvings) for halvings in range(MOST_HALVINGS)]
    # From far away the regression may be wild; the mean field is not.
    mean_field = prior.concentration + likelihoods.q.double().sum(1) / scale
    for found in (mean_field, *steps) if gate.is_new else (*steps, mean_field):
        if float(Dirichlet(found).kl(gate.posterior)) < SMALL_STEP or bound(found) >= least:
            return found
    return start


def responsibilities(gate: DirichletGate, record: GateRecord) -> Tensor:
    """Return q(z) [*plates, K] under q(π), times the weight of the object in the bound, summed over runs.

    Args:
        gate: with q(π).
        record: of the program, with derivatives.
    """
    at_mean = [one.responsibilities(gate.n_components) for one in _sites(record)]
    derivative = expectation(gate, likelihoods_of(gate, record)).derivative.clamp_min(0.0)
    parts = derivative.mT.split([one.numel() // gate.n_components for one in at_mean])
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
