"""Starts where rows are in groups of one component: they cluster groups, not rows."""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from mixpyro.fitted_part import State
from mixpyro.fitting.gradient.m_steps import GradientMSteps
from mixpyro.fitting.starts import (
    N_GRADIENT_STEPS,
    GivenResponsibilities,
    Start,
    centres_of,
    has_one_noise,
    k_means,
    nearest_row,
    one_hot,
    random_assignments,
    random_subsets,
    standardised_rows,
)
from mixpyro.fitting.table import Table
from mixpyro.mixture import MixtureOfExperts
from mixpyro.numerics import nested
from mixpyro.numerics.location_scale import location_scale
from mixpyro.shapes import Responsibilities

# Numbers in the products of all rows' columns, beyond which groups are clustered by their means alone: 128 MiB.
MOST_PRODUCTS = 2**24
# Weight of the line of all rows in the line of a group, in rows of standard units.
PRIOR_ROWS = 1.0


def drawn(kind: Start, mixture: MixtureOfExperts, table: Table, generator: Generator) -> Responsibilities:
    """Return the first responsibilities of objects [N, K], which are rows or groups.

    A start of the user's own gives responsibilities of rows. Those of a group are the mean of its rows'.

    Args:
        kind: of start.
        mixture: what the start reads and changes.
        table: with columns.
        generator: of random numbers.
    """
    if table.segments is None or isinstance(kind, GivenResponsibilities):
        return kind(mixture, table.x, table.y, generator)
    # Where y is missing in some rows, objects have one row or none.
    are_rows = table.misses and not mixture.experts.reads_groups and bool((table.segments.sizes <= 1).all())
    if kind in OF_GROUPS and not are_rows:
        return OF_GROUPS[kind](mixture, table, generator)
    of_rows = kind(mixture, table.x, table.y, generator)
    of_groups = (table.segments.sum(of_rows.mT) / table.segments.sizes.clamp_min(1)).mT
    # Of an object without rows nothing is known.
    return torch.where((table.segments.sizes == 0).unsqueeze(-1), 1.0 / of_groups.shape[1], of_groups)


def assignments_of_groups(mixture: MixtureOfExperts, table: Table, generator: Generator) -> Responsibilities:
    """Assign each group to one component, drawn uniformly, [G, K].

    Args:
        mixture: only K is read.
        table: in groups.
        generator: of random numbers.
    """
    chosen = torch.randint(mixture.n_components, (table.size,), generator=generator, device="cpu").to(table.x.device)
    return one_hot(chosen, mixture.n_components, like=table.y)


def subsets_of_groups(mixture: MixtureOfExperts, table: Table, generator: Generator) -> Responsibilities:
    """Fit each expert to a few groups of its own; return the responsibilities [G, K] of these experts for all groups.

    A component has one group, or as many as have a row more than a regression on x with outputs y has unknowns. The
    mixture's experts are left at what the subsets gave.

    Args:
        mixture: its experts are changed.
        table: in groups, with columns.
        generator: of random numbers.
    """
    k, experts = mixture.n_components, mixture.experts
    if k == 1:
        return table.y.new_ones(table.size, 1)
    groups, component = _disjoint(table, k, generator)
    subset = table.block(groups)
    r = one_hot(component, k, like=table.y).mT.unsqueeze(0)
    state = nested.stack([experts.state()])
    # Without statistics at a state, estimates go to their maximum and not one step.
    statistics = experts.sums_of_objects(subset.columns, r, None if experts.takes_steps else state)
    by_gradient = GradientMSteps(n_steps=N_GRADIENT_STEPS)
    after = experts.advanced(state, statistics, (subset.x, subset.y), subset.of_rows(r), by_gradient)
    parts = [table.block(block).columns for block in table.blocks(width=k)]
    experts.hold(nested.select(experts.with_noise_of_nearest(after, parts, [has_one_noise(generator)]), 0))
    shares = [experts.log_likelihoods_of_objects(part).softmax(-2) for part in parts]
    return torch.cat(shares, dim=-1).mT


