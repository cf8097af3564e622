"""Variational inference of topic models and of hidden Markov models, written out in plain PyTorch.

These are the references for the same models as Pyro programs with gates. They use nothing of the library and nothing of
Pyro. All tensors are float64, and every bound has all constants. Both are coordinate ascent: q of the assignments given
q of the weights, the bound, then q of all weights given q of the assignments.

References:
    Blei, Ng, Jordan (2003), Latent Dirichlet allocation, appendix A.3, with a Dirichlet on topics as in section 5.4;
    MacKay (1997), Ensemble learning for hidden Markov models;
    Bishop (2006), Pattern recognition and machine learning, section 13.2 (forward-backward).
"""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

Value = TypeVar("Value")


class Topics(NamedTuple):
    """Dirichlet concentrations of a topic model: of its prior, or of q.

    Attributes:
        documents: of topics in documents [D, K].
        words: of words in topics [K, V].
    """

    documents: Tensor
    words: Tensor


class Chain(NamedTuple):
    """Dirichlet concentrations of a hidden Markov model: of its prior, or of q.

    Attributes:
        first: of the first state [K].
        rows: of the next state given the state [K, K].
        table: of outcomes given the state [K, V]; None where emissions are known.
    """

    first: Tensor
    rows: Tensor
    table: Tensor | None = None


class ChainExpectations(NamedTuple):
    """What forward-backward gives for N chains of up to T steps.

    Attributes:
        log_normaliser: log Σ over all paths of the weights, summed over chains, in nats.
        states: q(z_t) [N, T, K], zero from the end of a chain on.
        pairs: Σ q(z_t, z_t+1) over chains and steps [K, K].
    """

    log_normaliser: Tensor
    states: Tensor
    pairs: Tensor


def ascend(step: Callable[[Value], tuple[Tensor, Value]], start: Value, n_steps: int) -> tuple[list[float], Value]:
    """Return the bounds before each step and the value after the last.

    Args:
        step: from a value to its bound and the next value.
        start: the first value.
        n_steps: at least one.
    """
    bounds, value = [], start
    for _ in range(n_steps):
        bound, value = step(value)
        bounds.append(float(bound))
    return bounds, value


def optimum(
    step: Callable[[Value], tuple[Tensor, Value]], start: Value, *, tolerance: float = 1e-10, most: int = 10_000
) -> tuple[float, Value, int]:
    """Return the bound, the value and the number of steps where the bound rises by less than a relative tolerance.

    Args:
        step: from a value to its bound and the next value.
        start: the first value.
        tolerance: rise of a step, relative to the bound.
        most: number of steps to stop at in any case.
    """
    last, value = float("-inf"), start
    for n in range(1, most + 1):
        bound, value = step(value)
        if float(bound) - last <= tolerance * abs(float(bound)):
            return float(bound), value, n
        last = float(bound)
    return last, value, most


def expected_log(concentration: Tensor) -> Tensor:
    """Return E[log π] = ψ(m) − ψ(Σm) along the last axis; Bishop (2006), eq. B.21."""
    return torch.digamma(concentration) - torch.digamma(concentration.sum(-1, keepdim=True))


def dirichlet_divergence(concentration: Tensor, prior: Tensor) -> Tensor:
    """Return the sum of KL(Dirichlet(m) ‖ Dirichlet(α)) over all leading axes, in nats."""
    normaliser = torch.lgamma(concentration.sum(-1)) - torch.lgamma(concentration).sum(-1)
    normaliser = normaliser - torch.lgamma(prior.sum(-1)) + torch.lgamma(prior).sum(-1)
    return (normaliser + ((concentration - prior) * expected_log(concentration)).sum(-1)).sum()


# Topic models


def topic_responsibilities(q: Topics, words: Tensor) -> Tensor:
    """Return q(z = k) [W, D, K] of every token.

    Args:
        q: concentrations.
        words: index of the word of every token [W, D]; any index for padding.
    """
    return (expected_log(q.documents) + expected_log(q.words).T[words]).softmax(-1)


