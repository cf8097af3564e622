"""Densities of a gate or of experts at many draws of the parameters: of these under the prior, and of rows."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from pyro import poutine
from pyro.distributions import Gamma
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import logsigmoid

from mixpyro.conjugate.independent_columns import Uncorrelated
from mixpyro.conjugate.normal_gamma import NormalGamma
from mixpyro.conjugate.responses.registry import as_regressions
from mixpyro.conjugate.sticks import LearntSticks, log_beta
from mixpyro.conjugate_part import ConjugatePart
from mixpyro.experts.base import Experts
from mixpyro.experts.gaussian_prior import GaussianPrior
from mixpyro.experts.linear import LinearExperts
from mixpyro.experts.linear_prior import LinearPrior
from mixpyro.experts.random_effects import RandomEffectsExperts
from mixpyro.experts.relevance import RelevanceLinearExperts
from mixpyro.fitting.table import Table
from mixpyro.gates.base import Gate
from mixpyro.gates.bayesian_logits import BayesianLogitGate
from mixpyro.gates.stick_breaking import StickBreakingGate
from mixpyro.intervals.free_parameters import log_weights
from mixpyro.numerics.design_matrix import with_intercept
from mixpyro.part import Part
from mixpyro.pyro_internals.traces import log_densities, total_density, traced

# Of a block of rows, the log density of each component's y, or of its weight: [S, K, B] or [S, K, 1].
OfRows = Callable[[Table], Tensor]


class AtDraws(NamedTuple):
    """A part of a mixture at S draws of its parameters."""

    log_prior: Tensor  # log p of the values of the sites [S], nats
    of_rows: OfRows


class Given(NamedTuple):
    """S draws of the parameters."""

    values: dict[str, Tensor]  # of the sites [S, …], by name
    coordinates: dict[str, Tensor]  # of the sites [S, q], by name
    own: dict[str, Tensor]  # of the estimated parameters of the part in question [S, …], by the name in the part
    n_draws: int

    def parameters(self, draw: int) -> dict[str, Tensor]:
        """Return the part's estimated parameters of one draw, as :class:`Evaluated` has them.

        Args:
            draw: its number.
        """
        return {f"part.{name}": values[draw] for name, values in self.own.items()}


def density_of(part: Part) -> Callable[[Given], AtDraws]:
    """Return the density of a part, with what does not depend on the parameters computed once.

    Args:
        part: in float64.
    """
    if not isinstance(part, ConjugatePart):
        return lambda given: _estimated(part, given)
    if isinstance(part, BayesianLogitGate):
        return lambda given: _logit_gate(part, given)
    if isinstance(part, StickBreakingGate):
        return lambda given: _sticks(part, given)
    if isinstance(part, Gate):
        return lambda given: _gate(part, given)
    if type(part) is LinearExperts or (isinstance(part, GaussianPrior) and issubclass(part.structure, Uncorrelated)):
        return LinesDensity(part)
    return lambda given: _by_model(cast(Experts, part), given)


class LinesDensity:
    """Regressions with a Normal-Gamma prior, or densities of uncorrelated columns, their regressions on a constant.

    Written out: a Pyro program takes ten times as long, and NUTS evaluates it ten thousand times.

    Args:
        part: the experts.
    """

    def __init__(self, part: ConjugatePart) -> None:
        self.part = cast(Experts, part)
        if isinstance(part, LinearPrior):
            self.prior, self.has_intercept = part.prior_from_zero, part.intercept
            self.coefficients = part.site("coefficients")
        else:
            counted: Uncorrelated = part.prior
            at_zero = counted._replace(mean=counted.mean + cast(Any, part).y_origin.double())
            self.prior, self.has_intercept = as_regressions(at_zero), True
            self.coefficients = part.site("mean")
        self.noise = part.site("precision")
        self._constant = self._constant_of_prior(self.prior)

    def __call__(self, given: Given) -> AtDraws:
        """Return the density at draws.

        Args:
            given: the draws.
        """
        prior = self.prior
        coefficients = given.values[self.coefficients].unflatten(1, prior.mean.shape[:1])
        coefficients = coefficients.reshape(given.n_draws, *prior.mean.shape)
        log_noise = given.coordinates[self.noise].reshape(given.n_draws, *prior.rate.shape)
        noise = log_noise.exp()
        of_noise = ((prior.shape - 1.0).unsqueeze(-1) * log_noise - prior.rate * noise).sum((-2, -1))
        log_each, each = (part.expand(-1, *prior.mean.shape[:2]) for part in (log_noise, noise))
        deviation = coefficients - prior.mean
        distance = ((deviation @ prior.precision) * deviation).sum(-1)
        of_coefficients = 0.5 * (prior.mean.shape[-1] * log_each - each * distance).sum((-2, -1))
        log_prior = self._constant + of_noise + of_coefficients
        return AtDraws(log_prior, lambda block: self._of_rows(coefficients, log_each, each, block))

    def _of_rows(self, coefficients: Tensor, log_noise: Tensor, noise: Tensor, block: Table) -> Tensor:
        """Return log p(y | x, k) [S, K, B], with one matrix product for the means of all draws."""
        x = self.part.select_inputs(block.x)[:, : coefficients.shape[-1] - int(self.has_intercept)]
        u = with_intercept(x) if self.has_intercept else x
        means = (coefficients.flatten(0, -2) @ u.mT).unflatten(0, coefficients.shape[:-1])
        squares = (noise.unsqueeze(-1) * (means - block.y.mT).square()).sum(-2)
        return 0.5 * (log_noise - math.log(2.0 * math.pi)).sum(-1, keepdim=True) - 0.5 * squares

    @staticmethod
    def _constant_of_prior(prior: NormalGamma) -> Tensor:
        """Return the logarithm of the prior's normalising constant."""
        shape = prior.shape.unsqueeze(-1).expand_as(prior.rate)
        of_noise = (shape * prior.rate.log() - torch.lgamma(shape)).sum()
        n_components, n_outputs, n_columns = prior.mean.shape
        log_determinant = torch.linalg.slogdet(prior.precision).logabsdet.expand(n_components).sum()
        log_two_pi = n_components * n_columns * math.log(2.0 * math.pi)
        return of_noise + 0.5 * n_outputs * (log_determinant - log_two_pi)


