"""Quantiles of a mixture's outputs."""

import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.distributions.util import broadcast_shape
from torch import Tensor

from mixpyro.arguments import has_derivatives, is_batched
from mixpyro.arguments.late_imports import import_symbolic_shapes
from mixpyro.distributions.bisection import bisected
from mixpyro.distributions.outputs import FURTHEST, are_whole, guessed_quantiles, nearly_cumulative, outputs_of_rows
from mixpyro.distributions.quantiles import shares_below
from mixpyro.numerics.blocks import row_slices
from mixpyro.numerics.bracketed_roots import least_reached, nearly_reached

# Height of a function that is below a level by less than any float64 can tell.
JUST_BELOW = -1e-300
# Evaluations of the approximate share below a guess, and half the width of the bracket around the last one, as a part
# of the distance between the least and the greatest guess. With more or fewer, quantiles of Student-t take longer.
N_APPROXIMATIONS, HALF_WIDTH = 7, 1e-6


def mixture_quantiles(
    weights: Tensor, distribution: TorchDistributionMixin, probabilities: Tensor, *, has_density: bool = True
) -> Tensor:
    """Compute quantiles of the outputs of a mixture, with their first derivatives.

    At the quantile Σₖ πₖ Fₖ(y) = p, so its derivative is minus that of the left side over the density. The quantiles of
    a discrete distribution are constant but for jumps.

    Args:
        weights: π [N, K], whose rows sum to 1.
        distribution: of the components, batch shape [N, K] and event shape [P], known to
            :func:`~mixpyro.distributions.quantiles.cumulative`.
        probabilities: p [Q], above 0 and below 1.
        has_density: whether the components have densities rather than probabilities.

    Returns:
        For each p the least y with Σₖ πₖ P(Y ≤ y | k) ≥ p [Q, N, P], float64, in units of y. A higher p never has a
        lower y.

    Raises:
        TypeError: if the distribution is not known to :func:`~mixpyro.distributions.quantiles.cumulative`.
    """
    if not (is_batched(probabilities) or bool(((probabilities > 0) & (probabilities < 1)).all())):
        raise ValueError(f"`probabilities` must be above 0 and below 1; got {probabilities.tolist()}.")
    wanted = probabilities.double()
    with torch.no_grad():
        # Transforms of torch.func allow no look at the values.
        quantiles = (
            bisected(weights, distribution, wanted) if has_derivatives() else _in_order(weights, distribution, wanted)
        ).detach()
    if not has_density or not (torch.is_grad_enabled() or has_derivatives()):
        return quantiles
    return _with_derivatives(weights, distribution, wanted.reshape(-1, 1, 1), quantiles)


def _with_derivatives(
    weights: Tensor, distribution: TorchDistributionMixin, wanted: Tensor, quantiles: Tensor
) -> Tensor:
    """Return quantiles after Newton's step from them: of length zero, with the derivatives of the solution."""

    def share(y: Tensor) -> Tensor:
        return shares_below(weights, distribution, y)

    import_symbolic_shapes()
    derivative = torch.func.vjp(share, quantiles)[1]
    density = derivative(torch.ones_like(quantiles))[0].detach()
    # No derivative where there is no density: between the jumps of a discrete distribution, and at infinity.
    density = torch.where(density > 0, density, torch.inf)
    reached, level = share(quantiles), torch.broadcast_to(wanted, quantiles.shape)
    return quantiles + ((level - level.detach()) - (reached - reached.detach())) / density


def _in_order(weights: Tensor, distribution: TorchDistributionMixin, wanted: Tensor) -> Tensor:
    """Return quantiles [Q, N, P] of blocks of rows, rising with the probability."""
    shape = broadcast_shape(weights.shape, distribution.batch_shape)
    n_outputs = distribution.event_shape[0]
    weights = weights.double().expand(shape)
    distribution = distribution if distribution.batch_shape == shape else distribution.expand(shape)
    is_known = outputs_of_rows(distribution, torch.arange(min(1, shape[0]), device=weights.device)) is not None
    if not is_known:
        return _risen(_OfRows(weights, distribution, wanted).quantiles(), wanted)
    found = weights.new_empty(len(wanted), shape[0], n_outputs)
    width = len(wanted) * shape[1] * n_outputs
    for block in row_slices(shape[0], width=width, device=weights.device):
        rows = torch.arange(shape[0], device=weights.device)[block]
        selected = outputs_of_rows(distribution, rows)
        assert selected is not None
        found[:, block] = _OfRows(weights[rows], selected, wanted).quantiles()
    return _risen(found, wanted)


