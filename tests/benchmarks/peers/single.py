"""One component: a regression, ours beside statsmodels. Restarts make no sense, so there is one run."""

import functools
import time
import warnings
from collections.abc import Iterator

import torch
from torch import Generator, Tensor

from mixpyro import DirichletGate, GLMExperts, MixtureOfExperts, fit
from mixpyro.experts.families import Family, Gaussian, Poisson
from tests.benchmarks.peers.outcomes import Case, Contestant, Outcome
from tests.benchmarks.peers.tables import read_columns

Rows = tuple[Tensor, Tensor]


def tables(tiny: bool) -> Iterator[tuple[str, Family, Rows]]:
    """Yield counts and lines: name, family, x [N, D] and y [N, 1]."""
    patents, ethanol = read_columns("patent.csv", "lgRD", "Patents"), read_columns("ethanol.csv", "NO", "Equivalence")
    yield "patents", Poisson(), (patents["lgRD"][:, None], patents["Patents"][:, None])
    yield "ethanol", Gaussian(), (ethanol["NO"][:, None], ethanol["Equivalence"][:, None])
    n = 200 if tiny else 100_000
    generator = Generator().manual_seed(0)
    x = torch.randn(n, 10, generator=generator, dtype=torch.float64)
    eta = 0.1 * x.sum(1, keepdim=True)
    yield f"counts, N = {n}, d = 10", Poisson(), (x, torch.poisson(eta.exp(), generator=generator))
    noise = torch.randn(n, 1, generator=generator, dtype=torch.float64)
    yield f"lines, N = {n}, d = 10", Gaussian(), (x, eta + noise)


def ours(family: Family, rows: Rows, seconds: float, tiny: bool) -> Outcome:
    """Fit a mixture of one."""

    def fitted() -> tuple[float, float]:
        mixture = MixtureOfExperts(DirichletGate(1), GLMExperts(1, rows[0].shape[1], family))
        started = time.perf_counter()
        bound = fit(mixture, *rows, n_restarts=1, progress=False).bound
        return time.perf_counter() - started, bound

    fitted()
    return Outcome((fitted(),))


def by_statsmodels(family: Family, rows: Rows, seconds: float, tiny: bool) -> Outcome:
    """Fit by ordinary least squares or iteratively reweighted ones."""
    import statsmodels.api as sm

    x, y = sm.add_constant(rows[0].numpy()), rows[1].numpy()[:, 0]

    def fitted() -> tuple[float, float]:
        started = time.perf_counter()
        model = sm.OLS(y, x) if isinstance(family, Gaussian) else sm.GLM(y, x, family=sm.families.Poisson())
        value = float(model.fit().llf)
        return time.perf_counter() - started, value

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted()
        return Outcome((fitted(),))


def cases(tiny: bool) -> Iterator[Case]:
    """Yield a case for each table."""
    for name, family, rows in tables(tiny):
        contestants = (
            Contestant("mixpyro", (), functools.partial(ours, family, rows)),
            Contestant("statsmodels", ("statsmodels",), functools.partial(by_statsmodels, family, rows), True),
        )
        yield Case(f"{name}, K = 1", "log likelihood", contestants)