def _logit_gate(part: BayesianLogitGate, given: Given) -> AtDraws:
    """Return weights that are functions of the gate's inputs, with a Normal prior of their coefficients."""
    if part.n_components == 1:
        nothing = next(iter(part.buffers())).new_zeros(given.n_draws, dtype=torch.float64)
        return AtDraws(nothing, lambda _: nothing[:, None, None])
    coefficients = given.values[part.site("coefficients")]
    log_prior = part.prior_distribution(torch.float64).log_prob(coefficients)
    return AtDraws(log_prior, lambda block: part.log_weights_at(block.gate_x, coefficients).mT)


def _gate(part: Gate, given: Given) -> AtDraws:
    """Return weights that all objects share, with a Dirichlet prior, whose concentration may be estimated."""
    if part.n_components == 1:
        nothing = next(iter(part.buffers())).new_zeros(given.n_draws, dtype=torch.float64)
        return AtDraws(nothing, lambda _: nothing[:, None, None])
    name = part.site("weights")
    log_pi = log_weights(given.coordinates[name])

    def log_prior(draw: slice) -> Tensor:
        prior = cast(Any, part).prior.concentration
        # Not by the weights: a small one may be too small for a number.
        constant = torch.lgamma(prior.sum(-1)) - torch.lgamma(prior).sum(-1)
        found = constant + ((prior - 1.0) * log_pi[draw]).sum(-1)
        of_concentration = getattr(part, "concentration_prior", None)
        if of_concentration is not None:
            found = found + of_concentration.log_prob(cast(Any, part).prior_concentration.double()).sum()
        return found

    whole = _by_draw(part, given, log_prior) if given.own else log_prior(slice(None))
    return AtDraws(whole, lambda _: log_pi.unsqueeze(-1))


def _sticks(part: StickBreakingGate, given: Given) -> AtDraws:
    """Return weights by the shares of a stick, in the order of the posterior, whose concentration may have a prior."""
    prior, log_odds = part.prior_in_order, given.coordinates[part.weights_sites[0]]
    taken, left = logsigmoid(log_odds), logsigmoid(-log_odds)
    rest, log_prior = prior.rest, log_odds.new_zeros(given.n_draws)
    if isinstance(prior, LearntSticks):
        log_alpha = given.coordinates[part.weights_sites[1]]
        rest = log_alpha.exp().expand(-1, part.n_components)
        log_prior = Gamma(*prior.concentration).log_prob(log_alpha.exp()).squeeze(-1)
    density = (prior.own - 1.0) * taken + (rest - 1.0) * left - log_beta(prior.own, rest)
    log_pi = part.log_weights_of_logs(taken, left)
    return AtDraws(log_prior + density.sum(-1), lambda _: log_pi.unsqueeze(-1))


