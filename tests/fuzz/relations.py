"""What holds between the results of two calls, or of a call and another way to the same numbers."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import pyro
import torch
from pyro.infer import TraceEnum_ELBO
from torch import Tensor

import mixpyro
from mixpyro import FitResult, MixtureOfExperts
from tests.fuzz.call import Call
from tests.fuzz.right_values import near

# Functions of rows whose results depend on no random numbers and on no other rows than those given.
OF_ROWS = {
    *("MixtureOfExperts.assign", "MixtureOfExperts.bound", "MixtureOfExperts.expected_log_joint"),
    *("log_prob", "log_joint_predictive", "MixtureOfExperts.log_prob", "MixtureOfExperts.log_joint_predictive"),
    *("MixtureOfExperts.predict", "MixtureOfExperts.quantile", "FitResult.assign", "FitResult.predict"),
    *("FitResult.quantile", "Gate.weights", "Gate.expected_log_weights", "Gate.log_weights"),
    *("Experts.predict", "Experts.expected_log_likelihood", "Experts.partial_bound"),
}
ROWS = ("x", "y", "gate_x", "responsibilities", "weights", "mask", "observed", "initial_responsibilities")
# Of sums and exponentials of numbers of order one, relative to the largest.
SINGLE = 2e-3
DOUBLE = 1e-8
# Components of these may be numbered in any way: nothing tells one from another before the data.
EXCHANGEABLE = ("DirichletGate", "ObjectDirichletGate", "BayesianSoftmaxGate")
# Gates whose bound is below that of the program: a bound of the softmax, or precisions that the program sums out.
BELOW = ("BayesianSoftmaxGate", "TreeGate")
ALIKE = ("LinearExperts", "RelevanceLinearExperts", "SharedLinearExperts", "GaussianExperts")
# Draws of the bound, and standard errors that their mean may be off by.
N_DRAWS, MOST_ERRORS = 40, 7.0
# Of a mixture whose bound is compared with draws, which take a second with more.
MOST_COMPONENTS = 5


def unfitted(call: Call) -> MixtureOfExperts | None:
    """Return a copy of the mixture of a fit that is not made yet, if its result is going to be compared.

    Args:
        call: of any function.
    """
    is_compared = call.name == "fit" and call.is_related and not call.replaced
    return copy.deepcopy(call.arguments["mixture"]) if is_compared else None


def unrelated(call: Call, result: Any, mixture: MixtureOfExperts | None) -> list[str]:
    """Return what does not hold between the result of a right call and those of calls that are related to it.

    Args:
        call: that has succeeded; a call with replaced arguments is related to none.
        result: of it.
        mixture: of a fit, as it was before.
    """
    if call.replaced or not call.is_related or not _are_plain(call.arguments):
        return []
    if mixture is not None:
        return with_other_numbers(call, result, mixture)
    if call.name not in OF_ROWS:
        return []
    found = in_another_order(call, result) + in_single_precision(call, result)
    # Of a gate with a posterior of each object, the rows are new objects: the program has more than the bound.
    is_whole = call.name == "MixtureOfExperts.bound" and not hasattr(call.owner.gate, "n_objects")
    is_small = is_whole and call.owner.n_components <= MOST_COMPONENTS
    return found + (of_draws(call, result) if is_small else [])


def _are_plain(arguments: dict[str, Any]) -> bool:
    """Return whether there are rows, in tensors of float64 and of no groups."""
    x = arguments.get("x")
    return type(x) is Tensor and x.dtype == torch.float64 and arguments.get("groups") is None


def in_another_order(call: Call, result: Any) -> list[str]:
    """Return a complaint if rows in another order have other results.

    Args:
        call: a function of rows.
        result: of it.
    """
    n = len(call.arguments["x"])
    order = torch.randperm(n, generator=torch.Generator().manual_seed(n))
    other = call.function(**_with_rows(call.arguments, lambda value: value[order]))
    found = []
    for (name, value), (_, moved) in zip(_tensors(result), _tensors(other), strict=True):
        axis = next((axis for axis, size in enumerate(value.shape) if size == n), None)
        expected = value if axis is None else value.index_select(axis, order)
        found += near(f"{name} of rows in another order", moved, expected, DOUBLE)
    return found


def in_single_precision(call: Call, result: Any) -> list[str]:
    """Return a complaint if rows of float32 have results that differ by more than rounding.

    Args:
        call: a function of rows.
        result: of it.
    """
    other = call.function(**_with_rows(call.arguments, _single))
    return [
        words
        for (name, value), (_, single) in zip(_tensors(result), _tensors(other), strict=True)
        for words in near(f"{name} in single precision", single, value, SINGLE)
    ]


def of_draws(call: Call, result: Any) -> list[str]:
    """Return a complaint if a bound is not Pyro's own of the same model and guide, on average over draws.

    Args:
        call: of a mixture's bound, the components of whose rows Pyro sums out.
        result: the bound.
    """
    # A few draws say little where their losses have heavy tails, so that a complaint is one of many draws.
    return _off_draws(call, result, N_DRAWS) and _off_draws(call, result, 10 * N_DRAWS)


def _off_draws(call: Call, result: Any, n_draws: int) -> list[str]:
    """Return a complaint if a bound is too far from the mean of so many draws for their error."""
    mixture: MixtureOfExperts = call.owner
    given = {name: call.arguments[name] for name in ("x", "y")}
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    with torch.random.fork_rng([]), torch.no_grad(), pyro.get_param_store().scope():
        torch.manual_seed(0)
        draws = torch.tensor([-elbo.loss(mixture.model, mixture.guide, **given) for _ in range(n_draws)]).double()
    error = float(result - draws.mean())
    error = error if type(mixture.gate).__name__ in BELOW else abs(error)
    allowed = MOST_ERRORS * float(draws.std()) / n_draws**0.5 + 1e-6 * max(1.0, abs(float(result)))
    return [f"the bound is off the mean of draws by {error:.2g} of {allowed:.2g}"] if error > allowed else []


def with_other_numbers(call: Call, result: Any, mixture: MixtureOfExperts) -> list[str]:
    """Return a complaint if a fit from given responsibilities depends on how the components are numbered.

    Args:
        call: of a fit that has begun at ``initial_responsibilities``.
        result: of it.
        mixture: as it was before.
    """
    given = call.arguments | {"mixture": mixture}
    kinds = type(mixture.gate).__name__, type(mixture.experts).__name__
    first = given.get("initial_responsibilities")
    if first is None or kinds[0] not in EXCHANGEABLE or kinds[1] not in ALIKE or not isinstance(result, FitResult):
        return []
    given["initial_responsibilities"] = first.flip(1)
    other = mixpyro.fit(**given)
    found = near("responsibilities", other.responsibilities.flip(1), result.responsibilities, 1e-5)
    bounds = [torch.tensor(one.bound, dtype=torch.float64) for one in (other, result)]
    words = found + near("the bound", bounds[0], bounds[1], 1e-7)
    return [f"{one} where components have other numbers" for one in words]


def _with_rows(arguments: dict[str, Any], function: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    """Return arguments with a function of every tensor of rows."""
    return {
        name: function(value) if name in ROWS and isinstance(value, Tensor) else value
        for name, value in arguments.items()
    }


def _single(value: Tensor) -> Tensor:
    """Return floating numbers as float32."""
    return value.float() if value.is_floating_point() else value


def _tensors(result: Any, name: str = "the result") -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a result with names."""
    if isinstance(result, Tensor):
        yield name, result.detach()
    elif isinstance(result, pd.DataFrame | pd.Series):
        yield name, torch.as_tensor(result.to_numpy(dtype=float))
    elif isinstance(result, tuple):
        for part, value in zip(getattr(result, "_fields", range(len(result))), result, strict=True):
            yield from _tensors(value, str(part))
