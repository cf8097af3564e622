"""Topic models with gates beside coordinate ascent by hand."""

import itertools
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO
from pyro.optim import ClippedAdam
from torch import Tensor

from mixpyro import ConjugateSVI, DirichletGate
from tests.programs import by_hand
from tests.programs.by_hand import Topics
from tests.programs.gated_programs import TopicProgram
from tests.programs.simulated import documents

pytestmark = pytest.mark.usefixtures("without_type_checks")
D, W, K, V = 40, 30, 3, 25


def problem(*, padded: bool, n_documents: int = D) -> tuple[Tensor, Tensor, Topics, Topics]:
    """Return words and known [W, D], the prior and a start."""
    words, known = documents(n_documents, W, K, V, padded=padded)
    prior = Topics(torch.full((n_documents, K), 0.3).double(), torch.full((K, V), 0.1).double())
    torch.manual_seed(3)
    start = Topics(prior.documents + W / K, prior.words + dist.Dirichlet(torch.ones(K, V).double()).sample() * W)
    return words, known, prior, start


def stepping(words: Tensor, known: Tensor, prior: Topics) -> Callable[[Topics], tuple[Tensor, Topics]]:
    """Return one step of coordinate ascent by hand."""
    return lambda q: by_hand.topic_step(q, prior, words, known)


def assert_equal(program: TopicProgram, q: Topics, **tolerances: Any) -> None:
    """Compare the gates' posteriors with those by hand."""
    for found, wanted in zip(program.posterior, q, strict=True):
        torch.testing.assert_close(found, wanted, **tolerances)


@pytest.mark.parametrize("document_dim", [-1, -2])
@pytest.mark.parametrize(
    ("padded", "mask_topics"), [(False, False), (True, False), (True, True)], ids=["whole", "padded", "all masked"]
)
def test_every_step_is_coordinate_ascent(padded: bool, mask_topics: bool, document_dim: int) -> None:
    words, known, prior, start = problem(padded=padded)
    program = TopicProgram(words, known, prior, start, document_dim=document_dim, mask_topics=mask_topics)
    svi = program.svi()
    bounds, q = by_hand.ascend(stepping(words, known, prior), start, 25)
    losses = [svi.step() for _ in range(25)]
    assert [-loss for loss in losses] == pytest.approx(bounds, rel=1e-10)
    assert_equal(program, q, rtol=1e-8, atol=1e-8)
    assert all(after <= before + 1e-9 for before, after in itertools.pairwise(losses))


def test_it_is_coordinate_ascent_in_float32() -> None:
    words, known, prior, start = problem(padded=True)
    program = TopicProgram(words, known, prior, start, dtype=torch.float32)
    svi = program.svi()
    bounds, q = by_hand.ascend(stepping(words, known, prior), start, 10)
    assert [-svi.step() for _ in range(10)] == pytest.approx(bounds, rel=1e-5)
    assert_equal(program, q, rtol=1e-3, atol=1e-3)


def test_it_ends_where_coordinate_ascent_ends() -> None:
    words, known, prior, start = problem(padded=True)
    bound, _, n_steps = by_hand.optimum(stepping(words, known, prior), start, tolerance=1e-7)
    svi = TopicProgram(words, known, prior, start).svi()
    for _ in range(n_steps):
        loss = svi.step()
    assert -loss == pytest.approx(bound, rel=1e-8)


@pytest.mark.parametrize("padded", [False, True], ids=["whole", "padded"])
def test_minibatches_of_documents_come_within_half_a_percent(padded: bool) -> None:
    words, known, prior, start = problem(padded=padded, n_documents=120)
    step = stepping(words, known, prior)
    _, ahead = by_hand.ascend(step, start, 8)  # beyond the saddle point of equal topics, which one optimum is near
    start = Topics(start.documents, ahead.words)
    bound, _, _ = by_hand.optimum(step, start, tolerance=1e-7)
    program = TopicProgram(words, known, prior, start)
    svi = program.svi(step_size=lambda t: min(0.5, 10.0 / t))
    assert -svi.evaluate_loss() < 1.05 * bound
    for _ in range(15):
        for rows in torch.randperm(120).split(30):
            svi.step(rows)
    assert -svi.evaluate_loss() == pytest.approx(bound, rel=5e-3)
    # By hand too: the bound that the program reports is that of the posteriors that it has.
    by_hand_bound, _ = by_hand.topic_step(program.posterior, prior, words, known)
    assert -svi.evaluate_loss() == pytest.approx(float(by_hand_bound), rel=1e-10)


