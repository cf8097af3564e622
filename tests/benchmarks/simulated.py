"""Simulated data sets, with the truth in the order of the quantities of linear response."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from mixpyro import DirichletGate, GaussianExperts, GLMExperts, LinearExperts, MixtureOfExperts, SoftmaxGate
from mixpyro.experts.families import Poisson

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


class Rows(NamedTuple):
    """One data set and the true values of all quantities."""

    x: Tensor  # [N, D]
    y: Tensor  # [N, P]
    z: Tensor  # [N]
    truth: Tensor  # [Q]


class Case(NamedTuple):
    """A model and how its data are simulated, from a seed."""

    name: str
    rows: Callable[[int], Rows]
    mixture: Callable[[], MixtureOfExperts]
    # For each quantity w: of the gate, c: a coefficient or mean, or -: not measured.
    kinds: str


def log_ratios(weights: Tensor) -> Tensor:
    """Return the log ratios of weights to the first."""
    return (weights[1:] / weights[0]).log()


def two_lines(setting: Setting, n_objects: int = 200) -> Case:
    """Return the case of two lines."""

    def rows(seed: int) -> Rows:
        x, y, z, truth = simulate(setting, seed, n_objects)
        log_precisions = truth.new_full((2,), setting.noise).log() * -2.0
        return Rows(x, y, z, torch.cat([log_ratios(WEIGHTS), truth.flatten(), log_precisions]))

    name = setting.name if n_objects == 200 else f"{setting.name}, N = {n_objects:,}"
    return Case(name, rows, lambda: MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1)), "wcccc--")


def three_lines(seed: int) -> Rows:
    """Draw three lines, two of which cross."""
    generator, weights = Generator().manual_seed(seed), torch.tensor([0.3, 0.3, 0.4]).double()
    truth = torch.tensor([[0.0, 1.0], [0.0, -1.0], [2.0, 0.0]]).double()
    x = 4.0 * torch.rand(300, 1, generator=generator, dtype=torch.float64) - 2.0
    z = torch.multinomial(weights, 300, replacement=True, generator=generator)
    noise = 0.6 * torch.randn(300, generator=generator, dtype=torch.float64)
    y = truth[z, 0] + truth[z, 1] * x[:, 0] + noise
    log_precisions = -2.0 * torch.full((3,), 0.6).double().log()
    return Rows(x, y.unsqueeze(1), z, torch.cat([log_ratios(weights), truth.flatten(), log_precisions]))


def gated_lines(seed: int) -> Rows:
    """Draw two lines that cross, whose weights depend on x."""
    generator, gate = Generator().manual_seed(seed), torch.tensor([0.5, 1.0]).double()
    x = 4.0 * torch.rand(200, 1, generator=generator, dtype=torch.float64) - 2.0
    uniform = torch.rand(200, generator=generator, dtype=torch.float64)
    z = (uniform < (gate[0] + gate[1] * x[:, 0]).sigmoid()).long()
    noise = 0.7 * torch.randn(200, generator=generator, dtype=torch.float64)
    y = COEFFICIENTS[z, 0] + COEFFICIENTS[z, 1] * x[:, 0] + noise
    log_precisions = -2.0 * torch.full((2,), 0.7).double().log()
    return Rows(x, y.unsqueeze(1), z, torch.cat([COEFFICIENTS.flatten(), log_precisions, gate]))


def counts(seed: int) -> Rows:
    """Draw counts from two Poisson regressions that overlap."""
    generator = Generator().manual_seed(seed)
    truth = torch.tensor([[0.5, 0.5], [1.8, -0.4]]).double()
    x = 4.0 * torch.rand(200, 1, generator=generator, dtype=torch.float64) - 2.0
    z = torch.multinomial(WEIGHTS, 200, replacement=True, generator=generator)
    y = torch.poisson((truth[z, 0] + truth[z, 1] * x[:, 0]).exp(), generator=generator)
    return Rows(x, y.unsqueeze(1), z, torch.cat([log_ratios(WEIGHTS), truth.flatten()]))


def densities(seed: int) -> Rows:
    """Draw two overlapping Gaussian densities of two columns."""
    generator = Generator().manual_seed(seed)
    means = torch.tensor([[0.0, 0.0], [1.8, 1.2]]).double()
    roots = torch.tensor([[[1.0, 0.0], [0.5, 0.8]], [[0.8, 0.0], [-0.3, 0.7]]]).double()
    z = torch.multinomial(WEIGHTS, 300, replacement=True, generator=generator)
    normal = torch.randn(300, 2, 1, generator=generator, dtype=torch.float64)
    y = means[z] + (roots[z] @ normal).squeeze(-1)
    log_precisions = -2.0 * roots.diagonal(dim1=-2, dim2=-1).log()
    slopes = roots[:, 1, 0] / roots[:, 0, 0]
    truth = torch.cat([log_ratios(WEIGHTS), means.flatten(), log_precisions.flatten(), slopes])
    return Rows(y[:, :0], y, z, truth)


def models() -> Sequence[Case]:
    """Return the cases beyond two lines with a Dirichlet gate."""
    return (
        Case(
            "softmax gate",
            gated_lines,
            lambda: MixtureOfExperts(SoftmaxGate(2, 1, prior_scale=3.0), LinearExperts(2, 1)),
            "cccc--ww",
        ),
        Case(
            "Poisson",
            counts,
            lambda: MixtureOfExperts(DirichletGate(2), GLMExperts(2, 1, Poisson(), prior_scale=3.0)),
            "wcccc",
        ),
        Case(
            "Gaussian, full",
            densities,
            lambda: MixtureOfExperts(DirichletGate(2), GaussianExperts(2, 2)),
            "wcccc------",
        ),
        Case(
            "three lines", three_lines, lambda: MixtureOfExperts(DirichletGate(3), LinearExperts(3, 1)), "wwcccccc---"
        ),
        two_lines(SETTINGS[2], 2000),
    )
