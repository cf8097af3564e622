"""Components that leave their rows to the others and take badly explained ones, where that raises the bound."""

import copy
import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from mixpyro.conjugate_part import ConjugatePart
from mixpyro.experts.base import Experts
from mixpyro.fitting import em
from mixpyro.fitting.em import EStep, Snapshot
from mixpyro.fitting.gradient.m_steps import GradientMSteps
from mixpyro.fitting.group_starts import drawn
from mixpyro.fitting.pieces import parts
from mixpyro.fitting.starts import N_GRADIENT_STEPS, k_means, random_subsets
from mixpyro.fitting.table import Table
from mixpyro.mixture import MixtureOfExperts, MixtureState
from mixpyro.numerics import nested
from mixpyro.numerics.far_rows import normalised_joint
from mixpyro.shapes import Value

# Badly explained objects, fewest, that a component begins with.
FEWEST_ROWS = 5
# Iterations of EM that a component has to prove itself; those after which some starts are left, and how many; and those
# of the mixture that divides badly explained objects.
N_ITERATIONS, N_SCREENING, N_PROVEN, N_DIVIDING = 10, 3, 3, 5
# How badly explained objects are divided, and most of their parts that components begin with.
WAYS, MOST_PARTS = (random_subsets, k_means), 4
# Nats that an iteration must gain for another to follow.
LEAST_GAIN = 0.01
M_STEPS = GradientMSteps(n_steps=N_GRADIENT_STEPS)


class Averages(NamedTuple):
    """Sums per object of a stream, as it keeps them."""

    gate: Value
    experts: Value


class Found(NamedTuple):
    """Components that take over other rows, and what is known of the mixture then."""

    components: list[int]
    state: MixtureState  # of one run, without an axis of runs
    averages: Averages  # at the state
    is_lost: Tensor  # which objects are badly explained still [N]


class Reached(NamedTuple):
    """Where R runs of EM are."""

    state: MixtureState
    step: EStep  # at the state, with responsibilities

    @property
    def bounds(self) -> Tensor:
        """Bounds of the runs in nats [R]."""
        return self.step.evidence[0]

    @property
    def responsibilities(self) -> Tensor:
        """Responsibilities of the first run [K, N]."""
        assert self.step.responsibilities is not None
        return self.step.responsibilities[0]

    def runs(self, numbers: Tensor) -> "Reached":
        """Return some of the runs.

        Args:
            numbers: of the runs.
        """
        statistics, evidence, r = self.step
        assert r is not None
        own = EStep(nested.select(statistics, numbers), evidence[:, numbers], r[numbers])
        return Reached(nested.select(self.state, numbers), own)


def moved_components(
    mixture: MixtureOfExperts, averages: Averages, table: Table, least: float, generator: Generator
) -> Found | None:
    """Return components that explain badly explained objects and raise the bound; None if there are none.

    A component is taken where, at the end of iterations of EM, most of its objects are ones that were badly explained:
    those that it had before are better explained by what a whole stream knows of them.

    Args:
        mixture: a copy of the one that is fitted; it is changed.
        averages: that led to its posteriors.
        table: objects with weights and columns.
        least: log evidence in nats below which an object is badly explained.
        generator: of random numbers.
    """
    components: list[int] = []
    step, is_lost = _explained(mixture, table, least)
    while int(is_lost.sum()) >= FEWEST_ROWS and len(components) < mixture.n_components:
        reached = _best(mixture, table, step, is_lost, generator)
        new = _new_components(mixture.experts, reached, table, is_lost)
        if set(new) <= set(components):
            break
        before, mixed = mixture.state(), _mixed(mixture.experts, averages, reached, table, new)
        take_components(mixture, nested.select(reached.state, 0), mixed, new, table.n_objects)
        after, still_lost = _explained(mixture, table, least)
        if not _bound(after) > _bound(step) + _margin(mixture, table, is_lost) * len(new):
            mixture.hold(before)
            break
        components += [one for one in new if one not in components]
        step, is_lost, averages = after, still_lost, mixed
    return Found(components, mixture.state(), averages, is_lost) if components else None


