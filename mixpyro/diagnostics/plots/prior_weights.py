"""The mean of a gate's prior over the weights."""

import numpy as np
import torch

from mixpyro.conjugate.dirichlet import Dirichlet
from mixpyro.conjugate.sticks import LearntSticks, Sticks
from mixpyro.diagnostics.plots.source import as_array
from mixpyro.gates.base import Gate
from mixpyro.gates.conjugate import ConjugateGate


@torch.no_grad()
def prior_mean_weights(gate: Gate) -> np.ndarray | None:
    """Return the prior's mean of the weights [K], exact; None where that is not known in closed form.

    Of a stick-breaking gate, each component has the mean of its place in the posterior's order, and the weights are
    those of an object of one of the K components. A concentration with a prior is at its prior mean.

    Args:
        gate: whose weights all objects share.

    References:
        Bishop (2006), Pattern Recognition and Machine Learning, eq. B.17.
    """
    if not isinstance(gate, ConjugateGate):
        return None
    prior = gate.prior
    if isinstance(prior, Dirichlet):
        return as_array(prior.mean)
    if not isinstance(prior, Sticks | LearntSticks):
        return None
    posterior = gate.posterior
    rank = (posterior.sticks if isinstance(posterior, LearntSticks) else posterior).rank
    # A prior's components are in the order of breaking.
    return as_array(prior.mean)[as_array(rank).astype(int)]
