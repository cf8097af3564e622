"""Programs with gates on a GPU take the steps that they take on a CPU."""

from collections.abc import Callable

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO
from pyro.optim import ClippedAdam
from torch import Tensor

from mixpyro import ConjugateSVI, DirichletGate, ObjectDirichletGate, SoftmaxGate
from mixpyro.gates import Gate

pytestmark = pytest.mark.cuda
N = 60


def mixture(gates: list[Gate], device: str, *, is_masked: bool = False) -> Callable[[], None]:
    """A mixture of three Gaussians under one gate, some objects without an outcome."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(N, 2, generator=generator).double().to(device)
    y = (3.0 * torch.randint(3, (N,), generator=generator) + torch.randn(N, generator=generator)).double().to(device)
    seen = (torch.arange(N) % 4 > 0).to(device) if is_masked else torch.ones(N, device=device).bool()

    def model() -> None:
        means = pyro.param("means", lambda: torch.tensor([-1.0, 3.0, 7.0], device=device).double())
        plate = pyro.plate("data", N, dim=-1, device=device)
        z = gates[0].model(x, plate=plate)
        with plate, poutine.mask(mask=seen):  # type: ignore[call-overload]
            pyro.sample("y", dist.Normal(means[z], 1.0), obs=y)

    return model


def chain(gates: list[Gate], device: str) -> Callable[[], None]:
    """A Markov chain whose states give numbers."""
    y = torch.randn(7, 5, generator=torch.Generator().manual_seed(0)).double().to(device)

    def model() -> None:
        means = torch.tensor([-1.0, 0.0, 1.0], device=device).double()
        first, rows = (gate.sample_weights(y) for gate in gates)
        with pyro.plate("sequences", 7, dim=-1, device=device):
            z = first.assign("z_0")
            for t in pyro.markov(range(5)):
                z = rows.assign(f"z_{t}", parent=z) if t else z
                pyro.sample(f"y_{t}", dist.Normal(means[z], 1.0), obs=y[:, t])

    return model


def parts(gates: list[Gate], device: str) -> Callable[[], None]:
    """Weights of each of six groups, of which every step draws three."""
    y = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)).double().to(device)

    def model() -> None:
        means = torch.tensor([-1.0, 0.0, 1.0], device=device).double()
        rows = torch.tensor([5, 0, 2], device=device)
        with pyro.plate("groups", 6, subsample=rows, dim=-1, device=device):
            objects = pyro.plate("objects", 4, dim=-2, device=device)
            z = gates[0].model(y[:, rows], plate=objects)
            with objects:
                pyro.sample("y", dist.Normal(means[z], 1.0), obs=y[:, rows])

    return model


PROGRAMS: dict[str, tuple[Callable[[], list[Gate]], Callable[..., Callable[[], None]], bool]] = {
    "dirichlet": (lambda: [DirichletGate(3)], mixture, False),
    "masked": (lambda: [DirichletGate(3)], lambda *given: mixture(*given, is_masked=True), False),
    "object": (lambda: [ObjectDirichletGate(3, concentration=3.0)], mixture, False),
    "softmax": (lambda: [SoftmaxGate(3, 2, prior_scale=1.0)], mixture, False),
    "collapsed": (lambda: [DirichletGate(3)], mixture, True),
    "chain": (lambda: [DirichletGate(3, name="first"), DirichletGate(3, batch_shape=(3,), name="rows")], chain, False),
    "parts": (lambda: [DirichletGate(3, batch_shape=(6,))], parts, False),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_steps_are_those_of_a_cpu(name: str) -> None:
    make, program, collapsed = PROGRAMS[name]
    found: list[tuple[list[float], Tensor]] = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        pyro.clear_param_store()
        gates = [gate.to(device) for gate in make()]
        loss = TraceEnum_ELBO(max_plate_nesting=2)
        svi = ConjugateSVI(
            program(gates, device), lambda: None, ClippedAdam({"lr": 0.01}), loss, gates=gates, collapsed=collapsed
        )
        losses = [svi.step() for _ in range(4)]
        found.append(([*losses, svi.evaluate_loss()], svi.responsibilities()[0].cpu()))
        assert set(svi.full_guide()) <= {gate.site(str(gate.weights_site)) for gate in gates}
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-6)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=0, atol=1e-6)
