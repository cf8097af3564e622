"""How often a fit waits for the device, and how much of its memory it takes."""

import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch

from tests.benchmarks.cuda.works import Fit, finish, work

FEW, MORE = 2, 6  # iterations: the difference excludes what happens once


def waits(function: Callable[[], object], device: torch.device) -> int:
    """Count the synchronisations that PyTorch warns of; 0 on a CPU."""
    if device.type != "cuda":
        function()
        return 0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            function()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("called a synchronizing" in str(warning.message) for warning in caught)


def peak(function: Callable[[], object], device: torch.device) -> int:
    """Return the most bytes that were allocated beside those there before; 0 on a CPU."""
    if device.type != "cuda":
        return 0
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    function()
    finish(device)
    return torch.cuda.max_memory_allocated(device) - before


def measured(device: torch.device, n: int, most_seconds: float) -> Iterator[dict[str, Any]]:
    """Yield waits per iteration and peak memory of each fit of the table."""
    started = time.perf_counter()
    for name, make in work(n):
        if not isinstance(make, Fit) or " restarts" in name:
            continue
        if time.perf_counter() - started > most_seconds:
            return
        few, more = make.of(FEW)(device), make.of(MORE)(device)
        few()
        per_iteration = (waits(more, device) - waits(few, device)) / (MORE - FEW)
        what = name.split("iterations, ")[1]
        yield {"what": what, "waits_an_iteration": per_iteration, "peak_bytes": peak(few, device)}
