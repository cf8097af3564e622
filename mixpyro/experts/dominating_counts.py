"""A caution where one row has nearly all counts of a component."""

from torch import Tensor

from mixpyro.experts.prior_cautions import MANY
from mixpyro.shapes import Outputs, Responsibilities

# Share of a component's counts in one row, beyond which the others hardly move its estimates.
LARGEST_SHARE = 0.9
# Count above which it is large: of a few events among many zeros, one row may have nearly all.
LARGE = 100.0
# Share of the exposure of a component, from which on a row is expected to have most counts.
LARGE_EXPOSURE = 0.5


def of_one_row(y: Outputs, exposure: Tensor, responsibilities: Responsibilities, first_component: int) -> list[str]:
    """Return a sentence for each component of many objects of which one row has nearly all counts.

    A component that has the row for itself is none of these: it has no others that it should fit.

    Args:
        y: counts [N, 1].
        exposure: to which they are proportional [N, 1, 1].
        responsibilities: [N, K], times the rows' weights.
        first_component: number of the first component in messages.
    """
    r = responsibilities.double()
    held, exposed, counts = r * y.double(), r * exposure.double().squeeze(-1), r.sum(0)
    largest, rows = held.max(0)
    is_expected = exposed.gather(0, rows.unsqueeze(0)).squeeze(0) > LARGE_EXPOSURE * exposed.sum(0)
    dominated = (largest > LARGEST_SHARE * held.sum(0)) & (largest > LARGE) & (counts > MANY) & ~is_expected
    return [
        f"one row has {float(largest[k] / held[:, k].sum()):.0%} of the counts of component {first_component + k}, "
        f"y = {float(y[rows[k], 0]):.6g}, so that the others of its {float(counts[k]):.1f} objects hardly move its "
        "estimates. See whether that row is right, or give its exposure."
        for k in dominated.nonzero().flatten().tolist()
    ]
