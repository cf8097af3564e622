"""Where a run of variational EM starts from: ways to draw the first responsibilities."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from mixpyro.fitting.gradient.m_step import MStep
from mixpyro.fitting.table import BLOCK_ROWS
from mixpyro.mixture import MixtureOfExperts
from mixpyro.pyro_internals.parameter_store import has_parameters
from mixpyro.shapes import Inputs, Outputs, Responsibilities

Start = Callable[[MixtureOfExperts, Inputs, Outputs, Generator], Responsibilities]

N_GRADIENT_STEPS = 20
N_LLOYD_ITERATIONS = 10
# Rows that centres are found from; more would not place them better.
SAMPLE_ROWS = 100_000


@dataclass(frozen=True, eq=False)
class GivenResponsibilities:
    """A start of the user's own [N, K]."""

    responsibilities: Responsibilities

    def __call__(self, mixture: MixtureOfExperts, x: Inputs, y: Outputs, generator: Generator) -> Responsibilities:
        """The responsibilities, whatever the rest."""
        return self.responsibilities


def random_assignments(mixture: MixtureOfExperts, x: Inputs, y: Outputs, generator: Generator) -> Responsibilities:
    """Each object in one component, drawn uniformly, [N, K]."""
    chosen = torch.randint(mixture.n_components, (len(x),), generator=generator).to(x.device)
    return one_hot(chosen, mixture.n_components, like=y)


def random_subsets(mixture: MixtureOfExperts, x: Inputs, y: Outputs, generator: Generator) -> Responsibilities:
    """Each expert sees a few rows of its own; the responsibilities [N, K] are what these experts then say of all rows.

    A subset has a row more than a regression on x with outputs y has unknowns: enough for a line or a density, and
    little enough to lie in one component. The mixture's experts are left holding what the subsets said.
    """
    k, size = mixture.n_components, x.shape[1] + y.shape[1] + 1
    order = torch.randperm(len(x), generator=generator).to(x.device)
    # Where there are too few rows for disjoint subsets, they go round.
    rows = order[torch.arange(k * size, device=x.device) % len(x)]
    membership = one_hot(torch.arange(k, device=x.device).repeat_interleave(size), k, like=y)
    mixture.experts.update(mixture.experts.statistics(x[rows], y[rows], membership))
    if has_parameters(mixture.experts) and not mixture.experts.maximise(x[rows], y[rows], membership):
        MStep(mixture.experts).improve(x[rows], y[rows], membership, n_steps=N_GRADIENT_STEPS)
    said = [
        mixture.experts.expected_log_likelihood(x_block, y_block).mT.contiguous().softmax(0)
        for x_block, y_block in zip(x.split(BLOCK_ROWS), y.split(BLOCK_ROWS), strict=True)
    ]
    return torch.cat(said, dim=1).mT


def k_means(mixture: MixtureOfExperts, x: Inputs, y: Outputs, generator: Generator) -> Responsibilities:
    """Each object with the nearest of K centres of (x, y) in standardised columns, [N, K].

    The centres are rows drawn by k-means++, then improved by a few of Lloyd's iterations, on a sample of the rows where
    there are more than ``SAMPLE_ROWS``; Arthur, Vassilvitskii (2007), k-means++: the advantages of careful seeding.
    """
    sample: slice | Tensor = slice(None)
    if len(x) > SAMPLE_ROWS:
        sample = torch.randint(len(x), (SAMPLE_ROWS,), generator=generator).to(x.device)
    points = torch.cat([x[sample], y[sample]], dim=1)
    mean, spread = points.mean(0), points.std(0, correction=0)
    spread = torch.where(spread > 0, spread, 1.0)
    points = (points - mean) / spread
    centres = spread_rows(points, mixture.n_components, generator)
    for _ in range(N_LLOYD_ITERATIONS - 1):
        nearest = one_hot(nearest_row(points, centres), mixture.n_components, like=y)
        counts = nearest.sum(0).unsqueeze(-1)
        centres = torch.where(counts > 0, nearest.mT @ points / counts.clamp_min(1.0), centres)
    labels = [
        nearest_row((torch.cat(block, dim=1) - mean) / spread, centres)
        for block in zip(x.split(BLOCK_ROWS), y.split(BLOCK_ROWS), strict=True)
    ]
    return one_hot(torch.cat(labels), mixture.n_components, like=y)


def spread_rows(points: Tensor, n_rows: int, generator: Generator) -> Tensor:
    """Rows of ``points``, each drawn with the squared distance from those before it as its weight."""
    chosen = [int(torch.randint(len(points), (), generator=generator))]
    squared = points.new_full((len(points),), torch.inf)
    while len(chosen) < n_rows:
        squared = torch.minimum(squared, (points - points[chosen[-1]]).square().sum(-1))
        cumulative = squared.double().cumsum(0).cpu()
        draw = torch.rand((), generator=generator, dtype=torch.float64) * cumulative[-1]
        chosen.append(min(int(torch.searchsorted(cumulative, draw)), len(points) - 1))
    return points[chosen]


def nearest_row(points: Tensor, centres: Tensor) -> Tensor:
    """Number of the nearest of ``centres`` [K, D] for each of ``points`` [N, D], both of unit order; [N].

    ½|c|² − c'p is the distance up to what all centres share: one matrix product.
    """
    return torch.addmm(0.5 * centres.square().sum(-1), points, centres.mT, alpha=-1.0).argmin(-1)


def one_hot(labels: Tensor, n_components: int, *, like: Tensor) -> Responsibilities:
    """Rows of the identity, in the dtype of ``like``."""
    return like.new_zeros(n_components, len(labels)).scatter_(0, labels.unsqueeze(0), 1.0).mT


# Where one kind misleads, another does not.
DEFAULT_STARTS: tuple[Start, ...] = (random_subsets, k_means, random_assignments)
