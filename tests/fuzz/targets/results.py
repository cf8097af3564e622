"""Results of fits, reports, intervals and refinement."""

import random
from typing import Any

import torch

import mixpyro
from tests.fuzz.call import Call
from tests.fuzz.right_values import assigned, finite, numbers
from tests.fuzz.targets.fitted import Fitted, fitted, rows_of

# Kinds of which every report can be made.
PLAIN_GATES = ("dirichlet", "softmax, prior", "bayesian", "sticks")
PLAIN_BANKS = ("linear", "glm", "poisson", "student", "categorical")


def _method(name: str, made: Fitted, given: dict[str, Any], **options: Any) -> Call:
    """Return a call of a method of a result."""
    return Call(f"FitResult.{name}", getattr(made.result, name), given, owner=made.result, **options)


def _maybe_rows(made: Fitted, rng: random.Random, *, y: bool = True) -> dict[str, Any]:
    """Return rows by name, or none: the rows of the fit are taken then."""
    return rows_of(made, rng, y=y, n=len(made.x)) if rng.random() < 0.5 else {}


def assign(rng: random.Random) -> Call:
    """Assignments of the rows of the fit or of others."""
    made = fitted(rng)
    check = lambda r, _: assigned(r)  # noqa: E731
    return _method("assign", made, _maybe_rows(made, rng), check=check)


def predict(rng: random.Random) -> Call:
    """Means of the rows of the fit or of others."""
    made = fitted(rng)
    return _method("predict", made, _maybe_rows(made, rng, y=False), check=lambda r, _: numbers("prediction", r))


def quantile(rng: random.Random) -> Call:
    """Quantiles of the rows of the fit or of others."""
    made = fitted(rng, banks=("linear", "poisson"))
    given = {"probabilities": rng.choice([0.5, [0.1, 0.9]]), **_maybe_rows(made, rng, y=False)}
    return _method("quantile", made, given, check=lambda r, _: numbers("quantile", r))


def sample(rng: random.Random) -> Call:
    """Draws of outputs."""
    made = fitted(rng)
    return _method("sample", made, {"n_draws": 2, "seed": 1, **_maybe_rows(made, rng, y=False)})


def summary(rng: random.Random) -> Call:
    """The summary."""
    return _method("summary", fitted(rng), {"probability": 0.8})


def small_methods(rng: random.Random) -> Call:
    """Methods with one argument or none."""
    made = fitted(rng, gates=("sticks", "sticks, learnt"), banks=PLAIN_BANKS)
    choices: list[tuple[str, dict[str, Any]]] = [
        ("at", {"number": 0}),
        ("optimum", {"number": 0}),
        ("optima_frame", {}),
        ("n_reached_best", {"tolerance": 0.1}),
        ("without_empty", {}),
        ("criteria", {}),
    ]
    name, given = rng.choice(choices)
    return _method(name, made, given)


def coefficients(rng: random.Random) -> Call:
    """A table of coefficients."""
    made = fitted(rng)
    given = {"fitted": made.result, "probability": 0.8, "intervals": "linear response", **_maybe_rows(made, rng)}
    return Call("coefficients", mixpyro.coefficients, given, may_refuse=True)


def table_methods(rng: random.Random) -> Call:
    """A table of coefficients as a frame and in other forms."""
    made = fitted(rng, gates=PLAIN_GATES, banks=PLAIN_BANKS)
    table = mixpyro.coefficients(made.result)
    name = rng.choice(["to_frame", "to_latex", "noises"])
    return Call(f"CoefficientTable.{name}", getattr(table, name), {}, owner=table)


def criteria(rng: random.Random) -> Call:
    """Criteria of a fit."""
    made = fitted(rng)

    def check(result: Any, given: dict[str, Any]) -> list[str]:
        return [words for name in ("bound", "log_likelihood", "bic") for words in finite(name, getattr(result, name))]

    given = {"result": made.result, **_maybe_rows(made, rng)}
    given.pop("groups", None)
    return Call("criteria", mixpyro.criteria, given, check=check)


