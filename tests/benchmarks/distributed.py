"""Bytes and milliseconds of an iteration on many processes, their speed-up, and kills that a fit survives.

``python -m tests.benchmarks.distributed`` measures one and two processes at N = 10⁷, and prints what 64 would take at
N = 10⁹; ``--tiny`` does so at N = 4·10⁵; ``--kills 20`` kills a process at a random moment as often, and looks whether
the fit goes on to the undisturbed bound.
"""

import argparse
import itertools
import multiprocessing
import os
import random
import signal
import socket
import statistics
import tempfile
import time
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.distributed as dist

from mixpyro import DirichletGate, LinearExperts, MixtureOfExperts, fit
from mixpyro.distributed import blocks, shard

K, D = 8, 10
# Iterations of the run that is timed.
ITERATIONS = 7


class TimedGate(DirichletGate):
    """A gate that notes when it is updated, once in an iteration."""

    times: ClassVar[list[float]] = []
    processor_times: ClassVar[list[float]] = []

    def updated(self, statistics: Any, before: Any) -> Any:
        """Update as a DirichletGate does; arguments as :meth:`mixpyro.ConjugatePart.updated`."""
        self.times.append(time.perf_counter())
        self.processor_times.append(time.process_time())
        return super().updated(statistics, before)


def rows(first: int, last: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Some of the rows, float32, the same whichever process makes them."""
    x, y = torch.empty(last - first, D), torch.empty(last - first, 1)
    size = 1 << 16
    slopes = torch.randn(K, D, generator=torch.Generator().manual_seed(7))
    for number in range(first // size, -(-last // size)):
        generator = torch.Generator().manual_seed(number)
        own_x = torch.randn(size, D, generator=generator)
        z = torch.randint(K, (size,), generator=generator)
        own_y = (own_x * slopes[z]).sum(-1) + 3.0 * z + 0.5 * torch.randn(size, generator=generator)
        low, high = max(first, number * size), min(last, (number + 1) * size)
        x[low - first : high - first] = own_x[low - number * size : high - number * size]
        y[low - first : high - first, 0] = own_y[low - number * size : high - number * size]
    return x, y


def mixture() -> MixtureOfExperts:
    """What is fitted."""
    return MixtureOfExperts(TimedGate(K, dtype=torch.float32), LinearExperts(K, D, dtype=torch.float32))


def timed(rank: int, size: int, port: int, n_rows: int, answers: Any) -> None:
    """Time the iterations of one run on this rank's shard; answer seconds and bytes of an iteration."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    join(rank, size, port)
    own = shard(n_rows)
    x, y = rows(own.start, own.stop)
    options: dict[str, Any] = {"n_restarts": 1, "n_candidates": 2, "tolerance": 0.0, "max_iterations": ITERATIONS}
    result = fit(mixture(), x, y, progress=False, **options)
    # The last updates are of all rows; those before them compared starts on a sample.
    seconds, processor = (
        statistics.median(after - before for before, after in itertools.pairwise(times[-ITERATIONS:]))
        for times in (TimedGate.times, TimedGate.processor_times)
    )
    answers.put((rank, seconds, result.bound, processor))
    dist.destroy_process_group()


def exchanged(rank: int, size: int, port: int, n_blocks: int, answers: Any) -> None:
    """Time the exchange of the sums of blocks alone."""
    from mixpyro.distributed.processes import Processes

    torch.set_num_threads(1)
    join(rank, size, port)
    width = K + K * ((D + 1) * (D + 2) // 2 + D + 3)
    processes, one = Processes(), torch.zeros(n_blocks // size, width, dtype=torch.float64)
    processes.gather(one)
    before, start, n_times = processes.n_bytes, time.perf_counter(), 50
    for _ in range(n_times):
        processes.gather(one)
    answers.put((rank, (time.perf_counter() - start) / n_times, (processes.n_bytes - before) / n_times))
    dist.destroy_process_group()


def killed(rank: int, size: int, port: int, n_rows: int, path: str, answers: Any) -> None:
    """Fit with a checkpoint."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    options: dict[str, Any] = {"n_restarts": 3, "n_candidates": 2, "max_iterations": 30}
    try:
        join(rank, size, port)
        own = shard(n_rows)
        x, y = rows(own.start, own.stop)
        result = fit(mixture(), x, y, progress=False, checkpoint=path, checkpoint_seconds=0.0, **options)
        answers.put((rank, result.bound, None))
    except RuntimeError as error:
        answers.put((rank, None, str(error)))


def join(rank: int, size: int, port: int) -> None:
    """Become a rank."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=size, timeout=timedelta(seconds=60))


def run(function: Any, size: int, *args: Any, kill_after: float | None = None) -> list[Any]:
    """Call a function on several processes; return what they answer, and kill one after some seconds perhaps."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    ranks = [context.Process(target=function, args=(rank, size, port, *args, answers)) for rank in range(size)]
    for process in ranks:
        process.start()
    if kill_after is not None:
        time.sleep(kill_after)
        victim = random.choice(ranks)
        if victim.is_alive() and victim.pid is not None:
            os.kill(victim.pid, signal.SIGKILL)
    for process in ranks:
        process.join(timeout=300)
    found = []
    while not answers.empty():
        found.append(answers.get())
    return sorted(found)


def speed(n_rows: int, sizes: list[int]) -> None:
    """Print what an iteration takes on some numbers of processes, and what it would on 64."""
    seconds, processor = {}, {}
    for size in sizes:
        found = run(timed, size, n_rows)
        seconds[size], processor[size] = max(one[1] for one in found), max(one[3] for one in found)
        print(
            f"{size} processes, N = {n_rows:.0e}: {1e3 * seconds[size]:.0f} ms an iteration, "
            f"{1e3 * processor[size]:.0f} ms of processor time a rank, bound {found[0][2]!r}"
        )
    print(f"speed-up {seconds[sizes[0]] / seconds[sizes[-1]]:.2f} from {sizes[0]} to {sizes[-1]} processes")
    n_blocks = -(-n_rows // blocks.block_size(n_rows, torch.device("cpu")))
    for size in sizes[1:]:
        found = run(exchanged, size, max(size, n_blocks))
        print(
            f"{size} processes exchange {n_blocks} blocks: {1e3 * found[0][1]:.2f} ms, {found[0][2]:.0f} bytes a rank"
        )
    print_estimate(processor[sizes[0]] / n_rows)


def print_estimate(seconds_a_row: float) -> None:
    """Print what an iteration at N = 10⁹ would take on 64 ranks, by a network of 10 Gbit/s and 50 µs a step.

    Ranks that are slower than others, and a network that others use too, are not counted.
    """
    width = 8 * (K + K * ((D + 1) * (D + 2) // 2 + D + 3) + 2)
    received = 256 * width
    compute, network = seconds_a_row * 1e9 / 64, received / 1.25e9 + 64 * 50e-6
    print(
        f"on paper, 64 ranks, N = 1e9: {compute:.2f} s of processor time for the rows, and {1e3 * network:.1f} ms, "
        f"{100 * network / compute:.1g} % more, to receive {received / 1e6:.1f} MB a rank"
    )


def survive(n_kills: int) -> None:
    """Print how many of fits that lose a process go on to the undisturbed bound."""
    n_rows = 400_000
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        bound = run(killed, 2, n_rows, str(Path(folder) / "undisturbed"))[0][1]
        whole = time.perf_counter() - start
        n_same, n_lost = 0, 0
        for number in range(n_kills):
            path = str(Path(folder) / f"{number}")
            found = run(killed, 2, n_rows, path, kill_after=random.uniform(0.2, 1.0) * whole)
            n_lost += any(one[1] is None for one in found)
            after = run(killed, random.choice((1, 2)), n_rows, path)
            n_same += bool(after) and all(one[1] == bound for one in after)
        print(f"{n_same} of {n_kills} end at {bound!r}; in {n_lost} the survivor said which rank it had lost")


def main() -> None:
    """Measure what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--rows", type=int, default=10_000_000)
    given = parser.parse_args()
    if given.kills:
        survive(given.kills)
    else:
        speed(400_000 if given.tiny else given.rows, [1, 2])


if __name__ == "__main__":
    main()
