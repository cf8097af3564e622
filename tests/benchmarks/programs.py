"""Time gates in Pyro programs: topic models, hidden Markov models, and one step of a mixture.

Run as ``python -m tests.benchmarks.programs``; two minutes on one core. Programs with gates are those of
tests/programs/gated_programs.py. The plain ones sample the weights from Dirichlets whose concentrations Adam trains,
from the same start. All bounds are the mean-field bound, evaluated exactly, and the target is coordinate ascent by hand
in plain PyTorch (tests/programs/by_hand.py). Seconds are those of the steps, without the evaluations.
"""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import SVI, TraceEnum_ELBO
from pyro.ops.indexing import Vindex
from pyro.optim import ClippedAdam
from torch import Tensor

from mixpyro import ConjugateSVI, DirichletGate
from tests.programs import by_hand
from tests.programs.by_hand import Chain, Topics
from tests.programs.gated_programs import ChainProgram, TopicProgram
from tests.programs.simulated import chains, documents

# Norm beyond which gradients are clipped: at the default of 10 noisy gradients of sampled weights average to zero.
ADAM = {"lr": 0.05, "lrd": 0.999, "clip_norm": 1e12}
ENUMERATED: Any = {"enumerate": "parallel"}
POSITIVE = dist.constraints.positive


def run_until(
    title: str,
    step: Callable[[], Any],
    bound: Callable[[], float],
    target: float,
    within: float,
    *,
    every: int,
    most: float,
) -> None:
    """Take steps until a bound is within a relative distance of the target or time is over, and print a line.

    Args:
        title: of the line.
        step: takes one step.
        bound: computes the bound in nats.
        target: bound to reach.
        within: distance that counts as reached, relative to the target.
        every: number of steps between evaluations.
        most: seconds after which to stop.
    """
    seconds, n, gap = 0.0, 0, math.inf
    while seconds < most and gap > within:
        started = time.perf_counter()
        for _ in range(every):
            step()
        seconds += time.perf_counter() - started
        n += every
        gap = (target - bound()) / abs(target)
    reached = "" if gap <= within else f"not within {within:.2%}: "
    print(f"{title:<34}{n:>7}{seconds:>9.2f}{1e3 * seconds / n:>10.1f}   {reached}{gap:+.4%} from the target")


def concentration(name: str, start: Tensor) -> Tensor:
    """Return a parameter that starts at a concentration."""
    q: Tensor = pyro.param(f"q.{name}", lambda: start.clone(), constraint=POSITIVE)
    return q


def topics(
    n_documents: int = 200, n_words: int = 100, n_topics: int = 10, vocabulary: int = 500, *, most: float = 25.0
) -> None:
    """Print the steps and seconds of topic models.

    Args:
        n_documents: D.
        n_words: tokens of a document.
        n_topics: K.
        vocabulary: V.
        most: seconds of each method.
    """
    words, known = documents(n_documents, n_words, n_topics, vocabulary)
    alpha, eta = torch.full((n_documents, n_topics), 0.3).double(), torch.full((n_topics, vocabulary), 0.1).double()
    prior = Topics(alpha, eta)
    start = Topics(alpha + n_words / n_topics, dist.Gamma(100.0, 100.0).sample(eta.shape).double())
    started = time.perf_counter()
    best, _, n_steps = by_hand.optimum(lambda q: by_hand.topic_step(q, prior, words, known), start, tolerance=1e-6)
    print_target(
        f"{n_documents} documents of {n_words} words, K = {n_topics}, V = {vocabulary}", best, n_steps, started
    )
    program = TopicProgram(words, known, prior, start)
    svi = program.svi()
    run_until("gates", svi.step, lambda: -svi.evaluate_loss(), best, 1e-4, every=5, most=most)
    program.start_at(start)
    batches = program.svi(step_size=lambda step: min(0.2, 40.0 / step))
    size = n_documents // 4
    one = lambda: batches.step(torch.randperm(n_documents)[:size])  # noqa: E731
    run_until(f"gates, {size} documents a step", one, lambda: -svi.evaluate_loss(), best, 5e-3, every=4, most=most)

    def model() -> None:
        phi = pyro.sample("phi", dist.Dirichlet(eta).to_event(1))
        with pyro.plate("in_documents", n_documents, dim=-1):
            theta = pyro.sample("theta", dist.Dirichlet(alpha))
            with pyro.plate("tokens", n_words, dim=-2):
                z = pyro.sample("z", dist.Categorical(theta), infer=ENUMERATED)
                # Not Categorical(phi[z]): its gradient has K numbers for every token and word of the vocabulary.
                pyro.factor("words", Vindex(phi.log())[z, words])

    def guide() -> None:
        pyro.sample("phi", dist.Dirichlet(concentration("phi", start.words)).to_event(1))
        with pyro.plate("in_documents", n_documents, dim=-1):
            pyro.sample("theta", dist.Dirichlet(concentration("theta", start.documents)))

    def bound() -> float:
        program.start_at(Topics(pyro.param("q.theta").detach(), pyro.param("q.phi").detach()))
        return -svi.evaluate_loss()

    pyro.clear_param_store()
    plain = SVI(model, guide, ClippedAdam(ADAM), TraceEnum_ELBO(max_plate_nesting=2))
    run_until("plain SVI", plain.step, bound, best, 1e-4, every=20, most=most)


