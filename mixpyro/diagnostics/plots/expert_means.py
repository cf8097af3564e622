"""Every expert's mean of an output on given rows: that of the fit, and at draws of its parameters."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixpyro.diagnostics.conditioning import components_of
from mixpyro.diagnostics.plots.source import Source, as_array


@torch.no_grad()
def expert_means(source: Source, x: Tensor, output: int) -> np.ndarray:
    """Return E[y | x, k] of one output [M, K], or the probability of a category.

    Args:
        source: the fit.
        x: inputs [M, D].
        output: number of the output; of experts of categories, that of the category.
    """
    experts = source.mixture.experts
    means = experts.predict(experts.check_inputs(x).double())
    return as_array(means[..., output])


@torch.no_grad()
def expert_mean_draws(source: Source, x: Tensor, output: int) -> np.ndarray | None:
    """Return E[y | x, k, θ] of one output at draws of the parameters [S, M, K]; None where they have no draws.

    Args:
        source: the fit.
        x: inputs [M, D].
        output: as for :func:`expert_means`.
    """
    if not source.draws.of_experts() and not source.draws.were_given:
        return None
    experts = source.draws.mixture.experts
    rows, n_components, found = experts.check_inputs(x), experts.n_components, []
    for model, n_draws in source.draws.models(rows, source.gate_x[:1]):
        likelihood = experts.likelihood(rows, model.parameters, components_of(source.draws.mixture, rows))
        # Of Gaussian experts, which read no x, all rows have one mean.
        mean = _mean(likelihood)[..., output]
        mean = mean.reshape(n_components, -1, mean.shape[-1])
        found.append(as_array(mean.expand(n_components, n_draws, len(rows)).permute(1, 2, 0)))
    return np.concatenate(found)


def n_categories(source: Source) -> int:
    """Return how many categories an output has whose number is no quantity; 0 of any other output.

    Args:
        source: the fit.
    """
    experts = source.mixture.experts
    n_means = int(experts.predict(experts.check_inputs(source.rows.x[:1])).shape[-1])
    return n_means if experts.is_discrete and n_means > experts.n_outputs == 1 else 0


def _mean(likelihood: Any) -> Tensor:  # noqa: ANN401 (any distribution)
    """Return the mean of a likelihood, or the probabilities of its categories."""
    base = getattr(likelihood, "base_dist", likelihood)
    if isinstance(base, torch.distributions.Categorical):
        return base.probs.squeeze(-2)
    mean: Tensor = likelihood.mean
    return mean
