"""A program with known means, for every kind of gate."""

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import TraceEnum_ELBO
from pyro.optim import ClippedAdam
from torch import Tensor, nn

from mixpyro import (
    ConjugateSVI,
    DirichletGate,
    MarginalObjectDirichletGate,
    NeuralGate,
    ObjectDirichletGate,
    SoftmaxGate,
    StickBreakingGate,
    TreeGate,
)
from mixpyro.gates import Gate
from tests.gates.contract import learn
from tests.problems import inputs, responsibilities

K, N = 3, 12
GATES: dict[str, Callable[[], Gate]] = {
    "dirichlet": lambda: DirichletGate(K, concentration=0.7),
    "learnt prior": lambda: DirichletGate(K, concentration_prior=dist.Gamma(2.0, 1.0)),
    "sticks": lambda: StickBreakingGate(K, concentration=0.7, discount=0.2),
    "sticks, learnt": lambda: StickBreakingGate(K, concentration=dist.Gamma(2.0, 1.0)),
    "object": lambda: ObjectDirichletGate(K, concentration=2.0),
    "learnt mean": lambda: ObjectDirichletGate(K, concentration=2.0, learn_mean=True),
    "marginal": lambda: MarginalObjectDirichletGate(K, mean=[1.0, 2.0, 3.0]),
    "softmax": lambda: SoftmaxGate(K, 2, prior_scale=1.0),
    "tree": lambda: TreeGate(K, 2),
    "neural": lambda: NeuralGate(K, nn.Linear(2, K).double(), prior_scale=1.0),
}


class Means:
    """A program with known means, so that its bound has a closed form.

    Args:
        gate: any gate of K components; it is updated once where it has a posterior.
    """

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.x, self.y = inputs(N), inputs(N, 1, seed=5)[:, 0]
        self.means = torch.tensor([-1.0, 0.0, 1.5]).double()
        learn(gate, self.x, responsibilities(N, K))

    def model(self, rows: Tensor | None = None) -> None:
        """Sample the assignments and score the data, of all objects or of some rows."""
        plate = pyro.plate("objects", N, subsample=rows, dim=-1)
        z = self.gate.model(self.x[plate.indices], plate=plate)
        with plate:
            pyro.sample("y", dist.Normal(self.means[z], 1.0), obs=self.y[plate.indices])

    def guide(self, rows: Tensor | None = None) -> None:
        """Sample nothing: the program has no other latent variable."""

    def svi(self, **arguments: Any) -> ConjugateSVI:
        """Make the SVI of this program."""
        loss = TraceEnum_ELBO(max_plate_nesting=1)
        return ConjugateSVI(self.model, self.guide, ClippedAdam({"lr": 0.01}), loss, gates=self.gate, **arguments)

    def log_joint(self) -> Tensor:
        """Return E_q[log π] + log p(y | k) [N, K]."""
        likelihood = dist.Normal(self.means, torch.ones(K).double()).log_prob(self.y.unsqueeze(1))
        return (self.gate.expected_log_weights(self.x, objects=slice(None)) + likelihood).detach()
