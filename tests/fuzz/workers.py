"""Processes that make calls: one that hangs, or dies, is replaced."""

import faulthandler
import multiprocessing
import os
import resource
import signal
import tempfile
import time
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path

from tests.fuzz.call import Call
from tests.fuzz.judge import SLOW, Outcome, judged
from tests.fuzz.selection import Selection

# Seconds on the clock after which a call that uses no processor is given up.
WAITING = 60.0
# Bytes that a process may allocate.
MEMORY = 6 * 2**30


class Worker:
    """A process that makes the calls of one case after another."""

    def __init__(self, selection: Selection) -> None:
        self.traceback = Path(tempfile.mkstemp(prefix="mixpyro-fuzz-")[1])
        context = multiprocessing.get_context("fork")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, selection, self.traceback), daemon=True)
        self.process.start()
        theirs.close()
        self.number, self.started = -1, 0.0

    def give(self, number: int) -> None:
        """Hand out a case.

        Args:
            number: of the case.
        """
        self.number, self.started = number, time.monotonic()
        self.connection.send(number)

    def result(self) -> Outcome | None:
        """Return what came of the case, once that is known; None before."""
        try:
            if self.connection.poll():
                return Outcome(*self.connection.recv())
        except (EOFError, ConnectionResetError):
            return self._lost()
        return self._lost() if time.monotonic() - self.started > WAITING else None

    def _lost(self) -> Outcome:
        """End a process without an answer, and return where it stood."""
        self.process.kill()
        self.process.join()
        code = self.process.exitcode
        lines = [line.strip() for line in self.traceback.read_text().splitlines() if "mixpyro/" in line]
        place = lines[0] if lines else ""
        slow = code == -signal.SIGPROF or time.monotonic() - self.started > WAITING
        words = f"{SLOW:g} seconds or more" if slow else f"the process has ended with {code}"
        return Outcome(f"case {self.number}", "slow" if slow else "obscure", words, place, "")

    def is_alive(self) -> bool:
        """Return whether the process can take another case."""
        return self.process.is_alive()

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.join()
        self.connection.close()
        self.traceback.unlink(missing_ok=True)


def _work(connection: Connection, selection: Selection, traceback: Path) -> None:
    """Make the calls of the cases that come in, until the other end is closed."""
    _limit()
    prepare()
    # Beside the processor time of the call itself there is that of making it.
    with traceback.open("w") as file:
        faulthandler.register(signal.SIGPROF, file=file, chain=True)
        faulthandler.enable(file)
        os.chdir(tempfile.mkdtemp(prefix="mixpyro-fuzz-"))
        while True:
            try:
                number = connection.recv()
            except EOFError:
                return
            signal.setitimer(signal.ITIMER_PROF, 4.0 * SLOW)
            try:
                call = selection.case(number)
            except Exception as error:
                outcome = Outcome(f"case {number}", "wrong", f"the case cannot be made: {error!r}", "", "")
            else:
                signal.setitimer(signal.ITIMER_PROF, SLOW + 1.0)
                outcome = judged(call)
            signal.setitimer(signal.ITIMER_PROF, 0.0)
            connection.send(tuple(outcome))


def prepare() -> None:
    """Import what adds filters of warnings when it is imported, and take one thread."""
    import arviz  # noqa: F401
    import matplotlib.pyplot  # noqa: F401 (as the next ones, it is imported when it is needed first)
    import scipy.stats  # noqa: F401
    import sklearn.mixture  # noqa: F401
    import torch

    torch.set_num_threads(1)


def _limit() -> None:
    """Bound the memory of this process, and keep it from printing."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)


def outcomes(
    numbers: Iterable[int], *, selection: Selection, seconds: float, jobs: int
) -> Iterator[tuple[int, Outcome]]:
    """Yield the numbers of cases with what came of them, as they end.

    Args:
        numbers: of the cases.
        selection: that they are from.
        seconds: after which no further case begins.
        jobs: processes at a time.
    """
    waiting, ends = iter(numbers), time.monotonic() + seconds
    busy: list[Worker] = []
    idle = [Worker(selection) for _ in range(jobs)]
    try:
        while True:
            while idle and time.monotonic() < ends and (number := next(waiting, None)) is not None:
                busy.append(idle.pop())
                busy[-1].give(number)
            if not busy:
                return
            wait([worker.connection for worker in busy], timeout=1.0)
            for worker in [*busy]:
                if (outcome := worker.result()) is not None:
                    busy.remove(worker)
                    yield worker.number, outcome
                    idle.append(worker if worker.is_alive() else _another(worker, selection))
    finally:
        for worker in [*busy, *idle]:
            worker.close()


def _another(worker: Worker, selection: Selection) -> Worker:
    """Return a new process in place of one that has ended."""
    worker.close()
    return Worker(selection)


def repeated(number: int, selection: Selection) -> tuple[Call, Outcome]:
    """Return a case and what comes of it, in this process.

    Args:
        number: of the case.
        selection: that it is from.
    """
    prepare()
    call = selection.case(number)
    return call, judged(call)
