"""Distributions of different families, concatenated."""

import torch
from pyro.distributions import Categorical, Delta, MixtureSameFamily, Normal, StudentT
from torch import Tensor

from mixpyro.distributions.concatenated import Concatenated
from tests.problems import inputs, responsibilities

N = 6


def parts() -> tuple[StudentT, Normal]:
    """One component of one family and two of another: batch shapes [N, 1] and [N, 2], event shape [1]."""
    location = inputs(N, 3).unsqueeze(-1)
    return StudentT(5.0, location[:, :1], 0.5).to_event(1), Normal(location[:, 1:], 2.0).to_event(1)


def test_moments_and_log_probabilities_are_those_of_the_parts() -> None:
    student, normal = parts()
    both, y = Concatenated([student, normal]), inputs(N, 3, seed=1).unsqueeze(-1)
    assert both.batch_shape == (N, 3)
    assert both.event_shape == (1,)
    torch.testing.assert_close(both.mean, torch.cat([student.mean, normal.mean], 1))
    torch.testing.assert_close(both.variance, torch.cat([student.variance, normal.variance], 1))
    apart = torch.cat([student.log_prob(y[:, :1]), normal.log_prob(y[:, 1:])], -1)
    assert torch.equal(both.log_prob(y), apart)
    assert torch.equal(both.expand(torch.Size((4, N, 3))).log_prob(y), apart.expand(4, N, 3))


def test_a_mixture_sums_over_the_components_of_all_parts() -> None:
    student, normal = parts()
    weights, y = responsibilities(N, 3), inputs(N, 1, seed=1)
    mixture = MixtureSameFamily(Categorical(probs=weights), Concatenated([student, normal]))

    def density(value: Tensor) -> Tensor:
        value = value.unsqueeze(-2)
        return (weights * torch.cat([student.log_prob(value), normal.log_prob(value)], -1).exp()).sum(-1)

    torch.testing.assert_close(mixture.log_prob(y).exp(), density(y))
    torch.testing.assert_close(mixture.log_prob(y.expand(4, N, 1)).exp(), density(y).expand(4, N))
    draws = mixture.sample((4000,))
    error = draws.std(0) / 4000**0.5
    assert ((draws.mean(0) - mixture.mean).abs() < 4.5 * error).all()
    torch.testing.assert_close(draws.var(0), mixture.variance, rtol=0.2, atol=0)


def test_a_point_mass_can_be_a_part() -> None:
    zero = Delta(torch.zeros(N, 1, 1).double(), event_dim=1)
    both = Concatenated([zero, parts()[1]])
    log_prob = both.log_prob(inputs(N, 1, seed=1).unsqueeze(1))
    assert (log_prob[:, 0] == -torch.inf).all()
    assert torch.isfinite(log_prob[:, 1:]).all()
