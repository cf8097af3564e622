"""Batches of several processes, each of which reads its own."""

from collections.abc import Iterator
from typing import Any

from mixpyro.distributed.processes import Processes


def batches_of_all(own: Iterator[tuple[Any, ...]], processes: Processes) -> Iterator[tuple[Any, ...]]:
    """Yield the batches of this process, and batches without rows while others still have some.

    Args:
        own: x, y, gate_x or None, and groups or None, in tuples; perhaps none at all.
        processes: that read batches, not the same number each.
    """
    pattern: tuple[Any, ...] | None = None
    while True:
        batch = next(own, None)
        if not processes.any(batch is not None):
            return
        if batch is not None:
            *columns, _ = batch
            pattern = (*(None if part is None else part[:0] for part in columns), None)
        if processes.any(pattern is None):
            known = [one for one in processes.objects(pattern) if one is not None]
            pattern = known[0] if pattern is None else pattern
        yield batch if batch is not None else pattern  # type: ignore[misc]
