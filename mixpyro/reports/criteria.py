"""Criteria for model choice: bound, log likelihood, AIC, BIC and ICL of a fitted mixture."""

import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro import arguments
from mixpyro.conjugate.sticks import LearntSticks, Sticks, log_orders
from mixpyro.fitting.fitted_rows import fitted_rows
from mixpyro.fitting.known_labels import known_components, without_others
from mixpyro.fitting.reads_rows import reads_rows
from mixpyro.fitting.result import FitResult
from mixpyro.gates.stick_breaking import StickBreakingGate
from mixpyro.gates.tree import TreeGate
from mixpyro.mixture import MixtureOfExperts
from mixpyro.numerics.far_rows import rounded
from mixpyro.numerics.tree_automorphisms import n_swaps
from mixpyro.shapes import AnyTable, GateInputs, Inputs, Responsibilities, Targets


class Criteria(NamedTuple):
    """Criteria of one fitted mixture."""

    bound: float  # of the fit, nats; a lower bound on the log evidence where every parameter has a posterior
    log_likelihood: float  # Σᵢ log p(yᵢ | xᵢ) of the predictive distribution, and of zᵢ where it is known, nats
    n_parameters: int  # of gate and experts
    aic: float  # in units of two nats, as are bic and icl; smaller is better
    bic: float
    icl: float
    entropy: float  # Σᵢ of the entropy of object i's assignment, nats; 0 where all are certain
    # Lower bound on the log evidence with all labellings of the components counted, nats; larger is better. NaN where
    # parameters are estimated, so that the bound is none on the evidence.
    log_evidence: float = math.nan


@reads_rows
@arguments.outside_contexts
def criteria(
    result: FitResult,
    x: Inputs | AnyTable = None,
    y: Targets | AnyTable = None,
    *,
    gate_x: GateInputs | AnyTable = None,
) -> Criteria:
    """Compute criteria for model choice of one fit on the data that were fitted.

    aic = −2 log L + 2 p, bic = −2 log L + p log N, icl = bic − 2 Σᵢ log maxₖ rᵢₖ; smaller is better. For experts by
    maximum likelihood log L is the maximum. For experts with a posterior it is the predictive density, and aic and bic
    are approximate: prefer the log evidence then. p counts the parameters of components without objects, too: take
    ``result.without_empty()`` of a gate that finds how many there are. Rows count by the weights of the fit, and
    N is the sum of these.

    The bound is of a posterior with one labelling of the components. The true one has a copy of it for every other
    labelling that leaves the prior as it is, so that log K! is added for K components of one prior:
    log_evidence = bound + log K!. Components without objects are alike, and their order is not counted. For a
    StickBreakingGate, whose orders have unlike evidence, all of them are added to that of the largest first.

    Components that were known are data, as y is: log p(yᵢ, zᵢ | xᵢ) takes the place of log p(yᵢ | xᵢ), and a component
    that is known for some row has one label.

    Args:
        result: of a fit to x and y.
        x: inputs [N, D] that were fitted; those that the result keeps by default, with y and gate_x.
        y: outputs [N, P] or [N] that were fitted.
        gate_x: the gate's inputs [N, G], if they were not x.

    Raises:
        ValueError: if these are not the rows that were fitted.

    References:
        Schwarz (1978), Estimating the dimension of a model; Biernacki, Celeux, Govaert (2000), Assessing a mixture
        model for clustering with the integrated completed likelihood, eq. 9; Bishop (2006), Pattern Recognition and
        Machine Learning, section 10.2.4 (log K!).
    """
    table = fitted_rows(result, x, y, gate_x)
    weights = x.new_ones(table.size) if result.weights is None else result.weights
    counts = weights > 0
    log_prob = _log_prob(result, x, y, gate_x, table.labels)
    log_likelihood = float(torch.where(counts, weights * log_prob, 0.0).sum(dtype=torch.float64))
    n_parameters = result.mixture.gate.n_parameters + result.mixture.experts.n_parameters
    r = result.shares.double()[counts]
    weights = weights[counts]
    # A row that counts nothing does not say which component is which.
    labels = None if table.labels is None else table.labels[counts]
    bic = n_parameters * math.log(float(weights.sum())) - 2.0 * log_likelihood
    return Criteria(
        bound=result.bound,
        log_likelihood=log_likelihood,
        n_parameters=n_parameters,
        aic=2.0 * n_parameters - 2.0 * log_likelihood,
        bic=bic,
        icl=bic - 2.0 * float((weights * r.amax(-1).log()).sum()),
        entropy=max(0.0, -float((weights.unsqueeze(-1) * torch.xlogy(r, r)).sum())),
        log_evidence=_log_evidence(result.bound, result.mixture, weights.unsqueeze(-1) * r, labels),
    )


