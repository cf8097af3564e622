"""Hidden Markov models with gates beside variational EM by hand."""

import itertools

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
from tests.programs.by_hand import Chain
from tests.programs.gated_programs import ChainProgram
from tests.programs.simulated import chains

pytestmark = pytest.mark.usefixtures("without_type_checks")
N, T, K, V = 30, 8, 3, 6


def problem(
    *, has_table: bool, n_chains: int = N, n_steps: int = T, masked: bool = True
) -> tuple[Tensor, Tensor, Chain, Chain]:
    """Return outcomes [N, T], lengths [N], the prior and a start."""
    outcomes, lengths = chains(n_chains, n_steps, K, V)
    if not masked:
        lengths = torch.full_like(lengths, n_steps)
    if not has_table:
        outcomes = 0.5 * outcomes.double()
    table = torch.full((K, V), 0.5).double() if has_table else None
    prior = Chain(torch.ones(K).double(), 0.9 * torch.eye(K).double() + 0.1, table)
    torch.manual_seed(3)
    parts = [None if part is None else part + 5.0 * torch.rand_like(part) for part in prior]
    return outcomes, lengths, prior, Chain(*parts)  # type: ignore[arg-type]


def by_hand_step(program: ChainProgram, prior: Chain, q: Chain) -> tuple[Tensor, Chain]:
    """Take one step of variational EM by hand on the data of a program."""
    seen = program.log_likelihoods() if prior.table is None else program.outcomes
    return by_hand.chain_step(q, prior, seen, program.lengths)


