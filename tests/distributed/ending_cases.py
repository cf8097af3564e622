"""What the worker processes do where a fit does not end as it should: errors, Ctrl-C and death on one rank."""

import os
import signal
import sys
import time
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor

from mixpyro import fit
from mixpyro.distributed.processes import Processes
from tests.distributed import workers
from tests.distributed.cases import CUTS, MIXTURES, compared, data, drawn_start, fitted, shard, words_of

# Of a group whose members wait for one that does not answer.
SHORT = timedelta(seconds=2)


def with_error(rank: int, size: int, group: Any, what: str) -> str:
    """What a rank says where rank 1 has something wrong."""
    rows = shard(data(), rank, size)
    options: dict[str, Any] = {"progress": False, "process_group": group, "n_restarts": 2, "max_iterations": 3}
    if what == "seed" and rank == 1:
        options["seed"] = 7
    if what == "start":
        options["starts"] = [_failing_on_rank_1(rank)]
    if what == "nan" and rank == 1:
        rows["y"][3] = torch.nan
    if what == "groups":
        rows["groups"] = torch.arange(CUTS[size][rank], CUTS[size][rank + 1]) // 2
    try:
        fit(MIXTURES["dirichlet, linear"](), **rows, **options)
    except Exception as error:
        return words_of(error)
    return "no error"


def _failing_on_rank_1(rank: int) -> Any:
    """A start that fails on rank 1."""

    def start(*given: Any) -> Tensor:
        if rank == 1:
            raise OSError("the disk is full")
        return drawn_start(*given)

    return start


class Interrupting(Tensor):
    """A tensor that gets Ctrl-C where an exchange reads it: after its first half, which says how much is sent."""

    def detach(self) -> Tensor:
        """Return the numbers, and press Ctrl-C."""
        os.kill(os.getpid(), signal.SIGINT)
        return self.as_subclass(Tensor)


def interrupted_exchange(rank: int, size: int, group: Any) -> tuple[list[list[float]], str]:
    """What a rank receives, and what it says, where Ctrl-C comes to rank 1 between the two halves of an exchange."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    received: list[list[float]] = []
    own = torch.full((rank + 1,), float(rank))
    try:
        processes = Processes(group)
        with processes.together():
            received += [one.tolist() for one in processes.gather(own.as_subclass(Interrupting) if rank == 1 else own)]
            processes.numbers(0)
    except BaseException as error:
        return received, words_of(error)
    return received, "no error"


class FullDisk:
    """A file that nothing can be written to."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        """Fail."""
        raise OSError("no space left on device")

    def flush(self) -> None:
        """Do nothing."""


def with_full_disk(rank: int, size: int, group: Any) -> str:
    """What a rank says where the progress bar of rank 0 cannot be written."""

    def slow(*given: Any) -> Tensor:
        time.sleep(0.8)  # A bar is shown after two seconds.
        return drawn_start(*given)

    before = sys.stderr
    sys.stderr = FullDisk()
    rows = shard(data(), rank, size)
    try:
        fit(MIXTURES["dirichlet, linear"](), **rows, process_group=group, starts=[slow], n_candidates=1, n_restarts=3)
    except Exception as error:
        return words_of(error)
    finally:
        sys.stderr = before
    return "no error"


def stopped(rank: int, size: int, group: Any, asked: int) -> tuple[bool, dict[str, Any]]:
    """Whether a fit was ended by Ctrl-C on one rank in the second start, and what it found."""
    drawn = [0]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # A shell's background jobs ignore it.

    def start(*given: Any) -> Tensor:
        drawn[0] += 1
        if rank == asked and drawn[0] == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return drawn_start(*given)

    start.__qualname__ = "start"
    result = fitted("object dirichlet, linear", rank, size, group, starts=[start], n_candidates=1)
    return result.interrupted, compared(result)


def mortal_start(*given: Any) -> Tensor:
    """A start in which a process dies, if its environment says so: the fit that goes on has the same function."""
    left = int(os.environ.get("STARTS_LEFT", "0"))
    os.environ["STARTS_LEFT"] = str(left - 1)
    if left == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return drawn_start(*given)


MORTAL: dict[str, Any] = {"starts": [mortal_start], "n_candidates": 1, "checkpoint_seconds": 0}


def killed(rank: int, size: int, port: int, path: str, number: int, name: str) -> None:
    """Fit with a checkpoint as one of ranks of its own, and die on the last rank in a start."""
    workers.join(rank, size, port)
    if rank == size - 1:
        os.environ["STARTS_LEFT"] = str(number)
    _write_error(f"{path}.{rank}", lambda: fitted(name, rank, size, checkpoint=path, **MORTAL))


def resumed(rank: int, size: int, group: Any, path: str, name: str) -> dict[str, Any]:
    """What a fit finds that goes on from a checkpoint."""
    return compared(fitted(name, rank, size, group, checkpoint=path, **MORTAL))


def lost_twice(rank: int, size: int, port: int, path: str) -> None:
    """Fit on all ranks; once more while the last is late, which then dies; and once more."""
    workers.join(rank, size, port, SHORT)

    def again() -> None:
        fitted("dirichlet, gaussian", rank, size, n_restarts=1)

    again()
    if rank == size - 1:
        time.sleep(SHORT.total_seconds() + 1.0)  # The others wait for two seconds more to hear from it.
    _write_error(f"{path}.late.{rank}", again)
    if rank == size - 1:
        os.kill(os.getpid(), signal.SIGKILL)
    _write_error(f"{path}.dead.{rank}", again)


def _write_error(path: str, call: Any) -> None:
    """Call a function and write what error it raises to a file."""
    try:
        call()
    except Exception as error:
        with open(path, "w") as file:
            file.write(words_of(error))
