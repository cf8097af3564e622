"""What a fit says of its own rows that is not finite."""

import torch

from mixpyro.distributed.processes import Processes
from mixpyro.fitting.table import Table
from mixpyro.mixture import MixtureOfExperts
from mixpyro.shapes import Responsibilities

# Rows whose predictive densities are looked at.
MOST_ROWS = 1000


@torch.no_grad()
def not_finite(
    mixture: MixtureOfExperts, table: Table, responsibilities: Responsibilities, processes: Processes | None = None
) -> list[str]:
    """Return what is not finite of a fit with a finite bound, in words.

    Args:
        mixture: at what was found.
        table: the rows of this process.
        responsibilities: [N, K].
        processes: that have rows each; None for one.
    """
    found = []
    numbers = (lambda number: [number]) if processes is None else processes.numbers
    n_without = sum(numbers(int((~responsibilities.isfinite().all(-1)).sum())))
    if n_without:
        n_objects = sum(numbers(len(responsibilities)))
        found.append(f"responsibilities of {n_without} of {n_objects} objects are not finite")
    counts, first = numbers(len(table.x)), 0 if processes is None else processes.rank
    n_rows = max(0, MOST_ROWS - sum(counts[:first]))
    is_plain = not sum(numbers(int(table.segments is not None or table.misses)))
    n_without = sum(numbers(_without_density(mixture, table, slice(0, n_rows)) if is_plain else 0))
    if n_without:
        n_seen = min(MOST_ROWS, sum(counts))
        found.append(f"log densities of {n_without} of the first {n_seen} rows are not finite")
    return found and [
        f"{' and '.join(found)}, and so are criteria: scale the columns to unit order, or give estimates a prior."
    ]


def _without_density(mixture: MixtureOfExperts, table: Table, rows: slice) -> int:
    """Return how many of some rows have a log density that is not finite; those of weight zero do not count."""
    x, y, gate_x = (one[rows].double() for one in (table.x, table.y, table.gate_x))
    if not len(x):
        return 0
    log_weights = mixture.gate.predictive_assignment(gate_x).logits.log_softmax(-1)
    log_prob = (log_weights.mT + mixture.experts.log_prob_of_objects(x, y, None)).logsumexp(-2)
    counts = slice(None) if table.weights is None else table.weights[rows] > 0
    return int((~log_prob[counts].isfinite()).sum())
