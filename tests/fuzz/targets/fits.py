"""Fits: of all rows, of minibatches, of streams, of trees, and what goes on from a result."""

import random
from typing import Any

import torch
from torch import Tensor

import mixpyro
from mixpyro import DirichletGate, FitResult, LinearExperts, MixtureOfExperts, NeuralExperts, NeuralGate, TreeGate
from mixpyro.experts.families import Gaussian
from tests.fuzz.call import Call
from tests.fuzz.made import EXPERTS, Problem, Size, arguments_of_rows, network, problem, rows
from tests.fuzz.right_values import finite, monotone, near, rows_of_one
from tests.fuzz.targets.fitted import QUICK, fitted
from tests.fuzz.targets.parts import shares

# Of a problem that takes long with more iterations.
STARTS = ("responsibilities", "observed", "annealed", "weights", "two restarts")


def of_fit(result: Any, given: dict[str, Any]) -> list[str]:
    """Return what is wrong with the result of a fit: trace, responsibilities, the bound of its rows.

    Args:
        result: of a fit.
        given: the arguments of the call.
    """
    if not isinstance(result, FitResult):
        return [f"the result is a {type(result).__name__}"]
    found = [words for run in result.runs for words in _of_run(run, result)]
    found += finite("bound", result.bound) + rows_of_one("responsibilities", result.responsibilities)
    found += numbers_of_rows(result)
    plain = all(given.get(name) is None for name in ("weights", "observed", "groups", "gate_x"))
    x, y = given.get("x"), given.get("y")
    if plain and type(x) is Tensor and type(y) is Tensor and given.get("missing", "error") == "error" and found == []:
        objects = slice(None) if hasattr(result.mixture.gate, "n_objects") else None
        expected = result.mixture.bound(x.detach(), y.detach(), objects=objects)
        tolerance = 1e-8 if x.dtype == torch.float64 else 1e-3
        found += near("the bound", torch.tensor(result.bound, dtype=torch.float64), expected, tolerance)
    return found


def numbers_of_rows(result: FitResult) -> list[str]:
    """Return a complaint if a fit that says nothing of it has log densities of its own rows that are no numbers.

    Args:
        result: of a fit.
    """
    evidence = result.assign().log_evidence
    if result.cautions or not isinstance(evidence, Tensor):
        return []
    return ["log evidence of fitted rows is NaN"] if bool(evidence.isnan().any()) else []


def _of_run(run: Any, result: FitResult) -> list[str]:
    """Return what is wrong with a run: one that is degenerate may end anywhere, and dropout makes bounds random."""
    parts = result.mixture.modules()
    is_random = any(isinstance(part, torch.nn.Dropout) and part.training for part in parts)
    if is_random:
        return finite("the trace", torch.tensor(run.trace))
    is_float32 = result.rows is not None and result.rows.x.dtype == torch.float32
    return [] if run.degeneracies else monotone(run.trace, 1e-6 if is_float32 else 1e-8)


def _options(made: Problem, rng: random.Random) -> dict[str, Any]:
    """Return rows and options of a fit."""
    given = {**arguments_of_rows(made, rng), **QUICK, "seed": rng.randrange(5)}
    n, k = len(made.x), made.mixture.n_components
    n_objects = n if "groups" not in given else (n + 1) // 2
    way = rng.choice([*STARTS, "", ""])
    if way == "responsibilities":
        given["initial_responsibilities"] = shares(n_objects, k, rng, made.x.dtype)
    elif way == "observed":
        # Of zero-inflated counts, those of the first component are all zeros.
        given["observed"] = torch.full((n,), int(made.kinds[1] == "inflated"))
        given["mask"] = torch.arange(n) < 2
    elif way == "annealed":
        given["n_annealing"] = 2
    elif way == "weights" and made.mixture.gate.takes_row_weights:
        given["weights"] = torch.ones(n, dtype=made.x.dtype) * 2.0
    elif way == "two restarts":
        given["n_restarts"] = 2
    return given


def fit(rng: random.Random) -> Call:
    """A fit of all rows."""
    made = problem(rng, small=True)
    given = {"mixture": made.mixture, **_options(made, rng)}
    fixed = frozenset({"progress"})
    return Call("fit", mixpyro.fit, given, adopts=("mixture",), check=of_fit, fixed=fixed)


def fit_networks(rng: random.Random) -> Call:
    """A fit of networks, which may be odd ones."""
    x, y = rows("glm", Size(2, 2, 24), seed=3)
    of_gate = rng.random() < 0.5

    def made(network: Any, prior_scale: Any, n_gradient_steps: int) -> FitResult:
        gate = NeuralGate(2, network, prior_scale=prior_scale) if of_gate else DirichletGate(2)
        experts = LinearExperts(2, 2) if of_gate else NeuralExperts(2, 2, network, Gaussian(), prior_scale=prior_scale)
        return mixpyro.fit(MixtureOfExperts(gate, experts), x, y, **{**QUICK, "n_gradient_steps": n_gradient_steps})

    given = {"network": network(2, 2), "prior_scale": 2.0, "n_gradient_steps": 3}
    return Call("fit, networks", made, given, adopts=("network",), check=of_fit)


