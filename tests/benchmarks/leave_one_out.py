"""Compare leave-one-out by importance sampling with refits without each object, on 28 countries.

Run as ``python -m tests.benchmarks.leave_one_out``; half a minute on one core. Refits start where the fit of all
countries ended, or from twenty random starts each. The latter may reach another optimum: without the third country,
which lies far from all others, another optimum has the higher bound.
"""

import warnings

import torch
from torch import Tensor

from mixpyro import DirichletGate, LinearExperts, MixtureOfExperts, fit, to_arviz
from mixpyro.diagnostics import exact_loo, khat, loo
from tests.conftest import read_table


def mixture(n_components: int) -> MixtureOfExperts:
    """Return lines with a Normal-Gamma prior under Dirichlet(½) weights, as in tests/fitting/test_known_answers.py."""
    experts = LinearExperts(n_components, 1, coefficient_precision=1.0, noise_rate=1.0)
    return MixtureOfExperts(DirichletGate(n_components, concentration=0.5), experts)


def refitted(n_components: int, x: Tensor, y: Tensor) -> Tensor:
    """Return log p(yᵢ | all others) [N], each by a fit from its own random starts."""
    found = []
    for row in range(len(x)):
        others = torch.arange(len(x)) != row
        result = fit(mixture(n_components), x[others], y[others], n_restarts=20, progress=False)
        found.append(result.mixture.log_prob(x[row : row + 1], y[row : row + 1]))
    return torch.cat(found)


def main() -> None:
    """Print one line per number of components."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", RuntimeWarning)
    x, y = read_table("co2_gnp.csv", "GNP", "CO2")
    print(f"{'K':<4}{'PSIS-LOO':>10}{'refits':>10}{'restarts':>10}{'other optimum':>16}{'k-hat':>8}{'rows, bad k':>15}")
    for n_components in (1, 2, 3):
        result = fit(mixture(n_components), x, y, progress=False)
        data = to_arviz(result, x, y, n_draws=4000)
        estimate, exact, restarted = loo(data), exact_loo(result, x, y, progress=False), refitted(n_components, x, y)
        elsewhere = int(((restarted - torch.as_tensor(exact.pointwise)).abs() > 0.01).sum())
        figures = f"{estimate.elpd:>10.3f}{exact.elpd:>10.3f}{float(restarted.sum()):>10.3f}{elsewhere:>16}"
        print(f"{n_components:<4}{figures}{khat(data):>8.2f}{estimate.n_untrusted:>15}")


if __name__ == "__main__":
    main()
