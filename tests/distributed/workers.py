"""Worker processes that are kept for all tests: ranks of a group, which do what a test asks for."""

import importlib
import os
import socket
import traceback
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from mixpyro.distributed import blocks
from tests.distributed import cases

# Longer than any call takes.
TIMEOUT = timedelta(seconds=20)
# One process imports these modules, and every worker is a fork of it: to import them takes longer than most tests.
CASES = [f"tests.distributed.{kind}_cases" for kind in ("one_block", "stream", "fault", "ending")]
CONTEXT = mp.get_context("forkserver")
CONTEXT.set_forkserver_preload([*CASES, "torch._dynamo", "scipy.optimize"])


def free_port() -> int:
    """A port that nothing listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def join(rank: int, size: int, port: int, timeout: timedelta = TIMEOUT) -> None:
    """Become a rank of a process group."""
    torch.set_num_threads(1)
    blocks.LIMITS = cases.SMALL
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), OMP_NUM_THREADS="1")
    dist.init_process_group("gloo", rank=rank, world_size=size, timeout=timeout)


def serve(rank: int, size: int, port: int, calls: Any, answers: Any) -> None:
    """Do what the test asks for, on groups of the first ranks, until it asks for nothing."""
    join(rank, size, port)
    groups = {n: dist.new_group(list(range(n)), timeout=TIMEOUT) for n in range(1, size + 1)}
    while (call := calls.get()) is not None:
        module, function, n_ranks, args = call
        try:
            found = getattr(importlib.import_module(module), function)(rank, n_ranks, groups[n_ranks], *args)
            answers.put((rank, found, None))
        except BaseException as error:
            answers.put((rank, None, "".join(traceback.format_exception(error))[-1500:]))


class Workers:
    """Four processes."""

    def __init__(self) -> None:
        self.calls, self.answers, port = [CONTEXT.Queue() for _ in range(4)], CONTEXT.Queue(), free_port()
        self.ranks = [
            CONTEXT.Process(target=serve, args=(rank, 4, port, self.calls[rank], self.answers), daemon=True)
            for rank in range(4)
        ]
        for one in self.ranks:
            one.start()

    def ask(self, function: str, n_ranks: int, *args: Any, module: str = cases.__name__) -> list[Any]:
        """Call a function of a module on the first ranks; return what each answers."""
        for rank in range(n_ranks):
            self.calls[rank].put((module, function, n_ranks, args))
        found = {}
        for _ in range(n_ranks):
            rank, value, error = self.answers.get(timeout=60)
            found[rank] = value, error
        assert [error for _, error in found.values() if error] == []
        return [found[rank][0] for rank in range(n_ranks)]

    def end(self) -> None:
        """End the processes."""
        for one in self.ranks:
            one.kill()
        for one in self.ranks:
            one.join()


def ended(function: Callable[..., None], size: int, *args: Any) -> list[int | None]:
    """Call a function on ranks of their own, which may die; return how each process has ended."""
    port = free_port()
    ranks = [CONTEXT.Process(target=function, args=(rank, size, port, *args)) for rank in range(size)]
    for one in ranks:
        one.start()
    for one in ranks:
        one.join(timeout=60)
        one.kill()
    return [one.exitcode for one in ranks]