def subsets_of_runs(
    mixture: MixtureOfExperts, table: Table, generators: Sequence[Generator]
) -> tuple[State, Float[Tensor, "R K objects"]]:
    """Make several of :func:`subsets_of_groups` together, of experts with estimates; the mixture is left as it is.

    Args:
        mixture: whose experts are updated in lockstep.
        table: in groups, with columns.
        generators: of random numbers, one for each start; the same one makes its starts in turn.

    Returns:
        States of the experts, and responsibilities of all groups under each.
    """
    k, experts, n_runs = mixture.n_components, mixture.experts, len(generators)
    draws = [_disjoint(table, k, generator) for generator in generators]
    subset = table.block(torch.cat([groups for groups, _ in draws]))
    # Groups of the other starts count for nothing.
    r, first = table.y.new_zeros(n_runs, k, subset.size), 0
    for run, (groups, component) in enumerate(draws):
        r[run, component, first + torch.arange(len(groups), device=r.device)] = 1.0
        first += len(groups)
    before = nested.stack([experts.state()] * n_runs)
    statistics = experts.sums_of_objects(subset.columns, r)
    by_gradient = GradientMSteps(n_steps=N_GRADIENT_STEPS)
    after = experts.advanced(before, statistics, (subset.x, subset.y), subset.of_rows(r), by_gradient)
    parts = [table.block(block).columns for block in table.blocks(width=n_runs * k)]
    after = experts.with_noise_of_nearest(after, parts, [has_one_noise(one) for one in generators])
    shares = [experts.log_likelihoods_of_objects(part, after).softmax(-2) for part in parts]
    return after, torch.cat(shares, dim=-1)


def k_means_of_groups(mixture: MixtureOfExperts, table: Table, generator: Generator) -> Responsibilities:
    """Assign each group to the nearest of K centres of the lines of y on x in the groups, [G, K].

    The line of a group is drawn to that of all rows, by as much as ``PRIOR_ROWS`` rows would. Where x has many columns
    it is the mean of y.

    Args:
        mixture: only K is read.
        table: in groups.
        generator: of random numbers.
    """
    points = _lines(table, mixture.experts.spread_of(table.y))
    scales = location_scale(points)
    points = standardised_rows(points, points[:, :0], scales)
    nearest = nearest_row(points, centres_of(points, mixture.n_components, generator))
    return one_hot(nearest, mixture.n_components, like=table.y)


def _disjoint(table: Table, k: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Return groups [B] and the component [B] that each is for; groups are used again where there are too few."""
    assert table.segments is not None
    wanted, chosen, component = table.x.shape[1] + table.y.shape[1] + 1, list[int](), list[int]()
    order = torch.randperm(table.size, generator=generator, device="cpu")
    sizes, place = table.segments.sizes.cpu(), 0
    for number in range(k):
        n_rows, n_groups = 0, 0
        while n_rows < wanted and n_groups < table.size:
            group = int(order[place % table.size])
            chosen.append(group)
            component.append(number)
            n_rows, n_groups, place = n_rows + int(sizes[group]), n_groups + 1, place + 1
    device = table.x.device
    return torch.tensor(chosen, device="cpu").to(device), torch.tensor(component, device="cpu").to(device)


def _lines(table: Table, outcomes: Tensor) -> Tensor:
    """Return the coefficients of each group [G, (D + 1) P], or its means [G, P], in standard units, float64."""
    assert table.segments is not None
    x, y = (standardised_rows(part, part[:, :0], location_scale(part)).double().mT for part in (table.x, outcomes))
    design = torch.cat([torch.ones_like(y[:1]), x])
    width, n_outputs = len(design), len(y)
    if width * (width + n_outputs) * design.shape[1] > MOST_PRODUCTS:
        design, width = design[:1], 1
    squares = table.segments.sum((design.unsqueeze(1) * design).flatten(0, 1)).view(width, width, -1).movedim(-1, 0)
    products = table.segments.sum((design.unsqueeze(1) * y).flatten(0, 1)).view(width, n_outputs, -1).movedim(-1, 0)
    ridge = PRIOR_ROWS * torch.eye(width, dtype=squares.dtype, device=squares.device)
    pooled = torch.linalg.solve(squares.sum(0) + ridge, products.sum(0))
    own = pooled + torch.linalg.solve(squares + ridge, products - squares @ pooled)
    return own.flatten(1)


# What each of the library's starts is where rows are in groups.
OF_GROUPS: Mapping[Start, Callable[[MixtureOfExperts, Table, Generator], Responsibilities]] = {
    random_assignments: assignments_of_groups,
    random_subsets: subsets_of_groups,
    k_means: k_means_of_groups,
}
