"""Gaussian mixtures of many rows from one start, ours beside scikit-learn, pomegranate, BayesML and plain PyTorch.

All start from the same assignment of rows, in float64. The value is the log likelihood of the rows under the means of
the parameters, which is computed in the same way for all. A program that says its bound after every iteration has a
trace, shifted so that it ends at that log likelihood: the prior counts for little in 10⁵ rows.
"""

import contextlib
import functools
import io
import math
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Generator, Tensor

from mixpyro import DirichletGate, GaussianExperts, MixtureOfExperts, fit
from tests.benchmarks.peers.outcomes import Case, Contestant, Outcome

SIZES, TINY = (100_000, 10, 8), (300, 2, 2)
MOST = 300  # iterations
TOLERANCE = 1e-6  # nats a row
FULL, DIAGONAL = "full", "diagonal"


def data(n: int, d: int, k: int) -> tuple[Tensor, Tensor]:
    """Draw clusters of unit width about centres of spread 1.5 [N, D], and a start: the nearest of a row of each [N]."""
    generator = Generator().manual_seed(0)
    centres = 1.5 * torch.randn(k, d, generator=generator, dtype=torch.float64)
    y = centres[torch.arange(n) % k] + torch.randn(n, d, generator=generator, dtype=torch.float64)
    return y, torch.cdist(y, y[:k]).argmin(1)


def log_likelihood(y: Tensor, weights: Tensor, means: Tensor, covariances: Tensor) -> float:
    """Return Σ log Σ_k π_k N(y; m_k, S_k); weights [K], means [K, D], covariances [K, D, D]."""
    return float(joint(y, weights, means, covariances).logsumexp(1).sum())


def joint(y: Tensor, weights: Tensor, means: Tensor, covariances: Tensor) -> Tensor:
    """Return log π_k N(y; m_k, S_k) [N, K]."""
    factors = torch.linalg.cholesky(covariances)
    whitener = torch.linalg.solve_triangular(factors, torch.eye(y.shape[1]).to(y).expand_as(factors), upper=False)
    squares = torch.stack([((y - m) @ w.T).square().sum(1) for m, w in zip(means, whitener, strict=True)], 1)
    log_scale = weights.log() - factors.diagonal(dim1=1, dim2=2).log().sum(1) - 0.5 * y.shape[1] * math.log(2 * math.pi)
    return log_scale - 0.5 * squares


