"""Fits to batches from a DataLoader, a file or another iterable."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from mixpyro import arguments
from mixpyro.arguments.messages import shown
from mixpyro.arguments.module_contents import contents_of
from mixpyro.arguments.signals import undone_if_it_raises
from mixpyro.distributed.groups_of_processes import processes_given
from mixpyro.fitting.batches_of_all import batches_of_all
from mixpyro.fitting.cautions import warn_once
from mixpyro.fitting.interrupts import stop_on_request
from mixpyro.fitting.streaming import GivenBatch, StreamingFit
from mixpyro.mixture import MixtureOfExperts
from mixpyro.numerics.step_sizes import RobbinsMonro

Batch = Sequence[Any]


def fit_batches(
    mixture: MixtureOfExperts,
    batches: Iterable[Batch],
    *,
    n_objects: float | None = None,
    n_epochs: int = 5,
    step_size: float | Callable[[int], float] = RobbinsMonro(),  # noqa: B008 (frozen)
    lr: float = 0.01,
    n_restarts: int = 20,
    max_iterations: int = 1000,
    seed: int = 0,
    progress: bool = True,
    process_group: object = None,
) -> MixtureOfExperts:
    """Fit a mixture to batches from a DataLoader, a file or another iterable.

    Ctrl-C ends the fit after the batch in progress, and the search on the first batch with what it has; a second one,
    at once, leaves the mixture as it was.

    Args:
        mixture: what to fit, in place; it is left as it was if the fit raises.
        batches: tuples (x, y), (x, y, gate_x) or (x, y, gate_x, groups), where ``gate_x`` may be None; they are moved
            to the mixture's device. A group is in one batch as a whole. An iterable that can be read only once, such as
            a generator, allows one epoch.
        n_objects: N; by default the objects of the first epoch, counted as they come.
        n_epochs: how often to read the batches, at least 1.
        step_size: see :class:`StreamingFit`.
        lr: step size of Adam at the first step.
        n_restarts: for the first batch.
        max_iterations: most iterations of a run on the first batch, at least 1.
        seed: of the restarts.
        progress: show a progress bar once the search on the first batch has taken two seconds.
        process_group: of torch.distributed; the default group if that is initialised. Each rank reads batches of its
            own, and a batch is that of all ranks then. Ranks whose batches have run out have no rows in those that
            others still have.

    Returns:
        The mixture.

    Raises:
        TypeError: if ``batches`` is no iterable of tuples.
        ValueError: if there is no batch, one does not fit, or the batches have run out before the last epoch.
        RuntimeError: if no run on the first batch reached a finite bound.
        KeyboardInterrupt: if Ctrl-C comes twice, or before there is anything to end with.

    Warns:
        RuntimeWarning: as :class:`StreamingFit`, and if the fit was interrupted.

    Example:
        >>> from torch.utils.data import DataLoader, TensorDataset
        >>> from mixpyro import DirichletGate, LinearExperts
        >>> x = torch.linspace(0, 1, 60).double().unsqueeze(1)
        >>> loader = DataLoader(TensorDataset(x, 1 - x + 0.1 * torch.sin(50 * x)), batch_size=20)
        >>> mixture = MixtureOfExperts(DirichletGate(1), LinearExperts(1, n_features=1))
        >>> fit_batches(mixture, loader).experts.coefficients.round(decimals=1).tolist()
        [[[1.0, -1.0]]]
    """
    processes = processes_given("process_group", process_group)
    together = contextlib.nullcontext if processes is None else processes.together
    options: dict[str, Any] = {"n_restarts": n_restarts, "max_iterations": max_iterations, "seed": seed}
    options |= {"n_objects": n_objects, "step_size": step_size, "lr": lr, "progress": progress}
    with together():
        stream, n_epochs = _begun(mixture, batches, n_epochs, options, process_group)

    def learn(stop_requested: Callable[[], bool]) -> None:
        with together() if stream.processes is None else stream.processes.together():
            _learn(stream, batches, n_epochs, stop_requested)

    with stop_on_request() as stop_requested:
        undone_if_it_raises(lambda: learn(stop_requested), lambda: contents_of(mixture))
    return mixture


def _begun(
    mixture: MixtureOfExperts, batches: object, n_epochs: int, options: dict[str, Any], process_group: object
) -> tuple[StreamingFit, int]:
    """Return the stream that shall learn from batches, and in how many epochs, if the arguments are right."""
    n_epochs = arguments.integer("n_epochs", n_epochs)
    # Not by iter(), which starts the workers of a DataLoader.
    if not (hasattr(type(batches), "__iter__") or hasattr(type(batches), "__getitem__")):
        raise TypeError(f"`batches` must be an iterable of tuples; got {shown(batches)}.")
    stream = StreamingFit(mixture, process_group=process_group, **options)
    if stream.processes is not None:
        stream.processes.same({"n_epochs": repr(n_epochs)})
    return stream, n_epochs


def _learn(stream: StreamingFit, batches: Iterable[Batch], n_epochs: int, stop_requested: Callable[[], bool]) -> None:
    """Learn from the batches of all epochs, or until a stop is requested."""
    for epoch in range(n_epochs):
        before = stream.n_seen
        own = _on_device(batches, stream.mixture)
        for batch in own if stream.processes is None else batches_of_all(own, stream.processes):
            cautions = stream.learn_rows(GivenBatch(*batch), stop_requested)
            stop = stop_requested() if stream.processes is None else stream.processes.any(stop_requested())
            if stop:
                cautions.append(f"the fit was interrupted in epoch {epoch + 1} of {n_epochs}.")
            warn_once(cautions, stream.processes)
            if stop:
                return
        if stream.n_seen == before:
            hint = " A generator can be read once: give a list or a DataLoader, or `n_epochs=1`." if epoch else ""
            raise ValueError(
                f"`batches` must give some in each of {n_epochs} epochs; got none in epoch {epoch + 1}.{hint}"
            )
        if stream.n_objects is None:
            stream.n_objects = stream.n_seen


def _on_device(batches: Iterable[Batch], mixture: MixtureOfExperts) -> Iterator[tuple[Any, Any, Any, Any]]:
    """Yield x, y, gate_x and groups of the batches, on the mixture's device."""
    device = next((tensor.device for tensor in (*mixture.parameters(), *mixture.buffers())), torch.device("cpu"))
    if not arguments.is_iterable(batches):
        raise TypeError(f"`batches` must be an iterable of tuples; got {arguments.shown(batches)}.")
    for batch in batches:
        if not isinstance(batch, tuple | list) or len(batch) not in (2, 3, 4):
            got = f"{len(batch)} values" if isinstance(batch, tuple | list) else type(batch).__name__
            raise TypeError(f"`batches` must give tuples (x, y), (x, y, gate_x) or (x, y, gate_x, groups); got {got}.")
        x, y, gate_x, groups = (*batch, None, None)[:4]
        x, y, gate_x = (part.to(device) if isinstance(part, Tensor) else part for part in (x, y, gate_x))
        yield x, y, gate_x, groups
