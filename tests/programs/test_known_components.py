"""Programs in which the components of some objects are known."""

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import MCMC, NUTS, TraceEnum_ELBO
from pyro.optim import ClippedAdam
from torch import Tensor, nn

from mixpyro import ConjugateSVI, DirichletGate, NeuralGate, ObjectDirichletGate, SoftmaxGate
from mixpyro.gates import Gate
from tests.problems import inputs

pytestmark = pytest.mark.usefixtures("without_type_checks")

MEANS = torch.tensor([0.0, 4.0]).double()


GATES: dict[str, Callable[[], Gate]] = {
    "dirichlet": lambda: DirichletGate(2),
    "object": lambda: ObjectDirichletGate(2, concentration=3.0),
    "softmax": lambda: SoftmaxGate(2, 2, prior_scale=1.0),
    "neural": lambda: NeuralGate(2, nn.Linear(2, 2).double()),
}


def two_groups(n_first: int = 50, n_second: int = 50) -> Tensor:
    """Unit Gaussians around 0 and 4."""
    z = torch.arange(n_first + n_second) >= n_first
    return torch.randn(len(z), generator=torch.Generator().manual_seed(0)).double() + 4.0 * z


def conjugate(
    model: Callable[..., Any], gates: Any, guide: Callable[..., Any] = lambda *_: None, **arguments: Any
) -> ConjugateSVI:
    """An SVI with a small learning rate."""
    loss = arguments.pop("loss", None) or TraceEnum_ELBO(max_plate_nesting=arguments.pop("nesting", 1))
    return ConjugateSVI(model, guide, ClippedAdam({"lr": 0.01}), loss, gates=gates, **arguments)


@pytest.mark.parametrize("name", GATES)
def test_known_components_are_counted_as_known(name: str) -> None:
    """The loss is that of a program with a factor which makes all other components impossible."""
    x, y = inputs(100), two_groups()
    labels, known = (torch.arange(100) % 2).long(), torch.arange(100) % 3 == 0
    found = []
    for with_labels in (True, False):
        torch.manual_seed(0)
        pyro.clear_param_store()
        gate = GATES[name]()

        def model(gate: Gate = gate, with_labels: bool = with_labels) -> None:
            plate = pyro.plate("data", len(y), dim=-1)
            given: dict[str, Any] = {"observed": labels.masked_fill(~known, 99), "mask": known} if with_labels else {}
            z = gate.model(x, plate=plate, **given)
            with plate:
                pyro.sample("y", dist.Normal(MEANS[z], 3.0), obs=y)
                if not with_labels:
                    pyro.factor("labels", torch.where(known & (z != labels), -1e6, 0.0).double())

        svi = conjugate(model, gate)
        losses = [svi.step() for _ in range(4)]
        found.append((losses, svi.responsibilities()[0]))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-6)
    torch.testing.assert_close(found[0][1], found[1][1])
    torch.testing.assert_close(found[0][1][known], nn.functional.one_hot(labels[known], 2).double())


@pytest.mark.parametrize("all_known", [True, False])
def test_known_components_in_nuts_predictive_and_draws(all_known: bool) -> None:
    y, gate = two_groups(), DirichletGate(2)
    labels = (y > 2).long()
    known = torch.ones(100).bool() if all_known else torch.arange(100) < 60

    def model() -> Tensor:
        plate = pyro.plate("data", len(y), dim=-1)
        mask = None if all_known else known
        z = gate.model(y, plate=plate, observed=labels, mask=mask)
        with plate:
            pyro.sample("y", dist.Normal(MEANS[z], 1.0), obs=y)
        return z

    assert torch.equal(model()[known], labels[known])
    pyro.set_rng_seed(0)
    run = MCMC(NUTS(model, max_plate_nesting=1), num_samples=100, warmup_steps=50, disable_progbar=True)
    run.run()
    expected = dist.Dirichlet(torch.tensor([1.0 + (labels == 0).sum(), 1.0 + (labels == 1).sum()]).double())
    assert float(run.get_samples()["gate.weights"].mean(0)[0]) == pytest.approx(float(expected.mean[0]), abs=0.03)


@pytest.mark.usefixtures("bad_arguments")
def test_known_components_that_do_not_fit_are_refused() -> None:
    x, gate, plate = inputs(4), DirichletGate(2), pyro.plate("data", 4, dim=-1)
    for observed, mask, error, words in (
        (torch.zeros(4), None, TypeError, "`observed` must hold integers; got torch.float32"),
        (torch.zeros(3).long(), None, ValueError, r"`observed` must have the shape of the plates, \[4\]; got \[3\]"),
        (torch.tensor([0, 1, 2, 0]), None, ValueError, "`observed` must be from 0 to 1; got 0 to 2"),
        (None, torch.ones(4).bool(), ValueError, "`observed` must be given with `mask`"),
        (torch.zeros(4).long(), torch.ones(4), ValueError, r"`mask` must hold truth values \[4\]"),
        ([0, 1, 0, 1], None, TypeError, "`observed` must be a torch.Tensor; got list"),
    ):
        with pytest.raises(error, match=words):
            gate.model(x, plate=plate, observed=observed, mask=mask)  # type: ignore[arg-type]