def test_only_the_documents_of_a_batch_move_and_by_full_steps() -> None:
    words, known, prior, start = problem(padded=True)
    program, rows = TopicProgram(words, known, prior, start), torch.tensor([31, 2, 17])
    program.svi(step_size=0.25).step(rows)
    _, q = by_hand.topic_step(start, prior, words, known)
    seen = by_hand.topic_step(
        Topics(start.documents[rows], start.words),
        Topics(prior.documents[rows], prior.words),
        words[:, rows],
        known[:, rows],
    )[1]
    found = program.posterior
    torch.testing.assert_close(found.documents[rows], q.documents[rows])
    untouched = torch.ones(D, dtype=torch.bool).index_fill(0, rows, False)
    assert torch.equal(found.documents[untouched], start.documents[untouched])
    statistics = (seen.words - prior.words) * D / len(rows)
    torch.testing.assert_close(found.words, torch.lerp(start.words, prior.words + statistics, 0.25))


def test_the_loss_of_a_batch_is_unbiased() -> None:
    """Its mean over a partition is the loss of all documents."""
    words, known, prior, start = problem(padded=True)
    svi = TopicProgram(words, known, prior, start).svi()
    parts = [svi.evaluate_loss(rows) for rows in torch.randperm(D).split(10)]
    assert sum(parts) / len(parts) == pytest.approx(svi.evaluate_loss(), rel=1e-10)


def test_padding_is_as_if_it_were_not_there() -> None:
    """Other words in the padding change nothing, and more padding neither."""
    words, known, prior, start = problem(padded=True)
    plain = TopicProgram(words, known, prior, start)
    garbage = words.where(known, torch.randint(V, words.shape))
    longer = torch.cat([garbage, torch.randint(V, (5, D))]), torch.cat([known, torch.zeros(5, D, dtype=torch.bool)])
    other = TopicProgram(*longer, prior, start)
    losses = [[program.svi().step() for _ in range(5)] for program in (plain, other)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    assert_equal(other, plain.posterior)


def test_a_document_without_words_has_its_prior() -> None:
    words, known, prior, start = problem(padded=True)
    known = known.clone()
    known[:, 4] = False
    program = TopicProgram(words, known, prior, start)
    program.svi().step()
    torch.testing.assert_close(program.posterior.documents[4], prior.documents[4])


def test_topics_by_gradient_beside_gated_documents() -> None:
    """The documents' weights are as by hand with E[log φ] replaced by log φ, where Adam leaves φ as it is."""
    words, known, prior, start = problem(padded=True)
    program = TopicProgram(words, known, prior, start)
    gate, like = program.documents, start.documents
    topics = start.words / start.words.sum(-1, keepdim=True)

    def model() -> None:
        phi = pyro.param("phi", topics, constraint=dist.constraints.simplex)
        plate = pyro.plate("tokens", W, dim=-2)
        with pyro.plate("in_documents", D, dim=-1):
            z = gate.model(like.new_zeros(W, 0), plate=plate)
            with plate, poutine.mask(mask=known):  # type: ignore[call-overload]
                pyro.sample("words", dist.Categorical(phi[z]), obs=words)

    svi = ConjugateSVI(model, lambda: None, ClippedAdam({"lr": 0.0}), TraceEnum_ELBO(max_plate_nesting=2), gates=gate)
    losses = [svi.step() for _ in range(8)]
    concentration = start.documents
    for loss in losses:
        log_topics = by_hand.expected_log(concentration)
        log_joint = log_topics + topics.log().T[words]
        bound = (log_joint.logsumexp(-1) * known).sum() - by_hand.dirichlet_divergence(concentration, prior.documents)
        assert -loss == pytest.approx(float(bound), rel=1e-10)
        concentration = prior.documents + (log_joint.softmax(-1) * known.unsqueeze(-1)).sum(0)
    torch.testing.assert_close(gate.posterior_concentration, concentration)
    trained = ConjugateSVI(
        model, lambda: None, ClippedAdam({"lr": 0.05}), TraceEnum_ELBO(max_plate_nesting=2), gates=gate
    )
    for _ in range(30):
        trained.step()
    assert trained.evaluate_loss() < losses[-1] - 10.0


def test_a_gate_of_documents_has_a_row_for_each() -> None:
    gate = DirichletGate(K, batch_shape=(D,), concentration=0.3)
    assert gate.posterior_concentration.shape == (D, K)
