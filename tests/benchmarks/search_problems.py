"""Problems on which ways to search are compared: real tables, curves, counts, densities and simulated lines."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from mixpyro import DirichletGate, GaussianExperts, GLMExperts, LinearExperts, MixtureOfExperts, SoftmaxGate
from mixpyro.experts.families import Gaussian, Poisson
from tests.benchmarks import hit_rates
from tests.conftest import read_table

Make = Callable[[int], MixtureOfExperts]
# First seed of simulated tables: none of these was looked at while the starts were chosen.
FIRST_SEED, N_TABLES = 7000, 3


class SearchProblem(NamedTuple):
    """A mixture of K components to fit, and its data: one table, or several of one kind."""

    name: str
    make: Make
    k: int
    tables: Callable[[], Iterator[tuple[Tensor, Tensor, Tensor]]]  # x, y, gate_x


def problems() -> list[SearchProblem]:
    """Return all problems."""
    return [*real(), *curves(), *densities_and_counts(), *simulated_lines()]


def real() -> list[SearchProblem]:
    """Return the twelve of :mod:`tests.benchmarks.hit_rates`, for any K."""
    return [
        SearchProblem(one.name, _of_any_k(one), one.make().n_components, _one_table(one))
        for one in hit_rates.problems()
    ]


def _of_any_k(problem: hit_rates.Problem) -> Make:
    """Return what makes the mixture of a problem with another K."""
    name, width = problem.name, problem.gate_x.shape[1]
    if "Bayesian" in name:
        value = 1.0 if "co2" in name else 0.01
        return lambda k: MixtureOfExperts(
            DirichletGate(k, concentration=0.5), LinearExperts(k, 1, coefficient_precision=value, noise_rate=value)
        )
    family = Poisson if "patent" in name else Gaussian
    return lambda k: MixtureOfExperts(SoftmaxGate(k, width), GLMExperts(k, 1, family()))


def _one_table(problem: hit_rates.Problem) -> Callable[[], Iterator[tuple[Tensor, Tensor, Tensor]]]:
    return lambda: iter([(problem.x, problem.y, problem.gate_x)])


def curves() -> list[SearchProblem]:
    """Return parabolas: real tables with a column of squares, and simulated ones."""
    co2, ethanol = read_table("co2_gnp.csv", "GNP", "CO2"), read_table("ethanol.csv", "Equivalence", "NO")

    def of_table(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, y = ((one - one.mean(0)) / one.std(0) for one in (x, y))
        x = torch.cat([x, x.square()], 1)
        return x, y, x

    return [
        SearchProblem("co2, curves", parabolas, 3, lambda: iter([of_table(*co2)])),
        SearchProblem("ethanol, curves", parabolas, 3, lambda: iter([of_table(*ethanol)])),
        *(
            SearchProblem(f"curves, noise {noise}", parabolas, 3, partial(simulated, 3, noise, squares=True))
            for noise in (0.3, 1.0)
        ),
    ]


def parabolas(k: int) -> MixtureOfExperts:
    """Return parabolas with default priors."""
    return MixtureOfExperts(DirichletGate(k), LinearExperts(k, 2))


def lines(k: int) -> MixtureOfExperts:
    """Return lines with default priors."""
    return MixtureOfExperts(DirichletGate(k), LinearExperts(k, 1))


def simulated(k: int, noise: float, *, squares: bool = False) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Draw tables of 200 rows of K random lines, or parabolas."""
    for seed in range(FIRST_SEED, FIRST_SEED + N_TABLES):
        generator = Generator().manual_seed(seed)
        x = torch.randn(200, 1, generator=generator).double()
        x = torch.cat([x, x.square()], 1) if squares else x
        truth = 2.0 * torch.randn(k, 1 + x.shape[1], generator=generator).double()
        z = torch.randint(k, (200,), generator=generator)
        mean = truth[z, 0] + (truth[z, 1:] * x).sum(-1)
        y = mean + noise * torch.randn(200, generator=generator).double()
        yield x, y.unsqueeze(-1), x


def simulated_lines() -> list[SearchProblem]:
    """Return lines of three and four components that are apart, or overlap."""
    return [
        SearchProblem(f"{k} lines, noise {noise}", lines, k, partial(simulated, k, noise))
        for k in (3, 4)
        for noise in (0.3, 1.0)
    ]


def densities_and_counts() -> list[SearchProblem]:
    """Return the galaxies' speeds as densities, and counts from four rates."""
    y = read_table("galaxies.csv", "dat", "dat")[0]
    y = (y - y.mean(0)) / y.std(0)

    def counts() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for seed in range(FIRST_SEED, FIRST_SEED + N_TABLES):
            generator = Generator().manual_seed(seed)
            rates = torch.tensor([1.0, 4.0, 12.0, 30.0]).double()[torch.randint(4, (200,), generator=generator)]
            drawn = torch.poisson(rates, generator=generator).unsqueeze(-1)
            yield drawn[:, :0], drawn, drawn[:, :0]

    return [
        SearchProblem(
            "galaxies",
            lambda k: MixtureOfExperts(DirichletGate(k), GaussianExperts(k, 1)),
            5,
            lambda: iter([(y[:, :0], y, y[:, :0])]),
        ),
        SearchProblem(
            "counts",
            lambda k: MixtureOfExperts(DirichletGate(k), GLMExperts(k, 0, Poisson(), prior_scale=3.0)),
            4,
            counts,
        ),
    ]
