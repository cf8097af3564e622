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
    return tuple(mixture.experts.degeneracies(table.x, table.y, r) + mixture.gate.degeneracies(table.gate_x, r))


def separations(mixture: MixtureOfExperts, table: Table, responsibilities: Responsibilities) -> tuple[str, ...]:
    """Return where the likelihood is bounded but has its maximum at infinity, in words.

    Args:
        mixture: at what was found.
        table: the rows.
        responsibilities: [N, K], without the rows' weights.
    """
    r = table.weighted(responsibilities.mT).mT
    return tuple(mixture.experts.separations(table.x, table.y, r) + mixture.gate.separations(table.gate_x, r))


def separation_warning(mixture: MixtureOfExperts, table: Table, responsibilities: Responsibilities) -> list[str]:
    """Return a warning of :func:`separations`, an empty list if there is none.

    Args:
        mixture: at what was found.
        table: the rows.
        responsibilities: [N, K], without the rows' weights.
    """
    found = separations(mixture, table, responsibilities)
    return [f"estimates grow without limit, and the bound is close to its limit: {'; '.join(found)}."] if found else []
