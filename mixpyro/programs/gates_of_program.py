"""Checks of the gates that ConjugateSVI is given, and of what a program has said of them."""

from collections.abc import Sequence

from mixpyro import arguments
from mixpyro.gates.base import Gate
from mixpyro.pyro_internals.expected_weights import GateRecord


def checked_gates(gates: object) -> tuple[Gate, ...]:
    """Return the gates as a tuple if they are different gates.

    Args:
        gates: what a user passes: a gate, or several.

    Raises:
        TypeError: if they are no gates.
        ValueError: if one stands there twice.
    """
    several = (gates,) if isinstance(gates, Gate) else gates
    if not isinstance(several, Sequence) or not several or not all(isinstance(gate, Gate) for gate in several):
        raise TypeError(f"`gates` must be a mixpyro Gate or a sequence of them; got {arguments.shown(gates)}.")
    chosen = tuple(several)
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"`gates` must differ from each other; got one twice in {len(chosen)}.")
    return chosen


def check_seen(gates: Sequence[Gate], records: list[GateRecord]) -> None:
    """Raise if the program has said nothing of its gates, or something impossible.

    A gate of a part that this step does not visit, as a document outside the subsample, is not called, and stays as it
    is.

    Args:
        gates: that the program is to call.
        records: what it has said of each.

    Raises:
        RuntimeError: if nothing of a gate that a step visits.
        ValueError: if something that is not finite.
    """
    for gate, record in zip(gates, records, strict=True):
        is_called = record.runs or not any(other.runs for other in records)
        if any(one.is_drawn for run in record.seen for one in run.seen) or (is_called and not record.seen):
            raise RuntimeError(
                f"`model` must call the model of a gate in `gates`, and leave its assignments to be enumerated; got no "
                f"evidence on {gate.site('assignment')!r}. Hide them from the guide, and not from the model; with "
                "`sample_weights`, call `assign` too."
            )
        record.check(gate.site("assignment"))
