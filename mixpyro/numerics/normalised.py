"""Responsibilities from log joint densities."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro.arguments import has_derivatives


def softmax(log_joint: Float[Tensor, "*R K N"]) -> tuple[Tensor, Tensor]:
    """Return responsibilities and log evidences, with their derivatives where these are followed.

    Args:
        log_joint: E log π + E log p(y | k) [..., K, N].
    """
    return differentiated(log_joint) if has_derivatives(log_joint) else normalised(log_joint)


def differentiated(log_joint: Float[Tensor, "*R K N"]) -> tuple[Tensor, Tensor]:
    """Return what :func:`normalised` does, with its derivatives; it takes longer, and more memory.

    Args:
        log_joint: E log π + E log p(y | k) [..., K, N].
    """
    impossible = (log_joint == -math.inf).all(-2, keepdim=True)
    possible = torch.where(impossible, 0.0, log_joint)
    log_evidence = torch.where(impossible.squeeze(-2), -math.inf, possible.logsumexp(-2))
    return torch.where(impossible, 0.0, possible.softmax(-2)), log_evidence


def normalised(log_joint: Float[Tensor, "*R K N"]) -> tuple[Tensor, Tensor]:
    """Return responsibilities [..., K, N] and log evidences [..., N] of log joint densities, in nats.

    Objects lie along the last axis, where memory is contiguous; one exponential serves both results. An object of −∞ in
    every component has a log evidence of −∞ and responsibilities of zero.

    Args:
        log_joint: E log π + E log p(y | k) [..., K, N].
    """
    largest = log_joint.amax(-2, keepdim=True)
    largest = largest.masked_fill_(largest.isinf(), 0.0)
    # Denormal numbers take ten times as long as others: clamp what is that small, then set it to zero.
    least = math.log(torch.finfo(log_joint.dtype).tiny) + 1.0
    shares = (log_joint - largest).clamp_min_(least).exp_()
    shares = torch.threshold_(shares, 2.0 * math.exp(least), 0.0)
    total = shares.sum(-2, keepdim=True)
    # Clamped, so that it divides the zeros of an impossible object too.
    return shares.div_(total.clamp_min(torch.finfo(log_joint.dtype).tiny)), total.log().add_(largest).squeeze(-2)
