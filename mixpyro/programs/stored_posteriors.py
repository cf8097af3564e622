"""Posteriors of gates in Pyro's parameter store, so that they are saved, loaded and cleared with the parameters."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol, runtime_checkable

import pyro
import torch
from pyro.params.param_store import ParamStoreDict
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from mixpyro.arguments.global_state import global_state
from mixpyro.gates.base import Gate
from mixpyro.gates.conjugate import ConjugateGate
from mixpyro.gates.per_object import ObjectGate
from mixpyro.numerics import nested
from mixpyro.shapes import Value


@runtime_checkable
class Steps(Protocol):
    """An SVI that counts its steps."""

    gates: tuple[Gate, ...]
    n_steps: int


class _LastStored(NamedTuple):
    """What this process put into the store last for a gate."""

    posterior: Value
    versions: list[int]  # of its tensors, for they are the gate's own: a count of changes in place


# By gate, and the gate that wrote an entry by the entry: what ``ParamStore.load`` reads has no writer.
_LAST: WeakIdKeyDictionary = WeakIdKeyDictionary()
_WRITERS: WeakIdKeyDictionary = WeakIdKeyDictionary()


def put(gate: Gate, n_steps: int) -> None:
    """Put the posterior of a gate into the store, as ``<name>.posterior_…``, and the number of steps taken.

    Args:
        gate: a gate of a program; one without a posterior has its parameters there already.
        n_steps: of the SVI that updates it.
    """
    if not isinstance(gate, ConjugateGate):
        return
    store = pyro.get_param_store()
    values = {**_named(gate), gate.site("n_steps"): torch.tensor(float(n_steps), dtype=torch.float32, device="cpu")}
    for name, value in values.items():
        # In place of what was there, which may have another number of objects. A copy: the store asks for its gradient.
        store._params.pop(name, None)
        store[name] = value.detach().clone()
        _WRITERS[_entry(store, name)] = weakref.ref(gate)
    posterior = gate.posterior
    _LAST[gate] = _LastStored(posterior, _versions(posterior))


def is_stored(gate: Gate) -> bool:
    """Return whether the store has had the posterior of a gate since it was last cleared.

    Args:
        gate: a gate of a program.
    """
    return gate in _LAST


def take_over(gate: Gate) -> int | None:
    """Give a gate the posterior that the store has for it; its prior where the store has been cleared.

    A posterior that was set by other means since it was stored, or that another gate of the same name has stored, stays
    out of it.

    Args:
        gate: a gate of a program.

    Returns:
        Number of steps that went into what was taken over; None where the gate stays as it is.

    Raises:
        ValueError: if what is stored has another shape than the gate's posterior.
    """
    if not isinstance(gate, ConjugateGate):
        return None
    store, last = pyro.get_param_store(), _LAST.get(gate)
    entries = {name: _entry(store, name) for name in _named(gate) if name in store}
    if _is_set_otherwise(gate, last):
        return None
    if not entries:
        if last is not None:
            gate.forget()
            del _LAST[gate]
        return None if last is None else 0
    if _is_held(gate, entries) or any(_is_of_another(entry, gate) for entry in entries.values()):
        return None
    _hold(gate, entries)
    n_steps = int(store[gate.site("n_steps")]) if gate.site("n_steps") in store else 0
    put(gate, n_steps)
    return n_steps


def _named(gate: ConjugateGate) -> dict[str, Tensor]:
    """Return the tensors of a gate's posterior by their names in the store."""
    return {gate.site(name): value for name, value in zip(gate.posterior_names, gate.posterior, strict=True)}


def _entry(store: ParamStoreDict, name: str) -> Tensor:
    """Return the tensor in the store, which is the value itself: it has no constraint."""
    return store._params[name]


def _versions(posterior: Value) -> list[int]:
    """Return how often the tensors of a posterior have been changed in place, as ``load_state_dict`` does."""
    return [tensor._version for tensor in nested.tensors(posterior)]


def _is_set_otherwise(gate: ConjugateGate, last: _LastStored | None) -> bool:
    """Return whether the posterior was set by something else than the store or a program."""
    if last is None:
        return not gate.is_new
    return _versions(last.posterior) != last.versions or not nested.equal(gate.posterior, last.posterior)


def _is_of_another(entry: Tensor, gate: Gate) -> bool:
    """Return whether another gate of this process has written an entry."""
    writer = _WRITERS.get(entry)
    return writer is not None and writer() is not gate


def _is_held(gate: ConjugateGate, entries: dict[str, Tensor]) -> bool:
    """Return whether the gate has what is stored."""
    own = _named(gate)
    return nested.equal(tuple(own[name] for name in entries), tuple(entries.values()))


def _hold(gate: ConjugateGate, entries: dict[str, Tensor]) -> None:
    """Give a gate what is stored."""
    values = []
    for name, own in _named(gate).items():
        entry = entries.get(name, own).detach()
        if entry.shape[1:] != own.shape[1:] or (entry.shape != own.shape and not isinstance(gate, ObjectGate)):
            raise ValueError(
                f"{name!r} in Pyro's parameter store must have shape {list(own.shape)}; got {list(entry.shape)}. It is "
                "of another gate of this name: call pyro.clear_param_store(), or give the gate another `name`."
            )
        values.append(entry.clone().to(own.device))
    gate.hold_posterior(gate.posterior_kind._make(values))


@contextmanager
def unchanged_by_errors(svi: Steps) -> Iterator[None]:
    """Put back what an SVI changes, and torch's random state, where an error ends what is inside.

    Args:
        svi: the posteriors of its gates are replaced, never written into.
    """
    before, n_steps = [dict(gate._buffers) for gate in svi.gates], svi.n_steps
    put_back = global_state()
    try:
        yield
    except BaseException:
        for gate, buffers in zip(svi.gates, before, strict=True):
            gate._buffers.update(buffers)
        svi.n_steps = n_steps
        put_back()
        raise
