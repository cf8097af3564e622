"""What a fit iterates of generalised linear models: sums at many states at once, and steps from them."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from mixpyro import DirichletGate, GLMExperts, HeterogeneousExperts, MixtureOfExperts, SoftmaxGate, fit
from mixpyro.experts.families import (
    Binomial,
    Categorical,
    CensoredGaussian,
    Gaussian,
    Multinomial,
    NegativeBinomial,
    Poisson,
    StudentT,
    ZeroTruncatedPoisson,
)
from mixpyro.fitted_part import State
from mixpyro.fitting.starts import random_assignments
from mixpyro.numerics import nested
from mixpyro.numerics.segments import Segments, selected
from tests.problems import inputs, responsibilities

pytestmark = [pytest.mark.filterwarnings("ignore::RuntimeWarning"), pytest.mark.usefixtures("without_type_checks")]

N, K, R = 60, 2, 3
FAMILIES: dict[str, Any] = {
    "gaussian": Gaussian(),
    "poisson": Poisson(),
    "binomial": Binomial(),
    "categorical": Categorical(3),
    "negative binomial": NegativeBinomial(),
    "student t": StudentT(),
    "truncated": ZeroTruncatedPoisson(),
    "censored": CensoredGaussian(),
    "multinomial": Multinomial(3),
}
# Those whose second derivatives are the ones of the density, rather than as much or more.
EXACT = ("gaussian", "poisson", "binomial", "categorical", "multinomial")
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "prior": {"prior_scale": 2.0},
    "shared": {"shared": [0]},
    "shared prior": {"shared": ["intercept"], "prior_scale": 2.0},
}


def outputs(name: str, x: Tensor) -> Tensor:
    """Draw y of two components [N, P]."""
    torch.manual_seed(1)
    z = torch.arange(N) % 2
    eta = torch.where(z == 0, 0.3 + 0.8 * x[:, 0], 1.5 - 0.5 * x[:, 0])
    if name in ("poisson", "negative binomial"):
        return torch.poisson(eta.exp()).unsqueeze(1)
    if name == "truncated":
        return (1.0 + torch.poisson(eta.exp())).unsqueeze(1)
    if name == "binomial":
        return torch.bernoulli(eta.sigmoid()).unsqueeze(1)
    if name in ("categorical", "multinomial"):
        category = torch.bernoulli(eta.sigmoid()) + torch.bernoulli((-eta).sigmoid())
        return torch.eye(3).double()[category.long()] if name == "multinomial" else category.unsqueeze(1)
    y = (eta + 0.4 * torch.randn(N).double()).unsqueeze(1)
    if name != "censored":
        return y
    upper = torch.where(y > 1.5, torch.inf, y)
    return torch.cat([y.clamp_max(1.5), upper], dim=1)


def bank(name: str, options: dict[str, Any]) -> tuple[GLMExperts, Tensor, Tensor]:
    """Return experts about their data, with other estimates than the first."""
    x = inputs(N, 1) * 3.0 + 5.0
    experts = GLMExperts(K, 1, FAMILIES[name], **options)
    x, y = experts.check_data(x, outputs(name, (x - 5.0) / 3.0))
    experts.centre(x, y)
    with torch.no_grad():
        for number, parameter in enumerate(experts.parameters()):
            draw = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)).double()
            parameter.add_(0.1 * draw)
    return experts, x, y


def states(experts: GLMExperts) -> State:
    """Return states of R runs."""
    each = []
    for run in range(R):
        with torch.no_grad():
            for parameter in experts.parameters():
                parameter.add_(0.02 * run)
        each.append(experts.state())
    return nested.stack(each)


CASES = [
    pytest.param(name, options, id=f"{name}, {label}")
    for name, (label, options) in itertools.product(FAMILIES, OPTIONS.items())
]


@pytest.mark.parametrize(("name", "options"), CASES)
def test_sums_of_runs_are_derivatives_of_each(name: str, options: dict[str, Any]) -> None:
    """By autograd, of the function that a user's own SVI maximises."""
    experts, x, y = bank(name, options)
    together = states(experts)
    r = torch.stack([responsibilities(N, K, seed=run).mT for run in range(R)])
    columns = experts.columns(x, y)
    log_likelihoods = experts.log_likelihoods(columns, together)
    sums = experts.sums(columns, r, together)
    halves = [
        experts.sums(nested.apply(lambda part, at=at: part[..., at], columns), r[..., at], together)
        for at in (slice(0, 17), slice(17, N))
    ]
    for whole, parts in zip(nested.tensors(sums), nested.tensors(nested.add(*halves)), strict=True):
        torch.testing.assert_close(whole, parts, rtol=1e-9, atol=1e-9)
    for run in range(R):
        experts.hold(nested.select(together, run))
        torch.testing.assert_close(log_likelihoods[run], experts.log_likelihood(x, y).mT, rtol=1e-9, atol=1e-9)
        kl = experts.divergences(together)[run]
        torch.testing.assert_close(kl, experts.kl_divergence().detach(), rtol=1e-12, atol=1e-12)
        transform = experts.standardisation.transform
        coefficients = experts.coefficients.clone().requires_grad_()

        def of_coefficients(b: Tensor, run: int = run) -> Tensor:
            eta = torch.einsum("ne,kce->nkc", torch.cat([torch.ones(N, 1).double(), x[:, :1]], 1), b)
            log_prob = experts.family.log_prob(y, eta, x.new_ones(N, 1, 1), experts._noise.detach())
            return (r[run].mT * log_prob).sum()

        gradient = torch.autograd.grad(of_coefficients(coefficients), coefficients)[0] @ transform
        found = sums.coefficients.gradient[run].unflatten(-1, gradient.shape[1:])
        torch.testing.assert_close(found, gradient, rtol=1e-7, atol=1e-7)
        if name in EXACT:
            n = coefficients.numel()
            hessian = torch.autograd.functional.hessian(of_coefficients, coefficients.detach()).reshape(n, n)
            maps = torch.block_diag(*[transform] * (n // 2))
            expected = -maps.mT @ hessian @ maps
            torch.testing.assert_close(
                torch.block_diag(*sums.coefficients.information[run]), expected, rtol=1e-7, atol=1e-7
            )


@pytest.mark.parametrize(("name", "options"), CASES)
def test_steps_end_where_newtons_method_on_the_rows_ends(name: str, options: dict[str, Any]) -> None:
    experts, x, y = bank(name, options)
    together, r = states(experts), torch.stack([responsibilities(N, K, seed=run).mT for run in range(R)])
    with torch.no_grad():
        reached = together
        for _ in range(20):  # A whole step may overshoot: this shortens steps, as a fit does.
            reached = experts._converged(reached, x, y, r)
        for run in range(R):
            experts.hold(nested.select(together, run))
            experts.maximise(x, y, r[run].mT, n_steps=200)
            best = float(experts.partial_bound(x, y, r[run].mT))
            experts.hold(nested.select(reached, run))
            assert float(experts.partial_bound(x, y, r[run].mT)) == pytest.approx(best, abs=2e-5)


@pytest.mark.parametrize("gate", [lambda: SoftmaxGate(3, 1), lambda: SoftmaxGate(3, 0), lambda: DirichletGate(3)])
@pytest.mark.parametrize("name", FAMILIES)
def test_no_bound_falls_and_the_end_is_a_fixed_point(name: str, gate: Any) -> None:
    x = inputs(N, 1)
    y = outputs(name, x)
    mixture = MixtureOfExperts(gate(), GLMExperts(3, 1, FAMILIES[name]))
    gate_x = x[:, :0] if getattr(mixture.gate, "n_features", 1) == 0 else x
    options: dict[str, Any] = {"starts": [random_assignments], "n_candidates": 1, "n_restarts": 2, "progress": False}
    result = fit(mixture, x, y, gate_x=gate_x, max_iterations=150, **options)
    for run in result.runs:
        falls = [before - after for before, after in itertools.pairwise(run.trace)]
        assert max(falls) <= 1e-9 * (1.0 + abs(run.bound))
    if result.converged and not result.degeneracies:
        before = float(mixture.bound(x, y, gate_x=gate_x))
        mixture.experts.maximise(*mixture.experts.check_data(x, y), result.shares)
        assert float(mixture.bound(x, y, gate_x=gate_x)) - before <= 1e-4


def test_a_start_far_away_takes_shorter_steps_and_ends_at_the_optimum() -> None:
    """One of Newton's steps from zero to counts of thousands overflows."""
    x = inputs(N, 1)
    y = torch.poisson(torch.where(torch.arange(N) % 2 == 0, 7.0 + x[:, 0], 3.0 - 2.0 * x[:, 0]).exp()).unsqueeze(1)
    mixture = MixtureOfExperts(SoftmaxGate(2, 0), GLMExperts(2, 1, Poisson()))
    result = fit(mixture, x, y, gate_x=x[:, :0], n_restarts=4, progress=False)
    slopes = sorted(mixture.experts.coefficients[:, 0, 1].tolist())
    assert result.converged
    assert slopes == pytest.approx([-2.0, 1.0], abs=0.1)


def test_members_of_a_bank_of_banks_take_steps_beside_conjugate_ones() -> None:
    from mixpyro import LinearExperts

    x = inputs(N, 1)
    y = torch.where(torch.arange(N)[:, None] % 2 == 0, 1.0 + 2.0 * x, -2.0 - x) + 0.1 * inputs(N, 1, seed=3)
    mixture = MixtureOfExperts(
        DirichletGate(2), HeterogeneousExperts([GLMExperts(1, 1, Gaussian()), LinearExperts(1, 1)])
    )
    assert mixture.experts.takes_steps
    assert not mixture.experts.reads_rows
    result = fit(mixture, x, y, n_restarts=4, progress=False)
    assert sorted(result.shares.sum(0).tolist()) == pytest.approx([30.0, 30.0], abs=2.0)


@pytest.mark.parametrize("in_groups", [False, True])
@pytest.mark.parametrize("options", [{}, {"shared": ["scale"]}], ids=["own noises", "one noise"])
def test_a_start_has_the_noise_about_the_nearest_lines(options: dict[str, Any], in_groups: bool) -> None:
    experts, x, y = bank("gaussian", options)
    together = states(experts)
    segments = Segments(torch.full((N // 4,), 4)) if in_groups else None
    halves = [slice(0, N // 8), slice(N // 8, N // 4)] if in_groups else [slice(0, N // 2), slice(N // 2, N)]
    columns = experts.columns_of_objects(x, y, segments)
    after = experts.with_noise_of_nearest(together, [selected(columns, half) for half in halves], [True, False, True])
    for run in range(R):
        experts.hold(nested.select(after, run))
        squares = (y - experts.predict(x)[..., 0]).square()
        squares = squares.unflatten(0, (-1, 4)).sum(1) if in_groups else squares
        own = nested.select(together, run).estimates[-1].exp()
        noise = (own if run == 1 else (squares.amin(-1).sum() / N).sqrt()).expand(K)
        torch.testing.assert_close(experts.scale, noise)
        experts.hold(nested.select(together, run))


@pytest.mark.parametrize("name", ["poisson", "student t"])
def test_a_start_without_a_noise_of_moments_stays_as_it_is(name: str) -> None:
    experts, x, y = bank(name, {})
    together = states(experts)
    assert experts.with_noise_of_nearest(together, [experts.columns(x, y)], [True] * R) is together


class Doubled(Poisson):
    """A Poisson whose score is twice as large."""

    def score(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        return 2.0 * super().score(y, eta, exposure, scale)


@pytest.mark.parametrize("family", [*FAMILIES.values(), Doubled()], ids=[*FAMILIES, "own score"])
def test_score_and_curvature_are_those_of_the_family(family: Any) -> None:
    name = next((name for name, one in FAMILIES.items() if one is family), "poisson")
    x = inputs(N, 1)
    y, exposure, scale = outputs(name, x), torch.ones(N, 1, 1).double(), torch.full((K, 2), 1.5).double()
    scale = scale[:, : max(1, len(family.scale_names))]
    eta = torch.randn(N, K, family.n_predictors, generator=torch.Generator().manual_seed(0)).double()
    score, curvature = family.score_and_curvature(y, eta, exposure, scale)
    torch.testing.assert_close(score, family.score(y, eta, exposure, scale))
    torch.testing.assert_close(curvature, family.observed_curvature(y, eta, exposure, scale))
