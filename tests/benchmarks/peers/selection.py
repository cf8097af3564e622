"""How many clusters a Bayesian Gaussian mixture finds by itself, ours beside scikit-learn, BayesML and bnpy.

All have more components than clusters, a Dirichlet process or a sparse Dirichlet prior, and columns of variance one.
The value is the number of components that have half a row or more. The simulated clusters are ten in truth; ``python -m
tests.benchmarks.found_components`` asks this of more tables, and for the bound.
"""

import contextlib
import functools
import io
import time
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Generator, Tensor

from mixpyro import GaussianExperts, MixtureOfExperts, StickBreakingGate, fit
from tests.benchmarks.peers.outcomes import Case, Contestant, Outcome
from tests.benchmarks.peers.tables import read_columns

N_RESTARTS = 5


def tables(tiny: bool) -> Iterator[tuple[str, Tensor, int]]:
    """Yield name, rows [N, D] of variance one, and the most components."""
    if not tiny:
        faithful = read_columns("old_faithful.csv", "eruptions", "waiting")
        yield "Old Faithful", torch.stack(list(faithful.values()), 1), 20
        yield "galaxies", read_columns("galaxies.csv", "dat")["dat"][:, None], 15
    generator, n = Generator().manual_seed(0), 60 if tiny else 2_000
    centres = 4.0 * torch.randn(10, 2, generator=generator, dtype=torch.float64)
    noise = 0.3 * torch.randn(n, 2, generator=generator, dtype=torch.float64)
    yield f"ten clusters, N = {n}", centres[torch.arange(n) % 10] + noise, 3 if tiny else 20


def found(taken: float, responsibilities: Any, note: str = "") -> Outcome:
    """Count the components of half a row or more; responsibilities [N, K]."""
    sizes = torch.as_tensor(responsibilities).sum(0)
    return Outcome(((taken, float((sizes >= 0.5).sum())),), note=note)


def ours(y: Tensor, k: int, seconds: float, tiny: bool) -> Outcome:
    """Fit a stick-breaking gate."""
    mixture, started = MixtureOfExperts(StickBreakingGate(k), GaussianExperts(k, y.shape[1])), time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        result = fit(mixture, None, y, n_restarts=1 if tiny else N_RESTARTS, progress=False)
    return found(time.perf_counter() - started, result.responsibilities)


def by_sklearn(y: Tensor, k: int, seconds: float, tiny: bool) -> Outcome:
    """Fit a Dirichlet process of scikit-learn."""
    from sklearn.mixture import BayesianGaussianMixture

    options = {"max_iter": 1000, "tol": 1e-6, "n_init": 1 if tiny else N_RESTARTS, "random_state": 0}
    model, started = BayesianGaussianMixture(n_components=k, **options), time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(y.numpy())
    return found(time.perf_counter() - started, model.predict_proba(y.numpy()))


def by_bayesml(y: Tensor, k: int, seconds: float, tiny: bool) -> Outcome:
    """Fit a sparse Dirichlet prior of BayesML."""
    from bayesml import gaussianmixture

    model, started = gaussianmixture.LearnModel(k, y.shape[1], h0_alpha_vec=0.01, seed=0), time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):  # it prints every bound
        model.update_posterior(y.numpy(), max_itr=1000, num_init=1 if tiny else N_RESTARTS, tolerance=1e-6)
    return found(time.perf_counter() - started, model.r_vecs)


def by_bnpy(y: Tensor, k: int, seconds: float, tiny: bool) -> Outcome:
    """Fit a Dirichlet process of bnpy, with its merges."""
    import bnpy

    rows = bnpy.data.XData(y.numpy())
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        model, _ = bnpy.run(
            rows, "DPMixtureModel", "Gauss", "memoVB", K=k, moves="merge", nTask=1 if tiny else N_RESTARTS, nLap=200,
            printEvery=10_000, output_path=None,
        )  # fmt: skip
    taken = time.perf_counter() - started
    return found(taken, model.calc_local_params(rows)["resp"])


def cases(tiny: bool) -> Iterator[Case]:
    """Yield a case for each table."""
    for name, rows, k in tables(tiny):
        y = (rows - rows.mean(0)) / rows.std(0)
        contestants = [Contestant("mixpyro", (), functools.partial(ours, y, k))]
        contestants.append(Contestant("scikit-learn", ("sklearn",), functools.partial(by_sklearn, y, k)))
        for package, run in (("bayesml", by_bayesml), ("bnpy", by_bnpy)):
            contestants.append(Contestant(package, (package,), functools.partial(run, y, k), True))
        yield Case(f"number of clusters, {name}", f"found of {k}", tuple(contestants), comparable=False)
