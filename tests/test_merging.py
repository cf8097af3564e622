"""Several parts as one."""

import pytest
import torch
from torch import Tensor

from mixpyro import DirichletGate, GaussianExperts, LinearExperts, MixtureOfExperts
from mixpyro.experts import Experts
from mixpyro.merging import hand_back, joined, merged, narrow, split, twin
from tests.problems import lines, responsibilities

K, N = 3, 30


def bank(kind: str) -> Experts:
    """Experts of two outputs."""
    if kind == "linear":
        return LinearExperts(K, 2, 2, coefficient_mean=torch.randn(K, 2, 3))
    return GaussianExperts(K, 2, covariance=kind)


@pytest.mark.parametrize("kind", ["linear", "full", "diagonal", "spherical"])
def test_a_merged_bank_does_what_each_does_alone(kind: str) -> None:
    x, y, _ = lines(N, K, n_features=2, n_outputs=2)
    one = bank(kind)
    banks = [one, bank(kind), bank(kind)]
    for other in banks[1:]:
        other.load_state_dict(one.state_dict())
    for each in banks:
        each.centre(x, y)
    whole = merged(banks, one.component_buffers, torch.cat)
    r = [responsibilities(N, K) for _ in banks]
    alone: list[Tensor] = []
    for each, part in zip(banks, r, strict=True):
        each.update(each.statistics(x, y, part))
        alone.append(each.expected_log_likelihood(x, y))
    whole.update(whole.statistics(x, y, torch.cat(r, dim=1)))
    torch.testing.assert_close(whole.expected_log_likelihood(x, y), torch.cat(alone, dim=1), rtol=1e-10, atol=1e-9)
    divergences = whole.divergences().unflatten(0, (3, K)).sum(-1)
    torch.testing.assert_close(divergences, torch.stack([each.kl_divergence() for each in banks]))
    states = [{name: value.clone() for name, value in each.state_dict().items()} for each in banks]
    hand_back(whole, one.component_buffers, 3, dict(enumerate(banks)))
    for each, state in zip(banks, states, strict=True):
        for name, value in each.state_dict().items():
            torch.testing.assert_close(value, state[name])


def test_a_merged_gate_does_what_each_does_alone() -> None:
    x = torch.zeros(N, 0).double()
    gates = [DirichletGate(K, concentration=[1.0, 2.0, 0.5]) for _ in range(4)]
    whole = merged(gates, gates[0].stacked_buffers, torch.stack)
    r = [responsibilities(N, K) for _ in gates]
    for gate, part in zip(gates, r, strict=True):
        gate.update(gate.statistics(x, part))
    whole.update(whole.statistics(x, torch.cat(r, dim=1)))
    expected = torch.stack([gate.expected_log_weights(x) for gate in gates])
    torch.testing.assert_close(whole.expected_log_weights(x), expected)
    torch.testing.assert_close(whole.kl_divergence(), torch.stack([gate.kl_divergence() for gate in gates]))
    posteriors = [gate.posterior_concentration.clone() for gate in gates]
    for gate in gates:
        gate.posterior_concentration.zero_()
    hand_back(whole, whole.stacked_buffers, 4, dict(enumerate(gates)))
    torch.testing.assert_close([gate.posterior_concentration for gate in gates], posteriors)


def test_what_is_handed_back_is_each_ones_own() -> None:
    gates = [DirichletGate(K), DirichletGate(K)]
    whole = merged(gates, gates[0].stacked_buffers, torch.stack)
    hand_back(whole, whole.stacked_buffers, 2, dict(enumerate(gates)))
    whole.posterior_concentration.fill_(7.0)
    gates[0].posterior_concentration.fill_(5.0)
    assert gates[1].posterior_concentration.tolist() == [1.0] * K


def test_statistics_are_split_as_they_were_joined() -> None:
    x, y, _ = lines(N, K, n_features=2, n_outputs=2)
    experts = bank("linear")
    parts = [experts.statistics(x, y, responsibilities(N, K)) for _ in range(3)]
    for part, again in zip(parts, split(joined(parts), 3), strict=True):
        assert type(again) is type(part)
        assert all(torch.equal(a, b) for a, b in zip(part, again, strict=True))


def test_what_is_narrowed_goes_on_as_those_that_are_left() -> None:
    x, y, _ = lines(N, K, n_features=2, n_outputs=2)
    banks = [bank("linear") for _ in range(4)]
    whole = merged(banks, banks[0].component_buffers, torch.cat)
    whole.update(whole.statistics(x, y, responsibilities(N, 4 * K)))
    before = whole.expected_log_likelihood(x, y).unflatten(1, (4, K))
    narrow(whole, whole.component_buffers, 4, [0, 2])
    assert whole.n_components == 2 * K
    torch.testing.assert_close(whole.expected_log_likelihood(x, y).unflatten(1, (2, K)), before[:, [0, 2]])


def test_twins_learn_apart() -> None:
    x, y, _ = lines(N, K, n_features=2, n_outputs=2)
    first = MixtureOfExperts(DirichletGate(K), bank("linear"))
    second = twin(first)
    before = {name: value.clone() for name, value in first.state_dict().items()}
    assert second.state_dict().keys() == before.keys()
    second.experts.centre(x, y)
    second.experts.update(second.experts.statistics(x, y, responsibilities(N, K)))
    second.gate.update(second.gate.statistics(x, responsibilities(N, K)))
    second.gate.prior_concentration.fill_(9.0)
    for name, value in first.state_dict().items():
        assert torch.equal(value, before[name])
    assert (second.gate.posterior_concentration > 1.0).all()
    assert second.gate.site("weights") == "gate.weights"
