"""The references of topic models and chains beside enumeration and automatic differentiation."""

import itertools

import pytest
import torch
from torch import Tensor
from torch.distributions import Dirichlet, kl_divergence

from tests.programs import by_hand
from tests.programs.by_hand import Chain, Topics
from tests.programs.simulated import chains, documents


def test_divergences_are_those_of_torch() -> None:
    q, prior = 3.0 * torch.rand(5, 4).double() + 0.1, 3.0 * torch.rand(5, 4).double() + 0.1
    expected = kl_divergence(Dirichlet(q), Dirichlet(prior)).sum()
    torch.testing.assert_close(by_hand.dirichlet_divergence(q, prior), expected)


def test_every_part_of_a_topic_step_is_a_maximum_of_the_bound() -> None:
    """The gradient of the bound is zero where a step has put q, each part given the other."""
    words, known = documents(5, 12, 3, 7, padded=True)
    prior = Topics(torch.full((5, 3), 0.4).double(), torch.full((3, 7), 0.2).double())
    q = Topics(torch.rand(5, 3).double() + 0.5, torch.rand(3, 7).double() + 0.5)
    r = by_hand.topic_responsibilities(q, words)
    bound, after = by_hand.topic_step(q, prior, words, known)
    assert float(bound) == pytest.approx(float(by_hand.topic_bound(q, prior, words, known, r)), rel=1e-12)
    after = Topics(*(value.requires_grad_() for value in after))
    logits = r.log().requires_grad_()
    best = by_hand.topic_bound(after, prior, words, known, r)
    for gradient in torch.autograd.grad(best, list(after)):
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-10)
    (gradient,) = torch.autograd.grad(by_hand.topic_bound(q, prior, words, known, logits.softmax(-1)), logits)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-10)
    assert best > bound


def paths(first: Tensor, rows: Tensor, emissions: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Return all paths [K ** length, length] of one chain and their log weights."""
    every = torch.tensor(list(itertools.product(range(len(first)), repeat=length)))
    weights = first[every[:, 0]] + emissions[range(length), every].sum(-1)
    return every, weights + rows[every[:, :-1], every[:, 1:]].sum(-1)


def test_forward_backward_is_the_sum_over_all_paths() -> None:
    first, rows = torch.randn(3).double(), torch.randn(3, 3).double()
    emissions, lengths = torch.randn(4, 5, 3).double(), torch.tensor([5, 1, 3, 2])
    found = by_hand.forward_backward(first, rows, emissions, lengths)
    total, pairs = torch.tensor(0.0).double(), torch.zeros(3, 3).double()
    for i, length in enumerate(lengths.tolist()):
        every, weights = paths(first, rows, emissions[i], length)
        total = total + weights.logsumexp(0)
        q = weights.softmax(0)
        for t in range(5):
            at_t = torch.stack([q[every[:, t] == k].sum() for k in range(3)]) if t < length else torch.zeros(3).double()
            torch.testing.assert_close(found.states[i, t], at_t)
        for t in range(1, length):
            pairs.index_put_((every[:, t - 1], every[:, t]), q, accumulate=True)
    torch.testing.assert_close(found.log_normaliser, total)
    torch.testing.assert_close(found.pairs, pairs)


@pytest.mark.parametrize("has_table", [False, True], ids=["known emissions", "table"])
def test_the_bound_of_chains_rises_at_every_step(has_table: bool) -> None:
    """And stops where its gradient with respect to the concentrations is zero."""
    outcomes, lengths = chains(20, 8, 3, 5)
    likelihoods = torch.randn(20, 8, 3).double()
    table = torch.full((3, 5), 0.5).double() if has_table else None
    prior = Chain(torch.ones(3).double(), 0.9 * torch.eye(3).double() + 0.1, table)
    start = Chain(*(None if part is None else part + torch.rand_like(part) for part in prior))  # type: ignore[arg-type]
    seen = outcomes if has_table else likelihoods

    def step(q: Chain) -> tuple[Tensor, Chain]:
        return by_hand.chain_step(q, prior, seen, lengths)

    bounds, _ = by_hand.ascend(step, start, 50)
    assert all(after >= before - 1e-9 for before, after in itertools.pairwise(bounds))
    bound, best, _ = by_hand.optimum(step, start, tolerance=0.0)
    assert bound >= bounds[-1] - 1e-9
    parts = [part.clone().requires_grad_() for part in best if part is not None]
    for gradient in torch.autograd.grad(step(Chain(*parts))[0], parts):
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-4)
