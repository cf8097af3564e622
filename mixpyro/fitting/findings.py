"""What the parts of a mixture say of the maximum that a fit has found."""

from mixpyro.fitting.table import Table
from mixpyro.mixture import MixtureOfExperts
from mixpyro.shapes import Responsibilities


def degeneracies(mixture: MixtureOfExperts, table: Table, responsibilities: Responsibilities) -> tuple[str, ...]:
    """Return where the likelihood is unbounded, in words: what was found there is worthless.

    Args:
        mixture: at what was found.
        table: the rows.
        responsibilities: [N, K], without the rows' weights.
    """
    r = table.weighted(responsibilities.mT).mT
    of_rows = table.of_rows(r.mT).mT
    return tuple(mixture.experts.degeneracies(table.x, table.y, of_rows) + mixture.gate.degeneracies(table.gate_x, r))


def separations(mixture: MixtureOfExperts, table: Table, responsibilities: Responsibilities) -> tuple[str, ...]:
    """Return where the likelihood is bounded but has its maximum at infinity, in words.

    Args:
        mixture: at what was found.
        table: the rows.
        responsibilities: [N, K], without the rows' weights.
    """
    r = table.weighted(responsibilities.mT).mT
    of_rows = table.of_rows(r.mT).mT
    return tuple(mixture.experts.separations(table.x, table.y, of_rows) + mixture.gate.separations(table.gate_x, r))


def warnings_of(mixture: MixtureOfExperts, table: Table, responsibilities: Responsibilities) -> list[str]:
    """Return warnings of :func:`separations` and of priors that outweigh the data.

    Args:
        mixture: at what was found.
        table: the rows.
        responsibilities: [N, K], without the rows' weights.
    """
    r = table.weighted(responsibilities.mT).mT
    found = mixture.experts.cautions() + mixture.experts.prior_warnings(table.x, table.y, table.of_rows(r.mT).mT)
    found += mixture.gate.prior_warnings(table.gate_x, r)
    apart = separations(mixture, table, responsibilities)
    if apart:
        found.append(f"estimates grow without limit, and the bound is close to its limit: {'; '.join(apart)}.")
    return found
