"""What all processes of a fit must be given alike, and what they cannot do."""

import hashlib
from collections.abc import Sequence
from typing import Any

from mixpyro.distributed.groups_of_processes import processes_given
from mixpyro.distributed.processes import Processes
from mixpyro.experts.base import Experts
from mixpyro.gates.per_object import ObjectGate
from mixpyro.mixture import MixtureOfExperts
from mixpyro.part import Part
from mixpyro.pyro_internals.parameter_store import has_parameters


def names_of(starts: object) -> object:
    """Return the names of starts, as arguments that ranks compare.

    Args:
        starts: as for :func:`mixpyro.fit`.
    """
    if not isinstance(starts, Sequence):
        return repr(starts)
    return [getattr(start, "__qualname__", type(start).__qualname__) for start in starts]


def check_alike(processes: Processes, mixture: MixtureOfExperts, given: dict[str, Any]) -> None:
    """Raise unless all ranks fit the same mixture with the same arguments.

    Args:
        processes: of the fit.
        mixture: what shall be fitted.
        given: arguments by their names.

    Raises:
        ValueError: on all ranks, with the arguments that differ.
    """
    refuse_undistributed(mixture)
    said = {name: repr(value) for name, value in given.items()}
    said["mixture"] = " ".join(repr(mixture).split())
    digest = hashlib.sha256()
    for name, value in mixture.state_dict().items():
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    said["parameters of mixture"] = digest.hexdigest()[:16]
    processes.same(said)


def refuse_undistributed(mixture: MixtureOfExperts) -> None:
    """Raise if a part of a mixture must see all rows at once to be estimated.

    Args:
        mixture: what shall be fitted on many processes.

    Raises:
        ValueError: with the part and what to do.
    """
    if isinstance(mixture.gate, ObjectGate) and mixture.experts.takes_steps:
        raise ValueError(
            f"`experts` must have posteriors beside a {type(mixture.gate).__name__} on many processes; got "
            f"{type(mixture.experts).__name__}, whose first step reads every row. Use a DirichletGate."
        )
    for part in (one for one in mixture.modules() if isinstance(one, Part)):
        kind = type(part).__name__
        if isinstance(part, ObjectGate) and has_parameters(part):
            raise ValueError(
                f"`gate` must not learn the mean of a {kind} on many processes; got `learn_mean=True`. Use a "
                "MarginalObjectDirichletGate, whose mean is learnt in closed form."
            )
        if isinstance(part, Experts) and part.reads_groups:
            raise ValueError(
                f"`experts` must not be {kind} on many processes: their updates read whole groups. Fit on one."
            )
        if part.finds_maximum and part.reads_rows and not getattr(part, "members", ()):
            raise ValueError(
                f"`{'experts' if isinstance(part, Experts) else 'gate'}` must be estimated from sums over the rows on "
                f"many processes; got a {kind} with {part.n_parameters} parameters, whose Newton steps read every row."
            )


def refuse_gradients(mixture: MixtureOfExperts) -> None:
    """Raise if a part of a mixture has parameters that a stream estimates from the rows of a batch.

    Args:
        mixture: what shall be fitted to a stream on many processes.

    Raises:
        ValueError: with the part and what to do.
    """
    for part in (mixture.gate, mixture.experts):
        if isinstance(part, ObjectGate) or has_parameters(part):
            raise ValueError(
                f"`mixture` must have posteriors alone for a stream on many processes; got {type(part).__name__}, "
                "which reads every row. Use `fit`, or a stream on one process."
            )


def refuse_processes(process_group: object, name: str) -> None:
    """Raise if there are many processes, for what is done on one.

    Args:
        process_group: of torch.distributed; None for the default group.
        name: of the function.

    Raises:
        ValueError: if there are.
    """
    if processes_given("process_group", process_group) is not None:
        raise ValueError(
            f"`{name}` must be called in one process; got an initialised process group of several. Use `fit`, each "
            "rank with its rows, or a StreamingFit of batches that lie on all ranks."
        )