def markov(
    n_chains: int = 200, n_steps: int = 10, n_states: int = 3, n_outcomes: int = 20, *, most: float = 20.0
) -> None:
    """Print the steps and seconds of hidden Markov models.

    Args:
        n_chains: N.
        n_steps: of the longest chain.
        n_states: K.
        n_outcomes: V.
        most: seconds of each method.
    """
    outcomes, lengths = chains(n_chains, n_steps, n_states, n_outcomes)
    table = torch.full((n_states, n_outcomes), 0.5).double()
    prior = Chain(torch.ones(n_states).double(), 0.9 * torch.eye(n_states).double() + 0.1, table)
    parts = [torch.as_tensor(part) for part in prior]
    start = [part + 3.0 * torch.rand_like(part) for part in parts]
    started = time.perf_counter()
    best, _, n = by_hand.optimum(
        lambda q: by_hand.chain_step(q, prior, outcomes, lengths), Chain(*start), tolerance=1e-6
    )
    print_target(
        f"{n_chains} sequences of {n_steps} steps or fewer, K = {n_states}, V = {n_outcomes}", best, n, started
    )
    program = ChainProgram(outcomes, lengths, prior, Chain(*start))
    svi = program.svi()
    run_until("gates", svi.step, lambda: -svi.evaluate_loss(), best, 1e-4, every=2, most=most)
    program.start_at(Chain(*start))
    batches = program.svi(step_size=lambda step: min(0.5, 60.0 / step))
    one = lambda: batches.step(torch.randperm(n_chains)[: n_chains // 4])  # noqa: E731
    title = f"gates, {n_chains // 4} sequences a step"
    run_until(title, one, lambda: -svi.evaluate_loss(), best, 5e-3, every=4, most=most)
    names = ("first", "rows", "table")

    def model() -> None:
        first, rows, shown = (
            pyro.sample(name, dist.Dirichlet(part).to_event(part.ndim - 1))
            for name, part in zip(names, parts, strict=True)
        )
        with pyro.plate("sequences", n_chains, dim=-1):
            z = torch.tensor(0)  # replaced by the first state
            for t in pyro.markov(range(int(lengths.max()))):
                with poutine.mask(mask=t < lengths):  # type: ignore[call-overload]
                    z = pyro.sample(f"z_{t}", dist.Categorical(rows[z] if t else first), infer=ENUMERATED)
                    pyro.sample(f"y_{t}", dist.Categorical(shown[z]), obs=outcomes[:, t])

    def guide() -> None:
        for name, part in zip(names, start, strict=True):
            pyro.sample(name, dist.Dirichlet(concentration(name, part)).to_event(part.ndim - 1))

    def bound() -> float:
        program.start_at(Chain(*(pyro.param(f"q.{name}").detach() for name in names)))
        return -svi.evaluate_loss()

    pyro.clear_param_store()
    plain = SVI(model, guide, ClippedAdam(ADAM), TraceEnum_ELBO(max_plate_nesting=1))
    run_until("plain SVI", plain.step, bound, best, 1e-4, every=20, most=most)


def print_target(problem: str, bound: float, n_steps: int, started: float) -> None:
    """Print the problem, and what coordinate ascent by hand took."""
    seconds = time.perf_counter() - started
    print(f"\n{problem}; target {bound:.2f} nats")
    print(f"{'method':<34}{'steps':>7}{'seconds':>9}{'ms a step':>10}")
    print(f"{'coordinate ascent by hand':<34}{n_steps:>7}{seconds:>9.2f}{1e3 * seconds / n_steps:>10.1f}")


def ratio(n_objects: int = 20_000, n_components: int = 8, *, n_steps: int = 100) -> None:
    """Print the time of a step with a gate over that of a step of plain SVI, on one mixture of Normals.

    Args:
        n_objects: N.
        n_components: K.
        n_steps: steps of each, taken in turns.
    """
    y, like = torch.randn(n_objects).double(), torch.empty(n_objects, 0).double()
    gate, where = DirichletGate(n_components), torch.linspace(-2.0, 2.0, n_components).double()
    alpha = torch.ones(n_components).double()

    def model(has_gate: bool) -> None:
        means = pyro.sample("means", dist.Normal(0.0 * where, 5.0).to_event(1))
        plate = pyro.plate("objects", n_objects, dim=-1)
        if has_gate:
            z = gate.model(like, plate=plate)
        else:
            weights = pyro.sample("weights", dist.Dirichlet(alpha))
        with plate:
            if not has_gate:
                z = pyro.sample("z", dist.Categorical(weights), infer=ENUMERATED)
            pyro.sample("y", dist.Normal(means[z], 1.0), obs=y)

    def guide(has_gate: bool) -> None:
        pyro.sample("means", dist.Delta(pyro.param("means_q", lambda: where.clone()), event_dim=1))
        if not has_gate:
            pyro.sample("weights", dist.Dirichlet(concentration("weights", alpha)))

    pyro.clear_param_store()
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    gated = ConjugateSVI(model, guide, ClippedAdam({"lr": 1e-3}), elbo, gates=gate)
    plain = SVI(model, guide, ClippedAdam({"lr": 1e-3}), elbo)
    pairs: Sequence[tuple[Any, bool]] = ((gated, True), (plain, False))
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(n_steps):
        for svi, has_gate in pairs:
            started = time.perf_counter()
            svi.step(has_gate)
            seconds[has_gate].append(time.perf_counter() - started)
    ours, theirs = (1e3 * sorted(seconds[has_gate])[n_steps // 2] for has_gate in (True, False))
    print(f"\nmixture of {n_components} Normals, N = {n_objects}, medians of {n_steps} steps")
    print(f"with a gate {ours:.2f} ms, plain {theirs:.2f} ms, ratio {ours / theirs:.2f} (goal 1.2)")


def main() -> None:
    """Print all figures."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    topics()
    markov()
    ratio()


if __name__ == "__main__":
    main()
