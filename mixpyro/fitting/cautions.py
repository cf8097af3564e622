"""What a user must know of the runs of a fit before trusting its result."""

import warnings
from collections.abc import Iterable

from mixpyro.arguments.callers import level_of_caller
from mixpyro.distributed.processes import Processes
from mixpyro.fitting.result import FitResult


def warn_once(cautions: Iterable[str], processes: Processes | None) -> None:
    """Warn the user of each caution; on many processes rank 0 alone does, for all ranks have found the same.

    Args:
        cautions: in words.
        processes: of the fit; None for one.
    """
    if processes is None or processes.rank == 0:
        for caution in cautions:
            warnings.warn(caution, RuntimeWarning, stacklevel=level_of_caller())


def cautions_of(result: FitResult, n_restarts: int) -> list[str]:
    """Return what a user must know of the runs before trusting the result.

    Args:
        result: of a fit.
        n_restarts: how many runs were asked for.
    """
    found = []
    if result.interrupted:
        n_converged = sum(run.converged for run in result.runs)
        found.append(f"the fit was interrupted when {n_converged} of {n_restarts} restarts had converged.")
    if not result.converged:
        found.append(f"the best run has not converged in {result.n_iterations} iterations; raise `max_iterations`.")
    if result.degeneracies:
        found.append(f"every run is degenerate: {'; '.join(result.degeneracies)}.")
    found += _higher_runs_that_were_dropped(result)
    found += [f"{caution}.{_next_optimum(result)}" for caution in result.optima[0].cautions]
    if len(result.runs) > 1 and result.n_reached_best() == 1:
        has_more = result.interrupted or len(result.runs) >= n_restarts
        advice = "raise `n_restarts`" if has_more else "there are no more, give other `starts`"
        found.append(f"only one of {len(result.runs)} restarts reached the best bound; {advice} to trust it.")
    return found


def _next_optimum(result: FitResult) -> str:
    """Return what is known of the best optimum without a caution, and how to take it; empty if there is none."""
    for number, one in enumerate(result.optima):
        if one.state is not None and not (one.cautions or one.degeneracies):
            taken = "optimum" if one.responsibilities is not None else "at"
            return f" The next without this caution: {one}. Take it by `result.{taken}({number})`."
    return ""


def _higher_runs_that_were_dropped(result: FitResult) -> list[str]:
    """Return a warning if the likelihood of a run that was not chosen is higher, but unbounded."""
    higher = [run for run in result.runs if run.bound > result.bound and run.degeneracies]
    if not higher:
        return []
    highest = max(higher, key=lambda run: run.bound)
    return [
        f"{len(higher)} of {len(result.runs)} restarts reached a higher bound, up to {highest.bound:.6g} nats. They "
        f"were not chosen, for the likelihood is unbounded there: {'; '.join(highest.degeneracies)}."
    ]
