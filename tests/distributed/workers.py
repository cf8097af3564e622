"""Worker processes that are kept for all tests: ranks of a group, which do what a test asks for."""

import importlib
import os
import socket
import traceback
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from mixpyro.distributed import blocks
from tests.distributed import cases

# Longer than any call takes.
TIMEOUT = timedelta(seconds=20)


def free_port() -> int:
    """A port that nothing listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def join(rank: int, size: int, port: int) -> None:
    """Become a rank of a process group."""
    torch.set_num_threads(1)
    blocks.LIMITS = cases.SMALL
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), OMP_NUM_THREADS="1")
    dist.init_process_group("gloo", rank=rank, world_size=size, timeout=TIMEOUT)


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


def killed(rank: int, size: int, port: int, *args: Any) -> None:
    """Become a rank, and do what ends with its death; arguments as of :func:`cases.killed`."""
    join(rank, size, port)
    cases.killed(rank, size, *args)


class Workers:
    """Four processes."""

    def __init__(self) -> None:
        context = mp.get_context("spawn")
        self.calls, self.answers, port = [context.Queue() for _ in range(4)], context.Queue(), free_port()
        self.ranks = [
            context.Process(target=serve, args=(rank, 4, port, self.calls[rank], self.answers), daemon=True)
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
        for queue in self.calls:
            queue.put(None)
        for one in self.ranks:
            one.join(timeout=2)
            one.kill()