def take_components(
    mixture: MixtureOfExperts, state: MixtureState, averages: Averages, components: list[int], n_objects: float
) -> None:
    """Let a mixture take over some components of a state, and its gate.

    Args:
        mixture: what changes; its other components stay.
        state: without an axis of runs.
        averages: of the experts with those components, from which posteriors follow.
        components: numbers of those to take.
        n_objects: N, of which the posteriors shall speak.
    """
    experts = mixture.experts
    mixture.gate.hold(state.gate)
    if isinstance(experts, ConjugatePart):
        experts.update(nested.scale(n_objects, averages.experts))
        return
    source = copy.deepcopy(experts)
    source.hold(state.experts)
    own, others = experts.state_dict(), source.state_dict()
    for name in experts.component_tensors:
        own[name][components] = others[name][components]


def _mixed(experts: Experts, averages: Averages, reached: Reached, table: Table, components: list[int]) -> Averages:
    """Return averages with those of the gate and of some components replaced."""
    of_gate, of_experts = reached.step.statistics
    if experts.takes_steps:
        of_experts = experts.to_average(reached.state.experts, of_experts)

    def replaced(old: Tensor, new: Tensor) -> Tensor:
        both = old.clone()
        both[components] = new[0, components].to(old) / table.n_objects
        return both

    of_gate = nested.scale(1.0 / table.n_objects, nested.select(of_gate, 0))
    return Averages(of_gate, nested.apply(replaced, averages.experts, of_experts))


def _best(mixture: MixtureOfExperts, table: Table, step: EStep, is_lost: Tensor, generator: Generator) -> Reached:
    """Return where EM has the highest bound that begins at the mixture or with parts of the badly explained objects."""
    assert step.responsibilities is not None
    r = step.responsibilities[0]
    order = _by_need(r, table, is_lost)
    starts = [r, *(_moved(r, order, parts) for parts in _seeds(mixture, table, is_lost, generator))]
    screened = _iterated(mixture, table, starts, N_SCREENING)
    highest = screened.bounds.nan_to_num(nan=-math.inf).argsort(descending=True)[:N_PROVEN]
    proven = _gone_on(mixture, table, screened.runs(highest), N_ITERATIONS - N_SCREENING)
    return proven.runs(proven.bounds.nan_to_num(nan=-math.inf).argmax().unsqueeze(0))


def _new_components(experts: Experts, reached: Reached, table: Table, is_lost: Tensor) -> list[int]:
    """Return components most of whose objects are badly explained ones."""
    of_lost = reached.responsibilities[:, is_lost].sum(-1)
    weighted = table.weighted(reached.responsibilities)
    is_new = (of_lost >= FEWEST_ROWS - 1) & (weighted[:, is_lost].sum(-1) > 0.5 * weighted.sum(-1))
    are_moderate = experts.are_moderate(reached.state.experts)
    found: list[int] = (is_new if are_moderate is None else is_new & are_moderate[0]).nonzero().flatten().tolist()
    return found


def _bound(step: EStep) -> float:
    """Return the bound of the one run in nats."""
    return float(step.evidence[0, 0])


def _explained(mixture: MixtureOfExperts, table: Table, least: float) -> tuple[EStep, Tensor]:
    """Return an E-step at the mixture, and which objects are badly explained."""
    state, lost = nested.stack([mixture.state()]), list[Tensor]()
    for _, part in parts(table, mixture.n_components):
        log_evidence = normalised_joint(mixture.log_joint, part.gate_x, part.columns, state)[1]
        lost.append(~(log_evidence.reshape(-1) >= least))
    is_lost = torch.cat(lost)
    is_lost = is_lost if table.weights is None else is_lost & (table.weights > 0)
    return em.e_step(mixture, state, table, keep=True), is_lost


def _by_need(r: Tensor, table: Table, is_lost: Tensor) -> list[int]:
    """Return the components in order of the nats that well explained objects lose without each, about."""
    counts = ~is_lost if table.weights is None else table.weights * ~is_lost
    needed: list[int] = (-torch.log1p(-r.double().clamp_max(1.0 - 1e-12)) * counts).sum(-1).argsort().tolist()
    return needed


