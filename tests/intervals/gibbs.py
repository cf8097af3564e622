"""An exact sampler of mixtures of lines, against which intervals are measured."""

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from mixpyro.conjugate.normal_gamma import LinearStatistics, NormalGamma


class GibbsDraws(NamedTuple):
    """Draws from the exact posterior, with the labels of the start; they may have switched."""

    log_weights: Tensor  # [S, K]
    coefficients: Tensor  # [S, K, E]
    log_precision: Tensor  # [S, K]


def gibbs(
    design: Tensor, y: Tensor, prior: NormalGamma, concentration: Tensor, z: Tensor, *, n_draws: int, seed: int = 0
) -> GibbsDraws:
    """Draw weights, coefficients and precisions of y | z = k ~ Normal(wₖ'u, 1/τₖ), z ~ π ~ Dirichlet(α).

    One sweep draws (π, w, τ) given z, then z given these; Diebolt, Robert (1994), section 3. A fifth more sweeps come
    first and are left out.

    Args:
        design: rows u [N, E], float64.
        y: one output [N].
        prior: of w and τ, without leading axes, one noise for each component.
        concentration: α [K].
        z: components to start from [N].
        n_draws: S.
        seed: of the draws.
    """
    generator, n_components = Generator().manual_seed(seed), len(concentration)
    draws: list[tuple[Tensor, Tensor, Tensor]] = []
    for sweep in range(n_draws + n_draws // 5):
        r = torch.nn.functional.one_hot(z, n_components).double()
        weighted = r.mT.unsqueeze(-1) * design
        of_y = (weighted.mT @ y.unsqueeze(-1), (r.mT @ y.square()).unsqueeze(-1))
        posterior = prior.updated(LinearStatistics(r.sum(0), weighted.mT @ design, *of_y))
        gammas = torch._standard_gamma(torch.cat([posterior.shape, concentration + r.sum(0)]), generator)
        precision, weights = gammas[:n_components] / posterior.rate[:, 0], gammas[n_components:]
        normal = torch.randn(n_components, design.shape[1], 1, generator=generator, dtype=torch.float64)
        offset = (posterior.whitening.mT @ normal).squeeze(-1) / precision.sqrt().unsqueeze(-1)
        coefficients = posterior.mean[:, 0] + offset
        log_weights = (weights / weights.sum()).log()
        squares = (y.unsqueeze(-1) - design @ coefficients.mT).square()
        log_joint = log_weights + 0.5 * precision.log() - 0.5 * precision * squares
        z = torch.multinomial(log_joint.softmax(-1), 1, generator=generator).squeeze(-1)
        if sweep >= n_draws // 5:
            draws.append((log_weights, coefficients, precision.log()))
    return GibbsDraws(*(torch.stack(parts) for parts in zip(*draws, strict=True)))
