"""Starts of variational EM: ways to draw the first responsibilities."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Integer
from torch import Generator, Tensor

from mixpyro import arguments
from mixpyro.fitted_part import State
from mixpyro.fitting.gradient.m_steps import GradientMSteps
from mixpyro.mixture import MixtureOfExperts
from mixpyro.numerics import nested
from mixpyro.numerics.blocks import rows_per_e_step, slices
from mixpyro.numerics.location_scale import LocationScale, location_scale
from mixpyro.numerics.segments import selected
from mixpyro.shapes import Inputs, Outputs, Responsibilities

Start = Callable[[MixtureOfExperts, Inputs, Outputs, Generator], Responsibilities]

N_GRADIENT_STEPS = 20
N_LLOYD_ITERATIONS = 10
# Scales from the location beyond which a value is moved in: squares of a huge one would leave no digits of the others.
FURTHEST = 1e4
# Rows that centres are found from; more would not place them better.
SAMPLE_ROWS = 100_000


@dataclass(frozen=True, eq=False)
class GivenResponsibilities:
    """A start of the user's own.

    Args:
        responsibilities: [N, K].
    """

    responsibilities: Responsibilities

    def __call__(
        self, mixture: MixtureOfExperts, x: Inputs, y: Outputs, generator: Generator
    ) -> Float[Tensor, "objects K"]:
        """Return the responsibilities.

        Args:
            mixture: not read.
            x: not read.
            y: not read.
            generator: not read.
        """
        return self.responsibilities


def checked_starts(starts: Sequence[Start]) -> Sequence[Start]:
    """Return the starts if they are functions, at least one.

    Args:
        starts: as for :func:`mixpyro.fit`.

    Raises:
        TypeError: if they are not.
    """
    if not isinstance(starts, Sequence) or not starts or not all(map(arguments.can_be_called, starts)):
        raise TypeError(
            f"`starts` must be functions, at least one, as in mixpyro.fitting.starts; got {arguments.shown(starts)}."
        )
    return tuple(starts)


def random_assignments(mixture: MixtureOfExperts, x: Inputs, y: Outputs, generator: Generator) -> Responsibilities:
    """Assign each object to one component, drawn uniformly, [N, K].

    Args:
        mixture: only K is read.
        x: inputs [N, D].
        y: outputs [N, P].
        generator: of random numbers.
    """
    chosen = torch.randint(mixture.n_components, (len(x),), generator=generator, device="cpu").to(x.device)
    return one_hot(chosen, mixture.n_components, like=y)


def random_subsets(mixture: MixtureOfExperts, x: Inputs, y: Outputs, generator: Generator) -> Responsibilities:
    """Fit each expert to a few rows of its own; return the responsibilities [N, K] of these experts for all rows.

    A subset has a row more than a regression on x with outputs y has unknowns: enough for a line or a density, and
    little enough to lie in one component. Every second start gives all regressions of maximum likelihood one noise, see
    :func:`has_one_noise`. The mixture's experts are left at what the subsets gave.

    Args:
        mixture: its experts are changed.
        x: inputs [N, D].
        y: outputs [N, P].
        generator: of random numbers.
    """
    if mixture.n_components == 1:
        return y.new_ones(len(x), 1)
    rows = subset_rows(mixture, x, y, generator).unsqueeze(0)
    after, shares = fitted_to_subsets(mixture, x, y, rows, [has_one_noise(generator)])
    mixture.experts.hold(nested.select(after, 0))
    return shares[0].mT


def has_one_noise(generator: Generator) -> bool:
    """Return whether components that are fitted to subsets begin with one noise, that of the rows about the nearest.

    The noise about a subset's own rows is too small, and leads to spurious maxima where components have noises alike.
    Where noises differ by much, it leads to the best maximum, and one noise does not: starts of even and odd seeds
    take turns.

    Args:
        generator: of the start.
    """
    return generator.initial_seed() % 2 == 0


def subset_rows(mixture: MixtureOfExperts, x: Inputs, y: Outputs, generator: Generator) -> Tensor:
    """Draw the rows of disjoint subsets, those of each component next to each other.

    Args:
        mixture: only K is read.
        x: inputs [N, D].
        y: outputs [N, P].
        generator: of random numbers.

    Returns:
        Numbers of rows [K (D + P + 1)]; where there are too few for disjoint subsets, rows are used again.
    """
    n_wanted = mixture.n_components * (x.shape[1] + y.shape[1] + 1)
    order = torch.randperm(len(x), generator=generator, device="cpu").to(x.device)
    return order[torch.arange(n_wanted, device=x.device) % len(x)]


def fitted_to_subsets(
    mixture: MixtureOfExperts, x: Inputs, y: Outputs, rows: Integer[Tensor, "R S"], one_noise: Sequence[bool]
) -> tuple[State, Float[Tensor, "R K N"]]:
    """Fit experts of R starts to subsets of rows, each from the mixture's own state.

    Args:
        mixture: is left as it is if its experts are updated in lockstep.
        x: inputs [N, D].
        y: outputs [N, P].
        rows: of each start, an equal number for each component.
        one_noise: of each start, as :func:`has_one_noise` returns it.

    Returns:
        States of the experts, and responsibilities of all rows under each.
    """
    experts, (n_starts, n_rows), k = mixture.experts, rows.shape, mixture.n_components
    # Rows of the other starts count for nothing.
    own = one_hot(torch.arange(k, device=x.device).repeat_interleave(n_rows // k), k, like=y).mT
    starts = torch.eye(n_starts, dtype=own.dtype, device=own.device)
    r = (starts[:, None, :, None] * own[None, :, None, :]).flatten(2)
    subsets, before = (x[rows.flatten()], y[rows.flatten()]), nested.stack([experts.state()] * n_starts)
    statistics = experts.sums_of_objects(experts.columns_of_incomplete(*subsets, None), r)
    after = experts.advanced(before, statistics, subsets, r, GradientMSteps(n_steps=N_GRADIENT_STEPS))
    columns, size = experts.columns_of_incomplete(x, y, None), rows_per_e_step(n_starts * k, x.device)
    parts = [selected(columns, block) for block in slices(len(x), size)]
    after = experts.with_noise_of_nearest(after, parts, one_noise)
    shares = [experts.log_likelihoods_of_objects(part, after).softmax(-2) for part in parts]
    return after, torch.cat(shares, dim=-1)


def k_means(mixture: MixtureOfExperts, x: Inputs, y: Outputs, generator: Generator) -> Responsibilities:
    """Assign each object to the nearest of K centres of (x, y) in standardised columns, [N, K].

    The centres are rows drawn by k-means++, then improved by a few of Lloyd's iterations, on a sample of the rows where
    there are more than ``SAMPLE_ROWS``; Arthur, Vassilvitskii (2007), k-means++: the advantages of careful seeding.

    Args:
        mixture: only K is read.
        x: inputs [N, D].
        y: outputs [N, P].
        generator: of random numbers.
    """
    k, y = mixture.n_components, mixture.experts.spread_of(y)
    sample: slice | Tensor = slice(None)
    if len(x) > SAMPLE_ROWS:
        sample = torch.randint(len(x), (SAMPLE_ROWS,), generator=generator, device="cpu").to(x.device)
    found = location_scale(torch.cat([x[sample], y[sample]], dim=1))
    centres = centres_of(standardised_rows(x[sample], y[sample], found), k, generator)
    labels = [
        nearest_row(standardised_rows(x[block], y[block], found), centres)
        for block in slices(len(x), rows_per_e_step(k, x.device))
    ]
    return one_hot(torch.cat(labels), k, like=y)


def centres_of(points: Tensor, n_centres: int, generator: Generator) -> Tensor:
    """Return centres of points by k-means++ and a few of Lloyd's iterations [K, D].

    Args:
        points: [N, D], of unit order.
        n_centres: K.
        generator: of random numbers.
    """
    centres, labels = spread_rows(points, n_centres, generator), None
    for _ in range(N_LLOYD_ITERATIONS - 1):
        before, labels = labels, nearest_row(points, centres)
        if before is not None and torch.equal(before, labels):
            break
        nearest = one_hot(labels, n_centres, like=points)
        counts = nearest.sum(0).unsqueeze(-1)
        centres = torch.where(counts > 0, nearest.mT @ points / counts.clamp_min(1.0), centres)
    return centres


def standardised_rows(x: Inputs, y: Outputs, found: LocationScale) -> Tensor:
    """Return the columns of (x, y) in standard units [N, D + P], no further than ``FURTHEST`` from their location.

    Args:
        x: inputs [N, D].
        y: outputs [N, P].
        found: location and scale of the columns.
    """
    centred = torch.cat([x, y], dim=1).double() - found.location
    # An output that was not observed is at the location.
    return (centred / found.scale).clamp(-FURTHEST, FURTHEST).nan_to_num(nan=0.0).to(y.dtype)


def spread_rows(points: Tensor, n_rows: int, generator: Generator) -> Tensor:
    """Draw rows, each with its squared distance from the rows before it as weight.

    Args:
        points: [N, D].
        n_rows: how many, at least 1.
        generator: of random numbers.
    """
    chosen = [int(torch.randint(len(points), (), generator=generator, device="cpu"))]
    squared = points.new_full((len(points),), torch.inf)
    while len(chosen) < n_rows:
        squared = torch.minimum(squared, (points - points[chosen[-1]]).square().sum(-1))
        cumulative = squared.double().cumsum(0).cpu()
        draw = torch.rand((), generator=generator, dtype=torch.float64, device="cpu") * cumulative[-1]
        chosen.append(min(int(torch.searchsorted(cumulative, draw)), len(points) - 1))
    return points[chosen]


def nearest_row(points: Tensor, centres: Tensor) -> Tensor:
    """Return the number of the nearest centre of every point [N].

    ½|c|² − c'p is the distance up to what all centres share: one matrix product.

    Args:
        points: [N, D], of unit order.
        centres: [K, D].
    """
    return torch.addmm(0.5 * centres.square().sum(-1), points, centres.mT, alpha=-1.0).argmin(-1)


def one_hot(labels: Tensor, n_components: int, *, like: Tensor) -> Responsibilities:
    """Return rows of the identity [N, K].

    Args:
        labels: numbers of the columns that are one [N].
        n_components: K.
        like: a tensor of the result's dtype.
    """
    return like.new_zeros(n_components, len(labels)).scatter_(0, labels.unsqueeze(0), 1.0).mT


# Three kinds: a table that misleads one of them need not mislead another. Subsets differ most from draw to draw: the
# others end in a few optima, however often they are drawn.
DEFAULT_STARTS: tuple[Start, ...] = (
    random_subsets,
    random_subsets,
    k_means,
    random_subsets,
    random_subsets,
    random_assignments,
)
