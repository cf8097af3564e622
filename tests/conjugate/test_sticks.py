"""Sticks as values."""

import itertools

import pytest
import torch
from torch import Tensor
from torch.distributions import Beta, kl_divergence

from mixpyro.conjugate.dirichlet import Counts
from mixpyro.conjugate.sticks import LearntSticks, Sticks, log_beta, log_orders
from tests.conjugate.contract import PosteriorContract, assert_close
from tests.problems import responsibilities

K = 4
RANKS = torch.arange(K).double()
SHAPE, RATE = 2.0, 3.0


def process(concentration: float, discount: float) -> Sticks:
    """The prior of a Pitman–Yor process."""
    rest = concentration + discount * torch.arange(1, K + 1).double()
    return Sticks(torch.full((K,), 1.0 - discount).double(), rest, RANKS)


def counts(seed: int) -> Counts:
    """Of 20 objects."""
    return Counts(responsibilities(20, K, seed=seed).sum(0) * torch.tensor([0.2, 1.0, 3.0, 0.5]).double())


class TestSticks(PosteriorContract):
    """The contract."""

    n_parameters = K

    def prior(self) -> Sticks:
        return process(0.7, 0.3)

    def statistics(self, seed: int) -> Counts:
        return counts(seed)


class TestLearntSticks(PosteriorContract):
    """The contract, but for a prior with shares and concentration independent, which no value is."""

    n_parameters = K + 1

    def prior(self) -> LearntSticks:
        sticks = Sticks(torch.ones(K).double(), torch.full((K,), SHAPE / RATE).double(), RANKS)
        return LearntSticks(*sticks, torch.tensor(SHAPE).double(), torch.tensor(RATE).double())

    def statistics(self, seed: int) -> Counts:
        return counts(seed)

    def test_a_prior_has_no_divergence_from_itself(self) -> None:
        """Shares and their concentration are dependent: more than zero, and far less than a nat a share."""
        assert 0.0 < float(self.prior().kl(self.prior())) < 0.5 * K

    def test_both_factors_are_at_the_optimum(self) -> None:
        """Of the bound Σ N E log π − KL, by its gradient in all four parameters."""
        seen = self.statistics(1)
        q = self.prior().updated(seen)
        fields = {name: getattr(q, name).clone().requires_grad_() for name in q._fields if name != "rank"}
        moved = LearntSticks(rank=q.rank, **fields)
        bound = (seen.counts * moved.expected_log).sum() - moved.kl(self.prior())
        for gradient in torch.autograd.grad(bound, list(fields.values())):
            assert gradient.abs().max() < 1e-12

    def test_the_concentration_does_not_depend_on_the_start(self) -> None:
        seen = self.statistics(2)
        found = [self.prior().updated(seen, torch.tensor(start).double()) for start in (1e-6, 0.5, 1e6)]
        for other in found[1:]:
            assert_close(other, found[0], tolerance=1e-11)

    def test_the_divergence_is_the_mean_of_log_ratios(self) -> None:
        """By 200,000 draws."""
        q, prior = self.prior().updated(self.statistics(0)), self.prior()
        shares, alpha = Beta(q.own, q.rest), torch.distributions.Gamma(*q.concentration)
        v, a = shares.sample((200_000,)), alpha.sample((200_000,))
        ratio = shares.log_prob(v).sum(-1) + alpha.log_prob(a) - torch.distributions.Gamma(SHAPE, RATE).log_prob(a)
        ratio = ratio - Beta(torch.ones(1).double(), a.unsqueeze(-1)).log_prob(v).sum(-1)
        assert abs(ratio.mean() - q.kl(prior)) < 4.0 * ratio.std() / len(ratio) ** 0.5


def test_moments_are_those_of_draws() -> None:
    q = process(0.7, 0.3).updated(counts(0))
    v = Beta(q.own, q.rest).sample((200_000,))
    order = q.rank.argsort()
    weights, left = torch.zeros_like(v), torch.ones(len(v)).double()
    for k in order:
        weights[:, k] = v[:, k] * left
        left = left * (1.0 - v[:, k])
    for found, drawn in ((q.expected_log, weights.log()), (q.log_mean.exp(), weights), (q.weight_beyond, left)):
        assert ((drawn.mean(0) - found).abs() < 4.5 * drawn.std(0) / len(v) ** 0.5).all()
    torch.testing.assert_close(q.log_mean.exp().sum() + q.weight_beyond, torch.ones(()).double())


