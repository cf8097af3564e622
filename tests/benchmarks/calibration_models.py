"""Mixtures drawn from their own prior, and where the truth lies in the posteriors that methods give.

The prior means of the lines differ, so that components are known by their prior and labels need no care. Fits start at
the responsibilities of these means, not at the truth.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.distributions import Normal

from mixpyro import DirichletGate, FitResult, LinearExperts, MixtureOfExperts, SoftmaxGate, fit, linear_response
from tests.benchmarks.ladder import refined, rung_of
from tests.benchmarks.simulated import Rows, log_ratios
from tests.benchmarks.uniformity import share_below
from tests.intervals.exact import DataSets, exact_draws
from tests.intervals.gibbs import Proposal

N_OBJECTS = 80
MEANS = torch.tensor([[0.0, 1.5], [0.0, -1.5]]).double()
PRECISION, SHAPE, RATE = 2.0, 4.0, 3.0
CONCENTRATION, SCALE = 2.0, 1.0


class Model(NamedTuple):
    """A mixture with its prior, and the numbers of the quantities to rank."""

    name: str
    mixture: Callable[[], MixtureOfExperts]
    rows: Callable[[Generator], Rows]
    ranked: dict[str, int]


class Found(NamedTuple):
    """A fit of one data set and what it says."""

    rows: Rows
    result: FitResult
    proposal: Proposal
    shares: dict[str, Tensor]  # of each method's posterior below the truth [Q]
    rung: str


def experts() -> LinearExperts:
    """Return two lines with a proper prior."""
    return LinearExperts(
        2,
        1,
        coefficient_mean=MEANS.unsqueeze(1),
        coefficient_precision=PRECISION,
        noise_shape=SHAPE,
        noise_rate=RATE,
    )


def drawn(generator: Generator, gate: str) -> Rows:
    """Draw parameters from the prior, then data."""
    x = torch.randn(N_OBJECTS, 1, generator=generator, dtype=torch.float64)
    tau = torch._standard_gamma(torch.full((2,), SHAPE).double(), generator) / RATE
    w = MEANS + torch.randn(2, 2, generator=generator, dtype=torch.float64) / (PRECISION * tau).sqrt().unsqueeze(-1)
    if gate == "Dirichlet":
        gammas = torch._standard_gamma(torch.full((2,), CONCENTRATION).double(), generator)
        weights = (gammas / gammas.sum()).expand(N_OBJECTS, 2)
        of_gate = log_ratios(gammas)
    else:
        of_gate = SCALE * torch.randn(2, generator=generator, dtype=torch.float64)
        second = (of_gate[0] + of_gate[1] * x).sigmoid()
        weights = torch.cat([1.0 - second, second], 1)
    z = torch.multinomial(weights, 1, generator=generator)[:, 0]
    noise = torch.randn(N_OBJECTS, generator=generator, dtype=torch.float64) * tau[z].rsqrt()
    y = w[z, 0] + w[z, 1] * x[:, 0] + noise
    of_experts = torch.cat([w.flatten(), tau.log()])
    parts = [of_gate, of_experts] if gate == "Dirichlet" else [of_experts, of_gate]
    return Rows(x, y.unsqueeze(1), z, torch.cat(parts))


MODELS = (
    Model(
        "Dirichlet gate",
        lambda: MixtureOfExperts(DirichletGate(2, concentration=CONCENTRATION), experts()),
        lambda generator: drawn(generator, "Dirichlet"),
        {"log ratio of weights": 0, "slope": 2, "log noise precision": 5},
    ),
    Model(
        "softmax gate",
        lambda: MixtureOfExperts(SoftmaxGate(2, 1, prior_scale=SCALE), experts()),
        lambda generator: drawn(generator, "softmax"),
        {"gate, slope": 7, "slope": 1, "log noise precision": 4},
    ),
)


def found(model: Model, generator: Generator, seed: int) -> Found:
    """Simulate and fit one data set, and find where the truth lies in each posterior."""
    rows = model.rows(generator)
    squares = (rows.y - (MEANS[:, 0] + rows.x * MEANS[:, 1])).square()
    start = (-0.5 * SHAPE / RATE * squares).softmax(-1)
    result = fit(model.mixture(), rows.x, rows.y, initial_responsibilities=start, progress=False)
    response = linear_response(result, rows.x, rows.y)
    refinement = refined(result, rows.x, rows.y, seed=seed)
    shares = {
        name: Normal(response.estimates, covariance.diagonal().sqrt()).cdf(rows.truth)
        for name, covariance in (("mean field", response.mean_field), ("linear response", response.covariance))
    }
    shares["refined"] = share_below(refinement.draws, rows.truth)
    return Found(rows, result, Proposal(response.estimates, response.covariance), shares, rung_of(refinement))


def exact_shares(fits: list[Found], *, n_draws: int, thin: int = 2) -> Tensor:
    """Return which share of the exact posterior lies below the truth [B, Q]."""
    data = DataSets(*(torch.stack([own.rows[part] for own in fits]) for part in range(3)))
    near = Proposal(*(torch.stack(parts) for parts in zip(*(own.proposal for own in fits), strict=True)))
    # Labels are left as they are drawn: here they mean something.
    draws = exact_draws([own.result for own in fits], data, n_draws=n_draws, thin=thin, near=near, align=False)
    return share_below(draws, torch.stack([own.rows.truth for own in fits]))
