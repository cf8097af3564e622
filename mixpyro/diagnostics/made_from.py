"""Whether ArviZ data were made from a fit."""

import numpy as np

from mixpyro.diagnostics.arviz_versions import ArvizData, datasets_of
from mixpyro.fitting.result import FitResult
from mixpyro.mixture import MixtureOfExperts


def mixture_of(data: ArvizData, fitted: FitResult | MixtureOfExperts) -> MixtureOfExperts:
    """Return the mixture of a fit if the data were made from it, as far as they tell.

    Args:
        data: result of :func:`mixpyro.to_arviz`.
        fitted: the fit or mixture that they should be of.

    Raises:
        ValueError: if the bounds of the restarts in the data are not those of the fit.
    """
    if not isinstance(fitted, FitResult):
        return fitted
    constants = datasets_of(data).get("constant_data", {})
    if "bound" in constants:
        theirs, ours = float(np.nanmax(constants["bound"].values)), max(max(run.trace) for run in fitted.runs)
        if theirs != ours:
            raise ValueError(
                f"`fitted` must be the fit that `data` were made from; got one that reached {ours:.6g} nats, where "
                f"theirs reached {theirs:.6g}."
            )
    return fitted.mixture
