"""What does Pyro's topic model gain from gates?

Question: ``examples/lda.py`` of Pyro has a Dirichlet over topics for each document and a Dirichlet over words for each
topic. What changes when both become gates? A ``DirichletGate`` with a ``batch_shape`` holds a posterior for each
document, or for each topic. A topic is the parent of a word, and words are assignments that are observed.

Data: simulated documents of equal length, as in Pyro's example; their words follow the model.

Expected answer: TODO

"mean field" is the bound with q(z) q(θ) q(φ) in nats, computed exactly at the posterior that a program has: compare
these. "own" is the loss of the last step with its sign changed. Plain SVI's is another bound, with the topics of words
summed out given sampled weights: higher at the same posterior, and noisy. That of batches is noisy too.

Source of the method: Hoffman, Blei, Wang, Paisley (2013), Stochastic variational inference.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, TraceEnum_ELBO
from pyro.optim import ClippedAdam
from torch import Tensor

from mixpyro import ConjugateSVI, DirichletGate

TOPICS_IN_DOCUMENT, WORDS_IN_TOPIC = 0.3, 0.1  # concentrations of the priors
ADAM = {"lr": 0.05, "lrd": 0.999, "clip_norm": 1e6}  # a lower clip_norm would average noisy gradients to zero
POSITIVE = dist.constraints.positive


class TopicModel:
    """Pyro's topic model with and without gates, from one start.

    Args:
        args: sizes.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.words, self.batch_size = simulate(args), args.batch_size
        (_, self.n_documents), k, v = self.words.shape, args.topics, args.vocabulary
        self.doc_topics = DirichletGate(
            k, batch_shape=(self.n_documents,), concentration=TOPICS_IN_DOCUMENT, name="doc_topics"
        )
        self.topic_words = DirichletGate(v, batch_shape=(k,), concentration=WORDS_IN_TOPIC, name="topic_words")
        self.gates = {"doc_topics": self.doc_topics, "topic_words": self.topic_words}
        self.start = self.new_start()

    def new_start(self) -> dict[str, Tensor]:
        """Return concentrations of q with nearly equal topics, as Hoffman et al. start."""
        tokens = self.doc_topics.prior_concentration + len(self.words) / self.doc_topics.n_components
        nearly_equal = dist.Gamma(100.0, 100.0).sample(self.topic_words.prior_concentration.shape)
        return {"doc_topics": tokens, "topic_words": nearly_equal.double()}

    def bound_from(self, start: dict[str, Tensor], n_steps: int) -> float:
        """Return the bound that gates reach from a start."""
        self.hold(start)
        svi = self.conjugate_svi()
        return max(-svi.step() for _ in range(n_steps))

    def hold(self, concentrations: dict[str, Tensor]) -> None:
        """Put concentrations of q into the gates."""
        for name, gate in self.gates.items():
            gate.posterior_concentration = concentrations[name].detach().clone()

    def gated(self, batch_size: int | None = None) -> None:
        """Score the words of all documents, or of some: the model with gates, which needs no guide."""
        topics = self.topic_words.sample_weights(torch.empty(0).double())
        words_plate = pyro.plate("words", len(self.words), dim=-2)
        with pyro.plate("documents", self.n_documents, batch_size, dim=-1) as batch:
            z = self.doc_topics.model(torch.empty(len(self.words), 0).double(), plate=words_plate)
            with words_plate:
                topics.assign("doc_words", parent=z, observed=self.words[:, batch])

    def conjugate_svi(self, **arguments: Any) -> ConjugateSVI:  # noqa: ANN401
        """Make an SVI that updates both gates in closed form."""
        elbo, gates = TraceEnum_ELBO(max_plate_nesting=2), list(self.gates.values())
        return ConjugateSVI(self.gated, lambda *_: None, ClippedAdam(ADAM), elbo, gates=gates, **arguments)

    def plain(self) -> None:
        """Score the words of all documents: the model as Pyro's example has it."""
        with pyro.plate("topics", self.topic_words.batch_shape[0]):
            topic_words = pyro.sample("topic_words", dist.Dirichlet(self.topic_words.prior_concentration[0]))
        with pyro.plate("documents", self.n_documents):
            doc_topics = pyro.sample("doc_topics", dist.Dirichlet(self.doc_topics.prior_concentration[0]))
            with pyro.plate("words", len(self.words)):
                z = pyro.sample("word_topics", dist.Categorical(doc_topics), infer={"enumerate": "parallel"})
                pyro.sample("doc_words", dist.Categorical(topic_words[z]), obs=self.words)

    def guide(self) -> None:
        """Sample the weights of the plain model from Dirichlets whose concentrations are parameters."""
        for name, plate in (("topic_words", "topics"), ("doc_topics", "documents")):
            with pyro.plate(plate, len(self.start[name])):
                pyro.sample(
                    name, dist.Dirichlet(pyro.param(f"{name}_posterior", self.start[name], constraint=POSITIVE))
                )

    def show_plain(self) -> None:
        """Put the plain guide's concentrations into the gates, to compute the same bound."""
        self.hold({name: pyro.param(f"{name}_posterior") for name in self.start})


