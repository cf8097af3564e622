"""Methods of gates and experts that a user calls with rows."""

import random
from typing import Any

import pyro
import torch
from torch import Tensor

from tests.fuzz.call import Call
from tests.fuzz.made import problem
from tests.fuzz.right_values import finite, numbers, rows_of_one
from tests.fuzz.targets.fitted import Fitted, K, fitted


def shares(n: int, k: int, rng: random.Random, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return random responsibilities [N, K].

    Args:
        n: rows.
        k: components.
        rng: draws the seed.
        dtype: of the result.
    """
    generator = torch.Generator().manual_seed(rng.randrange(10**6))
    return torch.softmax(torch.randn(n, k, generator=generator, dtype=dtype), -1)


def _call(part: str, method: str, made: Fitted, given: dict[str, Any], **options: Any) -> Call:
    """Return a call of a method of a part of a fitted mixture."""
    owner = getattr(made.result.mixture, part)
    word = "Gate" if part == "gate" else "Experts"
    return Call(f"{word}.{method}", getattr(owner, method), given, owner=owner, **options)


def weights(rng: random.Random) -> Call:
    """Weights of a gate."""
    made = fitted(rng, banks=("linear",))

    def check(result: Any, given: dict[str, Any]) -> list[str]:
        return rows_of_one("weights", result, len(given["x"]))

    return _call("gate", "weights", made, {"x": made.x}, check=check)


def expected_log_weights(rng: random.Random) -> Call:
    """Expected logarithms of weights."""
    made = fitted(rng, banks=("linear",))
    check = lambda r, _: numbers("log weights", r)  # noqa: E731
    return _call("gate", rng.choice(["expected_log_weights", "log_weights"]), made, {"x": made.x}, check=check)


def predictive_assignment(rng: random.Random) -> Call:
    """The distribution of components."""
    made = fitted(rng, banks=("linear",))
    check = lambda r, _: rows_of_one("weights", r.probs)  # noqa: E731
    return _call("gate", "predictive_assignment", made, {"x": made.x}, check=check)


def gate_model(rng: random.Random) -> Call:
    """The Pyro model and guide of a gate, in a plate."""
    made = fitted(rng, banks=("linear",))
    given: dict[str, Any] = {"x": made.x, "plate": pyro.plate("objects", len(made.x), dim=-1)}
    method = rng.choice(["model", "guide", "assignment_guide"])
    if method == "assignment_guide" or (method == "guide" and rng.random() < 0.3):
        given["responsibilities"] = shares(len(made.x), K, rng)
    if method == "model" and rng.random() < 0.3:
        given["observed"] = torch.zeros(len(made.x), dtype=torch.long)
    return _call("gate", method, made, given, draws=True, registers=True)


CONJUGATE = ("dirichlet", "dirichlet, learnt", "sticks", "sticks, learnt", "object", "object, learnt", "marginal")


def gate_update(rng: random.Random) -> Call:
    """The conjugate update of a gate, from statistics."""
    made = fitted(rng, banks=("linear",), gates=CONJUGATE)
    statistics = made.result.mixture.gate.statistics(made.x, shares(len(made.x), K, rng))
    return _call("gate", "update", made, {"statistics": statistics, "step_size": 0.5}, changes=True)


def gate_statistics(rng: random.Random) -> Call:
    """Statistics of a gate."""
    made = fitted(rng, banks=("linear",), gates=(*CONJUGATE, "bayesian", "tree"))
    given = {"x": made.x, "responsibilities": shares(len(made.x), K, rng)}
    return _call("gate", "statistics", made, given)


def experts_statistics(rng: random.Random) -> Call:
    """Statistics of experts, and their update."""
    made = fitted(rng, gates=("dirichlet",), banks=("linear", "relevance", "gaussian", "diagonal", "tied", "shared"))
    bank = made.result.mixture.experts
    given = {"x": made.x, "y": made.y, "responsibilities": shares(len(made.x), K, rng)}
    if rng.random() < 0.5:
        return _call("experts", "statistics", made, given)
    statistics = bank.statistics(**given)
    return _call("experts", "update", made, {"statistics": statistics, "step_size": 0.5}, changes=True)


def partial_bound(rng: random.Random) -> Call:
    """A part's share of the bound."""
    made = fitted(rng)
    part = rng.choice(["gate", "experts"]) if made.groups is None else "gate"
    rows = {"x": made.x} | ({"y": made.y} if part == "experts" else {})
    n = len(made.x) if made.groups is None else max(made.groups) + 1
    rows["x"] = rows["x"] if part == "experts" else rows["x"][:n]
    given = {**rows, "responsibilities": shares(n, K, rng)}

    def check(result: Any, given: dict[str, Any]) -> list[str]:
        are_moderate = all(not isinstance(v, Tensor) or bool((v.abs() < 1e9).all()) for v in given.values())
        if part == "experts" and made.kinds[1] == "inflated":  # counts of the component that is zero are impossible
            return numbers("bound", result)
        return finite("bound", result) if are_moderate else []

    return _call(part, "partial_bound", made, given, check=check)


def expert_means(rng: random.Random) -> Call:
    """Means of experts."""
    made = fitted(rng)
    check = lambda r, _: numbers("mean", r)  # noqa: E731
    return (
        _call(
            "experts",
            rng.choice(["predict", "predictive", "model", "guide"]),
            made,
            {"x": made.x},
            draws=True,
            registers=True,
        )
        if (rng.random() < 0.5)
        else _call("experts", "predict", made, {"x": made.x}, check=check)
    )


def expected_log_likelihood(rng: random.Random) -> Call:
    """Expected log densities of experts."""
    made = problem(rng) if rng.random() < 0.3 else None
    if made is not None and made.kinds[1] != "random effects":
        bank = made.mixture.experts
        return Call("Experts.expected_log_likelihood", bank.expected_log_likelihood, {"x": made.x, "y": made.y}, bank)
    of_fit = fitted(rng, gates=("dirichlet",))
    check = lambda r, _: numbers("log density", r)  # noqa: E731
    return _call("experts", "expected_log_likelihood", of_fit, {"x": of_fit.x, "y": of_fit.y}, check=check)


def centre(rng: random.Random) -> Call:
    """The origin of a fit."""
    made = fitted(rng)
    part = rng.choice(["gate", "experts"])
    given = {"x": made.x} | ({"y": made.y} if part == "experts" else {})
    return _call(part, "centre", made, given, changes=True)


def maximise(rng: random.Random) -> Call:
    """A step of the parameters of a part."""
    made = fitted(rng, gates=("softmax", "neural", "softmax, prior"), banks=("glm", "poisson", "student", "neural"))
    part = rng.choice(["gate", "experts"])
    y = made.y.reshape(len(made.x), -1)
    given = {"x": made.x, "y": y} if part == "experts" else {"x": made.x}
    given["responsibilities"] = shares(len(made.x), K, rng)
    owner = getattr(made.result.mixture, part)
    values = tuple(given.values())
    return Call(
        f"{'Gate' if part == 'gate' else 'Experts'}.maximise",
        lambda n_steps, **rows: owner.maximise(*values, by_gradient=lambda *_, **__: None, n_steps=n_steps),
        {"n_steps": 2},
        owner=owner,
        changes=True,
    )


MAKERS = {
    "Gate.weights": weights,
    "Gate.expected_log_weights": expected_log_weights,
    "Gate.predictive_assignment": predictive_assignment,
    "Gate.model": gate_model,
    "Gate.update": gate_update,
    "Gate.statistics": gate_statistics,
    "Experts.statistics": experts_statistics,
    "Part.partial_bound": partial_bound,
    "Experts.predict": expert_means,
    "Experts.expected_log_likelihood": expected_log_likelihood,
    "Part.centre": centre,
    "Part.maximise": maximise,
}