def _risen(quantiles: Tensor, wanted: Tensor) -> Tensor:
    """Return quantiles of which none is below that of a lower probability by rounding."""
    order = wanted.argsort()
    return quantiles[order].cummax(0).values[order.argsort()]


class _OfRows:
    """Quantiles of a mixture for some rows.

    Args:
        weights: [N, K], float64.
        distribution: batch shape [N, K] and event shape [P].
        wanted: probabilities [Q], float64.
    """

    def __init__(self, weights: Tensor, distribution: TorchDistributionMixin, wanted: Tensor) -> None:
        self.weights, self.distribution, self.wanted = weights, distribution, wanted
        n_rows, device = len(weights), weights.device
        self.rows = torch.arange(n_rows, device=device).repeat(len(wanted))
        self.levels = wanted.repeat_interleave(n_rows).unsqueeze(-1)
        self.level_heights = self.levels.logit()
        self.is_known = outputs_of_rows(distribution, self.rows[:1]) is not None
        self._last: tuple[Tensor, Tensor, TorchDistributionMixin] | None = None

    def quantiles(self) -> Tensor:
        """Return the quantiles [Q, N, P]."""
        low, high = self._narrowed(*self._guesses())
        whole = torch.tensor(are_whole(self.distribution), device=low.device)
        found = least_reached(self._heights, low.flatten(0, 1), high.flatten(0, 1), whole)
        return found.unflatten(0, low.shape[:2])

    def _guesses(self) -> tuple[Tensor, Tensor]:
        """Return the least and the greatest guess [Q, N, P] of components that have a weight."""
        levels = self.wanted.reshape(-1, 1, 1, 1)
        low, high = guessed_quantiles(self.distribution, levels)
        none = (self.weights == 0.0).unsqueeze(-1) | ~low.isfinite() | ~high.isfinite()
        low = low.masked_fill(none, torch.inf).amin(-2)
        high = high.masked_fill(none, -torch.inf).amax(-2)
        low, high = torch.where(low.isinf(), -1.0, low), torch.where(high.isinf(), 1.0, high)
        return low.clamp(-FURTHEST, FURTHEST), high.clamp(-FURTHEST, FURTHEST)

    def _narrowed(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Return guesses nearer to the quantiles where there is an approximate cumulative distribution."""
        every = torch.arange(len(self.rows), device=low.device)
        ends = low.flatten(0, 1), high.flatten(0, 1)
        if not (self.is_known and len(every) and self.weights.shape[1] > 1) or self._rough(every, ends[0]) is None:
            return low, high

        def heights(numbers: Tensor, y: Tensor) -> Tensor:
            shares = self._rough(numbers, y)
            assert shares is not None
            return shares.clamp_max(1.0).logit() - self.level_heights[numbers]

        near = nearly_reached(heights, *ends, n_steps=N_APPROXIMATIONS).view(low.shape)
        width = HALF_WIDTH * (high - low)
        is_sound = near.isfinite()
        return torch.where(is_sound, near - width, low), torch.where(is_sound, near + width, high)

    def _rough(self, numbers: Tensor, y: Tensor) -> Tensor | None:
        """Return about the shares below y [m, P]; None where no approximation is known."""
        weights, selected = self._selected(numbers)
        shares = nearly_cumulative(selected, y.unsqueeze(-2))
        return None if shares is None else (weights.unsqueeze(-1) * shares).sum(-2)

    def _heights(self, numbers: Tensor, y: Tensor) -> Tensor:
        """Return by how much the share below y is above the probability, in log odds [m, P]."""
        shares, levels = self._shares(numbers, y), self.levels[numbers]
        heights = shares.clamp_max(1.0).logit() - self.level_heights[numbers]
        return torch.where(shares >= levels, heights.clamp_min(0.0), heights.clamp_max(JUST_BELOW))

    def _shares(self, numbers: Tensor, y: Tensor) -> Tensor:
        """Return the shares below y [m, P] of pairs of a probability and a row."""
        if not self.is_known:
            all_y = y.new_zeros(len(self.rows), y.shape[1])
            all_y[numbers] = y
            all_y = all_y.unflatten(0, (len(self.wanted), -1))
            return shares_below(self.weights, self.distribution, all_y).flatten(0, 1)[numbers]
        weights, selected = self._selected(numbers)
        return shares_below(weights, selected, y)

    def _selected(self, numbers: Tensor) -> tuple[Tensor, TorchDistributionMixin]:
        """Return weights and distributions of the rows of pairs; the last ones are kept."""
        if self._last is None or self._last[0] is not numbers:
            rows = self.rows[numbers]
            selected = outputs_of_rows(self.distribution, rows)
            assert selected is not None
            self._last = numbers, self.weights[rows], selected
        return self._last[1:]