def compare(rng: random.Random) -> Call:
    """A ranking of fits."""
    made = fitted(rng, banks=("linear",))
    other = fitted(rng, gates=PLAIN_GATES, banks=("linear",))
    given = {"results": rng.choice([{"a": made.result, "b": other.result}, [made.result, other.result]])}
    return Call("compare", mixpyro.compare, given, may_refuse=True)


def as_table(rng: random.Random) -> Call:
    """Rows of criteria or coefficients as text."""
    made = fitted(rng, gates=PLAIN_GATES, banks=PLAIN_BANKS)
    return Call("as_table", mixpyro.as_table, {"rows": {"a": mixpyro.criteria(made.result)}})


def observed_information(rng: random.Random) -> Call:
    """The observed information."""
    made = fitted(rng, gates=("dirichlet", "softmax, prior", "softmax"), banks=("glm", "poisson", "student", "linear"))
    given = {"mixture": made.result.mixture, "x": made.x, "y": made.y}
    return Call("observed_information", mixpyro.observed_information, given, may_refuse=True)


def linear_response(rng: random.Random) -> Call:
    """Covariances by linear response, and what follows from them."""
    made = fitted(rng)
    given = {"result": made.result, **_maybe_rows(made, rng)}
    if rng.random() < 0.7:
        return Call("linear_response", mixpyro.linear_response, given, may_refuse=True)
    plain = fitted(rng, gates=PLAIN_GATES, banks=("linear", "glm"))
    try:
        response = mixpyro.linear_response(plain.result)
    except ValueError:
        return Call("linear_response", mixpyro.linear_response, given, may_refuse=True)
    name, own = rng.choice([("influence", {}), ("sandwich", {"groups": None})])
    return Call(f"LinearResponse.{name}", getattr(response, name), own, owner=response)


def variance_components(rng: random.Random) -> Call:
    """Variances of random effects."""
    made = fitted(rng, banks=("random effects", "random effects", "linear"))
    return Call(
        "variance_components", mixpyro.variance_components, {"fitted": made.result, "probability": 0.8}, may_refuse=True
    )


def refine(rng: random.Random) -> Call:
    """Draws beyond the mean field."""
    made = fitted(rng, gates=("dirichlet", "softmax, prior"), banks=("linear", "glm"))
    given: dict[str, Any] = {"result": made.result, "n_draws": 20, "nuts": False, "seed": 1, "progress": False}
    whole = Call("refine", mixpyro.refine, given, may_refuse=True, fixed=frozenset({"nuts", "progress"}))
    if rng.random() < 0.5:
        return whole
    try:
        refined = mixpyro.refine(**given)
    except ValueError:
        return whole
    return Call("Refined.interval", refined.interval, {"probability": 0.8}, owner=refined)


def groups_methods(rng: random.Random) -> Call:
    """Sums over groups."""
    groups = mixpyro.Groups.of([1, 2, 1, 3])
    values = torch.arange(4.0)
    choices: list[tuple[str, dict[str, Any]]] = [
        ("sum", {"values": values}),
        ("sorted", {"rows": values}),
        ("spread", {"values": torch.arange(3.0)}),
        ("shared", {"name": "x", "values": torch.tensor([1.0, 2.0, 1.0, 3.0])}),
        ("same_as", {"other": groups}),
    ]
    name, given = rng.choice(choices)
    return Call(f"Groups.{name}", getattr(groups, name), given, owner=groups)


MAKERS = {
    "FitResult.assign": assign,
    "FitResult.predict": predict,
    "FitResult.quantile": quantile,
    "FitResult.sample": sample,
    "FitResult.summary": summary,
    "FitResult.at": small_methods,
    "coefficients": coefficients,
    "CoefficientTable.to_frame": table_methods,
    "criteria": criteria,
    "compare": compare,
    "as_table": as_table,
    "observed_information": observed_information,
    "linear_response": linear_response,
    "variance_components": variance_components,
    "refine": refine,
    "Groups.sum": groups_methods,
}
