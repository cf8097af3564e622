"""Measure how often 90 % intervals cover the truth: mean field, linear response, refined, and the exact posterior.

Run as ``python -m tests.benchmarks.coverage [n_data_sets] [--more] [--nuts] [--seconds S]``. Two lines lie apart,
cross or overlap; ``--more`` measures other gates, experts and sizes. Fits start at the true assignments, so that
components keep the labels of the truth. Mean field and linear response give Normal intervals, refined and exact ones
are from the 5th to the 95th percentile of draws. Weights are log ratios, or the coefficients of a gate.

All methods see the same data sets, so that the difference from the exact posterior is known better than coverage is.
The exact posterior is sampled by :mod:`tests.intervals.gibbs`.
"""

import argparse
import time
import warnings
from collections import Counter
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mixpyro import FitResult, fit, linear_response
from tests.benchmarks.ladder import refined, rung_of, with_nuts
from tests.benchmarks.simulated import SETTINGS, Case, Rows, models, two_lines
from tests.intervals.exact import DataSets, exact_draws
from tests.intervals.gibbs import Proposal

# Half the width of a Normal interval of 90 %, in standard deviations.
HALF_WIDTH = 1.6448536269514722
LEVELS = torch.tensor([0.05, 0.95]).double()
EXACT = "exact"


class Interval(NamedTuple):
    """Lower and upper ends [..., Q]."""

    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, draws: Tensor) -> "Interval":
        """Return the middle 90 % of draws [S, ..., Q]."""
        return cls(*draws.quantile(LEVELS, dim=0))


class Fitted(NamedTuple):
    """What the library says of one data set."""

    rows: Rows
    result: FitResult
    proposal: Proposal
    intervals: dict[str, Interval]
    rung: str
    khat: float
    seconds: dict[str, float]


def fitted(case: Case, seed: int) -> Fitted:
    """Simulate and fit one data set, and find its intervals."""
    rows = case.rows(seed)
    mixture = case.mixture()
    start = nn.functional.one_hot(rows.z, mixture.n_components).double() + 0.05
    begun = time.perf_counter()
    result = fit(mixture, rows.x, rows.y, initial_responsibilities=start, progress=False)
    of_fit = time.perf_counter()
    response = linear_response(result, rows.x, rows.y)
    of_response = time.perf_counter()
    refinement = refined(result, rows.x, rows.y, seed=seed)
    seconds = {"mean field": of_fit - begun, "linear response": of_response - of_fit}
    seconds["refined"] = time.perf_counter() - of_response
    intervals = {}
    for name, covariance in (("mean field", response.mean_field), ("linear response", response.covariance)):
        half = HALF_WIDTH * covariance.diagonal().sqrt()
        intervals[name] = Interval(response.estimates - half, response.estimates + half)
    intervals["refined"] = Interval.of(refinement.draws)
    proposal = Proposal(response.estimates, response.covariance)
    return Fitted(rows, result, proposal, intervals, rung_of(refinement), refinement.khat, seconds)


def measured(case: Case, n_data_sets: int, seconds: float, *, n_draws: int = 1000) -> list[str]:
    """Return a line for each method.

    Args:
        case: to simulate.
        n_data_sets: at most.
        seconds: after which no data set is fitted any more; the exact posteriors take time beyond.
        n_draws: of each exact posterior.
    """
    until, found, failed = time.perf_counter() + seconds, list[Fitted](), 0
    for seed in range(n_data_sets):
        if found and time.perf_counter() > until:
            break
        try:
            found.append(fitted(case, seed))
        except (ValueError, RuntimeError) as error:
            failed += 1
            print(f"{case.name}, data set {seed}: {type(error).__name__}: {error}", flush=True)
    intervals = {name: stacked([own.intervals[name] for own in found]) for name in found[0].intervals}
    begun = time.perf_counter()
    intervals[EXACT] = exact(found, n_draws)
    times = {name: sum(own.seconds[name] for own in found) for name in found[0].seconds}
    times[EXACT] = time.perf_counter() - begun
    truth = torch.stack([own.rows.truth for own in found])
    lines = [
        f"{case.name:<24}{name:<17}{coverages(case, own, intervals[EXACT], truth)}"
        f"{widths(case, own, intervals[EXACT])}{times[name] / len(found):>9.2f}"
        for name, own in intervals.items()
    ]
    rungs = ", ".join(f"{count / len(found):.0%} {rung}" for rung, count in Counter(own.rung for own in found).items())
    khat = float(torch.tensor([own.khat for own in found]).median())
    return [*lines, f"  {len(found)} data sets, {failed} failed; refined: median k-hat {khat:.2f}; rungs {rungs}"]


