"""A fit on two processes, one of which is killed the first time; torchrun starts all anew, and the fit goes on.

Run as ``python -m torch.distributed.run --standalone --nproc-per-node=2 --max-restarts=3 -m tests.benchmarks.dies_once
FILE`` with a new file for the checkpoint. It is no test, for it takes fifteen seconds.
"""

import os
import signal
import sys
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from mixpyro.distributed import blocks
from tests.distributed import cases

if __name__ == "__main__":
    torch.set_num_threads(1)
    blocks.LIMITS = cases.SMALL
    store, rank, size = next(rendezvous("env://"))
    # Names of this attempt: the addresses of processes that have died stay in the store of torchrun.
    attempt = os.environ["TORCHELASTIC_RESTART_COUNT"]
    store = dist.PrefixStore(attempt, store)  # type: ignore[attr-defined]
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=timedelta(seconds=20))
    drawn = [0]

    def start(*given: Any) -> torch.Tensor:
        """Draw a start; the second one kills rank 1 if no rank was started anew so far."""
        drawn[0] += 1
        if rank == 1 and drawn[0] == 2 and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
            os.kill(os.getpid(), signal.SIGKILL)
        return cases.drawn_start(*given)

    start.__qualname__ = "start"
    options: dict[str, Any] = {"starts": [start], "n_candidates": 1, "checkpoint_seconds": 0}
    result = cases.fitted("dirichlet, linear", rank, 2, checkpoint=sys.argv[1], **options)
    print(f"restarted {os.environ['TORCHELASTIC_RESTART_COUNT']}, {result.bound!r} nats")
    dist.destroy_process_group()
