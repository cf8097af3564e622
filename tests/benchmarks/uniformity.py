"""How far a sample is from uniform: statistics with their limits, and a picture.

References:
    Säilynoja, Bürkner, Vehtari (2022), Graphical test for discrete uniformity and its applications in goodness-of-fit
    evaluation and multiple sample comparison, Statistics and Computing 32, section 2.2.
"""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from scipy import stats
from torch import Tensor

N_BINS, N_POINTS = 20, 50
# Of uniform samples, how many are outside of the band or above the limit.
OUTSIDE = 0.05
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#000000")


def share_below(draws: Tensor, truth: Tensor) -> Tensor:
    """Return which share of the draws [S, ...] lies below the truth [...], from 0 to 1 without the ends."""
    return ((draws < truth).double().sum(0) + 0.5) / (len(draws) + 1)


def chi_square(shares: Tensor) -> float:
    """Return the chi-square statistic of twenty bins, of 19 degrees of freedom where the sample is uniform."""
    counts, _ = np.histogram(shares.numpy(), bins=N_BINS, range=(0.0, 1.0))
    return float(((counts - counts.mean()) ** 2 / counts.mean()).sum())


def chi_square_limit() -> float:
    """Return what 5 % of uniform samples exceed."""
    return float(stats.chi2.isf(OUTSIDE, N_BINS - 1))


def largest_difference(shares: Tensor) -> float:
    """Return the largest difference of the empirical distribution function from the uniform one."""
    return float(stats.kstest(shares.numpy(), "uniform").statistic)


def difference_limit(n: int) -> float:
    """Return what 5 % of uniform samples of n exceed."""
    return float(stats.kstwo.isf(OUTSIDE, n))


def band(n: int, n_simulated: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    """Return ends of a band of the empirical distribution function that 95 % of uniform samples of n do not leave."""
    points = (np.arange(N_POINTS) + 1.0) / (N_POINTS + 1.0)
    generator = np.random.default_rng(0)
    counts = np.stack([(generator.random(n)[:, None] < points).sum(0) for _ in range(n_simulated)])
    tails = 2.0 * np.minimum(stats.binom.cdf(counts, n, points), stats.binom.sf(counts - 1, n, points))
    # A little below a probability that occurs, so that rounding does not take its count out of the band.
    level = (1.0 - 1e-9) * np.quantile(tails.min(1), OUTSIDE, method="lower")
    low, high = stats.binom.ppf(level / 2.0, n, points), stats.binom.isf(level / 2.0, n, points)
    return low / n - points, high / n - points


def drawn(panels: Mapping[str, Mapping[str, Tensor]], n_columns: int = 3) -> Figure:
    """Draw differences of empirical distribution functions from the uniform one, a panel a quantity.

    Args:
        panels: for each quantity the sample of each method.
        n_columns: of panels.
    """
    n_rows = -(-len(panels) // n_columns)
    figure = Figure(figsize=(3.6 * n_columns, 2.6 * n_rows), layout="constrained")
    axes = figure.subplots(n_rows, n_columns, sharex=True, squeeze=False).ravel()
    points = (np.arange(N_POINTS) + 1.0) / (N_POINTS + 1.0)
    for ax, (title, samples) in zip(axes, panels.items(), strict=False):
        ax.fill_between(points, *band(len(next(iter(samples.values())))), color="0.88", linewidth=0)
        for colour, (method, shares) in zip(COLOURS, samples.items(), strict=False):
            differences = (shares.numpy()[:, None] < points).mean(0) - points
            ax.plot(points, differences, color=colour, linewidth=1.4, label=method)
        ax.set_title(title, fontsize=9)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(fontsize=7, frameon=False)
    for ax in axes[len(panels) :]:
        ax.set_visible(False)
    figure.supxlabel("Share of the posterior below the truth", fontsize=9)
    figure.supylabel("Distribution function − uniform", fontsize=9)
    return figure