def moments(y: Tensor, r: Tensor, covariance: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return weights, means and covariances by maximum likelihood; r [N, K]."""
    n = r.sum(0)
    means = r.T @ y / n[:, None]
    spread = torch.stack([(y - m).T @ ((y - m) * c[:, None]) for m, c in zip(means, r.unbind(1), strict=True)])
    spread /= n[:, None, None]
    if covariance == DIAGONAL:
        spread = torch.diag_embed(spread.diagonal(dim1=1, dim2=2))
    return n / n.sum(), means, spread + 1e-6 * torch.eye(y.shape[1]).to(y)


def shifted(trace: list[tuple[float, float]], value: float) -> Outcome:
    """Return a trace that ends at a value."""
    shift = value - trace[-1][1]
    return Outcome(tuple((seconds, bound + shift) for seconds, bound in trace))


def looped(step: Callable[[], float], n: int, seconds: float) -> list[tuple[float, float]]:
    """Iterate until the gain of an iteration is below the tolerance; return the trace."""
    started, trace = time.perf_counter(), list[tuple[float, float]]()
    while len(trace) < MOST and (not trace or trace[-1][0] < seconds):
        value = step()
        trace.append((time.perf_counter() - started, value))
        if len(trace) > 1 and abs(value - trace[-2][1]) < TOLERANCE * n:
            break
    return trace


def ours(sizes: tuple[int, int, int], covariance: str, seconds: float, tiny: bool) -> Outcome:
    """Fit by mixpyro."""
    y, z = data(*sizes)
    k, start = sizes[2], torch.nn.functional.one_hot(z, sizes[2]).double()

    def fitted(most: int) -> tuple[float, Any]:
        experts = GaussianExperts(k, sizes[1], covariance=covariance)
        mixture, started = MixtureOfExperts(DirichletGate(k), experts), time.perf_counter()
        options: dict[str, Any] = {"max_iterations": most, "tolerance": TOLERANCE, "progress": False}
        result = fit(mixture, None, y, initial_responsibilities=start, **options)
        return time.perf_counter() - started, result

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        fitted(2)
        taken, result = fitted(MOST)
    bounds = result.runs[0].trace
    value = log_likelihood(y, *moments(y, result.responsibilities, covariance))
    return shifted([(taken * (i + 1) / len(bounds), bound) for i, bound in enumerate(bounds)], value)


def by_sklearn(kind: str, sizes: tuple[int, int, int], covariance: str, seconds: float, tiny: bool) -> Outcome:
    """Fit by scikit-learn, whose bound is noted after each iteration."""
    from sklearn import mixture

    y, z = data(*sizes)
    start, trace = torch.nn.functional.one_hot(z, sizes[2]).double().numpy(), list[tuple[float, float]]()

    class Traced(getattr(mixture, kind)):  # type: ignore[misc]
        def _initialize_parameters(self, X: Any, *arguments: Any, **options: Any) -> None:
            self._initialize(X, start, **(options if kind == "GaussianMixture" else {}))

        def _compute_lower_bound(self, *arguments: Any) -> float:
            bound = super()._compute_lower_bound(*arguments)
            trace.append((time.perf_counter() - started, bound * (1 if kind.startswith("Bayes") else len(y))))
            return float(bound)

    tolerance = TOLERANCE * (len(y) if kind.startswith("Bayes") else 1)
    name = {FULL: "full", DIAGONAL: "diag"}[covariance]
    model = Traced(n_components=sizes[2], covariance_type=name, tol=tolerance, max_iter=MOST, random_state=0)
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(y.numpy())
    found = (torch.as_tensor(value) for value in (model.weights_, model.means_, model.covariances_))
    weights, means, covariances = found
    full = torch.diag_embed(covariances) if covariance == DIAGONAL else covariances
    return shifted(trace, log_likelihood(y, weights, means, full))


def by_pomegranate(sizes: tuple[int, int, int], covariance: str, seconds: float, tiny: bool) -> Outcome:
    """Fit by pomegranate, an iteration at a time."""
    from pomegranate.distributions import Normal
    from pomegranate.gmm import GeneralMixtureModel

    y, z = data(*sizes)
    name = {FULL: "full", DIAGONAL: "diag"}[covariance]
    weights, means, covariances = moments(y, torch.nn.functional.one_hot(z, sizes[2]).double(), covariance)
    spread = covariances.diagonal(dim1=1, dim2=2) if covariance == DIAGONAL else covariances
    parts = [Normal(m, s, covariance_type=name) for m, s in zip(means, spread, strict=True)]
    model = GeneralMixtureModel(parts, priors=weights)

    def step() -> float:
        value = float(model.summarize(y))
        model.from_summaries()
        return value

    return Outcome(tuple(looped(step, len(y), seconds)))


def by_bayesml(sizes: tuple[int, int, int], covariance: str, seconds: float, tiny: bool) -> Outcome:
    """Fit by BayesML from a start of its own: it takes none."""
    from bayesml import gaussianmixture

    y, _ = data(*sizes)
    model, started = gaussianmixture.LearnModel(sizes[2], sizes[1], seed=0), time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):  # it prints every bound
        model.update_posterior(y.numpy(), max_itr=MOST, num_init=1, tolerance=TOLERANCE)
    taken = time.perf_counter() - started
    r = torch.as_tensor(model.r_vecs)
    return Outcome(((taken, log_likelihood(y, *moments(y, r, covariance))),), note="a start of its own")


def by_hand(sizes: tuple[int, int, int], covariance: str, seconds: float, tiny: bool) -> Outcome:
    """Run EM in plain PyTorch."""
    y, z = data(*sizes)
    r = torch.nn.functional.one_hot(z, sizes[2]).double()

    def step() -> float:
        nonlocal r
        log_joint = joint(y, *moments(y, r, covariance))
        evidence = log_joint.logsumexp(1, keepdim=True)
        r = (log_joint - evidence).exp()
        return float(evidence.sum())

    return Outcome(tuple(looped(step, len(y), seconds)))


def cases(tiny: bool) -> Iterator[Case]:
    """Yield full and diagonal covariances."""
    sizes = TINY if tiny else SIZES
    for covariance in (FULL, DIAGONAL):
        contestants = [
            Contestant("mixpyro", (), functools.partial(ours, sizes, covariance)),
            *(
                Contestant(f"scikit-learn {kind}", ("sklearn",), functools.partial(by_sklearn, kind, sizes, covariance))
                for kind in ("BayesianGaussianMixture", "GaussianMixture")
            ),
            Contestant("pomegranate", ("pomegranate",), functools.partial(by_pomegranate, sizes, covariance), True),
            Contestant("plain PyTorch", (), functools.partial(by_hand, sizes, covariance)),
        ]
        if covariance == FULL:
            contestants.append(
                Contestant("BayesML", ("bayesml",), functools.partial(by_bayesml, sizes, covariance), True)
            )
        size = "N = {}, d = {}, K = {}".format(*sizes)
        yield Case(f"Gaussian clouds, {covariance}, {size}", "log likelihood", tuple(contestants))
