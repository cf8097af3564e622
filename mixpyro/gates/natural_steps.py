"""Steps in the natural parameters of gates with Normal coefficients, of many runs at once, that lower no bound."""

from typing import Any

import torch
from torch import Tensor

from mixpyro.conjugate.normal import NaturalSums, NormalCoefficients
from mixpyro.distributed import sums
from mixpyro.numerics import nested

# Most halvings of a step. A smaller step would change nothing that counts.
MOST_HALVINGS = 12
# Share of a bound's size by which it may fall from rounding.
ROUNDING = 1e-13
# Nats: what a step must gain for another to follow.
LEAST_GAIN = 1e-6


def improved(
    gate: Any,  # noqa: ANN401 (BayesianLogitGate imports this module)
    x: Tensor,
    responsibilities: Tensor,
    before: NormalCoefficients,
    statistics: NaturalSums,
) -> NormalCoefficients:
    """Return the posteriors of R runs after a step each, halved while the share of the bound falls.

    A run whose every step lowers it stays. From the prior, which is no place to compare with, the first step is taken.

    Args:
        gate: a gate with Normal coefficients.
        x: gate inputs [N, D].
        responsibilities: [R, K, N].
        before: the posteriors of R runs.
        statistics: sums of R runs, expanded about them.
    """
    prior, sizes = gate.prior_given(before), torch.ones(len(responsibilities), dtype=torch.float64, device=x.device)
    known = before.statistics_beyond(prior)
    old = _shares(gate, x, responsibilities, before)
    least = torch.where(gate.is_prior(before), -torch.inf, old - ROUNDING * (1.0 + old.abs()))
    after, open_ = before, torch.arange(len(responsibilities), device=x.device)
    for _ in range(MOST_HALVINGS):
        whole = len(open_) == len(responsibilities)
        r, own, natural, base = (
            (responsibilities, known, statistics, prior)
            if whole
            else (
                responsibilities[open_],
                nested.select(known, open_),
                nested.select(statistics, open_),
                prior if prior.precision.ndim == 3 else nested.select(prior, open_),
            )
        )
        size = sizes[open_]
        tried = base.updated(nested.apply(lambda a, b, s=size: torch.lerp(a, b, _like(s, a)), own, natural))
        taken = _shares(gate, x, r, tried) >= least[open_]
        if whole and bool(taken.all()):
            return tried
        after = nested.apply(lambda a, t, n=open_[taken], m=taken: a.index_copy(0, n, t[m]), after, tried)
        open_ = open_[~taken]
        sizes = 0.5 * sizes
        if not len(open_):
            break
    return after


def converged(
    gate: Any,  # noqa: ANN401
    x: Tensor,
    responsibilities: Tensor,
    posterior: NormalCoefficients,
    *,
    n_steps: int,
) -> NormalCoefficients:
    """Return the posteriors of R runs after steps until none gains anything.

    Args:
        gate: a gate with Normal coefficients.
        x: gate inputs [N, D].
        responsibilities: [R, K, N].
        posterior: of R runs.
        n_steps: most steps.
    """
    share = torch.full((len(responsibilities),), -torch.inf, dtype=torch.float64, device=x.device)
    for _ in range(n_steps):
        found = gate.statistics_of(x, responsibilities.mT, posterior=posterior)
        posterior = improved(gate, x, responsibilities, posterior, found)
        before, share = share, _shares(gate, x, responsibilities, posterior)
        if not bool((share - before > LEAST_GAIN).any()):
            break
    return posterior


def _shares(
    gate: Any,  # noqa: ANN401
    x: Tensor,
    responsibilities: Tensor,
    posterior: NormalCoefficients,
) -> Tensor:
    """Return the share of the bound of R runs, of the rows of all processes in a fit on many."""
    pairs = zip(sums.parts(x), sums.parts(responsibilities, dim=-1), strict=True)
    each = [gate.shares(*rows, *shares, posterior) for rows, shares in pairs]
    blocks = sums.current()
    if blocks is None:
        return each[0]
    divergence = gate.kl(posterior)
    return sums.total([share + divergence for share in each]) - divergence


def _like(sizes: Tensor, value: Tensor) -> Tensor:
    """Return sizes [R] that broadcast to a value [R, …]."""
    return sizes.reshape(-1, *(1 for _ in value.shape[1:]))
