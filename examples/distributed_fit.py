"""How is one mixture fitted by several processes, each of which has some of the rows?

Run it with two processes on one machine:

    python -m torch.distributed.run --nproc-per-node=2 examples/distributed_fit.py

On several machines add `--nnodes`, `--rdzv-backend=c10d` and `--rdzv-endpoint`, and put the checkpoint on a disk that
the first process sees. With `--max-restarts=3` a process that dies is started anew with all the others, and the fit
goes on from its checkpoint; the number of processes may be another one then.
"""

import os
import tempfile
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from mixpyro import DirichletGate, LinearExperts, MixtureOfExperts, fit
from mixpyro.distributed import shard

N_ROWS, D, K = 300_000, 3, 3
TRUTH = torch.tensor([[1.0, -2.0, 0.5], [-1.0, 0.5, 2.0], [0.0, 3.0, -1.0]])


def rows(first: int, last: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Make some of the rows of a table, as a process would read them from a file."""
    blocks = range(first // 1000, -(-last // 1000))
    found = []
    for block in blocks:
        generator = torch.Generator().manual_seed(block)
        x = torch.randn(1000, D, generator=generator, dtype=torch.float64)
        z = torch.randint(K, (1000,), generator=generator)
        y = (x * TRUTH.double()[z]).sum(-1, keepdim=True) + 4.0 * z.unsqueeze(-1)
        found.append((x, y + 0.5 * torch.randn(1000, 1, generator=generator, dtype=torch.float64)))
    x, y = (torch.cat(part)[first - 1000 * blocks.start :][: last - first] for part in zip(*found, strict=True))
    return x, y


def fitted(checkpoint: Path, max_iterations: int) -> tuple[float, torch.Tensor]:
    """Fit the rows of all processes; return the bound and the slopes, which are the same on each."""
    own = shard(N_ROWS)  # Whole blocks of rows: none has to be sent to another process.
    x, y = rows(own.start, own.stop)
    mixture = MixtureOfExperts(DirichletGate(K), LinearExperts(K, D))
    result = fit(
        mixture, x, y, n_restarts=2, max_iterations=max_iterations, checkpoint=checkpoint, checkpoint_seconds=1.0
    )
    assert len(result.responsibilities) == len(x)  # Those of this process's rows.
    return result.bound, mixture.experts.coefficients


def join() -> None:
    """Become one of the processes that torchrun has started."""
    # Names of this attempt: the addresses of processes that have died stay in the store of torchrun.
    store, rank, size = next(rendezvous("env://"))
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store = dist.PrefixStore(attempt, store)  # type: ignore[attr-defined]
    # Without a timeout that is shorter than half an hour, a lost process is noticed late.
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=timedelta(seconds=60))


def main() -> None:
    """Fit, and fit again from the checkpoint."""
    join()
    folder = [tempfile.mkdtemp()]
    dist.broadcast_object_list(folder)
    checkpoint = Path(folder[0]) / "fit.checkpoint"
    bound, coefficients = fitted(checkpoint, 200)
    again, _ = fitted(checkpoint, 200)
    if dist.get_rank() == 0:
        order = coefficients[:, 0, 0].argsort()
        print(f"{dist.get_world_size()} processes, bound {bound:.4f} nats; from the checkpoint {again:.4f} nats")
        print("slopes:", coefficients[order, 0, 1:].round(decimals=2).tolist())
        checkpoint.unlink()
        os.rmdir(folder[0])
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
