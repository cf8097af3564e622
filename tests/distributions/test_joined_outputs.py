"""Distributions of different outputs, side by side."""

import torch
from pyro.distributions import Delta, MixtureSameFamily, Normal, Poisson
from torch.distributions import Categorical

from mixpyro.distributions.joined_outputs import JoinedOutputs
from mixpyro.distributions.quantiles import cumulative


def joined() -> JoinedOutputs:
    """Two Normal outputs beside a count, batch shape [3, 2]; the count's batch shape is [2]."""
    normal = Normal(torch.arange(12.0).reshape(3, 2, 2), 0.5).to_event(1)
    return JoinedOutputs([normal, Poisson(torch.tensor([[1.0], [4.0]])).to_event(1)])


def test_densities_multiply_and_moments_stand_side_by_side() -> None:
    distribution = joined()
    assert (distribution.batch_shape, distribution.event_shape) == ((3, 2), (3,))
    values = torch.tensor([0.3, 1.0, 2.0])
    of_normal = Normal(torch.arange(12.0).reshape(3, 2, 2), 0.5).log_prob(values[:2]).sum(-1)
    expected = of_normal + Poisson(torch.tensor([1.0, 4.0])).log_prob(values[2])
    torch.testing.assert_close(distribution.log_prob(values), expected)
    assert distribution.mean[2, 1].tolist() == [10.0, 11.0, 4.0]
    assert distribution.variance[2, 1].tolist() == [0.25, 0.25, 4.0]
    assert distribution.expand([5, 3, 2]).log_prob(values).shape == (5, 3, 2)
    shares = cumulative(distribution, values)
    assert shares.shape == (3, 2, 3)
    torch.testing.assert_close(shares[0, 0, 0], Normal(0.0, 0.5).cdf(torch.tensor(0.3)).double())


def test_draws_and_mixtures() -> None:
    draws = joined().sample(torch.Size([2000]))
    assert draws.shape == (2000, 3, 2, 3)
    torch.testing.assert_close(draws.mean(0), joined().mean, rtol=0, atol=0.25)
    mixture = MixtureSameFamily(Categorical(torch.full((3, 2), 0.5)), joined())
    assert mixture.sample().shape == (3, 3)
    both = joined().log_prob(draws[0, :, :1])
    torch.testing.assert_close(mixture.log_prob(draws[0, :, 0]), both.logsumexp(-1) - torch.tensor(2.0).log())


def test_an_impossible_output_makes_all_impossible() -> None:
    distribution = JoinedOutputs([Delta(torch.zeros(1), event_dim=1), Normal(torch.zeros(1), 1.0).to_event(1)])
    assert distribution.log_prob(torch.tensor([1.0, 0.0])) == -torch.inf