def topic_bound(q: Topics, prior: Topics, words: Tensor, known: Tensor, responsibilities: Tensor) -> Tensor:
    """Return the mean-field bound of any q(θ) q(φ) q(z), term by term, in nats.

    Args:
        q: concentrations of q(θ), q(φ).
        prior: concentrations α [D, K] and η [K, V].
        words: index of the word of every token [W, D].
        known: false for padding [W, D].
        responsibilities: q(z) [W, D, K].
    """
    r = responsibilities[known]
    log_topics = expected_log(q.documents).expand(*words.shape, -1)[known]  # E[log θ_dk]
    log_words = expected_log(q.words).T[words[known]]  # E[log φ_kw]
    likelihood, assignments = (r * log_words).sum(), (r * log_topics).sum()
    entropy = -torch.xlogy(r, r).sum()
    divergences = dirichlet_divergence(q.documents, prior.documents) + dirichlet_divergence(q.words, prior.words)
    return likelihood + assignments + entropy - divergences


def topic_step(q: Topics, prior: Topics, words: Tensor, known: Tensor) -> tuple[Tensor, Topics]:
    """Return the bound at the best q(z), and the concentrations that are best given this q(z).

    Args:
        q: concentrations.
        prior: α [D, K] and η [K, V].
        words: index of the word of every token [W, D].
        known: false for padding [W, D].
    """
    r = topic_responsibilities(q, words)
    bound = topic_bound(q, prior, words, known, r)
    counted = r * known.unsqueeze(-1)
    per_word = torch.zeros_like(q.words.T).index_add(0, words.flatten(), counted.flatten(0, 1))
    return bound, Topics(prior.documents + counted.sum(0), prior.words + per_word.T)


# Hidden Markov models


def forward_backward(first: Tensor, rows: Tensor, emissions: Tensor, lengths: Tensor) -> ChainExpectations:
    """Sum out all paths, and return their marginals; Bishop (2006), eq. 13.36 to 13.43, with logarithms.

    Args:
        first: log weights of the first state [K], not necessarily normalised.
        rows: log weights of the next state given the state [K, K].
        emissions: log weights of outcomes [N, T, K].
        lengths: number of steps of every chain [N], at least one.
    """
    n_chains, n_steps, _ = emissions.shape
    lived = torch.arange(n_steps) < lengths.unsqueeze(-1)  # [N, T]
    forward = [first + emissions[:, 0]]
    for t in range(1, n_steps):
        onward = (forward[-1].unsqueeze(-1) + rows).logsumexp(1) + emissions[:, t]
        forward.append(torch.where(lived[:, t, None], onward, forward[-1]))
    backward = [torch.zeros_like(forward[0])]
    for t in range(n_steps - 1, 0, -1):
        onward = (rows + (emissions[:, t] + backward[0]).unsqueeze(1)).logsumexp(-1)
        backward.insert(0, torch.where(lived[:, t, None], onward, backward[0]))
    total = forward[-1].logsumexp(-1)  # [N]
    states = (torch.stack(forward, 1) + torch.stack(backward, 1) - total[:, None, None]).exp() * lived.unsqueeze(-1)
    pairs = torch.zeros_like(rows)
    for t in range(1, n_steps):
        joint = forward[t - 1].unsqueeze(-1) + rows + (emissions[:, t] + backward[t]).unsqueeze(1)
        pairs = pairs + ((joint - total[:, None, None]).exp() * lived[:, t, None, None]).sum(0)
    assert states.shape == (n_chains, n_steps, len(first))
    return ChainExpectations(total.sum(), states, pairs)


def chain_step(q: Chain, prior: Chain, outcomes: Tensor, lengths: Tensor) -> tuple[Tensor, Chain]:
    """Return the bound at the best q(z), and the concentrations that are best given this q(z).

    The bound is Σ log normaliser − Σ KL, with the weights exp(E[log π]) in place of probabilities; MacKay (1997).

    Args:
        q: concentrations.
        prior: concentrations of the prior.
        outcomes: index of every outcome [N, T] where there is a table, else log likelihoods of the states [N, T, K].
        lengths: number of steps of every chain [N].
    """
    emissions = outcomes if q.table is None else expected_log(q.table).T[outcomes]
    found = forward_backward(expected_log(q.first), expected_log(q.rows), emissions, lengths)
    divergences = dirichlet_divergence(q.first, prior.first) + dirichlet_divergence(q.rows, prior.rows)
    table = None
    if q.table is not None and prior.table is not None:
        divergences = divergences + dirichlet_divergence(q.table, prior.table)
        counts = torch.zeros_like(q.table.T).index_add(0, outcomes.flatten(), found.states.flatten(0, 1))
        table = prior.table + counts.T
    after = Chain(prior.first + found.states[:, 0].sum(0), prior.rows + found.pairs, table)
    return found.log_normaliser - divergences, after