def _by_model(part: Experts, given: Given) -> AtDraws:
    """Return experts with a conjugate prior, their Pyro model conditioned on the draws."""
    sites = {name: value.unsqueeze(1) for name, value in given.values.items() if name.startswith(part.site(""))}
    extra = torch.zeros((), dtype=torch.float64, device="cpu")
    if isinstance(part, RelevanceLinearExperts):
        name = part.site("column_precision")
        posterior = column_precision_given(part, given.values)
        sites[name] = posterior.mean.unsqueeze(1)
        extra = posterior.log_prob(posterior.mean).flatten(1).sum(-1)
    like = next(iter(part.buffers()))
    x = torch.zeros(1, part.n_features, dtype=torch.float64, device=like.device)
    trace = traced(poutine.condition(lambda: part.model(x), data=sites), part, given.n_draws)
    log_prior = total_density(log_densities(trace, list(sites), given.n_draws), given.n_draws) - extra.to(like.device)
    parameters: Any = trace.nodes["_RETURN"]["value"]
    return AtDraws(log_prior, lambda block: _likelihood(part, parameters, block))


def _likelihood(part: Experts, parameters: Any, block: Table) -> Tensor:  # noqa: ANN401
    """Return log p(y | x, k) [S, K, B] of a block of rows, or of groups whose rows depend on each other."""
    if isinstance(part, RandomEffectsExperts):
        return part.log_likelihoods_given(block.columns, parameters).squeeze(1)
    x = part.select_inputs(block.x)
    components = torch.arange(part.n_components, device=x.device).reshape(-1, 1, 1)
    return part.likelihood(x, parameters, components).log_prob(block.y).movedim(0, 1)


def column_precision_given(part: RelevanceLinearExperts, values: dict[str, Tensor]) -> Gamma:
    """Return p(λ | w, τ) of the columns' precisions [S, K, D]: Gamma(c₀ + P/2, d₀ + ½ Σₚ τ (w − m₀)²).

    Args:
        part: experts with a learnt prior precision for each column.
        values: draws of their sites, for x and y as they are.
    """
    prior, first = part.prior, int(part.intercept)
    coefficients, precision = values[part.site("coefficients")], values[part.site("precision")]
    precision = precision.expand(*precision.shape[:-2], part.n_components, part.n_outputs)
    deviation = coefficients[..., first:] - part.prior_mean.double()[..., first:]
    squares = (precision.unsqueeze(-1) * deviation.square()).sum(-2)
    shape, rate = (prior_part.expand(part.n_components, part.n_features) for prior_part in prior.columns)
    return Gamma(shape + 0.5 * part.n_outputs, rate + 0.5 * squares)


def _estimated(part: Part, given: Given) -> AtDraws:
    """Return a part with estimated parameters, evaluated draw by draw."""
    log_prior = _by_draw(part, given, lambda _: -part.kl_divergence()[None])

    def of_rows(block: Table) -> Tensor:
        if isinstance(part, Gate):
            return _by_draw(part, given, lambda _: part.expected_log_weights(block.gate_x).mT[None])
        experts = cast(Experts, part)
        x = experts.select_inputs(block.x)
        return _by_draw(part, given, lambda _: experts.log_likelihoods(experts.columns(x, block.y))[None])

    return AtDraws(log_prior, of_rows)


def _by_draw(part: Part, given: Given, function: Callable[[slice], Tensor]) -> Tensor:
    """Return a function of some draws, with their axis first, at the parameters of each; once where there are none."""
    if not given.own:
        found = function(slice(0, 1))
        return found.expand(given.n_draws, *found.shape[1:])
    evaluated = _Evaluated(part, function)
    draws = range(given.n_draws)
    return torch.cat([functional_call(evaluated, given.parameters(n), (slice(n, n + 1),)) for n in draws])


class _Evaluated(nn.Module):
    """A function of a part, as a module whose parameters ``functional_call`` replaces."""

    def __init__(self, part: Part, function: Callable[[slice], Tensor]) -> None:
        super().__init__()
        self.part, self.function = part, function

    def forward(self, draw: slice) -> Tensor:
        """Return the function's value."""
        return self.function(draw)
