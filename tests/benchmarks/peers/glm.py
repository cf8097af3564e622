"""Twenty restarts of mixtures of regressions by maximum likelihood, ours beside flexmix and mixtools.

The cases are those whose best log likelihood is known: the published fits of patents, CO2 and ethanol, centres of
patients as groups, and the examples of flexmix. Seconds are those of twenty restarts, after one warm-up in the same
process, without starting Python or R. flexmix runs ``stepFlexmix(nrep = 20)``; its hits are those of twenty further
runs of ``flexmix``. A run hits if it ends within 0.1 nats of the best known log likelihood: flexmix stops at a relative
change of 10⁻⁶, and divides the noise of Gaussians by n − p, so that its log likelihoods are up to 0.05 nats lower.
"""

import functools
import time
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from mixpyro import GLMExperts, MixtureOfExperts, SoftmaxGate, fit
from mixpyro.experts.families import Binomial, Family, Gaussian, Poisson
from tests.benchmarks.peers import r
from tests.benchmarks.peers.outcomes import Case, Contestant, Outcome
from tests.benchmarks.peers.tables import read_columns

HIT = 0.1
N_RESTARTS = 20


class Problem(NamedTuple):
    """A mixture of generalised linear models, and how R writes it."""

    name: str
    n_components: int
    table: dict[str, Tensor]  # columns [N]
    x: tuple[str, ...]
    y: str
    family: Family
    known: float  # the best known log likelihood, nats
    formula: str  # of flexmix
    gate: tuple[str, ...] = ()
    groups: str | None = None
    trials: str | None = None
    shared: tuple[int, ...] = ()

    def columns(self, names: tuple[str, ...]) -> Tensor:
        """Return columns of the table [N, …]."""
        empty = torch.empty(len(self.table[self.y]), 0, dtype=torch.float64)
        return torch.cat([empty, *(self.table[name].unsqueeze(-1) for name in names)], 1)

    def mixture(self) -> MixtureOfExperts:
        """Return a new mixture."""
        options = {"shared": list(self.shared)} if self.shared else {}
        if self.trials:
            options["exposure"] = True  # type: ignore[assignment]
        experts = GLMExperts(self.n_components, len(self.x), self.family, **options)  # type: ignore[arg-type]
        return MixtureOfExperts(SoftmaxGate(self.n_components, len(self.gate)), experts)


def problems() -> Iterator[Problem]:
    """Yield the cases of maximum likelihood."""
    patents = read_columns("patent.csv", "lgRD", "RDS", "Patents")
    yield from (
        Problem(f"patents, constant gate, K = {k}", k, patents, ("lgRD",), "Patents", Poisson(), v, "Patents ~ lgRD")
        for k, v in ((2, -219.637), (3, -203.533), (4, -199.456))
    )
    yield Problem(
        "patents, gated, K = 3", 3, patents, ("lgRD",), "Patents", Poisson(), -197.675, "Patents ~ lgRD", ("RDS",)
    )
    co2, ethanol = read_columns("co2_gnp.csv", "GNP", "CO2"), read_columns("ethanol.csv", "NO", "Equivalence")
    for name, table, x, y, known, gated in (
        ("CO2", co2, "GNP", "CO2", -66.93977, -66.29656),
        ("ethanol", ethanol, "NO", "Equivalence", 122.0384, 123.6206),
    ):
        yield Problem(f"{name}, constant gate, K = 2", 2, table, (x,), y, Gaussian(), known, f"{y} ~ {x}")
        yield Problem(f"{name}, gated, K = 2", 2, table, (x,), y, Gaussian(), gated, f"{y} ~ {x}", (x,))
    yield from grouped()
    yield from of_flexmix()


def grouped() -> Iterator[Problem]:
    """Yield centres of patients, whose rows share a component."""
    hearts = read_columns("betablocker.csv", "Deaths", "Total", "Center", Treatment=("Treatment", "Treated"))
    formula = "cbind(Deaths, Total - Deaths) ~ 1 | Center"
    for k, known in ((2, -181.33082), (3, -159.36052), (4, -155.7539)):
        yield Problem(
            f"beta blockers, K = {k}", k, hearts, ("Treatment",), "Deaths", Binomial(), known, formula,
            groups="Center", trials="Total", shared=(0,),
        )  # fmt: skip
    sites = read_columns("mehta.csv", "Response", "Total", "Site", Drug=("Drug", "New"))
    formula = "cbind(Response, Total - Response) ~ 1 | Site"
    yield Problem(
        "Mehta, K = 3", 3, sites, ("Drug",), "Response", Binomial(), -66.80534, formula,
        groups="Site", trials="Total", shared=(0,),
    )  # fmt: skip


def of_flexmix() -> Iterator[Problem]:
    """Yield further examples of flexmix."""
    faults = read_columns("fabricfault.csv", "Length", "Faults")
    faults["logLength"] = faults["Length"].log()
    yield Problem(
        "fabric faults, K = 2", 2, faults, ("logLength",), "Faults", Poisson(), -86.33119, "Faults ~ 1", shared=(0,)
    )
    npreg = read_columns("npreg.csv", "x", "yn", "yp")
    npreg["x2"] = npreg["x"].square()
    yield Problem("NPreg, Gaussian, K = 2", 2, npreg, ("x", "x2"), "yn", Gaussian(), -642.53201, "yn ~ x + x2")
    yield Problem("NPreg, Poisson, K = 2", 2, npreg, ("x",), "yp", Poisson(), -440.64029, "yp ~ x")


