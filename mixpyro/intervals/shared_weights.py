"""Per-object weights integrated out, which leaves weights that all objects share."""

import torch

from mixpyro.gates.object_dirichlet import ObjectDirichletGate
from mixpyro.gates.softmax import SoftmaxGate
from mixpyro.mixture import MixtureOfExperts


def integrate_weights(mixture: MixtureOfExperts) -> bool:
    """Replace a gate with weights of each object by one with the population's weights, in place.

    πᵢ ~ Dirichlet(γμ) and zᵢ ~ Categorical(πᵢ) have p(zᵢ = k) = μₖ, so both have the same posterior of everything else.
    A μ that is learnt becomes log odds against the first component, and one that is given stays fixed.

    Args:
        mixture: in float64.

    Returns:
        Whether there was such a gate.
    """
    gate = mixture.gate
    if not isinstance(gate, ObjectDirichletGate):
        return False
    mean = gate.mean.detach()
    shared = SoftmaxGate(gate.n_components, 0, name=gate._pyro_name, device=mean.device)
    with torch.no_grad():
        log_mean = mean.double().clamp_min(torch.finfo(torch.float64).tiny).log()
        shared.coefficients_estimate.copy_((log_mean[1:] - log_mean[:1]).unsqueeze(-1))
    shared.coefficients_estimate.requires_grad_(gate.learn_mean)
    mixture.gate = shared
    return True
