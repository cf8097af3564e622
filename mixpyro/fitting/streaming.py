"""Variational EM on batches: natural-gradient steps for what is conjugate, Newton's or Adam for the rest."""

import copy
import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from tqdm import tqdm

from mixpyro import arguments
from mixpyro.experts.base import Experts, blend_statistics
from mixpyro.fitting.em import Attempt, Options
from mixpyro.fitting.gradient.m_step import MStep
from mixpyro.fitting.interrupts import stop_on_request
from mixpyro.fitting.restarts import Search
from mixpyro.fitting.result import FitResult
from mixpyro.fitting.starts import DEFAULT_STARTS
from mixpyro.fitting.table import Data, checked_data
from mixpyro.gates.base import Gate
from mixpyro.mixture import MixtureOfExperts
from mixpyro.numerics.step_sizes import RobbinsMonro
from mixpyro.pyro_internals.parameter_store import has_parameters
from mixpyro.shapes import GateInputs, Inputs, Responsibilities, Targets

Batch = Sequence[Tensor]

# Rows on which a fit in batches looks for its start.
SAMPLE_ROWS = 5000
# Nats an object.
CHANGE = 1e-3


class StreamingFit:
    """Fit a mixture to a stream of batches, in memory that does not grow with the stream.

    The first batch is fitted in full, from several starts: make it large enough to show every component. Each later
    one gives responsibilities under the posteriors so far; its statistics per row enter a running average, and the
    conjugate posteriors follow from N times that average, a natural-gradient step. Parameters go as far along a step of
    Newton's method on the batch, where their part has one, and else take a step of Adam on the bound, its data term
    counted N / B times, with a rate that falls as the step sizes do.

    Args:
        mixture: what to fit, in place. Its gate must not keep a posterior an object.
        n_objects: N, how many rows, or what sum of weights, the posteriors shall speak of; by default those seen.
        step_size: of the running average, a number in (0, 1] or a function of the step's number, from one on.
        lr: step size of Adam at the first step.
        n_restarts: for the first batch; 0 to begin with the posteriors that the mixture has.
        seed: of the restarts.

    Attributes:
        n_steps: batches seen, the first not counted.
        n_seen: rows seen, or the sum of their weights.

    Warns:
        RuntimeWarning: if a component is empty in the first batch.

    Raises:
        TypeError: if the mixture is none.
        ValueError: if the gate keeps a posterior an object, or an argument is out of range.

    References:
        Hoffman, Blei, Wang, Paisley (2013), Stochastic variational inference, fig. 4;
        Cappé, Moulines (2009), On-line expectation-maximization algorithm for latent data models, eq. 8.

    Example:
        >>> from mixpyro import DirichletGate, LinearExperts
        >>> mixture = MixtureOfExperts(DirichletGate(1), LinearExperts(1, n_features=1))
        >>> stream = StreamingFit(mixture)
        >>> for start in range(0, 100, 20):
        ...     x = torch.arange(start, start + 20).double().unsqueeze(1) / 100
        ...     stream = stream.partial_fit(x, 1 - x)
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
    ) -> None:
        if not isinstance(mixture, MixtureOfExperts):
            raise TypeError(f"`mixture` must be a MixtureOfExperts; got {type(mixture).__name__}.")
        refuse_kept_posteriors(mixture)
        self.mixture = mixture
        self.n_objects = None if n_objects is None else arguments.positive_number("n_objects", n_objects)
        self.step_size = step_size if callable(step_size) else arguments.step_size(step_size)
        self.lr = arguments.positive_number("lr", lr)
        self.n_restarts = arguments.integer("n_restarts", n_restarts, least=0)
        self.seed = arguments.integer("seed", seed, least=0)
        self.n_steps, self.n_seen = 0, 0.0
        self._averages: dict[Gate | Experts, Any] = {}
        self._m_steps = {part: MStep(part) for part in (mixture.gate, mixture.experts) if has_parameters(part)}

    def partial_fit(
        self,
        x: Inputs,
        y: Targets,
        *,
        gate_x: GateInputs | None = None,
        weights: Float[Tensor, " N"] | None = None,
    ) -> "StreamingFit":
        """Learn from one batch; arguments and errors as those of :func:`mixpyro.fit`. Gives itself."""
        data = checked_data(self.mixture, x, y, gate_x, weights)
        self.learn(data)
        return self

    def learn(self, data: Data) -> None:
        """Learn from a batch that has been checked."""
        with arguments.checked_already(), torch.no_grad():
            if not self.n_seen and self.n_restarts:
                self._begin(data)
            self._step(data)

    def _begin(self, data: Data) -> None:
        search = Search(self.mixture, data, Options(), DEFAULT_STARTS, n_restarts=self.n_restarts, seed=self.seed)
        search.go(lambda attempt: True)
        _, attempt = search.adopt()
        for said in emptiness(data.weighted(attempt.responsibilities)):
            warnings.warn(f"{said} in the first batch; make it larger.", RuntimeWarning, stacklevel=4)

    def _step(self, data: Data) -> None:
        if not data.n_objects:
            return
        gate, experts = self.mixture.gate, self.mixture.experts
        r = data.weighted(self.mixture.assign(data.x, data.y, gate_x=data.gate_x).responsibilities)
        size = self._size(data.n_objects) if self.n_seen else 1.0
        self.n_steps += bool(self.n_seen)
        self.n_seen += data.n_objects
        total = self.n_seen if self.n_objects is None else self.n_objects
        self._update(gate, gate.statistics(data.gate_x, r), data, total=total, size=size)
        self._update(experts, experts.statistics(data.x, data.y, r), data, total=total, size=size)
        self._improve(gate, data.gate_x, total / data.n_objects * r, total=total, size=size)
        self._improve(experts, data.x, data.y, total / data.n_objects * r, total=total, size=size)

    def _update(
        self, part: Gate | Experts, statistics: tuple[Tensor, ...], data: Data, *, total: float, size: float
    ) -> None:
        """The posterior that N rows like those in the running average would give."""
        if isinstance(part, Gate) and not part.statistics_are_sums:
            part.update(statistics, step_size=size)
            return
        mean = blend_statistics((1.0 / data.n_objects, statistics))
        if part in self._averages:
            mean = blend_statistics((1.0 - size, self._averages[part]), (size, mean))
        with arguments.checked_already(False):
            part.update(blend_statistics((total, mean)))
        self._averages[part] = mean

    def _improve(self, part: Gate | Experts, *data: Tensor, total: float, size: float) -> None:
        """Parameters, after the first batch: that one has been fitted to its optimum.

        A part with a method of its own goes ``size`` of the way that one step of it would go on the batch. Newton's
        step has the units of the parameters, which Adam's has not.
        """
        if part not in self._m_steps or not self.n_steps:
            return
        before = [parameter.clone() for parameter in part.parameters()]
        by_itself = part.maximise(*data, n_steps=1)
        for parameter, old in zip(part.parameters(), before, strict=True):
            parameter.copy_(torch.lerp(old, parameter, size))
        if not by_itself:
            self._m_steps[part].step(*data, scale=1.0 / total, lr=self.lr * size)

    def _size(self, n_objects: float) -> float:
        """Of this step: a batch that is smaller than those before counts for less."""
        step = self.n_steps + 1
        size = arguments.step_size(self.step_size(step)) if callable(self.step_size) else self.step_size
        return 1.0 - (1.0 - size) ** min(1.0, n_objects * step / self.n_seen)


def refuse_kept_posteriors(mixture: MixtureOfExperts) -> None:
    """Raise ValueError if the gate keeps a posterior of each object, which a stream has no place for."""
    if not mixture.gate.takes_row_weights:
        raise ValueError(
            f"`mixture` must have a gate that forgets its objects; got {type(mixture.gate).__name__}, which keeps "
            "a posterior of each. MarginalObjectDirichletGate integrates it out."
        )


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
    """Fit a mixture to batches from a DataLoader, a file or anything that can be gone through.

    Args:
        mixture: what to fit, in place.
        batches: tuples (x, y) or (x, y, gate_x); they are taken to the mixture's device. One that can be gone through
            only once, such as a generator, allows one epoch.
        n_objects: N; by default the rows of the first epoch, counted as they come.
        n_epochs: how often to go through the batches.
        step_size: see :class:`StreamingFit`, as for ``lr``, ``n_restarts`` and ``seed``.
        lr: of Adam.
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
        >>> loader = DataLoader(TensorDataset(x, 1 - x), batch_size=20)
        >>> mixture = MixtureOfExperts(DirichletGate(1), LinearExperts(1, n_features=1, coefficient_precision=1e-4))
        >>> fit_batches(mixture, loader).experts.coefficients.round(decimals=2).tolist()
        [[[1.0, -1.0]]]
    """
    stream = StreamingFit(mixture, n_objects=n_objects, step_size=step_size, lr=lr, n_restarts=n_restarts, seed=seed)
    for epoch in range(arguments.integer("n_epochs", n_epochs)):
        before = stream.n_seen
        for x, y, *gate_x in _on_device(batches, mixture):
            stream.partial_fit(x, y, gate_x=gate_x[0] if gate_x else None)
        if stream.n_seen == before:
            raise ValueError(f"`batches` must give some in each of {n_epochs} epochs; got none in epoch {epoch + 1}.")
        if stream.n_objects is None:
            stream.n_objects = stream.n_seen
    return mixture


@torch.no_grad()
def fit_in_batches(search: Search, data: Data, *, batch_size: int, n_epochs: int, progress: bool) -> FitResult:
    """What :func:`mixpyro.fit` does with a ``batch_size``: restarts on a sample of the rows, then epochs over all.

    The trace has the bound of all rows after each epoch. It has converged if the last one changed it by less than
    ``CHANGE`` nats an object. Ctrl-C ends it after the batch at hand.

    Raises:
        KeyboardInterrupt: if Ctrl-C comes before the sample has been fitted.
    """
    mixture = copy.deepcopy(search.mixture)
    generator = Generator().manual_seed(search.seed)
    sample = torch.randperm(len(search.data.x), generator=generator)[: max(batch_size, SAMPLE_ROWS)]
    search.data = search.data.block(sample.to(data.x.device))
    whole = Attempt(mixture, data, search.options)
    with (
        stop_on_request() as stop_requested,
        tqdm(total=n_epochs, unit="epoch", delay=2.0, disable=not progress, leave=False) as bar,
    ):
        search.go(lambda attempt: not stop_requested())
        if stop_requested():
            raise KeyboardInterrupt
        mixture.load_state_dict(search.best_attempt.mixture.state_dict())
        stream = StreamingFit(mixture, n_restarts=0)
        stream.n_objects = data.n_objects
        stream.learn(search.data)
        while len(whole.trace) < n_epochs and not stop_requested():
            for rows in _batches(data, batch_size, generator):
                if not stop_requested():
                    stream.learn(data.block(rows))
            whole.trace.append(_bound_of_all(whole))
            bar.update()
        interrupted = stop_requested()
    gained = [abs(last - before) for before, last in itertools.pairwise(whole.trace)]
    whole.converged = bool(gained) and gained[-1] < CHANGE * data.n_objects
    search.mixture.load_state_dict(mixture.state_dict())
    return FitResult(search.mixture, whole.responsibilities, 0, (whole.outcome(),), data.weights, interrupted)


def _batches(data: Data, batch_size: int, generator: Generator) -> Sequence[Tensor]:
    """Shuffled rows in batches of one size, or nearly: a short one at the end would have too much of a say."""
    order = torch.randperm(len(data.x), generator=generator).to(data.x.device)
    return order.tensor_split(-(-len(order) // batch_size))


def _bound_of_all(whole: Attempt) -> float:
    gate, data = whole.mixture.gate, whole.data
    if not gate.statistics_are_sums:
        whole.e_step()
        gate.update(gate.statistics(data.gate_x, data.weighted(whole.responsibilities)))
    return whole.e_step()[1]


def emptiness(responsibilities: Responsibilities) -> list[str]:
    """Components that hold less than an object, in words."""
    counts = responsibilities.sum(0).tolist()
    return [f"component {k} has {count:.2g} objects" for k, count in enumerate(counts) if count < 1.0]


def _on_device(batches: Iterable[Batch], mixture: MixtureOfExperts) -> Iterator[list[Tensor]]:
    place = next((state.device for state in (*mixture.parameters(), *mixture.buffers())), torch.device("cpu"))
    for batch in batches:
        if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
            raise TypeError(f"`batches` must give tuples (x, y) or (x, y, gate_x); got {type(batch).__name__}.")
        yield [part.to(place) for part in batch]