def _log_prob(
    result: FitResult, x: Tensor, y: Tensor, gate_x: Tensor | None, labels: Tensor | None
) -> Float[Tensor, " N"]:
    """Return log p(yᵢ | xᵢ) [N] under the predictive distribution, log p(yᵢ, zᵢ | xᵢ) where zᵢ is known."""
    joint = result.mixture.log_joint_or_nan(x, y, gate_x=gate_x, groups=result.groups)
    if labels is None:
        return rounded(joint.logsumexp(-2), x.dtype)
    return without_others(joint, labels).logsumexp(-2)


def _log_evidence(bound: float, mixture: MixtureOfExperts, weighted: Responsibilities, labels: Tensor | None) -> float:
    """Return the bound with all labellings counted; NaN where parameters are estimated."""
    if mixture.gate.is_estimated or mixture.experts.is_estimated:
        return math.nan
    known = known_components(labels, mixture.n_components)
    return bound + log_labellings(mixture, weighted.sum(0).tolist(), known)


def log_labellings(mixture: MixtureOfExperts, counts: list[float], known: Sequence[bool] = ()) -> float:
    """Return the log of the number of ways to label the components that differ and leave the prior as it is.

    Args:
        mixture: any.
        counts: number of objects in each component.
        known: whether a row is known to be of the component, which then has one label; no component by default.
    """
    if isinstance(mixture.gate, TreeGate):
        return _log_labellings_of_tree(mixture, counts, known)
    if isinstance(mixture.gate, StickBreakingGate):
        return _log_orders(mixture, counts, known)
    kinds = list(zip(mixture.gate.prior_kinds, mixture.experts.prior_kinds, strict=True))
    free = [
        (count, kind)
        for count, kind, fixed in zip(counts, kinds, known or [False] * len(kinds), strict=True)
        if not fixed
    ]
    total = 0.0
    for kind in {kind for _, kind in free}:
        alike = [count for count, one in free if one == kind]
        n_empty = sum(count < 0.5 for count in alike)
        total += math.lgamma(len(alike) + 1) - math.lgamma(n_empty + 1)
    return total


def _log_labellings_of_tree(mixture: MixtureOfExperts, counts: list[float], known: Sequence[bool]) -> float:
    """Return the same for a tree: of swaps of branches of one shape, those that only swap empty leaves are one."""
    kinds = [
        (kind, number if fixed else -1)
        for number, (kind, fixed) in enumerate(
            zip(mixture.experts.prior_kinds, known or [False] * len(counts), strict=True)
        )
    ]
    told_apart = [
        (kind, -1 if count < 0.5 else number) for number, (kind, count) in enumerate(zip(kinds, counts, strict=True))
    ]
    tree = cast(TreeGate, mixture.gate).tree
    return math.log(2.0) * (n_swaps(tree, kinds) - n_swaps(tree, told_apart))


def _log_orders(mixture: MixtureOfExperts, counts: list[float], known: Sequence[bool]) -> float:
    """Return what the other orders of breaking a stick have; nothing where components differ by more than the order."""
    prior, many = mixture.gate.prior, [count for count in counts if count >= 0.5]
    used = torch.tensor(many, dtype=torch.float64, device="cpu")
    if any(known) or len(set(mixture.experts.prior_kinds)) > 1 or not len(used):
        return 0.0
    if isinstance(prior, LearntSticks):
        alpha = mixture.gate.posterior.concentration.mean
        prior = Sticks(prior.own, alpha.expand_as(prior.rest), prior.rank)
    return float(log_orders(Sticks(*(part.cpu() for part in prior)), used))