def test_the_divergence_is_that_of_pytorch() -> None:
    prior = process(0.7, 0.3)
    q = prior.updated(counts(0))
    rest = prior.rest[q.rank.long()]
    expected = kl_divergence(Beta(q.own, q.rest), Beta(prior.own, rest)).sum()
    torch.testing.assert_close(q.kl(prior), expected)


def test_no_order_has_a_higher_bound() -> None:
    """Of all 24, each at its best shares: log of Beta(1 − d + N, α + t d + later) over the prior's."""
    for concentration, discount in ((0.7, 0.0), (3.0, 0.0), (0.5, 0.4)):
        prior, seen = process(concentration, discount), counts(3).counts
        q = prior.updated(Counts(seen))
        found = (seen * q.expected_log).sum() - q.kl(prior)
        bounds = [_evidence(prior, seen[list(order)]) for order in itertools.permutations(range(K))]
        torch.testing.assert_close(found, torch.stack(bounds).max())


def test_a_component_without_objects_changes_nothing() -> None:
    """Nested truncation: bounds of different K are bounds of one model."""
    prior, seen = process(0.7, 0.3), counts(0).counts.clone()
    seen[3] = 0.0
    fewer = Sticks(*(field[:3] for field in prior))
    q, short = prior.updated(Counts(seen)), fewer.updated(Counts(seen[:3]))
    torch.testing.assert_close(
        (seen * q.expected_log).sum() - q.kl(prior), _evidence(fewer, seen[:3].sort().values.flip(0))
    )
    torch.testing.assert_close(q.expected_log[:3], short.expected_log)
    torch.testing.assert_close(q.kl(prior), short.kl(fewer))


@pytest.mark.parametrize("discount", [0.0, 0.3])
def test_all_orders_together_have_the_evidence_of_the_partition(discount: float) -> None:
    """By 100,000 draws of 60 shares: E Σ πᵢ³ πⱼ² over all pairs of two components, against that of the first two."""
    prior, sizes = process(0.7, discount), torch.tensor([3.0, 2.0]).double()
    rest = 0.7 + discount * torch.arange(1, 61).double()
    v = Beta(torch.full((60,), 1.0 - discount).double(), rest).sample((100_000,))
    left = torch.cat([torch.ones(len(v), 1).double(), (1.0 - v).cumprod(-1)[:, :-1]], dim=1)
    weights = v * left
    cube, square = weights**3, weights**2
    found = cube.sum(-1) * square.sum(-1) - (cube * square).sum(-1)
    alone = _evidence(Sticks(*(field[:2] for field in prior)), sizes).exp()
    expected = alone * log_orders(prior, sizes).exp()
    assert abs(found.mean() - expected) < 4.0 * found.std() / len(v) ** 0.5
    assert found.mean() > 1.2 * alone


def _evidence(prior: Sticks, in_order: Tensor) -> Tensor:
    """Log of what counts in an order of breaking have for evidence."""
    later = in_order.sum() - in_order.cumsum(0)
    after = log_beta(prior.own + in_order, prior.rest + later)
    return (after - log_beta(prior.own, prior.rest)).sum()


@pytest.mark.parametrize("concentration", [1e-12, 1e-16, 1e-20])
def test_the_divergence_keeps_its_digits_at_small_concentrations(concentration: float) -> None:
    """Of one share the limit is zero; of a learnt concentration it is free of the unit of its prior."""
    ten = Counts(torch.tensor([10.0]).double())
    one = Sticks(torch.ones(1).double(), torch.full((1,), concentration).double(), torch.zeros(1).double())
    assert abs(float(one.updated(ten).kl(one))) < 1e-8

    def divergence(mean: float) -> float:
        learnt = LearntSticks(*one._replace(rest=torch.full((1,), mean).double()), *gamma_of(mean))
        return float(learnt.updated(ten).kl(learnt))

    assert divergence(concentration) == pytest.approx(divergence(1e-9), abs=1e-6)


def gamma_of(mean: float) -> tuple[Tensor, Tensor]:
    """Shape two, and the rate."""
    return torch.tensor(2.0).double(), torch.tensor(2.0 / mean).double()
