"""A mixture of some of the components of another one."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mixpyro.conjugate.dirichlet import Counts
from mixpyro.experts.base import Experts
from mixpyro.experts.gaussian_prior import GaussianPrior
from mixpyro.experts.glm import GLMExperts
from mixpyro.experts.heterogeneous import HeterogeneousExperts
from mixpyro.experts.linear_prior import LinearPrior
from mixpyro.experts.point_mass import PointMassExperts
from mixpyro.gates.stick_breaking import StickBreakingGate
from mixpyro.mixture import MixtureOfExperts
from mixpyro.part import Part
from mixpyro.pyro_internals.names import module_name

# Objects of which a component has fewer if it counts as empty.
LEAST_OBJECTS = 0.5


def with_components(mixture: MixtureOfExperts, kept: Sequence[int]) -> MixtureOfExperts:
    """Return a new mixture of some of the components, with their posteriors and estimates.

    Args:
        mixture: of K components, by a gate whose prior of the rest does not depend on how many there are.
        kept: their numbers, at least one, in the order wanted.

    Raises:
        ValueError: if the gate has another prior for fewer components, or the experts are made of networks.
    """
    if not isinstance(mixture.gate, StickBreakingGate):
        raise ValueError(
            f"`mixture` must have a StickBreakingGate, whose prior does not depend on K; got "
            f"{type(mixture.gate).__name__}. Fit a mixture of {len(kept)} components instead."
        )
    fewer = type(mixture)(_gate(mixture.gate, kept), _experts(mixture.experts, kept), name=module_name(mixture))
    fewer.fitted_columns = mixture.fitted_columns
    return fewer


def _gate(gate: StickBreakingGate, kept: Sequence[int]) -> StickBreakingGate:
    """Return the gate of some of the components, updated by their counts."""
    own = gate.prior_rest
    fewer = StickBreakingGate(
        len(kept),
        concentration=gate.concentration,
        discount=gate.discount,
        name=module_name(gate),
        device=own.device,
        dtype=own.dtype,
    )
    counts = gate.posterior.statistics_beyond(gate.prior).counts[list(kept)]
    fewer.hold_posterior(fewer.updated(Counts(counts.clamp_min(0.0)), fewer.posterior))
    return fewer


def _experts(experts: Experts, kept: Sequence[int]) -> Experts:
    """Return experts of some of the components."""
    if isinstance(experts, HeterogeneousExperts):
        members = []
        for member, first in zip(experts.members, experts.first_components, strict=True):
            own = [k - first for k in kept if first <= k < first + member.n_components]
            members += [_experts(member, own)] if own else []
        return HeterogeneousExperts(members, name=module_name(experts))
    names = _names(experts)
    fewer = copy.deepcopy(experts)
    chosen = torch.as_tensor(list(kept), device=next(iter(_tensors(experts).values())).device)
    for name in names:
        _select(fewer, name, chosen)
    given = getattr(fewer, "coefficient_mean", None)
    if given is not None and torch.as_tensor(given).ndim == 3:
        fewer.coefficient_mean = torch.as_tensor(given)[chosen.cpu()]
    fewer.n_components = len(kept)
    return fewer


def _names(experts: Experts) -> list[str]:
    """Return the names of the tensors that have an axis of components first."""
    if isinstance(experts, LinearPrior):
        own = ["prior_mean", *experts.posterior_names]
        own += ["prior_precision"] if experts.prior_precision.ndim == 3 else []
        shared = [] if experts.noise_per_component else ["posterior_shape", "posterior_rate"]
        return [name for name in dict.fromkeys(own) if name not in shared]
    if isinstance(experts, GaussianPrior):
        return list(experts.posterior_names)
    if isinstance(experts, GLMExperts):
        return [name for name, parameter in experts.named_parameters() if parameter.numel()]
    if isinstance(experts, PointMassExperts):
        return ["values"]
    raise ValueError(
        f"`mixture` must have experts that can be told apart; got {type(experts).__name__}, whose networks may read "
        "more than one component. Fit a mixture of fewer components instead."
    )


def _tensors(part: Part) -> dict[str, Tensor]:
    """Return buffers and parameters by name."""
    return {**dict(part.named_buffers()), **dict(part.named_parameters())}


def _select(part: Part, name: str, chosen: Tensor) -> None:
    """Keep some of the components of a buffer or parameter."""
    if name in part._parameters:
        parameter = part._parameters[name]
        assert parameter is not None
        part._parameters[name] = nn.Parameter(parameter.detach()[chosen].clone(), requires_grad=parameter.requires_grad)
        return
    value = part._buffers[name]
    assert value is not None
    part._buffers[name] = value[chosen].clone()


def used_components(counts: Tensor, experts: Experts | None = None) -> list[int]:
    """Return the numbers of the components that have objects, the largest first, in each bank of experts.

    Args:
        counts: number of objects in each component [K].
        experts: whose banks stay one after another; one bank by default.
    """
    order = counts.argsort(descending=True, stable=True).tolist()
    used = [k for k in order if float(counts[k]) >= LEAST_OBJECTS]
    firsts = experts.first_components if isinstance(experts, HeterogeneousExperts) else [0]
    return sorted(used, key=lambda k: sum(k >= first for first in firsts))
