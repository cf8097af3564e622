"""Blocks of objects that are a function of how many there are: sums are made within a block, then added in their order.

So the digits of a sum do not depend on how many processes there are, nor on which rows each of them was given.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from mixpyro import arguments
from mixpyro.distributed.groups_of_processes import processes_given
from mixpyro.distributed.processes import Processes


class Limits(NamedTuple):
    """Limits on the blocks; ``LIMITS`` holds those in use. A test that needs small blocks replaces it."""

    # Objects. With fewer, an E-step of one run on a CPU takes longer, for it goes through that many rows at once.
    least_objects: int = 2**17
    # Blocks. With more, their sums would take longer to send than to make; with fewer, many ranks would be uneven.
    most_blocks: int = 256
    # Multiple of the objects on a GPU, which goes through that many times more rows at once.
    gpu_factor: int = 64
    # Multiple of the objects, so that rows of a block begin where vector instructions load fastest.
    multiple: int = 64


LIMITS = Limits()


def block_size(n_objects: int, device: torch.device) -> int:
    """Return how many objects a block has; the last one may have fewer.

    Args:
        n_objects: N, of all processes.
        device: of the rows.
    """
    least = LIMITS.least_objects * (1 if device.type == "cpu" else LIMITS.gpu_factor)
    size = max(least, -(-n_objects // LIMITS.most_blocks))
    return -(-size // LIMITS.multiple) * LIMITS.multiple


@dataclass(frozen=True, eq=False)
class Blocks:
    """The blocks of N objects, and which of them this process holds.

    Attributes:
        size: objects of a block.
        n_objects: N, of all processes.
        first: number of the first object that this process holds.
        n_held: how many it holds, whole blocks one after another.
        processes: all that hold some; None where this one holds all.
    """

    size: int
    n_objects: int
    first: int
    n_held: int
    processes: Processes | None = None

    @property
    def n_blocks(self) -> int:
        """Number of blocks of all processes."""
        return -(-self.n_objects // self.size)

    @property
    def holds_any(self) -> bool:
        """Whether this process has objects that count; one without holds the first object of all, as a pattern."""
        return self.n_held > 0

    @property
    def slices(self) -> list[slice]:
        """The blocks among the objects of this process; one without has the pattern as one."""
        ends = range(0, max(self.n_held, 1), self.size)
        return [slice(start, min(start + self.size, max(self.n_held, 1))) for start in ends]

    def total(self, parts: Sequence[Sequence[Tensor]], *, digest: int = 0) -> list[Tensor]:
        """Return sums over the blocks of all processes, added in the order of the blocks.

        Args:
            parts: for each block of this process the same number of tensors, of one shape and dtype in every block.
            digest: as for :meth:`Processes.gather`.
        """
        like = parts[0]
        if self.processes is None and len(parts) == 1:
            return list(like)
        rows = torch.stack([_flat(part) for part in parts])
        if self.processes is not None:
            own = rows if self.holds_any else rows[:0]
            width = rows.shape[1]
            found = self.processes.gather(own, kind="sums of blocks", digest=digest)
            rows = torch.cat([one.view(-1, width) for one in found]) if width else rows[:1]
        total = rows[0]
        for row in rows[1:]:
            total = total + row
        split = total.split([tensor.numel() for tensor in like])
        return [own.view(tensor.shape).to(tensor.dtype) for own, tensor in zip(split, like, strict=True)]


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    """Return all numbers of tensors in one row, float64."""
    if not tensors:
        return torch.empty(0, dtype=torch.float64, device="cpu")
    return torch.cat([tensor.detach().reshape(-1).double() for tensor in tensors])


class Move(NamedTuple):
    """Objects that one rank has and another shall hold."""

    source: int
    target: int
    first: int  # number of the first of them, of all processes
    n_objects: int


def held(counts: Sequence[int], size: int) -> tuple[list[int], list[int], list[Move]]:
    """Return what each rank shall hold, first and number of objects, and the moves that lead there.

    A block is held by the rank that was given its first object.

    Args:
        counts: objects that each rank was given.
        size: of a block.
    """
    ends = list(accumulate(counts))
    starts = [end - count for end, count in zip(ends, counts, strict=True)]
    n_objects = ends[-1]
    first = [min(-(-start // size) * size, n_objects) for start in starts]
    last = [*first[1:], n_objects]
    moves = [
        Move(source, target, max(starts[source], first[target]), n)
        for target in range(len(counts))
        for source in range(len(counts))
        if source != target
        for n in [min(ends[source], last[target]) - max(starts[source], first[target])]
        if n > 0
    ]
    return first, [end - start for start, end in zip(first, last, strict=True)], moves


@arguments.checked(n_rows=arguments.integer_from(0), device=lambda _, value: arguments.device(value))
def shard(n_rows: int, *, process_group: object = None, device: str | torch.device = "cpu") -> slice:
    """Return which of N rows a rank should read, so that no row has to be sent to another before a fit.

    Args:
        n_rows: N, at least 0, of all ranks; every row an object.
        process_group: of torch.distributed; None for the default group.
        device: that the fit shall run on.

    Returns:
        A slice of the rows of this rank, whole blocks; all of them without a process group. Ranks for which there is no
        block have none.

    Raises:
        TypeError: if an argument is of another type.
        ValueError: if a number is below 0, or the group is not one of this process.

    Example:
        >>> shard(1000)
        slice(0, 1000, None)
    """
    processes = processes_given("process_group", process_group)
    if processes is None:
        return slice(0, n_rows)
    size = block_size(n_rows, torch.device(device))
    n_blocks = -(-n_rows // size)
    first, last = (n_blocks * rank // processes.size for rank in (processes.rank, processes.rank + 1))
    return slice(min(first * size, n_rows), min(last * size, n_rows))
