"""A search that is watched: it shows its progress, keeps its checkpoint, and ends at a request."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm.auto import tqdm

from mixpyro.distributed.processes import DUE, STOP
from mixpyro.fitting.checkpoint import Checkpoint
from mixpyro.fitting.restarts import GoesOn, Search
from mixpyro.fitting.runs import Trace


@contextmanager
def watched(
    search: Search, stop_requested: Callable[[], bool], *, progress: bool, checkpoint: Checkpoint | None = None
) -> Iterator[GoesOn]:
    """Show the progress of a search inside, and yield what is called after every E-step, and says whether to go on.

    Args:
        search: to be made.
        stop_requested: whether Ctrl-C was pressed.
        progress: whether to show a progress bar after two seconds.
        checkpoint: of the search; None where there is none.
    """
    shows = progress and (search.processes is None or search.processes.rank == 0)
    with tqdm(total=search.n_restarts, unit="restart", delay=2.0, disable=not shows, leave=False) as bar:
        if search.processes is not None:
            search.processes.flags = lambda: (
                STOP * stop_requested() + DUE * (checkpoint is not None and checkpoint.is_due())
            )

        def goes_on(trace: Trace) -> bool:
            processes = search.processes
            if processes is not None and search.table.blocks_of_all is None:
                processes.agree(trace.bounds[-1])  # Else the sums of the E-step have been exchanged.
            stop = stop_requested() if processes is None else processes.stop
            if checkpoint is not None:
                checkpoint.write_or_warn() if stop else checkpoint.write_if_due()
            bar.n = search.n_ended
            bar.set_postfix({"iteration": len(trace.bounds), "bound": f"{trace.bounds[-1]:.6g}"}, refresh=False)
            bar.update(0)
            return not stop

        yield goes_on
