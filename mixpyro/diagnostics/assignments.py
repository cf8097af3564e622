"""Which component is each object's, and how sure is that?"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mixpyro import arguments
from mixpyro.diagnostics.arviz_versions import ArvizData, group
from mixpyro.diagnostics.draws import Data, evaluate
from mixpyro.fitting.result import FitResult
from mixpyro.mixture import MixtureOfExperts
from mixpyro.shapes import GateInputs, Inputs, Targets


class Assignments(NamedTuple):
    """Responsibilities of N objects over the draws of a posterior, [N, K] each."""

    mean: np.ndarray  # p(zᵢ = k | y), the parameters' uncertainty counted
    standard_deviation: np.ndarray  # how much p(zᵢ = k | yᵢ, θ) varies with θ
    low: np.ndarray  # a quantile of p(zᵢ = k | yᵢ, θ)
    high: np.ndarray

    @property
    def most_likely(self) -> np.ndarray:
        """The component of largest mean [N]."""
        return np.asarray(self.mean.argmax(1))

    @property
    def error(self) -> np.ndarray:
        """Probability that the most likely component is not the object's [N]."""
        return 1.0 - self.mean.max(1)


def posterior_sites(data: ArvizData, device: torch.device) -> tuple[dict[str, Tensor], int]:
    """The posterior's draws [S, …], chains one after the other, and how many there are."""
    posterior = group(data, "posterior")
    n_draws = posterior.sizes["chain"] * posterior.sizes["draw"]
    sites = {
        str(name): torch.tensor(values.values.reshape(n_draws, *values.shape[2:]), device=device)
        for name, values in posterior.data_vars.items()
    }
    return sites, n_draws


class ResponsibilityDraws:
    """Responsibilities of every draw, in blocks of draws [·, N, K]; to be gone through as often as needed.

    An object has its weights integrated out where the gate gives it weights of its own, so these are exact for each
    draw; q(z) of a fit is at the mean of the parameters, and surer.

    Args:
        data: of :func:`mixpyro.to_arviz`, whose draws are taken as they are there, chains one after the other.
        fitted: what it was made of.
        x: inputs [N, D].
        y: outputs [N, P] or [N].
        gate_x: what the gate sees, where that is not x.
    """

    def __init__(
        self,
        data: ArvizData,
        fitted: FitResult | MixtureOfExperts,
        x: Inputs,
        y: Targets,
        *,
        gate_x: GateInputs | None = None,
    ) -> None:
        mixture = fitted.mixture if isinstance(fitted, FitResult) else fitted
        self.data = Data.checked(mixture, x, y, gate_x)
        self.sites, self.n_draws = posterior_sites(data, self.data.x.device)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Blocks of draws, of all objects."""
        n_components = self.data.mixture.n_components
        step = max(1, 2**21 // (len(self.data.x) * n_components * (self.data.x.shape[1] + 1)))
        for first in range(0, self.n_draws, step):
            yield self.of(slice(first, min(first + step, self.n_draws)), slice(0, len(self.data.x))).cpu().numpy()

    def of(self, draws: slice, rows: slice) -> Tensor:
        """Some draws and some objects [S, N, K]."""
        sites = {name: values[draws] for name, values in self.sites.items()}
        return evaluate(self.data.rows(rows), sites, draws.stop - draws.start).responsibilities

    def summary(self, *, probability: float = 0.9) -> Assignments:
        """Mean, spread and the middle ``probability`` of every responsibility, in blocks of objects."""
        level = arguments.positive_number("probability", probability)
        if level >= 1.0:
            raise ValueError(f"`probability` must be below 1; got {level}.")
        n_objects, parts = len(self.data.x), []
        step = max(1, 2**21 // (self.n_draws * self.data.mixture.n_components * (self.data.x.shape[1] + 1)))
        for first in range(0, n_objects, step):
            rows = slice(first, min(first + step, n_objects))
            values = self.of(slice(0, self.n_draws), rows).double().cpu().numpy()
            low, high = np.quantile(values, [0.5 - 0.5 * level, 0.5 + 0.5 * level], axis=0)
            parts.append((values.mean(0), values.std(0), low, high))
        return Assignments(*(np.concatenate(part) for part in zip(*parts, strict=True)))
