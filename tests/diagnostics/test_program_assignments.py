"""Responsibilities under the draws of a program, and draws whose labels they align."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import MCMC, NUTS
from pyro.ops.indexing import Vindex
from torch import Tensor

from mixpyro import DirichletGate
from mixpyro.diagnostics import ProgramResponsibilities, align, program_to_arviz, relabel
from mixpyro.diagnostics.arviz_versions import arviz, group, has_data_trees

pytestmark = pytest.mark.usefixtures("without_type_checks")

N, S = 20, 6
GATE = DirichletGate(2)
AXES = {"means": ("component",)}


def data() -> tuple[Tensor, Tensor]:
    """Return x without columns and y in two clusters."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(N, generator=generator, dtype=torch.float64) + torch.tensor([-2.5, 2.5]).repeat(N // 2)
    return torch.zeros(N, 0, dtype=torch.float64), y


def a_model(vectorised: bool) -> Callable[[Tensor, Tensor], None]:
    """Return a mixture that Pyro can vectorise, or not."""

    def model(x: Tensor, y: Tensor) -> None:
        means = pyro.sample("means", dist.Normal(torch.zeros(2, dtype=torch.float64), 5.0).to_event(1))
        plate = pyro.plate("objects", len(x), dim=-1)
        z = GATE.model(x, plate=plate)
        with plate:
            other = pyro.sample("shift", dist.Bernoulli(torch.tensor(0.3, dtype=torch.float64)))
            location = (Vindex(means)[..., z] if vectorised else means[z]) + other
            pyro.sample("y", dist.Normal(location, 1.0), obs=y)

    return model


def draws(n_chains: int = 1) -> dict[str, Tensor]:
    """Return draws whose labels are switched in every other one."""
    generator = torch.Generator().manual_seed(1)
    means = torch.tensor([-2.5, 2.5]) + 0.3 * torch.randn(n_chains, S, 2, generator=generator, dtype=torch.float64)
    weights = (0.3 * torch.randn(n_chains, S, 2, generator=generator, dtype=torch.float64)).softmax(-1)
    means[:, ::2], weights[:, ::2] = means[:, ::2].flip(-1), weights[:, ::2].flip(-1)
    return {"means": means, "gate.weights": weights}


@pytest.mark.parametrize("vectorised", [True, False])
@pytest.mark.filterwarnings("ignore:`model` is run for each")
def test_responsibilities_are_those_of_bayes_rule(vectorised: bool) -> None:
    (x, y), model = data(), a_model(vectorised)
    found = program_to_arviz(model, x, y, samples=draws(), axes=AXES, n_draws=10)
    responsibilities = ProgramResponsibilities(found, model, x, y)
    values = np.concatenate(list(responsibilities))
    sites = {name: values[0] for name, values in draws().items()}
    shifted = sites["means"][:, None, :, None] + torch.tensor([0.0, 1.0])
    log_joint = dist.Normal(shifted, 1.0).log_prob(y[:, None, None]) + torch.tensor([0.7, 0.3]).double().log()
    log_joint = log_joint.logsumexp(-1) + sites["gate.weights"].log().unsqueeze(1)
    np.testing.assert_allclose(values, log_joint.softmax(-1), atol=1e-10)
    np.testing.assert_array_equal(np.concatenate(list(responsibilities)), values)  # iterated again
    np.testing.assert_allclose(responsibilities.summary().mean, values.mean(0))
    shift = np.concatenate(list(ProgramResponsibilities(found, model, x, y, site="shift")))
    assert shift.shape == (S, N, 2)
    np.testing.assert_allclose(shift.sum(-1), 1.0)


def test_switched_labels_of_draws_are_restored() -> None:
    (x, y), model = data(), a_model(True)
    found = program_to_arviz(model, x, y, samples=draws(2), axes=AXES, n_draws=10)
    alignment = align(ProgramResponsibilities(found, model, x, y))
    assert alignment.trusted
    restored = group(relabel(found, alignment), "posterior")
    first = draws(2)["means"][0, 0]
    assert (np.sign(restored["means"].values) == np.sign(first.numpy())).all()
    switched = np.tile(np.arange(S) % 2 == 1, (2, 1))[..., None]
    weights = draws(2)["gate.weights"].numpy()
    np.testing.assert_array_equal(restored["gate.weights"].values, np.where(switched, weights[..., ::-1], weights))


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_two_chains_of_nuts_with_other_labels_agree_when_aligned() -> None:
    (x, y), model = data(), a_model(True)
    chains: list[dict[str, Tensor]] = []
    for number, start in enumerate(([-2.5, 2.5], [2.5, -2.5])):
        torch.manual_seed(number)
        half = torch.full((2,), 0.5, dtype=torch.float64)
        initial: dict[str, Any] = {
            "means": torch.tensor(start, dtype=torch.float64),
            "gate.weights": dist.transforms.StickBreakingTransform().inv(half),
        }
        mcmc = MCMC(NUTS(model), num_samples=60, warmup_steps=20, initial_params=initial, disable_progbar=True)
        mcmc.run(x, y)
        chains.append(mcmc.get_samples())
    samples = {name: torch.stack([chain[name] for chain in chains]) for name in chains[0]}
    found = program_to_arviz(model, x, y, samples=samples, axes=AXES, n_draws=10)
    aligned = relabel(found, align(ProgramResponsibilities(found, model, x, y)))
    if has_data_trees():
        pytest.skip("r-hat of a DataTree has other names")
    before, after = (arviz().rhat(one)["means"].values for one in (found, aligned))
    assert before.min() > 1.5  # of ranks, it is at most 1.83 for two chains
    assert after.max() < 1.1


def test_axes_that_may_be_of_components_must_be_named() -> None:
    (x, y), model = data(), a_model(True)
    found = program_to_arviz(model, x, y, samples=draws(), n_draws=10)
    alignment = align(ProgramResponsibilities(found, model, x, y))
    with pytest.raises(
        ValueError, match=r"got 'means_dim_0' of 'means', of length 2. Pass axes=\{'means': \('component',\)\}"
    ):
        relabel(found, alignment)
    found = program_to_arviz(model, x, y, samples=draws(), axes={"means": ("side",)}, n_draws=10)
    np.testing.assert_array_equal(relabel(found, alignment)["posterior"]["means"].values, draws()["means"])


def test_draws_of_another_model_are_refused() -> None:
    (x, y), model = data(), a_model(True)
    found = program_to_arviz(model, x, y, samples=draws(), n_draws=10)

    def other(x: Tensor, y: Tensor) -> None:
        mean = pyro.sample("mean", dist.Normal(torch.zeros((), dtype=torch.float64), 5.0))
        with pyro.plate("objects", len(x), dim=-1):
            pyro.sample("y", dist.Normal(mean, 1.0), obs=y)

    with pytest.raises(ValueError, match=r"`data` must hold mean; got means, gate.weights"):
        ProgramResponsibilities(found, other, x, y)
    with pytest.raises(ValueError, match=r"`site` must be one of the discrete sites .*gate.assignment, shift; got y"):
        ProgramResponsibilities(found, model, x, y, site="y")
    without = program_to_arviz(other, x, y, samples={"mean": torch.zeros(1, 3).double()}, n_draws=10)
    with pytest.raises(ValueError, match="of which it has none; got None"):
        ProgramResponsibilities(without, other, x, y)