def main(args: argparse.Namespace) -> None:
    """Train all programs from one start, and print their bounds and seconds."""
    torch.manual_seed(args.seed)
    topics = TopicModel(args)
    started = time.perf_counter()
    starts = [topics.new_start() for _ in range(args.starts)]
    bounds = [topics.bound_from(start, args.steps) for start in starts]
    topics.start = starts[bounds.index(max(bounds))]
    shown = ", ".join(f"{bound:.1f}" for bound in sorted(bounds, reverse=True))
    print(f"bounds of gates from {args.starts} starts, {time.perf_counter() - started:.1f} seconds: {shown}")
    print(f"{'program':<16}{'steps':>7}{'seconds':>9}{'mean field':>14}{'own':>14}")
    topics.hold(topics.start)
    svi = topics.conjugate_svi()
    train("gates", topics, svi.step, args.steps)
    for component, concentration in enumerate(topics.topic_words.posterior_concentration):
        best = ", ".join(str(word) for word in concentration.topk(8).indices.tolist())
        print(f"component {component} has the words {best}")
    topics.hold(topics.start)
    batches = topics.conjugate_svi(step_size=lambda step: min(0.5, 30.0 / step))
    n_batches = args.steps * topics.n_documents // args.batch_size
    train("gates, batches", topics, lambda: batches.step(args.batch_size), n_batches)
    plain = SVI(topics.plain, topics.guide, ClippedAdam(ADAM), TraceEnum_ELBO(max_plate_nesting=2))
    train("plain SVI", topics, plain.step, 10 * args.steps, topics.show_plain)


def train(
    title: str, topics: TopicModel, step: Callable[[], float], n_steps: int, show: Callable[[], None] = lambda: None
) -> None:
    """Take steps, and print the bounds and the seconds of the steps five times."""
    seconds, evaluate = 0.0, topics.conjugate_svi().evaluate_loss
    for n in range(1, n_steps + 1):
        started = time.perf_counter()
        loss = step()
        seconds += time.perf_counter() - started
        if n % max(1, n_steps // 5) == 0:
            show()
            print(f"{title:<16}{n:>7}{seconds:>9.1f}{-evaluate():>14.1f}{-loss:>14.1f}")


def simulate(args: argparse.Namespace) -> Tensor:
    """Return the index of every word [words, documents]."""
    topics = dist.Dirichlet(torch.full((args.topics, args.vocabulary), WORDS_IN_TOPIC).double()).sample()
    shares = dist.Dirichlet(torch.full((args.documents, args.topics), TOPICS_IN_DOCUMENT).double()).sample()
    words: Tensor = dist.Categorical(topics[dist.Categorical(shares).sample((args.words,))]).sample()
    return words


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("documents", 100), ("words", 50), ("topics", 5), ("vocabulary", 100), ("batch-size", 25)):
        parser.add_argument(f"--{name}", type=int, default=default, help="size of the data or of a batch")
    parser.add_argument("--starts", type=int, default=4, help="starts of the gates; all programs go on from the best")
    parser.add_argument("--steps", type=int, default=100, help="steps on all data, or passes in batches, at least five")
    parser.add_argument("--seed", type=int, default=0, help="seed of all random numbers")
    torch.set_num_threads(1)
    main(parser.parse_args())
