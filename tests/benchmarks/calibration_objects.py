"""Gates with weights of each object, drawn from their prior, with known experts: where the truth lies in q."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from mixpyro import MarginalObjectDirichletGate, ObjectDirichletGate
from tests.benchmarks.uniformity import share_below

N_COMPONENTS, N_OBJECTS, N_DRAWS = 3, 60, 999
MEANS = torch.tensor([-2.0, 0.0, 2.0]).double()


def iterated(gate: ObjectDirichletGate, x: Tensor, log_likelihood: Tensor) -> Tensor:
    """Fit the gate by coordinate ascent; return the responsibilities [N, K]."""
    r = torch.full_like(log_likelihood, 1.0 / N_COMPONENTS)
    for _ in range(200):
        gate.update(gate.statistics(x, r))
        before, r = r, (gate.expected_log_weights(x, objects=slice(None)) + log_likelihood).softmax(-1).detach()
        if float((r - before).abs().max()) < 1e-8:
            break
    return r


def shares(kind: Callable[..., ObjectDirichletGate], concentration: float, generator: Generator) -> Tensor:
    """Return which share of q lies below the true first weight of each object [N].

    Args:
        kind: of the gate.
        concentration: γ, as many objects as the prior is worth.
        generator: of the data; the gate's draws are those of the global random state.
    """
    gate, x = kind(N_COMPONENTS, concentration=concentration), torch.zeros(N_OBJECTS, 0).double()
    gammas = torch._standard_gamma(gate.prior_concentration.expand(N_OBJECTS, -1), generator)
    truth = gammas / gammas.sum(-1, keepdim=True)
    z = torch.multinomial(truth, 1, generator=generator)[:, 0]
    y = MEANS[z] + torch.randn(N_OBJECTS, generator=generator, dtype=torch.float64)
    r = iterated(gate, x, -0.5 * (y.unsqueeze(1) - MEANS) ** 2)
    if kind is MarginalObjectDirichletGate:
        # Its posterior is a mixture of Dirichlets: for each z, one count is added to that component.
        drawn = torch.multinomial(r, N_DRAWS, replacement=True, generator=generator).mT
        concentrations = gate.prior_concentration + torch.nn.functional.one_hot(drawn, N_COMPONENTS)
    else:
        concentrations = gate.posterior_concentration.expand(N_DRAWS, -1, -1)
    draws = torch._standard_gamma(concentrations, generator)
    return share_below(draws[..., 0] / draws.sum(-1), truth[:, 0])


OBJECT_GATES: dict[str, Callable[[Generator], Tensor]] = {
    "per object, mean field, γ = 10": lambda generator: shares(ObjectDirichletGate, 10.0, generator),
    "per object, mean field, γ = 1": lambda generator: shares(ObjectDirichletGate, 1.0, generator),
    "per object, exact, γ = 1": lambda generator: shares(MarginalObjectDirichletGate, 1.0, generator),
}
