"""Components that the first batch of a stream lacks: found later, in rows that no component explains."""

import copy
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from mixpyro.fitting import em
from mixpyro.fitting.em import Snapshot, Statistics
from mixpyro.fitting.gradient.m_steps import GradientMSteps
from mixpyro.fitting.starts import N_GRADIENT_STEPS, standardised_rows
from mixpyro.fitting.table import Table
from mixpyro.gates.per_object import ObjectGate
from mixpyro.mixture import MixtureOfExperts, MixtureState
from mixpyro.numerics import nested
from mixpyro.numerics.location_scale import location_scale

# Rows of the stream that are kept, each as likely as any other. The bound is compared on them and the batch.
KEPT_ROWS = 500
# Rows of a batch that take part, of those that are badly explained and of the others.
MOST_ROWS = 500
# Standard deviations of log evidences below their mean from where a row is badly explained. Normal rows of one output
# are there once in two thousand.
FAR = 6.0
# Badly explained rows, fewest, for a search.
FEWEST_ROWS = 5
# Iterations of EM that a component has to prove itself, and components that are tried.
N_ITERATIONS, N_TRIED = 10, 1
# Nats that an iteration must gain for another to follow.
LEAST_GAIN = 0.01


class Found(NamedTuple):
    """A component that takes over other rows, and what is known of the mixture then."""

    component: int
    state: MixtureState  # of one run, without an axis of runs
    statistics: Statistics  # sums per object at the state