def ours(problem: Problem, seconds: float, tiny: bool) -> Outcome:
    """Fit twenty restarts; the hits are those of its runs."""
    x = problem.columns((*problem.x, *filter(None, [problem.trials])))
    groups = None if problem.groups is None else problem.table[problem.groups]
    n_restarts = 2 if tiny else N_RESTARTS

    def fitted(n: int, most: int) -> tuple[float, list[float]]:
        started = time.perf_counter()
        result = fit(
            problem.mixture(), x, problem.columns((problem.y,)), gate_x=problem.columns(problem.gate), groups=groups,
            n_restarts=n, max_iterations=most, seed=1, progress=False,
        )  # fmt: skip
        taken = time.perf_counter() - started
        return taken, [result.bound, *(run.bound for run in result.runs if not run.degeneracies)]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        fitted(1, 3)
        taken, (bound, *runs) = fitted(n_restarts, 1000)
    return Outcome(((taken, bound),), sum(abs(run - problem.known) < HIT for run in runs), n_restarts)


def model(problem: Problem) -> str:
    """Return the model of flexmix."""
    fixed = f", fixed = ~ {' + '.join(problem.x)}" if problem.shared else ""
    return f'FLXMRglm{"fix" if problem.shared else ""}(family = "{family(problem)}"{fixed})'


def family(problem: Problem) -> str:
    """Return the name of the family in R."""
    return type(problem.family).__name__.lower()


FLEXMIX = """
suppressMessages(library(flexmix))
arguments <- list({formula}, data = data, k = {k}, model = {model}{gate})
control <- list(minprior = 0)
one <- function() tryCatch({{ found <- do.call(flexmix, c(arguments, list(control = control)))
    if (found@k < {k}) NA else c(logLik(found)) }}, error = function(e) NA)
set.seed(1)
invisible(one())
seconds <- system.time(best <- do.call(stepFlexmix, c(arguments, list(control = control, nrep = {n},
    verbose = FALSE))))[["elapsed"]]
cat("@ seconds", seconds, "\\n@ value", logLik(best), "\\n@ singles", sapply(1:{n}, function(i) one()), "\\n")
"""


def by_flexmix(problem: Problem, seconds: float, tiny: bool) -> Outcome:
    """Run stepFlexmix, then as many single runs."""
    gate = f", concomitant = FLXPmultinom(~ {' + '.join(problem.gate)})" if problem.gate else ""
    script = FLEXMIX.format(
        formula=problem.formula, k=problem.n_components, model=model(problem), gate=gate, n=2 if tiny else N_RESTARTS
    )
    found = r.results(script, problem.table, seconds=seconds)
    hits = sum(abs(single - problem.known) < HIT for single in found["singles"])
    return Outcome(((found["seconds"][0], found["value"][0]),), hits, len(found["singles"]))


MIXTOOLS = """
suppressMessages(library(mixtools))
x <- as.matrix(data[, c({x})]); y <- data${y}; constant <- {constant}
one <- function() tryCatch({{ capture.output(found <- {call}); found$loglik }}, error = function(e) NA)
set.seed(1)
invisible(one())
seconds <- system.time(singles <- sapply(1:{n}, function(i) one()))[["elapsed"]]
cat("@ seconds", seconds, "\\n@ singles", singles + constant, "\\n")
"""
CALLS = {"gaussian": "regmixEM(y, x, k = {k})", "poisson": "poisregmixEM(y, x, k = {k})"}


def by_mixtools(problem: Problem, seconds: float, tiny: bool) -> Outcome:
    """Run EM twenty times; runs that fail are no hits."""
    script = MIXTOOLS.format(
        x=", ".join(f'"{name}"' for name in problem.x),
        y=problem.y,
        constant="0",
        call=CALLS[family(problem)].format(k=problem.n_components),
        n=2 if tiny else N_RESTARTS,
    )
    found = r.results(script, problem.table, seconds=seconds)
    singles = found["singles"]
    hits = sum(abs(single - problem.known) < HIT for single in singles)
    sound = [single for single in singles if single < problem.known + HIT]  # neither nan nor degenerate
    failed = sum(single != single for single in singles)
    note = f"{failed} runs failed" if failed else ""
    return Outcome(((found["seconds"][0], max(sound, default=float("-inf"))),), hits, len(singles), note)


def cases(tiny: bool) -> Iterator[Case]:
    """Yield a case for each problem, at a tiny size only the first of flexmix."""
    for problem in of_flexmix() if tiny else problems():
        contestants = [
            Contestant("mixpyro", (), functools.partial(ours, problem)),
            Contestant("flexmix", ("R:flexmix",), functools.partial(by_flexmix, problem)),
        ]
        if not (problem.gate or problem.groups or problem.shared):
            contestants.append(Contestant("mixtools", ("R:mixtools",), functools.partial(by_mixtools, problem)))
        yield Case(problem.name, f"log likelihood, {N_RESTARTS} restarts", tuple(contestants))
        if tiny:
            break
