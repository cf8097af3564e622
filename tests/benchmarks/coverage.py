"""Measure how often 90 % intervals cover the truth, for simulated lines that lie apart, cross or overlap.

Run as ``python -m tests.benchmarks.coverage``; three minutes on one core. The variational posterior takes assignments
and parameters as independent, so its intervals are too short where components overlap. The same draws, resampled by
their importance weights, cover more often as long as k-hat is small.
"""

import warnings
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor, nn

from mixpyro import DirichletGate, LinearExperts, MixtureOfExperts, fit
from mixpyro.diagnostics import khat, resample, to_arviz
from mixpyro.diagnostics.arviz_versions import ArvizData, group

WEIGHTS = torch.tensor([0.3, 0.7]).double()
COEFFICIENTS = torch.tensor([[0.0, 1.0], [0.0, -1.0]]).double()


class Setting(NamedTuple):
    """Intercepts of two lines of slope 1 and −1, and the standard deviation of the noise."""

    name: str
    intercepts: tuple[float, float]
    noise: float


SETTINGS = (
    Setting("apart", (6.0, -6.0), 0.5),
    Setting("crossing", (0.0, 0.0), 0.5),
    Setting("overlapping", (0.0, 0.0), 1.0),
)


def simulate(setting: Setting, seed: int, n_objects: int = 200) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw x [N, 1], y [N, 1] and components [N]; return them with the true coefficients [K, 2]."""
    generator = Generator().manual_seed(seed)
    truth = COEFFICIENTS.clone()
    truth[:, 0] = torch.tensor(setting.intercepts)
    x = 4.0 * torch.rand(n_objects, 1, generator=generator, dtype=torch.float64) - 2.0
    z = torch.multinomial(WEIGHTS, n_objects, replacement=True, generator=generator)
    noise = setting.noise * torch.randn(n_objects, generator=generator, dtype=torch.float64)
    y = truth[z, 0] + truth[z, 1] * x[:, 0] + noise
    return x, y.unsqueeze(1), z, truth


class Covered(NamedTuple):
    """Whether 90 % intervals contain the truth: of the first weight, and of the four coefficients."""

    weights: np.ndarray
    coefficients: np.ndarray


def covered(setting: Setting, seed: int) -> tuple[Covered, Covered, float]:
    """Return the coverage by the guide's draws, by the same draws resampled, and k-hat.

    The fit starts at the true assignments, so that components keep the labels of the truth.
    """
    x, y, z, truth = simulate(setting, seed)
    mixture = MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1))
    start = nn.functional.one_hot(z, 2).double() + 0.05
    result = fit(mixture, x, y, initial_responsibilities=start, progress=False)
    data = to_arviz(result, x, y, n_draws=4000, seed=seed)
    return intervals(data, truth), intervals(resample(data, seed=seed), truth), khat(data)


def intervals(data: ArvizData, truth: Tensor) -> Covered:
    """Return whether the intervals of one fit contain the truth."""
    posterior = group(data, "posterior")
    weights = posterior["gate.weights"].values[0, :, 0]
    coefficients = posterior["experts.coefficients"].values[0, :, :, 0]
    return Covered(inside(weights, WEIGHTS[0].numpy()), inside(coefficients, truth.numpy()))


def inside(draws: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return whether the middle 90 % of the draws contain the truth."""
    low, high = np.quantile(draws, [0.05, 0.95], axis=0)
    return (low <= truth) & (truth <= high)


def main(n_data_sets: int = 200) -> None:
    """Print one line per setting: the percentage of intervals that cover the truth."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", RuntimeWarning)
    print(f"of 100 intervals of 90 % cover the truth, over {n_data_sets} data sets:")
    print(f"{'setting':<14}{'':<12}{'weights':>9}{'coefficients':>14}{'median k-hat':>14}")
    for setting in SETTINGS:
        guide, resampled, k_hats = zip(*(covered(setting, seed) for seed in range(n_data_sets)), strict=True)
        for name, rows in (("guide", guide), ("resampled", resampled)):
            weights, coefficients = (100 * np.mean(part) for part in zip(*rows, strict=True))
            print(f"{setting.name:<14}{name:<12}{weights:>9.1f}{coefficients:>14.1f}{np.median(k_hats):>14.2f}")


if __name__ == "__main__":
    main()
