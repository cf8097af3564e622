"""What a fit says of its own rows that is not finite."""

import torch

from mixpyro.fitting.table import Table
from mixpyro.mixture import MixtureOfExperts
from mixpyro.shapes import Responsibilities

# Rows whose predictive densities are looked at.
MOST_ROWS = 1000


@torch.no_grad()
def not_finite(mixture: MixtureOfExperts, table: Table, responsibilities: Responsibilities) -> list[str]:
    """Return what is not finite of a fit with a finite bound, in words.

    Args:
        mixture: at what was found.
        table: the rows.
        responsibilities: [N, K].
    """
    found = []
    n_without = int((~responsibilities.isfinite().all(-1)).sum())
    if n_without:
        found.append(f"responsibilities of {n_without} of {len(responsibilities)} objects are not finite")
    if table.segments is None and not table.misses:
        rows = slice(0, MOST_ROWS)
        x, y, gate_x = (one[rows].double() for one in (table.x, table.y, table.gate_x))
        log_weights = mixture.gate.predictive_assignment(gate_x).logits.log_softmax(-1)
        log_prob = (log_weights.mT + mixture.experts.log_prob_of_objects(x, y, None)).logsumexp(-2)
        counts = slice(None) if table.weights is None else table.weights[rows] > 0
        n_without = int((~log_prob[counts].isfinite()).sum())
        if n_without:
            found.append(f"log densities of {n_without} of the first {len(log_prob)} rows are not finite")
    return found and [
        f"{' and '.join(found)}, and so are criteria: scale the columns to unit order, or give estimates a prior."
    ]
