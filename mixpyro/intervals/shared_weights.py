"""Per-object weights integrated out, which leaves weights that all objects share."""

import torch

from mixpyro.fitting.em import Snapshot
from mixpyro.fitting.runs import Options, Runs, Trace
from mixpyro.fitting.table import Table
from mixpyro.gates.object_dirichlet import ObjectDirichletGate
from mixpyro.gates.softmax import SoftmaxGate
from mixpyro.mixture import MixtureOfExperts

# Iterations at most, and nats a row that may be left to gain; Newton's steps do the rest.
MOST_ITERATIONS, TOLERANCE = 1000, 1e-9


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


@torch.no_grad()
def settle(mixture: MixtureOfExperts, table: Table) -> None:
    """Move a mixture to the optimum that variational EM leads to, in place: integrated weights have another one.

    Args:
        mixture: in float64, without per-object weights.
        table: the rows.
    """
    double = table.in_float64()
    options = Options(max_iterations=MOST_ITERATIONS, tolerance=TOLERANCE)
    runs = Runs(mixture, double.with_columns(mixture.experts), options, [Trace()], [Snapshot(mixture.state())])
    runs.iterate(MOST_ITERATIONS, lambda _: True, lambda _: False)
    runs.close()
    mixture.hold(runs.ended[0].state)
