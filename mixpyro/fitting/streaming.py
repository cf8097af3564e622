"""Variational EM on a stream of batches: natural-gradient steps for posteriors, Newton's or Adam's for estimates."""

import contextlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from mixpyro import arguments
from mixpyro.conjugate_part import ConjugatePart
from mixpyro.distributed.processes import processes_of
from mixpyro.experts.banks import Banks
from mixpyro.fitting.alike_on_ranks import check_alike, refuse_gradients
from mixpyro.fitting.findings import warnings_of
from mixpyro.fitting.gradient.m_step import MStep
from mixpyro.fitting.lost_components import LostComponents, take_over, with_component
from mixpyro.fitting.pieces import in_pieces
from mixpyro.fitting.ranks import rows_in_blocks, rows_to_check
from mixpyro.fitting.restarts import Search
from mixpyro.fitting.rows_of_fit import rows_of_fit
from mixpyro.fitting.runs import Options
from mixpyro.fitting.starts import DEFAULT_STARTS
from mixpyro.fitting.stream_limits import empty_components, no_moves, refuse_kept_posteriors
from mixpyro.fitting.stream_steps import Pace, improve, meet, reads_rows, sums_of_batch, with_columns, with_run
from mixpyro.fitting.table import Table, checked_mixture
from mixpyro.gates.per_object import ObjectGate
from mixpyro.groups import GroupIds
from mixpyro.mixture import MixtureOfExperts
from mixpyro.numerics import nested
from mixpyro.numerics.step_sizes import RobbinsMonro
from mixpyro.part import Part
from mixpyro.pyro_internals.parameter_store import has_parameters
from mixpyro.pyro_internals.random_networks import random_networks
from mixpyro.shapes import AnyTable, GateInputs, Inputs, Targets, Value
from mixpyro.tables.door import layouts_of

Batch = Sequence[Any]


