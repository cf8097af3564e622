"""Regressions with random effects, as a value."""

import math

import pytest
import torch
from torch import Tensor

from mixpyro.conjugate.random_effects import EffectStatistics, RandomEffects
from mixpyro.numerics.group_densities import GroupColumns, columns_of_groups
from mixpyro.numerics.segments import Segments
from tests.conjugate.contract import PosteriorContract

K, E, Q = 2, 3, 2
SIZES = torch.tensor([1, 2, 6, 4, 9])


def rows(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Design [N, E] and y [N]."""
    generator = torch.Generator().manual_seed(seed)
    n_rows = int(SIZES.sum())
    x = torch.randn(n_rows, E - 1, generator=generator).double()
    return torch.cat([torch.ones(n_rows, 1).double(), x], 1), torch.randn(n_rows, generator=generator).double()


def columns(seed: int = 0) -> GroupColumns:
    """Sums over the rows of each group; the first columns of the design have random effects."""
    design, y = rows(seed)
    return columns_of_groups(torch.cat([design, y.unsqueeze(1)], 1).mT, torch.eye(E, Q).double(), Segments(SIZES))


def prior(n_noises: int = K, n_covariances: int = K) -> RandomEffects:
    """A prior with different means."""
    return RandomEffects(
        mean=torch.arange(K * E).double().view(K, E) / 10.0,
        precision=torch.diag(torch.tensor([0.1, 0.5, 2.0]).double()).expand(K, E, E),
        shape=torch.full((n_noises,), 1.5).double(),
        rate=torch.full((n_noises,), 0.3).double(),
        degrees=torch.full((n_covariances,), 2.5).double(),
        scale=torch.tensor([[0.5, 0.1], [0.1, 0.3]]).double().expand(n_covariances, Q, Q),
    )


def shares(seed: int) -> Tensor:
    """Responsibilities [K, G]."""
    return torch.rand(K, len(SIZES), generator=torch.Generator().manual_seed(seed)).double()


class TestRandomEffects(PosteriorContract):
    """Own noises and covariances."""

    n_parameters = K * (E + 1 + 3)

    def prior(self) -> RandomEffects:
        return prior()

    def statistics(self, seed: int) -> EffectStatistics:
        return self.prior().statistics(columns(), shares(seed))


class TestSharedNoise(TestRandomEffects):
    """One noise for all components."""

    n_parameters = K * (E + 3) + 1

    def prior(self) -> RandomEffects:
        return prior(n_noises=1)


class TestSharedCovariance(TestRandomEffects):
    """One covariance for all components."""

    n_parameters = K * (E + 1) + 3

    def prior(self) -> RandomEffects:
        return prior(n_covariances=1)


def posterior(n_noises: int = K, n_covariances: int = K) -> RandomEffects:
    """A posterior after one update."""
    before = prior(n_noises, n_covariances)
    return before.updated(before.statistics(columns(), shares(1)))


def test_the_likelihood_is_the_formula_of_the_whole_group() -> None:
    """½ n (E log τ − log 2π) + ½ E log |Ω| + ½ log |S| − ½ E (y − X β)'U(y − X β), with matrices of n rows."""
    q, (design, y) = posterior(), rows()
    found = q.log_likelihoods(columns())
    for k in range(K):
        noise, effects = q.noise.mean[k], q.effect_precision[k]
        for group, (u, target) in enumerate(zip(design.split(SIZES.tolist()), y.split(SIZES.tolist()), strict=True)):
            z = u[:, :Q]
            spread = torch.linalg.inv(noise * z.mT @ z + effects)
            weight = noise * torch.eye(len(u)).double() - noise**2 * z @ spread @ z.mT
            residual = target - u @ q.mean[k]
            square = residual @ weight @ residual + (u @ torch.linalg.inv(q.precision[k]) @ u.mT * weight).sum()
            logs = len(u) * (q.noise.expected_log[k] - math.log(2 * math.pi))
            value = 0.5 * (logs + q.effects.expected_log_determinant[k] + torch.logdet(spread) - square)
            torch.testing.assert_close(found[k, group], value)


def test_effects_are_those_of_regressions_given_the_coefficients() -> None:
    """Mean and covariance of b = τ̄ S Z'(y − X β) + noise of covariance S, over draws of β."""
    q, (design, y) = posterior(), rows()
    means, covariances = q.effects_of_groups(columns())
    u, target = design.split(SIZES.tolist())[2], y.split(SIZES.tolist())[2]
    spread = torch.linalg.inv(q.noise.mean[1] * u[:, :Q].mT @ u[:, :Q] + q.effect_precision[1])
    slope = q.noise.mean[1] * spread @ u[:, :Q].mT
    torch.testing.assert_close(means[1, 2], slope @ (target - u @ q.mean[1]))
    of_coefficients = slope @ u @ torch.linalg.inv(q.precision[1]) @ u.mT @ slope.mT
    torch.testing.assert_close(covariances[1, 2], spread + of_coefficients)


def bound(q: RandomEffects, r: Tensor) -> Tensor:
    """The experts' share of the bound, given responsibilities."""
    return (r * q.log_likelihoods(columns())).sum() - q.kl(prior(len(q.rate), len(q.degrees)))


@pytest.mark.usefixtures("without_type_checks")
def test_updates_raise_the_bound_to_where_its_derivatives_are_zero() -> None:
    r = shares(1)
    for shared in ((K, K), (1, K), (K, 1), (1, 1)):
        q = posterior(*shared)
        values = [float(bound(q, r))]
        for _ in range(400):
            q = prior(*shared).updated(q.statistics(columns(), r))
            values.append(float(bound(q, r)))
        assert min(torch.tensor(values).diff()) > -1e-10
        leaves = RandomEffects(*(field.detach().clone().requires_grad_() for field in q))
        for gradient in torch.autograd.grad(bound(leaves, r), list(leaves)):
            assert gradient.abs().max() < 1e-6


def test_each_update_is_the_optimum_given_the_effects() -> None:
    """The bound with q(b | β) held, by draws of nothing: moments of b under the old kernel, by autograd."""
    r, old = shares(1), posterior()
    seen = old.statistics(columns(), r)

    def given_effects(q: RandomEffects) -> Tensor:
        moments = q.moments
        squares = (seen.residuals * moments).sum((-2, -1))
        effects = (seen.effects * moments[..., None, None, :, :]).sum((-2, -1))
        of_rows = seen.rows * q.noise.expected_log - q.noise.mean * squares
        of_effects = seen.r * q.effects.expected_log_determinant - (q.effect_precision * effects).sum((-2, -1))
        return 0.5 * (of_rows + of_effects).sum() - q.kl(prior())

    new = prior().updated(seen)
    leaves = RandomEffects(*(field.detach().clone().requires_grad_() for field in new))
    gradients = RandomEffects(*torch.autograd.grad(given_effects(leaves), list(leaves)))
    for name in ("shape", "rate", "degrees", "scale"):
        assert getattr(gradients, name).abs().max() < 1e-9, name
    # That of β is the optimum for the old τ and Ω, which its update comes before.
    mixed = RandomEffects(leaves.mean, leaves.precision, *old[2:])
    for gradient in torch.autograd.grad(given_effects(mixed), [leaves.mean, leaves.precision]):
        assert gradient.abs().max() < 1e-9
