"""Expectations of a logistic function of a Normal variable, by Gauss-Hermite quadrature."""

import functools
import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

# Nodes of the quadrature. With 32, E softplus(η) is exact to 1e-9 up to a standard deviation of 2.
N_NODES = 32
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
    deviation = variance.clamp_min(0.0).clamp_min(torch.finfo(mean.dtype).tiny).sqrt()
    normaliser, probability, slope, price = (torch.zeros_like(mean) for _ in range(4))
    for node, weight in zip(*gauss_hermite(), strict=True):
        eta = mean + node * deviation
        p = eta.sigmoid()
        normaliser = normaliser + weight * torch.nn.functional.softplus(eta, threshold=40.0)
        probability = probability + weight * p
        slope = slope + (weight * node) * p
        price = price + weight * p * (1.0 - p)
    curvature = torch.where(deviation < SMALLEST, price, slope / deviation.clamp_min(SMALLEST))
    return LogisticNormal(normaliser, probability, curvature)
