"""ArviZ data of fits, what is computed of them, and pictures."""

import functools
import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from mixpyro import diagnostics
from mixpyro.diagnostics import plots
from tests.fuzz.call import Call
from tests.fuzz.made import EXPERTS, GATES
from tests.fuzz.targets.fitted import K, fitted, rows_of
from tests.fuzz.targets.parts import shares

QUICK: dict[str, Any] = {"n_draws": 30, "seed": 0, "progress": False}
# Of these every diagnostic can be made.
GATE, BANKS = ("dirichlet",), ("linear", "poisson")


@functools.cache
def _data(bank: str) -> Any:
    """Return ArviZ data of a fit."""
    made = fitted(random.Random(0), gates=GATE, banks=(bank,))
    return diagnostics.to_arviz(made.result, **QUICK)


def data_of(rng: random.Random) -> Any:
    """Return a copy of ArviZ data of a fit.

    Args:
        rng: draws of which.
    """
    data = _data(rng.choice(BANKS))
    return data.copy() if hasattr(data, "copy") else data


def to_arviz(rng: random.Random) -> Call:
    """Draws of a fit as ArviZ data."""
    made = fitted(rng)
    of_gate = made.groups is None and rng.random() < 0.15
    given = {"fitted": made.result.mixture.gate if of_gate else made.result, **QUICK}
    if of_gate:
        given["x"] = made.x
    elif rng.random() < 0.4:
        given |= rows_of(made, rng, n=len(made.x))
    return Call("to_arviz", diagnostics.to_arviz, given, fixed=frozenset({"progress"}))


def exact_loo(rng: random.Random) -> Call:
    """Leaving out rows one by one."""
    made = fitted(rng, gates=("dirichlet", "softmax, prior"), banks=("linear",))
    return Call("exact_loo", diagnostics.exact_loo, {"result": made.result, "progress": False}, may_refuse=True)


def of_data(rng: random.Random) -> Call:
    """Functions of ArviZ data."""
    data = data_of(rng)
    checks = {"data": data, "statistics": {"mean": np.mean}, "output": 0}
    word = lambda value: float(np.mean(value))  # noqa: E731
    name, given = rng.choice(
        [
            ("loo", {"data": data, "site": None}),
            ("khat", {"data": data}),
            ("resample", {"data": data, "seed": 1}),
            ("psense_summary", {"data": data, "seed": 1}),
            ("predictive_checks", checks | {"statistics": {"mean": word}}),
        ]
    )
    return Call(f"diagnostics.{name}", getattr(diagnostics, name), given, may_refuse=True)


def of_loo(rng: random.Random) -> Call:
    """Functions of leave-one-out densities."""
    elpd = diagnostics.loo(data_of(random.Random(0)))
    if rng.random() < 0.4:
        return Call("as_arviz", diagnostics.as_arviz, {"elpd": elpd})
    models = {"a": elpd, "b": elpd}
    if rng.random() < 0.5:
        return Call("loo_table", diagnostics.loo_table, {"rows": diagnostics.compare_loo(models)})
    return Call("compare_loo", diagnostics.compare_loo, {"models": models})


def responsibility_draws(rng: random.Random) -> Call:
    """Responsibilities under draws, and their summary."""
    made = fitted(rng, gates=GATE, banks=("linear",))
    draws = diagnostics.ResponsibilityDraws(_data("linear"), made.result)
    if rng.random() < 0.5:
        return Call(
            "ResponsibilityDraws", diagnostics.ResponsibilityDraws, {"data": _data("linear"), "fitted": made.result}
        )
    if rng.random() < 0.5:
        return Call("ResponsibilityDraws.summary", draws.summary, {"probability": 0.8}, owner=draws)
    return Call("ResponsibilityDraws.of", draws.of, {"draws": slice(0, 5), "objects": slice(0, 3)}, owner=draws)


def align(rng: random.Random) -> Call:
    """Components put in one order."""
    draws = [shares(7, K, rng).numpy() for _ in range(4)]
    given = {"responsibilities": rng.choice([draws, np.stack(draws)]), "reference": draws[0], "max_passes": 5}
    return Call("align", diagnostics.align, given)


def relabel(rng: random.Random) -> Call:
    """Draws with their components in another order."""
    data = _data("linear")
    n = data["posterior"].sizes["chain"] * data["posterior"].sizes["draw"]
    alignment = diagnostics.align([shares(7, K, rng).numpy() for _ in range(n)])
    return Call("relabel", diagnostics.relabel, {"data": data, "alignment": alignment, "axis": "component"})


def from_netcdf(rng: random.Random) -> Call:
    """Data read from a file."""
    folder = Path(tempfile.mkdtemp())
    _data("linear").to_netcdf(str(folder / "data.nc"))
    return Call("from_netcdf", diagnostics.from_netcdf, {"path": folder / "data.nc"})


def picture(rng: random.Random) -> Call:
    """Pictures of a fit."""
    name = rng.choice(plots.__all__)
    banks = tuple(EXPERTS) if rng.random() < 0.3 else ("linear", "glm", "poisson")
    gates = ("softmax", "softmax, prior", "bayesian", "tree") if "gate" in name else tuple(GATES)
    made = fitted(rng, gates=GATE if name == "plot_overview" else gates, banks=banks)
    given: dict[str, Any] = {"result": made.result}
    return Call(f"plots.{name}", functools.partial(_closed, getattr(plots, name)), given, may_refuse=True)


def _closed(function: Any, **given: Any) -> Any:
    """Draw a picture, and close it."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    try:
        result = function(**given)
        getattr(result, "figure", result).canvas.draw()
        return result
    finally:
        pyplot.close("all")


MAKERS = {
    "to_arviz": to_arviz,
    "diagnostics.exact_loo": exact_loo,
    "diagnostics.loo": of_data,
    "diagnostics.compare_loo": of_loo,
    "diagnostics.ResponsibilityDraws": responsibility_draws,
    "diagnostics.align": align,
    "diagnostics.relabel": relabel,
    "diagnostics.from_netcdf": from_netcdf,
    "plots": picture,
}