def fit_minibatches(rng: random.Random) -> Call:
    """A fit in minibatches."""
    made = problem(rng, small=True)
    while made.kinds[0].startswith(("object", "bayesian", "tree")):
        made = problem(rng, small=True)
    options = {name: value for name, value in QUICK.items()}
    given = {"mixture": made.mixture, **arguments_of_rows(made, rng, groups=False), **options}
    given |= {"batch_size": 8, "n_epochs": 2}
    return Call("fit_minibatches", mixpyro.fit_minibatches, given, adopts=("mixture",))


def _rows_of_stream(made: Problem, rng: random.Random) -> dict[str, Any]:
    """Return the rows of a batch: of either dtype, perhaps with groups, and perhaps some of them without an output."""
    given = arguments_of_rows(made, rng)
    if rng.random() < 0.3:
        given |= {name: given[name].float() for name in ("x", "y")}
    if rng.random() < 0.3:
        given |= {"y": given["y"].clone(), "missing": "ignore"}
        given["y"][rng.randrange(len(given["y"]))] = torch.nan
    return given


def partial_fit(rng: random.Random) -> Call:
    """A batch of a stream, the first or a later one."""
    made = problem(rng, small=True)
    while made.kinds[0].startswith("object"):
        made = problem(rng, small=True)
    stream = mixpyro.StreamingFit(made.mixture, n_restarts=1, max_iterations=100)
    given = _rows_of_stream(made, rng)
    if rng.random() < 0.5:
        stream.partial_fit(**given)
    return Call("StreamingFit.partial_fit", stream.partial_fit, given, owner=stream, changes=True)


def streaming_fit(rng: random.Random) -> Call:
    """A stream that has seen nothing."""
    made = problem(rng, small=True)
    while made.kinds[0].startswith("object"):
        made = problem(rng, small=True)
    given = {"mixture": made.mixture, "n_objects": 100.0, "step_size": 0.5, "lr": 0.01, "n_restarts": 1, "seed": 0}
    return Call("StreamingFit", mixpyro.StreamingFit, given)


def fit_batches(rng: random.Random) -> Call:
    """A stream of several batches."""
    made = problem(rng, small=True)
    while made.kinds[0].startswith("object") or made.kinds[1] == "random effects":
        made = problem(rng, small=True)
    half = len(made.x) // 2
    batches = [(made.x[:half], made.y[:half]), (made.x[half:], made.y[half:])]
    given = {"mixture": made.mixture, "batches": batches, "n_epochs": 1, "n_restarts": 1, "n_objects": 40}
    return Call("fit_batches", mixpyro.fit_batches, given, adopts=("mixture",))


def polish(rng: random.Random) -> Call:
    """Further iterations of a result."""
    gates = ("bayesian", "bayesian, relevance")
    made = fitted(rng, gates=gates, banks=tuple(bank for bank in EXPERTS if bank != "random effects"))
    given: dict[str, Any] = {"result": made.result, "max_iterations": 3}
    if made.groups is None and rng.random() < 0.5:
        given |= {"x": made.x, "y": made.y}
    return Call("polish", mixpyro.polish, given)


def grow_tree(rng: random.Random) -> Call:
    """A tree that is grown."""
    made = problem(rng, small=True)
    d = made.x.shape[1]
    given = {"experts": lambda k: LinearExperts(k, d), "x": made.x.double(), "y": made.x[:, 0].double().sin()}
    given |= {"most_components": 2, "n_restarts": 1, "max_iterations": 5, "prior_scale": 2.0, "seed": 1}
    return Call("grow_tree", mixpyro.grow_tree, given)


def rearrange_tree(rng: random.Random) -> Call:
    """A tree whose nodes are exchanged."""
    made = problem(rng, small=True)
    d = made.x.shape[1]
    mixture = MixtureOfExperts(TreeGate(3, d), LinearExperts(3, d))
    x, y = made.x.double(), made.x[:, 0].double().sin()
    result = mixpyro.fit(mixture, x, y, **QUICK)
    return Call("rearrange_tree", mixpyro.rearrange_tree, {"result": result, "x": x, "y": y, "max_iterations": 5})


MAKERS = {
    "fit": fit,
    "fit, networks": fit_networks,
    "fit_minibatches": fit_minibatches,
    "StreamingFit": streaming_fit,
    "StreamingFit.partial_fit": partial_fit,
    "fit_batches": fit_batches,
    "polish": polish,
    "grow_tree": grow_tree,
    "rearrange_tree": rearrange_tree,
}
