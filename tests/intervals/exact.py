"""Draws from the exact posteriors of fitted mixtures, for many data sets of one model at once."""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from mixpyro import DirichletGate, FitResult, GaussianExperts, GLMExperts, LinearExperts, SoftmaxGate
from mixpyro.conjugate.normal_gamma import NormalGamma
from mixpyro.conjugate.normal_wishart import NormalWishart
from mixpyro.experts.families import Poisson
from tests.intervals.gibbs import Pair, Proposal, Sampler, gibbs
from tests.intervals.gibbs_conjugate import Densities, DirichletWeights, Lines
from tests.intervals.gibbs_estimated import PoissonRegressions, SoftmaxWeights

Prior = TypeVar("Prior", NormalGamma, NormalWishart)


class DataSets(NamedTuple):
    """Rows of B data sets, and their true components."""

    x: Tensor  # [B, N, D]
    y: Tensor  # [B, N, P]
    z: Tensor  # [B, N]


def exact_draws(
    results: Sequence[FitResult],
    data: DataSets,
    *,
    n_draws: int,
    thin: int = 1,
    near: Proposal | None = None,
    align: bool = True,
    seed: int = 0,
) -> Tensor:
    """Return draws [S, B, Q] of the quantities of linear response, in its order.

    Args:
        results: of fits of one model to each data set, whose priors and, for proposals, estimates are read.
        data: that were fitted. Chains start at the true components.
        n_draws: S.
        thin: sweeps for each draw.
        near: estimates and covariances by which steps are proposed, see :func:`tests.intervals.gibbs.gibbs`.
        align: whether to put the components of each draw into the order that is nearest to these estimates.
        seed: of the draws.
    """
    pair = Pair(gate_sampler(results, data), experts_sampler(results, data), results[0].mixture.n_components)
    draws = gibbs(pair, data.z, n_draws=n_draws, thin=thin, proposal=near, seed=seed)
    if near is None or not align:
        return draws
    return pair.aligned(draws, near.centre, near.covariance.diagonal(dim1=-2, dim2=-1).sqrt())


def gate_sampler(results: Sequence[FitResult], data: DataSets) -> Sampler:
    """Return the sampler of the gates of fits."""
    gates = [result.mixture.gate for result in results]
    if isinstance(gates[0], DirichletGate):
        return DirichletWeights(torch.stack([gate.prior.concentration for gate in gates]))
    assert isinstance(gates[0], SoftmaxGate)
    assert gates[0].prior_scale is not None
    return SoftmaxWeights(gates[0].prior_scale, design(data.x), torch.stack([gate.coefficients for gate in gates]))


def experts_sampler(results: Sequence[FitResult], data: DataSets) -> Sampler:
    """Return the sampler of the experts of fits."""
    experts = [result.mixture.experts for result in results]
    if isinstance(experts[0], LinearExperts):
        return Lines(stacked([own.prior_from_zero for own in experts]), design(data.x), data.y[..., 0])
    if isinstance(experts[0], GaussianExperts):
        priors = [own.prior._replace(mean=own.prior.mean + own.y_origin) for own in experts]
        return Densities(stacked(priors), data.y)
    assert isinstance(experts[0], GLMExperts)
    assert isinstance(experts[0].family, Poisson)
    assert experts[0].prior_scale is not None
    start = torch.stack([own.coefficients[:, 0] for own in experts])
    return PoissonRegressions(experts[0].prior_scale, design(data.x), data.y[..., 0], start)


def stacked(priors: Sequence[Prior]) -> Prior:
    """Return priors with a leading axis of data sets."""
    return type(priors[0])(*(torch.stack(parts) for parts in zip(*priors, strict=True)))


def design(x: Tensor) -> Tensor:
    """Return [1, x]."""
    return torch.cat([torch.ones_like(x[..., :1]), x], -1) if x.shape[-1] else x.new_ones(*x.shape[:-1], 1)