def assert_equal(program: ChainProgram, q: Chain) -> None:
    """Compare the gates' posteriors with those by hand."""
    for gate, wanted in zip(program.gates, [part for part in q if part is not None], strict=True):
        torch.testing.assert_close(gate.posterior_concentration, wanted, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("masked", [False, True], ids=["equal lengths", "masked"])
@pytest.mark.parametrize("has_table", [False, True], ids=["known emissions", "gated emissions"])
def test_every_step_is_variational_em(has_table: bool, masked: bool) -> None:
    outcomes, lengths, prior, start = problem(has_table=has_table, masked=masked)
    program = ChainProgram(outcomes, lengths, prior, start)
    svi = program.svi()
    bounds, q = by_hand.ascend(lambda q: by_hand_step(program, prior, q), start, 15)
    losses = [svi.step() for _ in range(15)]
    assert [-loss for loss in losses] == pytest.approx(bounds, rel=1e-10)
    assert_equal(program, q)
    assert all(after <= before + 1e-9 for before, after in itertools.pairwise(losses))


@pytest.mark.parametrize("has_table", [False, True], ids=["known emissions", "gated emissions"])
def test_minibatches_of_sequences_come_within_half_a_percent(has_table: bool) -> None:
    outcomes, lengths, prior, start = problem(has_table=has_table, n_chains=100, n_steps=6)
    program = ChainProgram(outcomes, lengths, prior, start)
    if has_table:
        _, start = by_hand.ascend(lambda q: by_hand_step(program, prior, q), start, 40)
        start = start._replace(first=prior.first, rows=prior.rows + 1.0)
        program.start_at(start)
    bound, _, _ = by_hand.optimum(lambda q: by_hand_step(program, prior, q), start, tolerance=1e-7)
    svi = program.svi(step_size=lambda t: min(0.5, 20.0 / t))
    for _ in range(12):
        for rows in torch.randperm(100).split(25):
            svi.step(rows)
    assert -svi.evaluate_loss() == pytest.approx(bound, rel=5e-3)


def test_padding_is_as_if_it_were_not_there() -> None:
    outcomes, lengths, prior, start = problem(has_table=True)
    plain = ChainProgram(outcomes, lengths, prior, start)
    beyond = torch.arange(T) >= lengths.unsqueeze(-1)
    other = ChainProgram(outcomes.where(~beyond, torch.randint(V, outcomes.shape)), lengths, prior, start)
    losses = [[program.svi().step() for _ in range(4)] for program in (plain, other)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    assert_equal(other, plain.posterior)


def started_at_zero(q: Tensor, prior: Tensor, likelihoods: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Take one step of variational EM where every chain comes from state 0, as in Pyro's hmm.py."""
    rows = by_hand.expected_log(q)
    found = by_hand.forward_backward(rows[0], rows, likelihoods, lengths)
    counts = found.pairs.clone()
    counts[0] += found.states[:, 0].sum(0)
    return found.log_normaliser - by_hand.dirichlet_divergence(q, prior), prior + counts


class Tones:
    """Data of Pyro's hmm.py: which of S tones sound in each step, [N, T, S], of N sequences of different lengths."""

    def __init__(self, n_chains: int = 12, n_steps: int = 6, n_tones: int = 4) -> None:
        _, self.lengths = chains(n_chains, n_steps, K, V)
        self.tones = torch.rand(n_chains, n_steps, n_tones).double().round()
        self.probs = torch.rand(K, n_tones).double()
        self.prior = 0.9 * torch.eye(K).double() + 0.1
        self.gate = DirichletGate(K, batch_shape=(K,), concentration=self.prior, name="probs_x")
        self.start = self.prior + 2.0 * torch.rand(K, K).double()
        self.gate.posterior_concentration = self.start.clone()

    def log_likelihoods(self) -> Tensor:
        """Return log p(tones | state) [N, T, K]."""
        return dist.Bernoulli(self.probs).log_prob(self.tones.unsqueeze(-2)).sum(-1)

    def model_0(self) -> None:
        """Score one sequence after the other."""
        rows = self.gate.sample_weights(self.start)
        tones_plate = pyro.plate("tones", self.tones.shape[-1], dim=-1)
        for i in map(int, pyro.plate("sequences", len(self.tones))):
            x = torch.tensor(0)
            for t in pyro.markov(range(int(self.lengths[i]))):
                x = rows.assign(f"x_{i}_{t}", parent=x)
                with tones_plate:
                    pyro.sample(f"y_{i}_{t}", dist.Bernoulli(self.probs[x.squeeze(-1)]), obs=self.tones[i, t])

    def model_1(self) -> None:
        """Score all sequences at once, those that have ended under a mask."""
        rows = self.gate.sample_weights(self.start)
        tones_plate = pyro.plate("tones", self.tones.shape[-1], dim=-1)
        with pyro.plate("sequences", len(self.tones), dim=-2):
            x = torch.tensor(0)
            for t in pyro.markov(range(int(self.lengths.max()))):
                with poutine.mask(mask=(t < self.lengths).unsqueeze(-1)):  # type: ignore[call-overload]
                    x = rows.assign(f"x_{t}", parent=x)
                    with tones_plate:
                        pyro.sample(f"y_{t}", dist.Bernoulli(self.probs[x.squeeze(-1)]), obs=self.tones[:, t])


@pytest.mark.parametrize("name", ["model_0", "model_1"])
def test_pyros_models_of_tones_are_variational_em(name: str) -> None:
    case = Tones()
    loss = TraceEnum_ELBO(max_plate_nesting={"model_0": 1, "model_1": 2}[name])
    svi = ConjugateSVI(getattr(case, name), lambda: None, ClippedAdam({}), loss, gates=case.gate)
    q, likelihoods = case.start, case.log_likelihoods()
    for _ in range(6):
        bound, after = started_at_zero(q, case.prior, likelihoods, case.lengths)
        assert -svi.step() == pytest.approx(float(bound), rel=1e-10)
        torch.testing.assert_close(case.gate.posterior_concentration, after, rtol=1e-8, atol=1e-8)
        q = after


def test_probabilities_of_tones_are_a_gate_in_their_plate() -> None:
    """Parts are in a plate that the assignments are in too, beside the sequences, and chosen by the state."""
    case = Tones()
    n_tones = case.tones.shape[-1]
    prior = torch.tensor([0.9, 0.1]).double().expand(n_tones, K, 2)
    gate = DirichletGate(2, batch_shape=(n_tones, K), concentration=prior, name="probs_y")
    table = prior + torch.rand(n_tones, K, 2).double()
    gate.posterior_concentration = table.clone()
    tones_plate = pyro.plate("tones", n_tones, dim=-1)

    def model() -> None:
        rows = case.gate.sample_weights(case.start)
        with tones_plate:
            tones = gate.sample_weights(case.start)
        with pyro.plate("sequences", len(case.tones), dim=-2):
            x = torch.tensor(0)
            for t in pyro.markov(range(int(case.lengths.max()))):
                with poutine.mask(mask=(t < case.lengths).unsqueeze(-1)):  # type: ignore[call-overload]
                    x = rows.assign(f"x_{t}", parent=x)
                    with tones_plate:
                        tones.assign(f"y_{t}", parent=x, observed=case.tones[:, t].long())

    svi = ConjugateSVI(
        model, lambda: None, ClippedAdam({}), TraceEnum_ELBO(max_plate_nesting=2), gates=[case.gate, gate]
    )
    q, sounds = case.start, torch.stack([1.0 - case.tones, case.tones], -1)  # [N, T, S, 2]
    for _ in range(6):
        likelihoods = torch.einsum("ntsv,skv->ntk", sounds, by_hand.expected_log(table))
        rows = by_hand.expected_log(q)
        states = by_hand.forward_backward(rows[0], rows, likelihoods, case.lengths).states
        bound, q = started_at_zero(q, case.prior, likelihoods, case.lengths)
        bound = bound - by_hand.dirichlet_divergence(table, prior)
        table = prior + torch.einsum("ntk,ntsv->skv", states, sounds)
        assert -svi.step() == pytest.approx(float(bound), rel=1e-10)
        torch.testing.assert_close(case.gate.posterior_concentration, q, rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(gate.posterior_concentration, table, rtol=1e-8, atol=1e-8)