class LostComponents:
    """Rows of a stream that are kept, and searches for components that it lacks.

    Where rows of a batch are badly explained, the component that the kept rows need least is tried on them: EM on the
    kept rows and the batch, from there and from where the mixture is. The one with the higher bound is taken. After a
    search without success twice as many batches go by before the next.

    Args:
        mixture: being fitted to a stream.
        seed: of the rows that are kept.
    """

    def __init__(self, mixture: MixtureOfExperts, seed: int) -> None:
        self.mixture = mixture
        self.generator = Generator("cpu").manual_seed(seed)
        self.kept: tuple[Tensor, Tensor, Tensor] | None = None
        self.n_seen, self.n_waiting, self.n_to_wait = 0, 0, 1
        self.mean, self.deviation = 0.0, math.inf

    def __getstate__(self) -> dict[str, object]:
        """Return what a pickle has: a generator as its state."""
        return {**self.__dict__, "generator": self.generator.get_state()}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Take over what a pickle has."""
        self.__dict__.update(state)
        self.generator = Generator("cpu")
        own = state["generator"]
        assert isinstance(own, Tensor)
        self.generator.set_state(own)

    def as_kept(self) -> Callable[[], None]:
        """Keep what this object is, and return what puts it back."""
        before, drawn = dict(self.__dict__), self.generator.get_state()

        def put_back() -> None:
            self.__dict__.update(before)
            self.generator.set_state(drawn)

        return put_back

    def search(self, table: Table, log_evidence: Tensor) -> Found | None:
        """Return a component that a batch shows, if there is one and another can be spared; keep some of the rows.

        Args:
            table: the batch.
            log_evidence: of its objects [B] in nats.
        """
        if not self._is_plain(table):
            return None
        badly = ~(log_evidence >= self.mean - FAR * self.deviation)
        found = None
        if self.kept is not None and self.n_waiting <= 0 and int(badly.sum()) >= FEWEST_ROWS:
            found = self._found(table, badly)
            self.n_to_wait = max(1, self.n_to_wait // 2) if found else 2 * self.n_to_wait
            self.n_waiting = self.n_to_wait
        self.n_waiting -= 1
        well = log_evidence[~badly].double()
        if self.kept is None or len(well) > 1:
            own = log_evidence.double() if self.kept is None else well
            size = 1.0 if self.kept is None else 0.1
            deviation = float(own.std()) if len(own) > 1 else self.deviation
            self.mean += size * (float(own.mean()) - self.mean)
            known = math.isfinite(self.deviation)
            self.deviation = self.deviation + size * (deviation - self.deviation) if known else deviation
        self._keep(table)
        return found

    @staticmethod
    def is_possible(mixture: MixtureOfExperts) -> bool:
        """Return whether components can be moved: sums are all that an update reads, those of each by themselves.

        Args:
            mixture: any.
        """
        gate, experts = mixture.gate, mixture.experts
        if mixture.n_components < 2 or gate.finds_components or isinstance(gate, ObjectGate) or em.reads_rows(mixture):
            return False
        return bool(experts.may_begin_anew)

    @staticmethod
    def _is_plain(table: Table) -> bool:
        is_shared = table.blocks_of_all is not None and table.blocks_of_all.processes is not None
        return (
            table.segments is None
            and table.labels is None
            and table.weights is None
            and not (table.misses or is_shared)
        )

    def _keep(self, table: Table) -> None:
        """Keep rows of a batch in place of others, so that every row so far is as likely to be kept."""
        rows = table.x, table.y, table.gate_x
        size = table.size
        if self.kept is None:
            chosen = torch.randperm(size, generator=self.generator, device="cpu")[:KEPT_ROWS].to(table.x.device)
            self.kept = rows[0][chosen], rows[1][chosen], rows[2][chosen]
        else:
            rows = tuple(new.to(old.dtype) for old, new in zip(self.kept, rows, strict=True))  # type: ignore[assignment]
            n_kept = len(self.kept[0])
            missing = min(KEPT_ROWS - n_kept, size)
            share = size / (self.n_seen + size)
            uniform = torch.rand(n_kept, generator=self.generator, dtype=torch.float32, device="cpu")
            is_replaced = uniform < (0.0 if missing else share)
            places = is_replaced.nonzero().flatten()[:size].to(table.x.device)
            n_new = len(places) + missing
            # To shuffle a long batch takes longer than to draw a few rows of it.
            few = torch.randint(size, (n_new,), generator=self.generator, device="cpu")
            chosen = few if size > KEPT_ROWS else torch.randperm(size, generator=self.generator, device="cpu")[:n_new]
            chosen = chosen.to(table.x.device)
            put = [
                one.index_copy(0, places, new[chosen[: len(places)]]) for one, new in zip(self.kept, rows, strict=True)
            ]
            new_rows = [new[chosen[len(places) :]] for new in rows]
            self.kept = tuple(torch.cat(pair) for pair in zip(put, new_rows, strict=True))  # type: ignore[assignment]
        self.n_seen += size

    def _some(self, rows: Tensor) -> Tensor:
        """Return some of the rows if they are many."""
        chosen = torch.randperm(len(rows), generator=self.generator, device="cpu")[:MOST_ROWS]
        return rows if len(rows) <= MOST_ROWS else rows[chosen.to(rows.device)]

    def _found(self, table: Table, badly: Tensor) -> Found | None:
        """Return a component that explains the badly explained rows, if the bound says so."""
        assert self.kept is not None
        of_batch = [self._some(one.nonzero().squeeze(-1)) for one in (badly, ~badly)]
        order = torch.cat(of_batch)
        parts = zip(self.kept, (table.x, table.y, table.gate_x), strict=True)
        x, y, gate_x = (torch.cat([old, new[order]]) for old, new in parts)
        n_kept = len(self.kept[0])
        weights = x.new_ones(len(x))
        weights[:n_kept] = max(1.0, self.n_seen / n_kept)
        n_bad, n_badly = len(of_batch[0]), int(badly.sum())
        weights[n_kept : n_kept + n_bad] = n_badly / n_bad
        weights[n_kept + n_bad :] = (table.size - n_badly) / max(1, len(of_batch[1]))
        scratch = copy.deepcopy(self.mixture)
        both = Table(x, y, gate_x, weights).with_columns(scratch.experts)
        step = em.e_step(scratch, nested.stack([scratch.state()]), both, keep=True)
        assert step.responsibilities is not None
        r = step.responsibilities[0]
        lost = torch.cat([torch.zeros(n_kept, dtype=torch.bool, device=x.device), badly[order]])
        needed = (-torch.log1p(-r.double().clamp_max(1.0 - 1e-12)) * (weights * ~lost)).sum(-1)
        before = self._iterated(scratch, both, r)
        least = before[0] + self._margin(both)
        best: tuple[float, MixtureState, Statistics, int] | None = None
        for component in needed.argsort()[:N_TRIED].tolist():
            for rows in self._seeds(both, lost):
                bound, state, statistics = self._iterated(scratch, both, _moved(r, component, rows))
                if bound > (least if best is None else best[0]):
                    best = bound, state, statistics, component
        if best is None:
            return None
        total = float(weights.sum())
        return Found(best[3], best[1], nested.scale(1.0 / total, best[2]))

    def _margin(self, table: Table) -> float:
        """Return nats by which a bound must be higher: what estimates of one component gain by themselves."""
        if not self.mixture.experts.is_estimated:
            return 1.0
        n_each = self.mixture.experts.n_parameters / self.mixture.n_components
        return 1.0 + 0.5 * n_each * math.log(max(table.n_objects, 2.0))

    @staticmethod
    def _seeds(table: Table, lost: Tensor) -> Sequence[Tensor]:
        """Return rows that a component may begin with: all that are badly explained, and those near one of them."""
        rows = lost.nonzero().squeeze(-1)
        columns = torch.cat([table.x, table.y], dim=-1)
        points = standardised_rows(table.x, table.y, location_scale(columns))[rows]
        # The one in the thick of them: its half of the others is the nearest.
        near = points[:: max(1, len(rows) // 64)]
        distances = torch.cdist(near.double(), points.double())
        n_near = max(1, len(rows) // 2)
        nearest = distances.topk(n_near, largest=False)
        centre = int(nearest.values[:, -1].argmin())
        return rows, rows[nearest.indices[centre]]

    @staticmethod
    def _iterated(scratch: MixtureOfExperts, table: Table, r: Tensor) -> tuple[float, MixtureState, Statistics]:
        """Return bound, state and sums after iterations of EM from responsibilities [K, N]."""
        m_steps = GradientMSteps(n_steps=N_GRADIENT_STEPS)
        before = scratch.state()
        begun = em.start(scratch, table, r.mT)
        own = None if begun.responsibilities is None else begun.responsibilities.unsqueeze(0)
        state = em.update(
            scratch, nested.stack([before]), Snapshot(before, nested.stack([begun.statistics]), own), table, m_steps
        )
        step = em.e_step(scratch, state, table)
        bounds = [float(step.evidence[0, 0])]
        for _ in range(N_ITERATIONS):
            after = em.update(scratch, state, step, table, m_steps)
            reached = em.e_step(scratch, after, table)
            gain = float(reached.evidence[0, 0]) - bounds[-1]
            if not gain >= 0.0:
                break
            state, step = after, reached
            bounds.append(float(step.evidence[0, 0]))
            if gain < LEAST_GAIN:
                break
        scratch.hold(before)
        return bounds[-1], nested.select(state, 0), nested.select(step.statistics, 0)


def _moved(r: Tensor, component: int, rows: Tensor) -> Tensor:
    """Return responsibilities [K, N] of a component that leaves its rows to the others and takes some."""
    moved = r.clone()
    moved[component] = 0.0
    total = moved.sum(0)
    moved = torch.where(total > 0, moved / total, 1.0 / len(r))
    moved[:, rows] = 0.0
    moved[component, rows] = 1.0
    return moved


def take_over(mixture: MixtureOfExperts, found: Found) -> None:
    """Put a component that was found into a mixture, and the gate that goes with it; others keep what they know.

    Args:
        mixture: being fitted to a stream.
        found: the component.
    """
    source = copy.deepcopy(mixture.experts)
    source.hold(found.state.experts)
    mixture.gate.hold(found.state.gate)
    own, others = mixture.experts.state_dict(), source.state_dict()
    for name in mixture.experts.component_tensors:
        own[name][found.component] = others[name][found.component]


def with_component(averages: nested.Nested, found: nested.Nested, component: int) -> nested.Nested:
    """Return running averages of the experts with those of one component replaced.

    Args:
        averages: tensors with an axis of components first.
        found: of the same structure.
        component: which one.
    """

    def replaced(old: Tensor, new: Tensor) -> Tensor:
        both = old.clone()
        both[component] = new[component].to(old)
        return both

    return nested.apply(replaced, averages, found)
