"""Plot of the information on each parameter that is lost because the assignments are unknown."""

import re

import numpy as np
from matplotlib.axes import Axes

from mixpyro import arguments
from mixpyro.diagnostics.plots.source import rows_of
from mixpyro.diagnostics.plots.style import axes_or_new, checked_axes, colour, drawn, note, plain
from mixpyro.fitting.result import FitResult
from mixpyro.intervals.linear_response import LinearResponse, linear_response


@arguments.with_default_errors
@arguments.outside_contexts
@arguments.checked(n_parameters=arguments.size, ax=checked_axes)
def plot_information_lost(
    result: FitResult | LinearResponse, *, n_parameters: int = 30, ax: Axes | None = None
) -> Axes:
    """Plot for each parameter which share of its information is lost because the assignments are unknown.

    1 − V₀ / V, with the variance V₀ of the parameter if the assignments did not depend on it, and V by linear response.
    0 where components are far apart; 0.75 means an interval twice as long as that of the mean field. The dashed line is
    the largest share lost of any combination of parameters, the rate at which EM converges.

    Args:
        result: of :func:`mixpyro.fit`, or of :func:`mixpyro.linear_response`, which may have names of columns.
        n_parameters: largest number of parameters, those with the largest shares, at least 1.
        ax: axes to draw on; those of a new figure by default.

    Raises:
        TypeError: if ``result`` is neither.
        ValueError: if the fit has no linear response, or keeps no rows.

    References:
        Louis (1982), Finding the observed information matrix when using the EM algorithm, JRSS B 44;
        Dempster, Laird, Rubin (1977), Maximum likelihood from incomplete data via the EM algorithm, JRSS B 39.
    """
    response = _response(result)
    lost = 1.0 - (response.mean_field.diagonal() / response.covariance.diagonal()).cpu().numpy()
    lost = np.clip(np.nan_to_num(lost, nan=1.0), 0.0, 1.0)
    chosen = np.sort(np.argsort(-lost, kind="stable")[:n_parameters])
    ax = axes_or_new(ax, size=(6.2, 1.2 + 0.26 * len(chosen)))
    names = [response.names[number] for number in chosen]
    components = [_component(name) for name in names]
    colours = ["0.5" if k is None else colour(k) for k in components]
    ax.barh(np.arange(len(chosen)), lost[chosen], color=colours, height=0.7)
    ax.axvline(response.missing_information, color="0.3", linestyle="--", linewidth=1.0)
    ax.set_yticks(np.arange(len(chosen)), [drawn(name) for name in names], fontsize="small")
    ax.set(xlim=(0, 1), ylim=(len(chosen) - 0.4, -0.6), xlabel="Share of information lost")
    more = len(lost) - len(chosen)
    text = f"assignments are unknown; of any combination of parameters at most {response.missing_information:.0%}"
    note(ax, text + (f"; {more} parameters that lose less are not shown" if more else ""))
    return plain(ax)


def _response(result: object) -> LinearResponse:
    """Return the linear response of a fit, with the names of its columns, or the one given."""
    if isinstance(result, LinearResponse):
        return result
    if not isinstance(result, FitResult):
        raise TypeError(f"`result` must be what `fit` or `linear_response` returned; got {type(result).__name__}.")
    rows = rows_of(result)
    own = None if rows.gate_x is None else list(rows.gate_names)
    return linear_response(result, feature_names=list(rows.x_names), gate_feature_names=own)


def _component(name: str) -> int | None:
    """Return the number of the component that a parameter is of, read off its name."""
    found = re.search(r"component (\d+)", name)
    return None if found is None else int(found[1])
