"""Time fits with random effects against the number of rows, and count parameters within two standard errors.

2,000 groups of two components have 5 to 30 rows each, or ten times as many. Run from the root of the repository:

    python -m tests.benchmarks.random_effects
"""

import argparse
import time

import torch
from torch import Generator, Tensor

from mixpyro import DirichletGate, MixtureOfExperts, RandomEffectsExperts, fit, linear_response
from mixpyro.fitting import em
from mixpyro.fitting.table import checked_table
from mixpyro.numerics import nested

COEFFICIENTS = torch.tensor([[1.0, 2.0], [3.0, -1.0]]).double()
DEVIATIONS = torch.tensor([[1.5, 0.3], [0.8, 0.5]]).double()
NOISES = torch.tensor([0.5, 1.0]).double()
SHARE = 0.4


def simulated(n_groups: int, factor: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return x [N, 1], y [N] and the group of each row; effects of intercept and slope are uncorrelated.

    Args:
        n_groups: G.
        factor: of the 5 to 30 rows of a group.
        seed: of random numbers.
    """
    generator = Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    sizes = factor * torch.randint(5, 31, (n_groups,), generator=generator)
    groups = torch.arange(n_groups).repeat_interleave(sizes)
    z = (torch.rand(n_groups, generator=generator) < SHARE).long()
    x = normal(len(groups), 1)
    own = (COEFFICIENTS[z] + DEVIATIONS[z] * normal(n_groups, 2))[groups]
    y = own[:, 0] + own[:, 1] * x[:, 0] + NOISES[z[groups]] * normal(len(groups))
    return x, y, groups


def truth() -> Tensor:
    """Return the quantities of linear response, components in the order above."""
    return torch.cat(
        [
            torch.tensor([SHARE / (1.0 - SHARE)]).double().log(),
            COEFFICIENTS.flatten(),
            -2.0 * NOISES.log(),
            -2.0 * DEVIATIONS.log().flatten(),
            torch.zeros(2).double(),
        ]
    )


def mixture() -> MixtureOfExperts:
    """Return two components with random intercepts and slopes."""
    return MixtureOfExperts(DirichletGate(2), RandomEffectsExperts(2, 1, ["intercept", 0]))


def seconds_of_iteration(fitted: MixtureOfExperts, x: Tensor, y: Tensor, groups: Tensor) -> float:
    """Return seconds of an E-step and update of one run, the least of ten.

    Args:
        fitted: a mixture.
        x: inputs [N, 1].
        y: outputs [N].
        groups: of the rows.
    """
    table = checked_table(fitted, x, y, None, None, groups=groups).with_columns(fitted.experts)
    state, times = nested.stack([fitted.state()]), []
    for _ in range(10):
        start = time.perf_counter()
        step = em.e_step(fitted, state, table)
        em.update(fitted, state, step, table, lambda *_: None)
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Print a line for each size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", type=int, default=2000)
    parser.add_argument("--factors", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--tables", type=int, default=3, help="simulated tables of each size")
    arguments = parser.parse_args()
    print("rows | seconds a fit | iterations | ms an iteration | within two standard errors")
    for factor in arguments.factors:
        for seed in range(arguments.tables):
            x, y, groups = simulated(arguments.groups, factor, seed)
            start = time.perf_counter()
            result = fit(mixture(), x, y, groups=groups, n_restarts=3, seed=0, progress=False)
            seconds = time.perf_counter() - start
            response = linear_response(result, x, y)
            order = response.estimates[2].item() < 0.0  # the falling line first
            estimates, errors = (_sorted(v, order) for v in (response.estimates, response.standard_deviations))
            estimates[0] = -estimates[0] if order else estimates[0]
            inside = int(((estimates - truth()).abs() < 2.0 * errors).sum())
            milliseconds = 1000.0 * seconds_of_iteration(result.mixture, x, y, groups)
            n_iterations = sum(len(run.trace) for run in result.runs)
            print(f"{len(x):,} | {seconds:.2f} | {n_iterations} | {milliseconds:.2f} | {inside} of {len(errors)}")


def _sorted(values: Tensor, is_reversed: bool) -> Tensor:
    """Return quantities with the components exchanged, if so asked."""
    if not is_reversed:
        return values.clone()
    weight, coefficients, noises, effects, regressions = values.split([1, 4, 2, 4, 2])
    halves = [part.unflatten(0, (2, -1)).flip(0).flatten() for part in (coefficients, noises, effects, regressions)]
    return torch.cat([weight, *halves])


if __name__ == "__main__":
    main()
