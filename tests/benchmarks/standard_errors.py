"""Compare standard errors with the spread of estimates over simulated data sets.

Run as ``python -m tests.benchmarks.standard_errors``; half a minute on one core. Data sets are drawn from one gated
mixture of two overlapping lines. Standard errors come from the observed information and, for comparison, from the
gate's M-step, which takes the assignments as known.
"""

import argparse

import torch
from torch import Tensor, nn

from mixpyro import GLMExperts, MixtureOfExperts, SoftmaxGate, coefficients, fit
from mixpyro.experts.families import Gaussian

# Intercept and slope of each line; then of the log odds of the second line; then the standard deviation of the noise.
LINES = torch.tensor([[0.0, 2.0], [1.0, -1.0]], dtype=torch.float64)
ODDS = (0.5, 1.0)
NOISE = 0.7


def drawn(n_objects: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Draw x [N, 1], y [N, 1] and the components [N] of one data set."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n_objects, 1, generator=generator, dtype=torch.float64)
    uniform = torch.rand(n_objects, generator=generator, dtype=torch.float64)
    z = (uniform < (ODDS[0] + ODDS[1] * x[:, 0]).sigmoid()).long()
    mean = LINES[z, 0] + LINES[z, 1] * x[:, 0]
    return x, mean.unsqueeze(-1) + NOISE * torch.randn(n_objects, 1, generator=generator, dtype=torch.float64), z


def main() -> None:
    """Print one line per coefficient: spread, mean standard errors, and coverage of 95 % intervals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--objects", type=int, default=250)
    options = parser.parse_args()
    torch.set_num_threads(1)
    estimates, errors, known = [], [], []
    for seed in range(options.samples):
        x, y, z = drawn(options.objects, seed)
        mixture = MixtureOfExperts(SoftmaxGate(2, 1), GLMExperts(2, 1, Gaussian()))
        start = nn.functional.one_hot(z, 2).double()
        result = fit(mixture, x, y, initial_responsibilities=start, progress=False)
        table = coefficients(result, x, y)
        estimates.append([row.estimate for row in table.values()])
        errors.append([row.standard_error for row in table.values()])
        known.append(mixture.gate.standard_errors(x, result.responsibilities).flatten().tolist())
    found, error = torch.tensor(estimates), torch.tensor(errors)
    truth = torch.tensor([*ODDS, *LINES.flatten().tolist(), *[float(torch.tensor(NOISE).log())] * 2])
    covered = ((found - truth).abs() < 1.96 * error).double().mean(0)
    m_step = torch.tensor(known).mean(0).tolist() + [float("nan")] * 6
    print(f"{'coefficient':<42}{'spread':>9}{'observed':>10}{'M-step':>9}{'covered':>9}")
    for k, name in enumerate(table):
        figures = f"{float(found[:, k].std()):>9.4f}{float(error[:, k].mean()):>10.4f}{m_step[k]:>9.4f}"
        print(f"{name:<42}{figures}{float(covered[k]):>9.2f}")


if __name__ == "__main__":
    main()