def _margin(mixture: MixtureOfExperts, table: Table, is_lost: Tensor) -> float:
    """Return nats by which a bound must be higher for a component: what its estimates gain by themselves."""
    if not mixture.experts.is_estimated:
        return 1.0
    n_each = mixture.experts.n_parameters / mixture.n_components
    weight = 1.0 if table.weights is None else max(1.0, float(table.weights[is_lost].mean()))
    return 1.0 + 0.5 * n_each * weight * math.log(max(table.n_objects, 2.0))


def _seeds(mixture: MixtureOfExperts, table: Table, is_lost: Tensor, generator: Generator) -> Iterator[list[Tensor]]:
    """Yield objects that one component may begin with, or several: badly explained ones, and parts of them."""
    objects, state = is_lost.nonzero().squeeze(-1), mixture.state()
    lost = table.block(objects)
    yield [objects]
    starts = []
    for kind in WAYS:
        starts.append(drawn(kind, mixture, lost, generator).mT)
        mixture.hold(state)
    divided = _iterated(mixture, lost, starts, N_DIVIDING).step.responsibilities
    assert divided is not None
    for labels in divided.argmax(1):
        alike = [objects[labels == k] for k in range(mixture.n_components)]
        alike = sorted((one for one in alike if len(one) >= FEWEST_ROWS), key=len, reverse=True)
        for n_parts in range(1, min(len(alike), MOST_PARTS) + 1):
            if len(alike[0]) < len(objects):
                yield alike[:n_parts]


def _iterated(mixture: MixtureOfExperts, table: Table, starts: list[Tensor], n_iterations: int) -> Reached:
    """Return what iterations of EM from responsibilities [K, N] of R runs reach; leave the mixture as it is."""
    before = mixture.state()
    begun = [em.start(mixture, table, r.mT) for r in starts]
    statistics = nested.stack([one.statistics for one in begun])
    has_rows = begun[0].responsibilities is not None
    first = Snapshot(before, statistics, torch.stack(starts) if has_rows else None)
    state = em.update(mixture, nested.stack([before] * len(starts)), first, table, M_STEPS)
    step = em.e_step(mixture, state, table, n_runs=len(starts), keep=True)
    mixture.hold(before)
    return _gone_on(mixture, table, Reached(state, step), n_iterations)


def _gone_on(mixture: MixtureOfExperts, table: Table, reached: Reached, n_iterations: int) -> Reached:
    """Return where R runs of EM are after more iterations, each that lowers a bound undone; leave the mixture."""
    before = mixture.state()
    for _ in range(n_iterations):
        after = em.update(mixture, reached.state, reached.step, table, M_STEPS)
        n_runs = len(reached.bounds)
        later = Reached(after, em.e_step(mixture, after, table, n_runs=n_runs, keep=True))
        gains = later.bounds - reached.bounds
        falls = ~(gains >= 0.0)
        reached = later if not bool(falls.any()) else _chosen(falls, reached, later)
        if not bool((gains >= LEAST_GAIN).any()):
            break
    mixture.hold(before)
    return reached


def _chosen(is_first: Tensor, first: Reached, second: Reached) -> Reached:
    """Return each run as it is in one of two values."""
    assert first.step.responsibilities is not None
    assert second.step.responsibilities is not None
    numbers = torch.arange(len(is_first), device=is_first.device) + len(is_first) * ~is_first
    both = Reached(
        nested.apply(lambda *pair: torch.cat(pair), first.state, second.state),
        EStep(
            nested.apply(lambda *pair: torch.cat(pair), first.step.statistics, second.step.statistics),
            torch.cat([first.step.evidence, second.step.evidence], dim=1),
            torch.cat([first.step.responsibilities, second.step.responsibilities]),
        ),
    )
    return both.runs(numbers)


def _moved(r: Tensor, order: list[int], parts: list[Tensor]) -> Tensor:
    """Return responsibilities [K, N] of components that leave their objects to the others and take some.

    Args:
        r: before [K, N].
        order: of the components, those that are needed least first.
        parts: objects that these take, one part each.
    """
    moved, components = r.clone(), order[: len(parts)]
    moved[components] = 0.0
    total = moved.sum(0)
    moved = torch.where(total > 0, moved / total, 1.0 / len(r))
    for component, objects in zip(components, parts, strict=True):
        moved[:, objects] = 0.0
        moved[component, objects] = 1.0
    return moved
