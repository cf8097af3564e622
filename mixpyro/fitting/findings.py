"""What the parts of a mixture say of the maximum that a fit has found."""

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro.distributed.processes import Processes
from mixpyro.experts.base import Experts
from mixpyro.fitting.rows_of_all import said_by_first, seen_by_all, smallest_of_all
from mixpyro.fitting.table import Table
from mixpyro.gates.base import Gate
from mixpyro.mixture import MixtureOfExperts
from mixpyro.part import Part
from mixpyro.shapes import Responsibilities

# Numbers in the rows of all processes and their responsibilities, beyond which a sample is looked at; 32 MiB.
MOST_NUMBERS = 2**22
# Objects of the sample, and those of each component beside it.
SAMPLE, MOST_OF_COMPONENT = 100_000, 64
# Objects of one process beyond which as many are looked at as half of them. Second derivatives of all would be more
# memory than the fit has taken.
MANY_OBJECTS = 2**21


def degeneracies(mixture: MixtureOfExperts, table: Table, responsibilities: Responsibilities) -> tuple[str, ...]:
    """Return where the likelihood is unbounded, in words: what was found there is worthless.

    Args:
        mixture: at what was found.
        table: the rows.
        responsibilities: [N, K], without the rows' weights.
    """
    if not _says_any(mixture.experts, "degeneracies") and not _says_any(mixture.gate, "degeneracies"):
        return ()
    table, responsibilities, processes = _seen(table, responsibilities)
    r = table.weighted(responsibilities.mT).mT
    of_rows = table.of_rows(r.mT).mT
    found = mixture.experts.degeneracies(table.x, table.y, of_rows) + mixture.gate.degeneracies(table.gate_x, r)
    return tuple(said_by_first(processes, lambda: found))


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
    table, responsibilities, processes = _seen(table, responsibilities)
    r = table.weighted(responsibilities.mT).mT
    found = mixture.experts.cautions() + mixture.experts.prior_warnings(table.x, table.y, table.of_rows(r.mT).mT)
    found += mixture.gate.prior_warnings(table.gate_x, r)
    apart = separations(mixture, table, responsibilities)
    if apart:
        found.append(f"estimates grow without limit, and the bound is close to its limit: {'; '.join(apart)}.")
    said: list[str] = said_by_first(processes, lambda: found)
    return said


def _says_any(part: Part, method: str) -> bool:
    """Return whether a part, or a bank of a bank, has more to say than the base class, which says nothing."""
    members = getattr(part, "members", None)
    if members is not None:
        return any(_says_any(member, method) for member in members)
    base = Experts if isinstance(part, Experts) else Gate
    return getattr(type(part), method) is not getattr(base, method)


def _seen(
    table: Table, responsibilities: Responsibilities
) -> tuple[Table, Float[Tensor, "objects K"], Processes | None]:
    """Return the rows of all processes with their responsibilities [N, K], or a sample of them where they are many.

    The objects of a sample count for all. Those that are most in a component are seen beside, so that one that has
    collapsed on a few is not overlooked.
    """
    blocks = table.blocks_of_all
    if blocks is None or blocks.processes is None:
        return (*_sampled(table, responsibilities), None)
    table, n_objects = table._replace(start=responsibilities), table.size_of_all
    width = table.x.shape[1] + table.y.shape[1] + responsibilities.shape[1]
    if table.n_rows_of_all * width <= MOST_NUMBERS:
        seen = seen_by_all(table)
    else:
        generator = torch.Generator("cpu").manual_seed(0)
        sample = torch.randint(n_objects, (SAMPLE,), generator=generator, device="cpu")
        columns = responsibilities.double().cpu().mT
        most = torch.cat([smallest_of_all(table, -column, MOST_OF_COMPONENT) for column in columns])
        seen = seen_by_all(table, torch.cat([sample, most]).to(table.x.device))
        counts = seen.x.new_ones(seen.size)
        counts[:SAMPLE] = n_objects / SAMPLE
        seen = seen._replace(weights=counts if seen.weights is None else counts * seen.weights)
    assert seen.start is not None
    return seen, seen.start, blocks.processes


def _sampled(table: Table, responsibilities: Responsibilities) -> tuple[Table, Float[Tensor, "objects K"]]:
    """Return all rows of one process with their responsibilities, or a sample of them as :func:`_seen` has."""
    if table.size <= MANY_OBJECTS:
        return table, responsibilities
    n_sampled, generator = MANY_OBJECTS // 2, torch.Generator("cpu").manual_seed(0)
    sample = torch.randint(table.size, (n_sampled,), generator=generator, device="cpu").to(table.x.device)
    most = responsibilities.topk(MOST_OF_COMPONENT, dim=0).indices.flatten()
    objects = torch.cat([sample, most])
    seen = table.block(objects)
    counts = seen.x.new_ones(seen.size)
    counts[:n_sampled] = table.size / n_sampled
    return seen._replace(weights=counts if seen.weights is None else counts * seen.weights), responsibilities[objects]
