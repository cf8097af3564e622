"""What does Pyro's topic model gain from gates?

Question: ``examples/lda.py`` of Pyro has a Dirichlet over topics for each document and a Dirichlet over words for each
topic. What changes when both become gates? A ``DirichletGate`` with a batch shape holds a posterior for each document,
or for each topic; words are assignments that are observed, their weights chosen by the topic.

Data: simulated documents, so that everybody may have them. As in Pyro's example all documents have the same number of
words. The Dirichlet over topics is known here, because it is no mixture's weight.

Expected answer: EXPECTED

Three figures are printed, in nats for all documents. "mean field" is the bound with q(z) q(θ) q(φ), evaluated exactly at
the posterior of either program: compare these. "own" is the bound that plain SVI estimates, with the assignments summed
out given sampled weights; it is higher than the mean-field bound of the same posterior, and noisy.

Source of the method: Hoffman, Blei, Bach (2010), Online learning for latent Dirichlet allocation.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, TraceEnum_ELBO
from pyro.optim import ClippedAdam
from torch import Tensor

from mixpyro import ConjugateSVI, DirichletGate

TOPICS_IN_DOCUMENTS, WORDS_IN_TOPICS = 0.3, 0.1  # concentrations of the priors
ADAM = {"lr": 0.05, "lrd": 0.999, "clip_norm": 1e6}  # a lower clip_norm would average noisy gradients to zero


def main(args: argparse.Namespace) -> None:
    """Train all programs from one start, and print their bounds and seconds."""
    torch.manual_seed(args.seed)
    words = simulate(args)
    start = {
        "doc_topics": torch.full((args.documents, args.topics), TOPICS_IN_DOCUMENTS + args.words / args.topics).double(),
        "topic_words": WORDS_IN_TOPICS + 100.0 * torch.rand(args.topics, args.vocabulary).double() / args.vocabulary,
    }
    gated = WithGates(args, start)
    print(f"{'program':<22}{'steps':>7}{'seconds':>9}{'mean field':>14}{'own':>14}   words of each component")
    report(gated, "gates", gated.all_documents(words, args.steps), words)
    gated.start_at(start)
    report(gated, "gates, batches", gated.batches(words, args.steps), words)
    pyro.clear_param_store()
    report(gated, "plain SVI", plain(gated, words, start, 10 * args.steps), words)


def simulate(args: argparse.Namespace) -> Tensor:
    """Return the index of every word [words, documents]."""
    topics = dist.Dirichlet(torch.full((args.topics, args.vocabulary), WORDS_IN_TOPICS).double()).sample()
    shares = dist.Dirichlet(torch.full((args.documents, args.topics), TOPICS_IN_DOCUMENTS).double()).sample()
    return dist.Categorical(topics[dist.Categorical(shares).sample((args.words,))]).sample()


class WithGates:
    """Pyro's topic model with two gates; it needs no guide."""

    def __init__(self, args: argparse.Namespace, start: dict[str, Tensor]) -> None:
        self.size, self.batch_size = args.documents, args.batch_size
        self.doc_topics = DirichletGate(
            args.topics, batch_shape=(args.documents,), concentration=TOPICS_IN_DOCUMENTS, name="doc_topics"
        )
        self.topic_words = DirichletGate(
            args.vocabulary, batch_shape=(args.topics,), concentration=WORDS_IN_TOPICS, name="topic_words"
        )
        self.start_at(start)

    def start_at(self, concentrations: dict[str, Tensor]) -> None:
        """Put posterior concentrations into the gates."""
        self.doc_topics.posterior_concentration = concentrations["doc_topics"].detach().clone()
        self.topic_words.posterior_concentration = concentrations["topic_words"].detach().clone()

    def model(self, words: Tensor, batch_size: int | None = None) -> None:
        """Score the words of all documents, or of some that are drawn."""
        topics = self.topic_words.sample_weights(torch.empty(0).double())
        with pyro.plate("documents", self.size, batch_size, dim=-1) as batch:
            plate = pyro.plate("words", len(words), dim=-2)
            word_topics = self.doc_topics.model(torch.zeros(len(words), len(batch), 0).double(), plate=plate)
            with plate:
                topics.assign("doc_words", parent=word_topics, observed=words[:, batch])

    def svi(self) -> ConjugateSVI:
        """Make an SVI that updates both gates in closed form."""
        elbo = TraceEnum_ELBO(max_plate_nesting=2)
        gates = [self.doc_topics, self.topic_words]
        return ConjugateSVI(self.model, lambda *_: None, ClippedAdam(ADAM), elbo, gates=gates)

    def all_documents(self, words: Tensor, n_steps: int) -> Iterator[float]:
        """Take steps on all documents; yield the bound that each step has computed."""
        svi = self.svi()
        for _ in range(n_steps):
            yield -svi.step(words)

    def batches(self, words: Tensor, n_passes: int) -> Iterator[float]:
        """Take steps on some documents each; yield the noisy bound of each step."""
        svi = self.svi()
        for _ in range(n_passes * self.size // self.batch_size):
            yield -svi.step(words, self.batch_size)

    def bound(self, words: Tensor) -> float:
        """Return the mean-field bound in nats."""
        return -self.svi().evaluate_loss(words)


def plain(gated: WithGates, words: Tensor, start: dict[str, Tensor], n_steps: int) -> Iterator[float]:
    """Train the same model without gates; yield its own noisy bounds, its posterior being shown to the gates."""
    positive = dist.constraints.positive

    def model(words: Tensor) -> None:
        with pyro.plate("topics", len(start["topic_words"])):
            topic_words = pyro.sample("topic_words", dist.Dirichlet(gated.topic_words.prior_concentration))
        with pyro.plate("documents", words.shape[1]):
            doc_topics = pyro.sample("doc_topics", dist.Dirichlet(gated.doc_topics.prior_concentration))
            with pyro.plate("words", len(words)):
                z = pyro.sample("word_topics", dist.Categorical(doc_topics), infer={"enumerate": "parallel"})
                pyro.sample("doc_words", dist.Categorical(topic_words[z]), obs=words)

    def guide(words: Tensor) -> None:
        for name, plate in (("topic_words", "topics"), ("doc_topics", "documents")):
            with pyro.plate(plate, len(start[name])):
                pyro.sample(name, dist.Dirichlet(pyro.param(f"{name}_posterior", start[name], constraint=positive)))

    svi = SVI(model, guide, ClippedAdam(ADAM), TraceEnum_ELBO(max_plate_nesting=2))
    for _ in range(n_steps):
        yield -svi.step(words)
        gated.start_at({name: pyro.param(f"{name}_posterior") for name in start})