class StreamingFit:
    """Fit a mixture to a stream of batches, in memory that does not grow with the stream.

    The first batch is fitted in full, from several starts: make it large enough to show every component. One that it
    lacks is found where rows of a later batch are badly explained: the component that is needed least takes them, if
    that raises the bound of the batch and of a sample of the rows before. Each later
    one gives responsibilities under the posteriors so far; its statistics per row enter a running average, and the
    conjugate posteriors follow from N times that average, a natural-gradient step. Parameters go part of the way along
    a step of Newton's method on the batch, where their part has one. Else they take a step of Adam on the bound, its
    data term counted N / B times, with a rate that falls as the step sizes do.

    Args:
        mixture: what to fit, in place. Its gate must not keep a posterior of each object.
        n_objects: N, how many rows, or what sum of weights, the posteriors shall speak of; by default those seen.
        step_size: of the running average, a number in (0, 1] or a function of the step's number, from one on.
        lr: step size of Adam at the first step.
        n_restarts: for the first batch; 0 to begin with the posteriors that the mixture has.
        seed: of the restarts.
        process_group: of torch.distributed; the default group if that is initialised. A batch is then that of all
            ranks, each of which passes a part, perhaps none. Parts that are trained by gradient, and estimates that
            read every row, are fitted on one process.

    Attributes:
        n_steps: batches seen, the first not counted.
        n_seen: rows seen, or the sum of their weights.

    Warns:
        RuntimeWarning: if a component is empty in the first batch, or a gate or experts separate its rows; if the gate
            is one whose components a fit merges, deletes and splits, which a stream does not.

    Raises:
        TypeError: if the mixture is none.
        ValueError: if the gate keeps a posterior of each object, or an argument is out of range.

    References:
        Hoffman, Blei, Wang, Paisley (2013), Stochastic variational inference, fig. 4;
        Cappé, Moulines (2009), On-line expectation-maximization algorithm for latent data models, eq. 8.

    Example:
        >>> from mixpyro import DirichletGate, LinearExperts
        >>> mixture = MixtureOfExperts(DirichletGate(1), LinearExperts(1, n_features=1))
        >>> stream = StreamingFit(mixture)
        >>> for start in range(0, 100, 20):
        ...     x = torch.arange(start, start + 20).double().unsqueeze(1) / 100
        ...     stream = stream.partial_fit(x, 1 - x + 0.1 * torch.sin(50 * x))
        >>> stream.n_seen, mixture.gate.posterior_concentration.tolist()
        (100.0, [101.0])
    """

    def __init__(
        self,
        mixture: MixtureOfExperts,
        *,
        n_objects: float | None = None,
        step_size: float | Callable[[int], float] = RobbinsMonro(),  # noqa: B008 (frozen)
        lr: float = 0.01,
        n_restarts: int = 20,
        seed: int = 0,
        process_group: object = None,
    ) -> None:
        self.mixture = checked_mixture(mixture)
        self.processes = processes_of(process_group)
        refuse_kept_posteriors(mixture)
        self.n_objects = None if n_objects is None else arguments.positive_number("n_objects", n_objects)
        self.step_size = step_size if callable(step_size) else arguments.step_size(step_size)
        self.lr = arguments.positive_number("lr", lr)
        self.n_restarts = arguments.integer("n_restarts", n_restarts, least=0)
        self.seed = arguments.integer("seed", seed, least=0)
        self.n_steps, self.n_seen = 0, 0.0
        self._averages: dict[Part | str, Value] = {}
        self._m_steps: dict[Part, MStep] = {}
        self._lost = LostComponents(mixture, self.seed) if LostComponents.is_possible(mixture) else None

    @arguments.outside_contexts
    def partial_fit(
        self,
        x: Inputs | AnyTable,
        y: Targets | AnyTable,
        *,
        gate_x: GateInputs | AnyTable | None = None,
        weights: Float[Tensor, " N"] | AnyTable | None = None,
        observed: Integer[Tensor, " N"] | AnyTable | None = None,
        mask: Bool[Tensor, " N"] | AnyTable | None = None,
        groups: GroupIds | None = None,
        missing: str = "error",
    ) -> "StreamingFit":
        """Learn from one batch, and return this object.

        Args:
            x: inputs [B, D].
            y: outputs [B, P] or [B].
            gate_x: what the gate reads [B, G], where that is not x.
            weights: how much each row counts [B], at least 0.
            observed: components of rows that are known [B], as for :func:`mixpyro.fit`.
            mask: in which rows they are known [B]; in all by default.
            groups: an id of the group of each row [B], as for :func:`mixpyro.fit`; all batches have groups, or none. A
                group must be in one batch as a whole: a part of it in a later batch is taken as another group. Where
                there are groups, ``n_objects`` and ``n_seen`` count groups.
            missing: as for :func:`mixpyro.fit`. Objects without any y are not counted.

        Raises:
            TypeError: if one is no floating tensor.
            ValueError: if a shape, dtype, device or value does not fit, or the columns are not those of the batches
                before.
        """
        together = contextlib.nullcontext() if self.processes is None else self.processes.together()
        with together, random_networks(self.seed + self.n_steps):
            self._learn_rows(x, y, gate_x, groups, missing, {"weights": weights, "observed": observed, "mask": mask})
        return self

    def _learn_rows(
        self, x: object, y: object, gate_x: object, groups: object, missing: str, given: dict[str, object]
    ) -> None:
        """Learn from the rows of one batch, or from those of this rank."""
        new_fit = not self.n_seen and self.n_restarts > 0
        known = None if new_fit else self.mixture.fitted_columns
        layouts = None if known is None else layouts_of(self.mixture)
        rows = rows_of_fit(self.mixture, x, y, gate_x, known=layouts, groups=groups, **given)
        checked, groups, has_rows = rows_to_check(rows, groups, self.processes)
        table = checked.table(self.mixture, groups=groups, missing=missing, new_fit=new_fit)
        grouped = table.groups is not None
        if known is not None and grouped and not known.grouped:
            raise ValueError("`groups` must be None, as in the batches before; got groups.")
        columns = checked.columns(table).after(known)
        if self.processes is None:
            seen = table.observed() if table.misses else table
            self.learn(seen if reads_rows(self.mixture) else in_pieces(seen))
        else:
            check_alike(self.processes, self.mixture, {"missing": missing, "n_objects": self.n_objects})
            refuse_gradients(self.mixture)
            self.learn(rows_in_blocks(table if has_rows else table.block(slice(0, 0)), self.processes)[1])
        self.mixture.fitted_columns = columns

    @torch.no_grad()
    def learn(self, table: Table) -> None:
        """Learn from a batch that has been checked.

        Args:
            table: the batch.
        """
        if not self.n_seen and self.n_restarts:
            self._begin(table)
        if table.n_objects:
            self._step(table)

    def _begin(self, table: Table) -> None:
        """Fit the first batch in full."""
        search = Search(self.mixture, table, Options(), DEFAULT_STARTS, n_restarts=self.n_restarts, seed=self.seed)
        search.go(lambda trace: True)
        _, responsibilities = search.adopt()
        for caution in warnings_of(self.mixture, table, responsibilities):
            warnings.warn(f"in the first batch, {caution}", RuntimeWarning, stacklevel=6)
        if self.mixture.gate.finds_components and self.mixture.n_components > 1:
            warnings.warn(no_moves(self.mixture), RuntimeWarning, stacklevel=6)
            return
        for empty in empty_components(table.weighted(responsibilities.mT).mT):
            words = f"{empty} in the first batch; make it larger. It may be found in later ones."
            warnings.warn(words, RuntimeWarning, stacklevel=6)

    def _step(self, table: Table) -> None:
        """Take one step with the responsibilities under the posteriors so far."""
        gate, experts = self.mixture.gate, self.mixture.experts
        meet(self.mixture, table)
        columned = with_columns(table, experts)
        statistics, r, log_evidence = sums_of_batch(self.mixture, columned)
        if self._lost is not None and self._take_over(table, log_evidence):
            statistics, r, _ = sums_of_batch(self.mixture, columned)
        pace = self._pace(table.n_objects)
        if isinstance(gate, ObjectGate):
            assert r is not None
            gate.update(gate.statistics(table.gate_x, r.mT), step_size=pace.size)
        else:
            self._update(gate, statistics.gate, pace)
        self._update(experts, statistics.experts, pace)
        if r is None:
            return
        of_rows, scale = table.of_rows(r).mT, pace.total / pace.n_objects
        noise = experts.noise_sums(table.x, table.y, of_rows)
        self._improve(gate, table.gate_x, scale * r.mT, pace=pace)
        self._improve(experts, table.x, table.y, scale * of_rows, pace=pace)
        # Last, for a step on one batch has set the noise from that batch alone.
        experts.set_noise(self._averaged("noise", nested.scale(1.0 / pace.n_objects, noise), pace.size))

    def _take_over(self, table: Table, log_evidence: Tensor) -> bool:
        """Let a component that is needed least take badly explained rows, if that raises the bound; return whether."""
        assert self._lost is not None
        gate, experts = self.mixture.gate, self.mixture.experts
        found = self._lost.search(table, log_evidence)
        if found is None or experts not in self._averages:
            return False
        take_over(self.mixture, found)
        of_gate, of_experts = found.statistics
        if experts.takes_steps:
            of_experts = nested.select(experts.to_average(with_run(found.state.experts), with_run(of_experts)), 0)
            self._averages[experts] = with_component(self._averages[experts], of_experts, found.component)
        else:
            self._averages[experts] = with_component(self._averages[experts], of_experts, found.component)
        if gate in self._averages:
            self._averages[gate] = of_gate
        return True

    def _pace(self, n_objects: float) -> Pace:
        """Count a batch, and return how far the step on it goes."""
        size = self._size(n_objects) if self.n_seen else 1.0
        self.n_steps += bool(self.n_seen)
        self.n_seen += n_objects
        total = self.n_seen if self.n_objects is None else self.n_objects
        return Pace(n_objects, total, size, is_first=not self.n_steps)

    def _update(self, part: Part, statistics: Value, pace: Pace) -> None:
        """Set the posterior that N rows like those in the running average would give; let estimates take a step."""
        if isinstance(part, Banks):
            for member, own in zip(part.members, statistics, strict=True):
                self._update(member, own, pace)
        elif part.takes_steps:
            improve(part, statistics, pace, lambda mean: self._averaged(part, mean, pace.size))
        elif isinstance(part, ConjugatePart):
            mean = nested.scale(1.0 / pace.n_objects, nested.select(statistics, 0))
            part.update(nested.scale(pace.total, self._averaged(part, mean, pace.size)))

    def _averaged(self, key: Part | str, mean: Value, size: float) -> Value:
        """Return the running average of sums per object, this batch included."""
        if key in self._averages:
            mean = nested.blend((1.0 - size, self._averages[key]), (size, mean))
        self._averages[key] = mean
        return mean

    def _improve(self, part: Part, *rows: Tensor, pace: Pace) -> None:
        """Improve parameters that read rows, after the first batch: that one has been fitted to its optimum.

        A part with a method of its own goes ``size`` of the way that one step of it would go on the batch. Newton's
        step has the units of the parameters, which Adam's has not.
        """
        if isinstance(part, Banks):
            for _, member, its_rows in part.rows_of_members(*rows):
                self._improve(member, *its_rows, pace=pace)
            return
        if not has_parameters(part) or part.takes_steps or pace.is_first:
            return
        by_gradient: list[tuple[Part, tuple[Tensor, ...]]] = []
        before = [parameter.clone() for parameter in part.parameters()]
        part.maximise(*rows, by_gradient=lambda one, *own: by_gradient.append((one, own)), n_steps=1)
        for parameter, old in zip(part.parameters(), before, strict=True):
            parameter.copy_(torch.lerp(old, parameter, pace.size))
        for one, own in by_gradient:
            self._m_steps.setdefault(one, MStep(one)).step(*own, scale=1.0 / pace.total, lr=self.lr * pace.size)

    def _size(self, n_objects: float) -> float:
        """Return the size of this step: a batch that is smaller than those before counts for less."""
        step = self.n_steps + 1
        size = arguments.step_size(self.step_size(step)) if callable(self.step_size) else self.step_size
        return 1.0 - (1.0 - size) ** min(1.0, n_objects * step / self.n_seen)


