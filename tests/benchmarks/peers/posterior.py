"""The exact posterior of two Bayesian lines, ours by ``refine``, beside NUTS of NumPyro and PyMC.

The model is that of tests/data/conjugate_vb.json, with the assignments summed out: weights from Dirichlet(½, ½), each
line's coefficients from Normal(0, 1 / (τ Λ₀)), its τ from Gamma(1, b₀). The value is the posterior mean of the steeper
line's weight: programs that sample the same posterior agree in it, within its Monte Carlo error of about 0.01. But
``refine`` draws near the optimum of the fit, chains of NUTS near any optimum that they happen on, and CO2 has several.
The seconds include compilation, which those who fit one table wait for; the note has those of sampling alone.
"""

import functools
import time
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixpyro import DirichletGate, LinearExperts, MixtureOfExperts, fit, refine
from tests.benchmarks.peers.outcomes import Case, Contestant, Outcome
from tests.benchmarks.peers.tables import read_columns

N_DRAWS, N_WARMUP = 1000, 1000


def data(name: str) -> tuple[Tensor, Tensor, float, float]:
    """Return x [N, 1], y [N, 1], Λ₀ and b₀."""
    if name == "CO2":
        co2 = read_columns("co2_gnp.csv", "GNP", "CO2")
        return co2["GNP"][:, None], co2["CO2"][:, None], 1.0, 1.0
    ethanol = read_columns("ethanol.csv", "NO", "Equivalence")
    return ethanol["NO"][:, None], ethanol["Equivalence"][:, None], 0.01, 0.01


def weight_of_steeper(weights: Any, slopes: Any) -> tuple[float, float]:
    """Return mean and standard deviation of the weight of the line of greater slope; both [S, 2]."""
    first = np.asarray(slopes)[:, 0] > np.asarray(slopes)[:, 1]
    chosen = np.where(first, np.asarray(weights)[:, 0], np.asarray(weights)[:, 1])
    return float(chosen.mean()), float(chosen.std())


def ours(name: str, seconds: float, tiny: bool) -> Outcome:
    """Fit with restarts, then draw."""
    x, y, precision, rate = data(name)

    def done(n_restarts: int, n_draws: int) -> tuple[float, Any]:
        experts = LinearExperts(2, 1, coefficient_precision=precision, noise_shape=1.0, noise_rate=rate)
        mixture, started = MixtureOfExperts(DirichletGate(2, concentration=0.5), experts), time.perf_counter()
        result = fit(mixture, x, y, n_restarts=n_restarts, progress=False)
        refined = refine(result, n_draws=n_draws, nuts=not tiny, progress=False)
        return time.perf_counter() - started, refined

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done(1, 10)
        taken, refined = done(2 if tiny else 20, 50 if tiny else N_DRAWS)
    return said(taken, refined)


def said(taken: float, refined: Any) -> Outcome:
    """Return what refined draws say."""
    draws = dict(zip(refined.names, refined.draws.mT, strict=True))
    second = draws["gate: component 1 against 0, log weight"].sigmoid()
    slopes = torch.stack([draws[f"experts: component {k}, x0"] for k in (0, 1)], 1)
    mean, deviation = weight_of_steeper(torch.stack([1.0 - second, second], 1), slopes)
    return Outcome(((taken, mean),), note=f"± {deviation:.3f}; k-hat {refined.khat:.2f}, fit of 20 restarts included")


def by_numpyro(name: str, seconds: float, tiny: bool) -> Outcome:
    """Sample by NUTS of NumPyro, two chains in turn, float64."""
    import jax
    import numpyro
    import numpyro.distributions as dist
    from jax import numpy as jnp
    from jax.scipy.special import logsumexp

    numpyro.enable_x64()
    x, y, precision, rate = data(name)
    u, v = jnp.asarray(torch.cat([torch.ones_like(x), x], 1).numpy()), jnp.asarray(y[:, 0].numpy())

    def model() -> None:
        weights = numpyro.sample("weights", dist.Dirichlet(jnp.full(2, 0.5)))
        tau = numpyro.sample("tau", dist.Gamma(jnp.ones(2), rate).to_event(1))
        scale = (1.0 / jnp.sqrt(tau * precision))[:, None]
        lines = numpyro.sample("lines", dist.Normal(jnp.zeros((2, 2)), scale).to_event(2))
        joint = jnp.log(weights) + dist.Normal(u @ lines.T, 1.0 / jnp.sqrt(tau)).log_prob(v[:, None])
        numpyro.factor("rows", logsumexp(joint, axis=1).sum())

    n_draws, n_warmup = (20, 20) if tiny else (N_DRAWS // 2, N_WARMUP)
    started = time.perf_counter()
    options = {"num_chains": 2, "chain_method": "sequential", "progress_bar": False}
    chains = numpyro.infer.MCMC(
        numpyro.infer.NUTS(model, max_tree_depth=3 if tiny else 10), num_warmup=n_warmup, num_samples=n_draws, **options
    )
    chains.run(jax.random.PRNGKey(0))
    found = {site: np.asarray(values) for site, values in chains.get_samples().items()}
    taken, started = time.perf_counter() - started, time.perf_counter()
    chains.run(jax.random.PRNGKey(1))
    again = time.perf_counter() - started
    return sampled(taken, found["weights"], found["lines"][..., 1], f"{again:.2g} s without compilation")


def sampled(taken: float, weights: Any, slopes: Any, note: str) -> Outcome:
    """Return what draws of NUTS say."""
    mean, deviation = weight_of_steeper(weights, slopes)
    return Outcome(((taken, mean),), note=f"± {deviation:.3f}; {note}")


def by_pymc(name: str, seconds: float, tiny: bool) -> Outcome:
    """Sample by NUTS of PyMC, two chains in turn."""
    import pymc as pm

    x, y, precision, rate = data(name)
    started = time.perf_counter()
    with pm.Model():
        weights, tau = pm.Dirichlet("weights", np.full(2, 0.5)), pm.Gamma("tau", 1.0, rate, shape=2)
        lines = pm.Normal("lines", 0.0, tau=(tau * precision)[:, None], shape=(2, 2))
        mean = lines[:, 0] + x.numpy() * lines[:, 1]
        parts = pm.Normal.dist(mean, tau=tau, shape=(len(x), 2))
        pm.Mixture("y", w=weights, comp_dists=parts, observed=y[:, 0].numpy())
        n_draws, n_warmup = (20, 20) if tiny else (N_DRAWS // 2, N_WARMUP)
        found = pm.sample(n_draws, tune=n_warmup, chains=2, cores=1, random_seed=0, progressbar=False)

    posterior = found.posterior
    both = {site: posterior[site].values.reshape(-1, *posterior[site].shape[2:]) for site in ("weights", "lines")}
    return sampled(time.perf_counter() - started, both["weights"], both["lines"][..., 1], "with compilation")


def cases(tiny: bool) -> Iterator[Case]:
    """Yield two tables; at a tiny size one, by ours alone: JAX compiles for half a minute whatever the size."""
    for name in ("CO2",) if tiny else ("CO2", "ethanol"):
        contestants = (
            Contestant("mixpyro", (), functools.partial(ours, name)),
            Contestant("NumPyro", ("numpyro",), functools.partial(by_numpyro, name), True),
            Contestant("PyMC", ("pymc",), functools.partial(by_pymc, name), True),
        )
        quantity = f"mean weight of the steeper line, {N_DRAWS} draws"
        yield Case(
            f"posterior of two lines, {name}", quantity, contestants[:1] if tiny else contestants, comparable=False
        )
