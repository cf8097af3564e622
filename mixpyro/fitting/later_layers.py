"""Functions of later layers that a result offers as methods, loaded when they are called."""

import importlib
from typing import Any

# A result knows these by name alone: a fit does not load reports, plots or what they need.
PLACES = {
    "criteria": "reports.criteria",
    "coefficients": "reports.coefficients",
    "summary_of": "reports.summary",
    "html_of_result": "reports.summary",
    "optima_frame": "reports.optima",
    "plot_overview": "diagnostics.plots",
}


def later(name: str) -> Any:  # noqa: ANN401 (a function)
    """Return a function of a later layer.

    Args:
        name: of the function, a key of :data:`PLACES`.
    """
    return getattr(importlib.import_module(f"mixpyro.{PLACES[name]}"), name)