def fit_batches(
    mixture: MixtureOfExperts,
    batches: Iterable[Batch],
    *,
    n_objects: float | None = None,
    n_epochs: int = 5,
    step_size: float | Callable[[int], float] = RobbinsMonro(),  # noqa: B008 (frozen)
    lr: float = 0.01,
    n_restarts: int = 20,
    seed: int = 0,
) -> MixtureOfExperts:
    """Fit a mixture to batches from a DataLoader, a file or another iterable.

    Args:
        mixture: what to fit, in place.
        batches: tuples (x, y), (x, y, gate_x) or (x, y, gate_x, groups), where ``gate_x`` may be None; they are moved
            to the mixture's device. A group is in one batch as a whole. An iterable that can be read only once, such as
            a generator, allows one epoch.
        n_objects: N; by default the objects of the first epoch, counted as they come.
        n_epochs: how often to read the batches, at least 1.
        step_size: see :class:`StreamingFit`.
        lr: step size of Adam at the first step.
        n_restarts: for the first batch.
        seed: of the restarts.

    Returns:
        The mixture.

    Raises:
        ValueError: if there is no batch, one does not fit, or the batches have run out before the last epoch.

    Example:
        >>> from torch.utils.data import DataLoader, TensorDataset
        >>> from mixpyro import DirichletGate, LinearExperts
        >>> x = torch.linspace(0, 1, 60).double().unsqueeze(1)
        >>> loader = DataLoader(TensorDataset(x, 1 - x + 0.1 * torch.sin(50 * x)), batch_size=20)
        >>> mixture = MixtureOfExperts(DirichletGate(1), LinearExperts(1, n_features=1))
        >>> fit_batches(mixture, loader).experts.coefficients.round(decimals=1).tolist()
        [[[1.0, -1.0]]]
    """
    stream = StreamingFit(mixture, n_objects=n_objects, step_size=step_size, lr=lr, n_restarts=n_restarts, seed=seed)
    for epoch in range(arguments.integer("n_epochs", n_epochs)):
        before = stream.n_seen
        for x, y, gate_x, groups in _on_device(batches, mixture):
            stream.partial_fit(x, y, gate_x=gate_x, groups=groups)
        if stream.n_seen == before:
            raise ValueError(f"`batches` must give some in each of {n_epochs} epochs; got none in epoch {epoch + 1}.")
        if stream.n_objects is None:
            stream.n_objects = stream.n_seen
    return mixture


def _on_device(batches: Iterable[Batch], mixture: MixtureOfExperts) -> Iterator[tuple[Any, Any, Any, Any]]:
    """Yield x, y, gate_x and groups of the batches, on the mixture's device."""
    device = next((tensor.device for tensor in (*mixture.parameters(), *mixture.buffers())), torch.device("cpu"))
    for batch in batches:
        if not isinstance(batch, tuple | list) or len(batch) not in (2, 3, 4):
            got = f"{len(batch)} values" if isinstance(batch, tuple | list) else type(batch).__name__
            raise TypeError(f"`batches` must give tuples (x, y), (x, y, gate_x) or (x, y, gate_x, groups); got {got}.")
        x, y, gate_x, groups = (*batch, None, None)[:4]
        x, y, gate_x = (part.to(device) if isinstance(part, Tensor) else part for part in (x, y, gate_x))
        yield x, y, gate_x, groups
