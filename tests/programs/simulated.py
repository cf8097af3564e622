"""Simulated documents and sequences, as Pyro's examples of topic models and hidden Markov models have them."""

import torch
from torch import Tensor
from torch.distributions import Categorical, Dirichlet


def documents(
    n_documents: int, n_words: int, n_topics: int, vocabulary: int, *, padded: bool = False, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Return the word of every token [W, D] and whether the token exists [W, D].

    Args:
        n_documents: D.
        n_words: W, tokens of the longest document.
        n_topics: K, drawn from Dirichlet(0.1); the topics of a document are drawn from Dirichlet(0.3).
        vocabulary: V.
        padded: documents have from W / 2 to W tokens instead of W each; padding is word 0.
        seed: of all draws; the state of the global generator is unchanged.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        topics = Dirichlet(torch.full((n_topics, vocabulary), 0.1).double()).sample()
        shares = Dirichlet(torch.full((n_documents, n_topics), 0.3).double()).sample()
        words = Categorical(topics[Categorical(shares).sample((n_words,))]).sample()
        lengths = torch.randint(n_words // 2, n_words + 1, (n_documents,)) if padded else torch.tensor(n_words)
    known = (torch.arange(n_words).unsqueeze(-1) < lengths).expand(n_words, n_documents)
    return words.where(known, 0), known


def chains(n_chains: int, n_steps: int, n_states: int, n_outcomes: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return outcomes [N, T] of hidden Markov chains and the length [N] of each, from T / 2 to T; padding is 0.

    Args:
        n_chains: N.
        n_steps: T, at least two.
        n_states: K; a state stays with probability 0.7 or more.
        n_outcomes: V, drawn from a table of Dirichlet(0.5).
        seed: of all draws; the state of the global generator is unchanged.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        rows = 0.7 * torch.eye(n_states).double() + 0.3 * Dirichlet(torch.ones(n_states, n_states).double()).sample()
        table = Dirichlet(torch.full((n_states, n_outcomes), 0.5).double()).sample()
        states = [torch.randint(n_states, (n_chains,))]
        for _ in range(1, n_steps):
            states.append(Categorical(rows[states[-1]]).sample())
        outcomes = Categorical(table[torch.stack(states, 1)]).sample()
        lengths = torch.randint(n_steps // 2, n_steps + 1, (n_chains,))
    return outcomes.where(torch.arange(n_steps) < lengths.unsqueeze(-1), 0), lengths
