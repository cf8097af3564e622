"""Public names and methods, and which of them no maker of calls names."""

import importlib
import inspect
import re
from pathlib import Path

PACKAGES = (
    "mixpyro",
    "mixpyro.gates",
    "mixpyro.experts",
    "mixpyro.experts.families",
    "mixpyro.diagnostics",
    "mixpyro.diagnostics.plots",
    "mixpyro.hyper_models",
    "mixpyro.distributed",
)
# What functions return and users only read, and base classes.
READ_ONLY = {
    *("Alignment", "Assignments", "Check", "Comparison", "Elpd", "Coefficient", "Criteria", "FittedData"),
    *("GrownTree", "Optimum", "Ranking", "Run", "VarianceComponent", "ProcessError", "Processes"),
    *("Experts", "Family", "Gate", "HyperModel"),
}
# Classes whose every public method is called by users. Methods that only other parts of the package call are left out.
CLASSES = ("MixtureOfExperts", "FitResult", "FormulaResult", "StreamingFit", "Groups", "LinearResponse", "Refined")
OF_PACKAGE = {
    *(
        "check_data",
        "checked_groups",
        "gate_inputs",
        "log_joint",
        "objects_of",
        "state",
        "takes_missing",
        "learn",
        "kept",
        "learn_rows",
        "log_joint_or_nan",
    ),
    *("extra_repr", "get_extra_state", "set_extra_state", "of_fit", "with_fits", "save", "plot", "coefficients"),
}


def names() -> set[str]:
    """Return all public names, and the public methods of the classes above."""
    found: set[str] = set()
    for package in PACKAGES:
        module = importlib.import_module(package)
        found |= {*module.__all__, *getattr(module, "ON_DEMAND", ())}
    for name in CLASSES:
        cls = getattr(importlib.import_module("mixpyro"), name)
        found |= {method for method, value in inspect.getmembers(cls) if _is_public(method, value)} - OF_PACKAGE
    return found - READ_ONLY


def _is_public(method: str, value: object) -> bool:
    """Return whether a member of a class is a method of this package's that users call."""
    return not method.startswith("_") and inspect.isroutine(value) and value.__module__.startswith("mixpyro")


def without_a_maker() -> set[str]:
    """Return the public names that no file of makers has as a word."""
    folder = Path(__file__).parent / "targets"
    text = "\n".join(path.read_text() for path in [*folder.glob("*.py"), folder.parent / "made.py"])
    # Pictures and families are drawn from the names that their packages list.
    listed = {
        name
        for package, word in (
            ("mixpyro.diagnostics.plots", "plots.__all__"),
            ("mixpyro.experts.families", "families.__all__"),
        )
        if word in text
        for name in importlib.import_module(package).__all__
    }
    return {name for name in names() - listed if not re.search(rf"\b{name}\b", text)}
