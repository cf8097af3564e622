"""Draws of a fit's parameters from its exact posterior, as far as the ladder of methods has come."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro import arguments


@dataclass(frozen=True)
class Refined:
    """Draws of a fit's parameters from the posterior near its optimum, the assignments summed out.

    Quantities are those of :class:`~mixpyro.LinearResponse`: real numbers without limits, such as coefficients for x
    and y as they are, log precisions, and log ratios of weights. Components have the labels of the fit.

    Attributes:
        names: of the Q quantities.
        draws: of equal weight [S, Q], float64; repeated where they are reweighted ones.
        rung: on which the ladder ended, "importance sampling" with draws by linear response, "adaptive importance
            sampling", or "NUTS".
        why: in a line, how the rung was reached and what its check says.
        khat: of the importance weights that decided. Above 0.7 NUTS takes over, unless it was left out.
        samples: the draws of each latent site of the mixture's Pyro model, and of estimated parameters [1, S, …] or
            [chains, draws, …], for ``to_arviz(result, x, y, samples=refined.samples)``.
        cautions: what to look at before trusting the draws, in words.
    """

    names: tuple[str, ...]
    draws: Float[Tensor, "S Q"] = field(repr=False)
    rung: str
    why: str
    khat: float
    samples: Mapping[str, Tensor] = field(repr=False)
    cautions: tuple[str, ...] = ()

    @property
    def estimates(self) -> Float[Tensor, " Q"]:
        """Posterior means [Q]."""
        return self.draws.mean(0)

    @property
    def covariance(self) -> Float[Tensor, "Q Q"]:
        """Posterior covariance [Q, Q]."""
        return torch.cov(self.draws.mT, correction=0).reshape(len(self.names), len(self.names))

    @property
    def standard_deviations(self) -> Float[Tensor, " Q"]:
        """Posterior standard deviations [Q]."""
        return self.draws.std(0, correction=0)

    @arguments.declared
    def interval(self, probability: float = 0.9) -> Float[Tensor, "2 Q"]:
        """Return equal-tailed intervals, lower ends first [2, Q].

        Args:
            probability: that the intervals hold, in (0, 1).

        Raises:
            ValueError: if the probability is not in (0, 1).
        """
        level = arguments.positive_number("probability", probability)
        if level >= 1.0:
            raise ValueError(f"`probability` must be below 1; got {level}.")
        ends = torch.tensor([0.5 - 0.5 * level, 0.5 + 0.5 * level], dtype=torch.float64, device=self.draws.device)
        return self.draws.quantile(ends, dim=0)

    def __str__(self) -> str:
        """Say in a line where the ladder ended, and each caution in a line of its own."""
        return "\n".join([f"{self.rung}: {self.why}", *self.cautions])
