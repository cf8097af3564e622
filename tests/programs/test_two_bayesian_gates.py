"""Two gates of one program that explain the same objects, each with a posterior of its coefficients."""

from collections.abc import Callable

import pyro
import pytest
import torch
from pyro.distributions import Normal
from pyro.infer import TraceEnum_ELBO
from pyro.optim import ClippedAdam
from torch import Tensor

from mixpyro import BayesianSoftmaxGate, ConjugateSVI, TreeGate
from mixpyro.gates.bayesian_logits import BayesianLogitGate

GATES: dict[str, Callable[[int, str], BayesianLogitGate]] = {
    "BayesianSoftmaxGate": lambda k, name: BayesianSoftmaxGate(k, 1, name=name),
    "TreeGate": lambda k, name: TreeGate(k, 1, name=name),
}


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize("make", GATES.values(), ids=GATES)
def test_no_step_lowers_the_bound(make: Callable[[int, str], BayesianLogitGate]) -> None:
    """Where the curvature of the next place is another one, whole steps of Newton's method go to and fro."""
    generator = torch.Generator().manual_seed(0)
    x = 4.0 * torch.rand(40, 1, generator=generator, dtype=torch.float64) - 2.0
    noise = [torch.randn(40, generator=generator, dtype=torch.float64) for _ in range(2)]
    true = torch.bucketize(x[:, 0] + 0.3 * noise[0], torch.tensor([-0.7, 0.7]).double())
    large, small = torch.tensor([-2.0, 0.0, 2.0]).double(), torch.tensor([0.0, 0.3]).double()
    slopes = torch.tensor([1.5, -2.0, 0.5]).double()
    y = torch.tensor([0.0, 2.0, -2.0]).double()[true] + slopes[true] * x[:, 0] + 0.3 * noise[1]
    first, second = make(3, "first"), make(2, "second")

    def model(x: Tensor, y: Tensor) -> None:
        plate = pyro.plate("objects", len(x), dim=-1)
        a, b = first.model(x, plate=plate), second.model(x, plate=plate)
        with plate:
            pyro.sample("y", Normal(large[a] + small[b], 0.5), obs=y)

    loss = TraceEnum_ELBO(max_plate_nesting=1)
    svi = ConjugateSVI(model, lambda x, y: None, ClippedAdam({"lr": 0.01}), loss, gates=[first, second])
    losses = torch.tensor([svi.step(x, y) for _ in range(100)])
    assert float(losses[2:].diff().max()) < 1e-6
