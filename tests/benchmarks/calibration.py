"""Check by simulation whether posteriors are calibrated: mean field, linear response, refined, and the exact one.

Run as ``python -m tests.benchmarks.calibration [n_data_sets] [--nuts] [--seconds S] [--picture path.png]``. Parameters
are drawn from a proper prior, data from the parameters. The share of the posterior below the true parameter is then
uniform if the posterior is right. A distribution function that is above the uniform one at low shares and below it at
high ones means too narrow a posterior. Of gates with weights of each object, q of these is tested, with known experts.

References:
    Talts, Betancourt, Simpson, Vehtari, Gelman (2018), Validating Bayesian inference algorithms with simulation-based
    calibration.
"""

import argparse
import time
import warnings
from collections import Counter
from pathlib import Path

import torch
from torch import Generator, Tensor

from tests.benchmarks.calibration_models import MODELS, Found, Model, exact_shares, found
from tests.benchmarks.calibration_objects import OBJECT_GATES
from tests.benchmarks.ladder import with_nuts
from tests.benchmarks.uniformity import chi_square, chi_square_limit, difference_limit, drawn, largest_difference


def simulated(model: Model, n_data_sets: int, seconds: float, *, n_draws: int = 1000) -> dict[str, dict[str, Tensor]]:
    """Return the shares of each method [B] for each ranked quantity, and print the rungs that refinement ended on.

    Args:
        model: to draw from.
        n_data_sets: at most.
        seconds: after which no data set is fitted any more.
        n_draws: of each exact posterior.
    """
    generator, until, fits = Generator().manual_seed(1), time.perf_counter() + seconds, list[Found]()
    while len(fits) < n_data_sets and (not fits or time.perf_counter() < until):
        fits.append(found(model, generator, len(fits)))
    shares = {name: torch.stack([own.shares[name] for own in fits]) for name in fits[0].shares}
    shares["exact"] = exact_shares(fits, n_draws=n_draws)
    rungs = Counter(own.rung for own in fits)
    print(f"{model.name}: {', '.join(f'{count / len(fits):.0%} {rung}' for rung, count in rungs.items())}", flush=True)
    return {
        f"{model.name}: {quantity}": {method: own[:, number] for method, own in shares.items()}
        for quantity, number in model.ranked.items()
    }


def per_object(n_data_sets: int) -> dict[str, dict[str, Tensor]]:
    """Return the shares of gates with weights of each object."""
    panels = {}
    for name, simulate in OBJECT_GATES.items():
        generator = Generator().manual_seed(1)
        panels[name] = {"q": torch.cat([simulate(generator) for _ in range(n_data_sets)])}
    return panels


def table(panels: dict[str, dict[str, Tensor]]) -> str:
    """Return a line for each quantity and method."""
    lines = [f"{'':<38}{'':<17}{'draws':>6}{'chi-square (limit)':>20}{'largest difference (limit)':>28}"]
    for quantity, methods in panels.items():
        for method, shares in methods.items():
            chi, most = chi_square(shares), largest_difference(shares)
            chi_limit, most_limit = chi_square_limit(), difference_limit(len(shares))
            lines.append(
                f"{quantity:<38}{method:<17}{len(shares):>6}{chi:>12.1f} ({chi_limit:.1f}){most:>19.3f} "
                f"({most_limit:.3f}){' outside' if chi > chi_limit or most > most_limit else ''}"
            )
    return "\n".join(lines)


def main() -> None:
    """Print a table, and draw a picture where it is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("n_data_sets", type=int, nargs="?", default=300)
    parser.add_argument("--seconds", type=float, default=200.0, help="for the fits of each model")
    parser.add_argument(
        "--nuts", action="store_true", help="climb to NUTS, minutes for a data set, where k-hat says so"
    )
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    panels: dict[str, dict[str, Tensor]] = {}
    with with_nuts(options.nuts):
        for model in MODELS:
            panels |= simulated(model, options.n_data_sets, options.seconds)
    panels |= per_object(options.n_data_sets)
    print(table(panels))
    if options.picture is not None:
        drawn(panels).savefig(options.picture, dpi=110)


if __name__ == "__main__":
    main()