def exact(found: list[Fitted], n_draws: int) -> Interval:
    """Return the intervals of the exact posteriors [B, Q]."""
    data = DataSets(*(torch.stack([own.rows[part] for own in found]) for part in range(3)))
    near = Proposal(*(torch.stack(parts) for parts in zip(*(own.proposal for own in found), strict=True)))
    # A sweep of all data sets takes about 10 ms for 200 rows.
    thin = max(1, 1000 // data.x.shape[1])
    draws = exact_draws([own.result for own in found], data, n_draws=n_draws, thin=thin, near=near)
    return Interval.of(draws)


def stacked(intervals: list[Interval]) -> Interval:
    """Return the intervals of all data sets [B, Q]."""
    return Interval(*(torch.stack(ends) for ends in zip(*intervals, strict=True)))


def of_kind(case: Case, kind: str) -> list[int]:
    """Return the numbers of the quantities of a kind."""
    return [number for number, own in enumerate(case.kinds) if own in kind]


def coverages(case: Case, own: Interval, reference: Interval, truth: Tensor) -> str:
    """Return coverage and its difference from the exact posterior's in per cent, with standard errors, in words."""
    covered, expected = (((ends.low <= truth) & (truth <= ends.high)).double() for ends in (own, reference))
    words = ""
    for kind in "wc":
        # The data sets are independent; the quantities of one are not.
        share, difference = (100.0 * values[:, of_kind(case, kind)].mean(1) for values in (covered, covered - expected))
        error = difference.std() / len(truth) ** 0.5
        words += (
            f"{share.mean():>7.1f} ±{share.std() / len(truth) ** 0.5:>4.1f}{difference.mean():>+7.1f} ±{error:>4.1f}"
        )
    return words


def widths(case: Case, own: Interval, reference: Interval) -> str:
    """Return the median and the 10th to 90th percentile of widths relative to the exact posterior's, in words."""
    ratios = ((own.high - own.low) / (reference.high - reference.low))[:, of_kind(case, "wc")].flatten()
    low, middle, high = ratios.quantile(torch.tensor([0.1, 0.5, 0.9]).double()).tolist()
    return f"{middle:>7.2f}, {low:.2f} to {high:.2f}"


def main() -> None:
    """Print four lines for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("n_data_sets", type=int, nargs="?", default=200)
    parser.add_argument("--more", action="store_true", help="other gates, experts and sizes instead")
    parser.add_argument(
        "--nuts", action="store_true", help="climb to NUTS, minutes for a data set, where k-hat says so"
    )
    parser.add_argument("--seconds", type=float, default=300.0, help="for the fits of each case")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print(
        "of 100 intervals of 90 % cover the truth ± standard error over data sets; then the difference from the exact"
    )
    print("posterior's on the same data sets; widths relative to the exact posterior's, median and 10 to 90 %:")
    of_kinds = f"{'weights':>13}{'− exact':>14}{'coefficients':>14}{'− exact':>13}"
    print(f"{'':<41}{of_kinds}{'width ÷ exact':>22}{'seconds':>9}")
    with with_nuts(options.nuts):
        for case in models() if options.more else [two_lines(setting) for setting in SETTINGS]:
            print("\n".join(measured(case, options.n_data_sets, options.seconds)), flush=True)


if __name__ == "__main__":
    main()
