"""Partial residuals: rows as they would be with the other inputs held."""

import numpy as np
import torch

from mixpyro.diagnostics.plots.expert_means import expert_means
from mixpyro.diagnostics.plots.source import Source


def centres(source: Source, shares: np.ndarray | None) -> np.ndarray:
    """Return the mean of every input over each component's rows [K, D], by responsibilities; trials are rounded.

    Args:
        source: the fit.
        shares: responsibilities of the rows [N, K]; None for the same means of all components.
    """
    n_components = source.mixture.n_components
    r = np.full((len(source.x), n_components), 1.0 / n_components) if shares is None else shares
    r = source.weights[:, None] * r
    total = r.sum(0)[:, None]
    # The mean of all rows for a component without any.
    of_all = (source.weights @ source.x) / max(source.weights.sum(), 1e-6)
    found = np.where(total > 1e-6, r.T @ source.x / np.maximum(total, 1e-6), of_all)
    column = source.exposure_column
    if column is not None:
        found[:, column] = source.as_exposures(column, found[:, column])
    return found


def partial_residuals(
    source: Source, column: int, output: int, y: np.ndarray, shares: np.ndarray | None, at: np.ndarray
) -> np.ndarray:
    """Return y of every row as it would be with the other inputs held where the line of its component holds them [N].

    Of an outcome that is any number, y − m(x) + m(x with the others held), with the mean m of the row's likeliest
    component; of a count, y m(x with the others held) / m(x). Zeros and ones stay what they are, and so does y where
    there are no other inputs or no responsibilities.

    Args:
        source: the fit.
        column: of the input that is not held.
        output: number of the mean.
        y: the output [N].
        shares: responsibilities of the rows [N, K], or None.
        at: where inputs are held [K, D].

    References:
        Cook (1993), Exploring partial residual plots, Technometrics 35.
    """
    is_count = source.mixture.experts.is_discrete
    if shares is None or source.x.shape[1] < 2 or (is_count and np.nanmax(y) <= 1.0):
        return y
    likeliest = shares.argmax(1)
    held = at[likeliest].copy()
    held[:, column] = source.x[:, column]
    rows = np.arange(len(y))
    there = expert_means(source, source.rows.x, output)[rows, likeliest]
    here = expert_means(source, torch.as_tensor(held).to(source.rows.x), output)[rows, likeliest]
    if not is_count:
        return np.asarray(y - there + here)
    return np.asarray(y * np.divide(here, there, out=np.ones_like(here), where=there > 0.0))
