"""Pyro's examples of topic models and hidden Markov models, with gates for every table of weights."""

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO
from pyro.optim import ClippedAdam
from torch import Tensor

from mixpyro import ConjugateSVI, DirichletGate
from tests.programs.by_hand import Chain, Topics


class TopicProgram:
    """Latent Dirichlet allocation; the words of a document are padded to the longest one.

    Args:
        words: index of the word of every token [W, D].
        known: false for padding [W, D].
        prior: concentrations, those of every document and of every topic being equal.
        start: concentrations that the gates have at first.
        document_dim: axis of the documents, −1 as in Pyro's example, or −2; the tokens have the other one.
        dtype: of the log weights in the program.
        mask_topics: whether the mask of padding is around the topics of tokens too, or around their words only.
    """

    def __init__(
        self,
        words: Tensor,
        known: Tensor,
        prior: Topics,
        start: Topics | None = None,
        *,
        document_dim: int = -1,
        dtype: torch.dtype = torch.float64,
        mask_topics: bool = False,
    ) -> None:
        self.words, self.known, self.dtype = words, known, dtype
        self.document_dim, self.mask_topics = document_dim, mask_topics
        (self.n_documents, n_topics), vocabulary = prior.documents.shape, prior.words.shape[-1]
        self.documents = DirichletGate(
            n_topics, batch_shape=(self.n_documents,), concentration=prior.documents[0], name="documents"
        )
        self.topics = DirichletGate(vocabulary, batch_shape=(n_topics,), concentration=prior.words[0], name="topics")
        if start is not None:
            self.start_at(start)

    @property
    def posterior(self) -> Topics:
        """Concentrations of q that the gates have."""
        return Topics(self.documents.posterior_concentration.clone(), self.topics.posterior_concentration.clone())

    def start_at(self, start: Topics) -> None:
        """Put concentrations into the gates."""
        self.documents.posterior_concentration = start.documents.clone()
        self.topics.posterior_concentration = start.words.clone()

    def model(self, rows: Tensor | None = None) -> None:
        """Score the words of some documents, or of all: the Pyro model."""
        like = self.documents.posterior_concentration.to(self.dtype)
        topics = self.topics.sample_weights(like)
        documents = pyro.plate("in_documents", self.n_documents, subsample=rows, dim=self.document_dim)
        tokens = pyro.plate("tokens", len(self.words), dim=-3 - self.document_dim)
        with documents as batch:
            words, known = self.words[:, batch], self.known[:, batch]
            if self.document_dim == -2:
                words, known = words.T, known.T
            if self.mask_topics:
                weights = self.documents.sample_weights(like)
                with tokens, poutine.mask(mask=known):  # type: ignore[call-overload]
                    z = weights.assign("topic_of_words")
                    topics.assign("words", parent=z, observed=words)
            else:
                z = self.documents.model(like.new_zeros(len(self.words), 0), plate=tokens)
                with tokens, poutine.mask(mask=known):  # type: ignore[call-overload]
                    topics.assign("words", parent=z, observed=words)

    def guide(self, rows: Tensor | None = None) -> None:
        """Sample nothing: everything latent has a gate."""

    def svi(self, **arguments: Any) -> ConjugateSVI:
        """Make the SVI of this program."""
        loss, gates = TraceEnum_ELBO(max_plate_nesting=2), [self.documents, self.topics]
        return ConjugateSVI(self.model, self.guide, ClippedAdam({"lr": 0.01}), loss, gates=gates, **arguments)


class ChainProgram:
    """A hidden Markov model of sequences of different lengths.

    Args:
        outcomes: index of every outcome [N, T] where the prior has a table; else numbers [N, T], which are Normal
            around the number of the state.
        lengths: of the sequences [N].
        prior: concentrations.
        start: concentrations that the gates have at first.
    """

    def __init__(self, outcomes: Tensor, lengths: Tensor, prior: Chain, start: Chain | None = None) -> None:
        self.outcomes, self.lengths = outcomes, lengths
        k = len(prior.first)
        self.initial = DirichletGate(k, concentration=prior.first, name="initial")
        self.transition = DirichletGate(k, batch_shape=(k,), concentration=prior.rows, name="transition")
        self.gates = [self.initial, self.transition]
        if prior.table is not None:
            v = prior.table.shape[-1]
            self.gates.append(DirichletGate(v, batch_shape=(k,), concentration=prior.table, name="emission"))
        if start is not None:
            self.start_at(start)

    @property
    def posterior(self) -> Chain:
        """Concentrations of q that the gates have."""
        return Chain(*(gate.posterior_concentration.clone() for gate in self.gates))

    def start_at(self, start: Chain) -> None:
        """Put concentrations into the gates."""
        for gate, concentration in zip(self.gates, [part for part in start if part is not None], strict=True):
            gate.posterior_concentration = concentration.clone()

    def log_likelihoods(self) -> Tensor:
        """Return log p(y | z) [N, T, K] of outcomes that are numbers."""
        means = torch.arange(self.initial.n_components).double()
        return dist.Normal(means, 1.0).log_prob(self.outcomes.unsqueeze(-1))

    def model(self, rows: Tensor | None = None) -> None:
        """Score some sequences, or all: the Pyro model."""
        like = self.initial.posterior_concentration
        first, *tables = [gate.sample_weights(like) for gate in self.gates]
        means = torch.arange(self.initial.n_components).double()
        with pyro.plate("sequences", len(self.outcomes), subsample=rows, dim=-1) as batch:
            y, lengths = self.outcomes[batch], self.lengths[batch]
            z = torch.tensor(0)  # replaced by the first state
            for t in pyro.markov(range(int(lengths.max()))):
                with poutine.mask(mask=t < lengths):  # type: ignore[call-overload]
                    z = tables[0].assign(f"z_{t}", parent=z) if t else first.assign("z_0")
                    if len(tables) > 1:
                        tables[1].assign(f"y_{t}", parent=z, observed=y[:, t])
                    else:
                        pyro.sample(f"y_{t}", dist.Normal(means[z], 1.0), obs=y[:, t])

    def guide(self, rows: Tensor | None = None) -> None:
        """Sample nothing: everything latent has a gate."""

    def svi(self, **arguments: Any) -> ConjugateSVI:
        """Make the SVI of this program."""
        loss = TraceEnum_ELBO(max_plate_nesting=1)
        return ConjugateSVI(self.model, self.guide, ClippedAdam({"lr": 0.01}), loss, gates=self.gates, **arguments)
