"""Expectations of a logistic function of a Normal variable η, by quadrature.

For a narrow variable by the nodes of Gauss and Hermite. For a wide one, softplus has a kink between two of them; there
the sum is over the values l of a logistic variable, whose distribution function σ is: E σ(η) = E Φ((m − l) / s) and
E softplus(η) = E (η − l)⁺, in which the expectations over η are known.
"""

import functools
import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mixpyro.arguments import has_derivatives
from mixpyro.arguments.torch_contexts import is_batched
from mixpyro.numerics.blocks import row_slices

# Standard deviation from which the second sum is used. Where they meet both are exact to 1e-8.
WIDE = 1.5
# Step and limit of the trapezoidal rule over the logistic variable, whose density beyond is 2e-16.
STEP, LIMIT = 0.75, 36.0
# Nodes of the quadrature. With 32, E softplus(η) is exact to 1e-9 up to a standard deviation of 2.
N_NODES = 32
# Fewer nodes, and the standard deviation up to which the error of E softplus(η) with them is below 1e-13.
FEWER_NODES = {10: 0.3, 16: 0.6}
# Standard deviation below which the difference quotient loses digits; the two forms then differ by less than 1e-12.
SMALLEST = 1e-3


class LogisticNormal(NamedTuple):
    """Expectations under η ~ Normal(m, s²), and their derivatives: those of the quadrature, to the last digit."""

    log_normaliser: Tensor  # E log(1 + exp η)
    probability: Tensor  # E σ(η), its derivative in m
    curvature: Tensor  # twice its derivative in s²; E σ(η) (1 − σ(η)) with more nodes, and always positive


@functools.cache
def gauss_hermite(n_nodes: int = N_NODES) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return nodes and weights for expectations under a standard Normal, the weights' sum one.

    Args:
        n_nodes: how many.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(n_nodes)
    return tuple(nodes.tolist()), tuple((weights / math.sqrt(2.0 * math.pi)).tolist())


def logistic_normal(mean: Tensor, variance: Tensor) -> LogisticNormal:
    """Return the expectations of each of many variables.

    A bound made of them is raised by a step along their derivatives, as these are exact ones of the quadrature.

    Args:
        mean: m, of any shape, float64.
        variance: s², of the same shape; below zero, where it has rounded, it counts as zero.
    """
    deviation = variance.clamp_min(torch.finfo(mean.dtype).tiny).sqrt()
    flat = mean.flatten(), deviation.flatten()
    blocks = [
        _of_block(*(part[rows] for part in flat))
        for rows in row_slices(len(flat[0]), width=N_NODES, device=mean.device)
    ]
    if len(blocks) == 1:
        return LogisticNormal._make(part.view(mean.shape) for part in blocks[0])
    if not blocks:
        return LogisticNormal(mean, mean, mean)
    return LogisticNormal._make(torch.cat(parts).view(mean.shape) for parts in zip(*blocks, strict=True))


def _of_block(mean: Tensor, deviation: Tensor) -> LogisticNormal:
    """Return the expectations of variables [M]."""
    narrow, is_wide = _narrow(mean, deviation), deviation > WIDE
    if not is_batched(is_wide) and not bool(is_wide.any()):
        return narrow
    if has_derivatives(mean, deviation):
        # Of a part there is no rule of vmap.
        wide = _wide(mean, deviation.clamp_min(WIDE))
        return LogisticNormal._make(torch.where(is_wide, new, old) for old, new in zip(narrow, wide, strict=True))
    wide = _wide(mean[is_wide], deviation[is_wide])
    return LogisticNormal._make(old.masked_scatter_(is_wide, new) for old, new in zip(narrow, wide, strict=True))


def _narrow(mean: Tensor, deviation: Tensor) -> LogisticNormal:
    """Return the expectations by the nodes of Gauss and Hermite."""
    nodes, weights = (mean.new_tensor(part) for part in gauss_hermite(_enough_nodes(deviation)))
    value, sigmoid = _softplus_and_sigmoid(mean.unsqueeze(-1) + deviation.unsqueeze(-1) * nodes)
    centre = mean.sigmoid()
    first = centre * (1.0 - centre)
    series = first * (1.0 + 0.5 * deviation.square() * (1.0 - 6.0 * first))
    # The nodes are symmetric about zero, so that each difference of two of them is positive.
    half = len(nodes) // 2
    differences = sigmoid[..., half:] - sigmoid[..., :half].flip(-1)
    quotient = (differences @ (weights * nodes)[half:]) / deviation.clamp_min(SMALLEST)
    return LogisticNormal(value @ weights, sigmoid @ weights, torch.where(deviation < SMALLEST, series, quotient))


def _enough_nodes(deviation: Tensor) -> int:
    """Return how many nodes leave an error of rounding."""
    if is_batched(deviation) or not deviation.numel():
        return N_NODES
    largest = float(deviation.detach().amax())
    return next((n_nodes for n_nodes, up_to in FEWER_NODES.items() if largest <= up_to), N_NODES)


def _softplus_and_sigmoid(predictors: Tensor) -> tuple[Tensor, Tensor]:
    """Return log(1 + exp η) and σ(η)."""
    if has_derivatives(predictors):
        return torch.nn.functional.softplus(predictors, threshold=40.0), predictors.sigmoid()
    # A third of the time: PyTorch's softplus takes number by number.
    small = torch.exp(-predictors.abs())
    larger = torch.reciprocal(1.0 + small)
    sigmoid = torch.where(predictors >= 0.0, larger, small.mul_(larger))
    return predictors.relu().sub_(larger.log_()), sigmoid


def _wide(mean: Tensor, deviation: Tensor) -> LogisticNormal:
    """Return the expectations by a sum over the values of a logistic variable."""
    values, weights = (mean.new_tensor(part) for part in logistic_nodes())
    distance, scale = mean.unsqueeze(-1) - values, deviation.unsqueeze(-1)
    standard = distance / scale
    below = torch.special.ndtr(standard)
    density = torch.exp(-0.5 * standard.square()) / math.sqrt(2.0 * math.pi)
    normaliser = (distance * below + scale * density) @ weights
    return LogisticNormal(normaliser, below @ weights, (density @ weights) / deviation)


@functools.cache
def logistic_nodes() -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return nodes and weights for expectations under a standard logistic variable, the weights' sum one."""
    values = np.arange(-LIMIT, LIMIT + STEP, STEP)
    weights = 1.0 / (2.0 + np.exp(values) + np.exp(-values))
    return tuple(values.tolist()), tuple((weights / weights.sum()).tolist())
