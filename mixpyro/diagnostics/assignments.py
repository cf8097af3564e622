"""Responsibilities of the objects over the draws of a posterior."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mixpyro import arguments
from mixpyro.diagnostics.arviz_versions import ArvizData, arviz_data, datasets_of, group
from mixpyro.diagnostics.draws import evaluate
from mixpyro.diagnostics.made_from import mixture_of
from mixpyro.diagnostics.names import named_rows
from mixpyro.diagnostics.observations import Observations
from mixpyro.diagnostics.point_masses import estimates_of_mixture
from mixpyro.fitting.result import FitResult
from mixpyro.groups import GroupIds
from mixpyro.mixture import MixtureOfExperts
from mixpyro.numerics.blocks import rows_per_program, slices
from mixpyro.shapes import AnyTable, GateInputs, Inputs, Targets


class Assignments(NamedTuple):
    """Responsibilities of N objects over the draws of a posterior, [N, K] each."""

    mean: np.ndarray  # p(zᵢ = k | y), averaged over the draws
    standard_deviation: np.ndarray  # of p(zᵢ = k | yᵢ, θ) between the draws
    low: np.ndarray  # lower end of the interval of p(zᵢ = k | yᵢ, θ)
    high: np.ndarray  # upper end

    @property
    def most_likely(self) -> np.ndarray:
        """The component of largest mean [N], from 0."""
        return np.asarray(self.mean.argmax(1))

    @property
    def error(self) -> np.ndarray:
        """Probability that the object does not belong to its most likely component [N]."""
        return 1.0 - self.mean.max(1)


@arguments.with_default_errors
def summary_of(responsibilities: np.ndarray, probability: float) -> Assignments:
    """Summarise responsibilities over the draws.

    Args:
        responsibilities: [S, N, K].
        probability: of the central interval, above 0 and below 1.

    Raises:
        ValueError: if the probability is not in (0, 1).
    """
    level = arguments.probability("probability", probability)
    low, high = np.quantile(responsibilities, [0.5 - 0.5 * level, 0.5 + 0.5 * level], axis=0)
    return Assignments(responsibilities.mean(0), responsibilities.std(0), low, high)


def posterior_sites(data: ArvizData, rows: Observations) -> tuple[dict[str, Tensor], int]:
    """Return the posterior's draws [S, …], chains one after the other, and their number.

    Sites without draws, which the mixture's guide has one value for, have that in every draw. Where no site has draws
    there is one.

    Args:
        data: result of :func:`mixpyro.to_arviz`.
        rows: the mixture that they are of, and rows on the device to put the draws on; y is not read.
    """
    posterior, device = datasets_of(data).get("posterior"), rows.x.device
    n_draws = 1 if posterior is None else posterior.sizes["chain"] * posterior.sizes["draw"]
    fixed = {name: value.expand(n_draws, *value.shape[1:]) for name, value in estimates_of_mixture(rows).items()}
    if posterior is None:
        return fixed, n_draws
    sites = fixed | {
        str(name): torch.tensor(values.values.reshape(n_draws, *values.shape[2:]), device=device)
        for name, values in posterior.data_vars.items()
    }
    return sites, n_draws


def _both_ends(name: str, value: object, size: int) -> slice:
    """Return a slice from one number to another."""
    if not isinstance(value, slice):
        raise TypeError(f"`{name}` must be a slice; got {arguments.shown(value)} of type {type(value).__name__}.")
    ends = arguments.integer(name, value.start, least=0), arguments.integer(name, value.stop, least=0)
    if value.step not in (None, 1) or not ends[0] < ends[1] <= size:
        raise ValueError(f"`{name}` must be from one number to a larger one, at most {size}; got {value}.")
    return slice(*ends)


class ResponsibilityDraws:
    """Responsibilities under every draw, an iterable of blocks [·, N, K].

    It may be iterated repeatedly.

    Weights that a gate keeps for each object are integrated out, so these responsibilities are exact for each draw.
    The q(z) of a fit is computed at the posterior's expectations and is more certain.

    Args:
        data: result of :func:`mixpyro.to_arviz`; its draws are used in order, chains one after the other.
        fitted: the fit or mixture that ``data`` was made from.
        x: inputs [N, D]; by default the rows that a result keeps, with y and ``gate_x``.
        y: outputs [N, P] or [N].
        gate_x: what the gate reads [N, G], where that is not x.
        groups: an id of the group of each row [N]; those of a fit by default. N objects are groups then.
    """

    def __init__(
        self,
        data: ArvizData,
        fitted: FitResult | MixtureOfExperts,
        x: Inputs | AnyTable = None,
        y: Targets | AnyTable = None,
        *,
        gate_x: GateInputs | AnyTable = None,
        groups: GroupIds | None = None,
    ) -> None:
        mixture_of(arviz_data("data", data), fitted)
        named_x, named_y, gate = named_rows(fitted, x, y, gate_x, feature_names=None, output_names=None)
        own_gate_x = None if gate is None else gate.values
        self.data = Observations.checked(fitted, named_x.values, named_y.values, own_gate_x, groups=groups)
        group(data, "posterior")  # Raises where nothing has draws.
        self.sites, self.n_draws = posterior_sites(data, self.data)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield the responsibilities of all objects, a block of draws at a time."""
        n_objects, n_rows = self.data.n_objects, len(self.data.x)
        for draws in slices(self.n_draws, rows_per_program(n_rows * self._width, self.data.x.device)):
            yield self.of(draws, slice(0, n_objects)).cpu().numpy()

    def of(self, draws: slice, objects: slice) -> Tensor:
        """Return the responsibilities of some objects under some draws [S, N, K].

        Args:
            draws: which draws, with both ends given.
            objects: which, with both ends given.

        Raises:
            TypeError: if one is no slice.
            ValueError: if one has a step, or ends beyond the draws or objects there are.
        """
        draws = _both_ends("draws", draws, self.n_draws)
        objects = _both_ends("objects", objects, self.data.n_objects)
        sites = {name: values[draws] for name, values in self.sites.items()}
        return evaluate(self.data.objects(objects), sites, draws.stop - draws.start).responsibilities

    def summary(self, *, probability: float = 0.9) -> Assignments:
        """Summarise the responsibilities of every object over the draws.

        Args:
            probability: of the central interval, above 0 and below 1.

        Raises:
            ValueError: if the probability is not in (0, 1).
        """
        probability, summaries = arguments.probability("probability", probability), []
        for objects in self.data.slices(rows_per_program(self.n_draws * self._width, self.data.x.device)):
            values = self.of(slice(0, self.n_draws), objects).double().cpu().numpy()
            summaries.append(summary_of(values, probability))
        return Assignments(*(np.concatenate(parts) for parts in zip(*summaries, strict=True)))

    @property
    def _width(self) -> int:
        """Numbers that a draw and an object take."""
        return self.data.mixture.n_components * (self.data.x.shape[1] + 1)
