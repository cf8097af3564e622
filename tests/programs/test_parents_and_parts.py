"""Weights of parts and of parents where objects are missing, plates are subsampled or sequential, or values wrong."""

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive, TraceEnum_ELBO, config_enumerate
from pyro.optim import ClippedAdam
from torch import Tensor

from mixpyro import ConjugateSVI, DirichletGate
from mixpyro.gates.base import Gate

pytestmark = pytest.mark.usefixtures("without_type_checks")

MEANS = torch.tensor([0.0, 3.0]).double()


def draws(*shape: int, seed: int = 0) -> Tensor:
    """Numbers from two unit Gaussians at 0 and 3."""
    generator = torch.Generator().manual_seed(seed)
    z = (torch.rand(shape, generator=generator) < 0.4).long()
    return MEANS[z] + torch.randn(shape, generator=generator).double()


def svi_of(model: Callable[..., None], *gates: Gate, nesting: int = 1) -> ConjugateSVI:
    """Return an SVI whose guide samples nothing."""
    loss = TraceEnum_ELBO(max_plate_nesting=nesting, strict_enumeration_warning=False)
    return ConjugateSVI(model, lambda *_: None, ClippedAdam({"lr": 0.01}), loss, gates=gates)


def mixture(gate: DirichletGate, name: str = "objects") -> Callable[[Tensor], None]:
    """Return a mixture of one gate."""

    def model(y: Tensor) -> None:
        plate = pyro.plate(name, len(y), dim=-1)
        z = gate.model(y, plate=plate)
        with plate:
            pyro.sample(f"{name}.y", dist.Normal(MEANS[z], 1.0), obs=y)

    return model


@pytest.mark.parametrize("expand", [False, True])
def test_missing_outcomes_say_nothing_of_the_weights_of_known_groups(expand: bool) -> None:
    y, groups = draws(200), torch.arange(200) % 2
    found = []
    for n_all in (200, 40):
        gate = DirichletGate(2, batch_shape=(2,))

        def model(gate: DirichletGate = gate, n_all: int = n_all) -> None:
            seen: Any = torch.arange(n_all) < 40
            weights = gate.sample_weights(y)
            with pyro.plate("objects", n_all, dim=-1):
                z = weights.assign("z", parent=groups[:n_all])
                with poutine.mask(mask=seen):
                    pyro.sample("y", dist.Normal(MEANS[z], 1.0), obs=y[:n_all])

        svi = svi_of(config_enumerate(model, expand=expand), gate)
        losses = [svi.step() for _ in range(20)]
        found.append((losses[-1], gate.posterior_concentration))
    assert found[0][0] == pytest.approx(found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1])
    assert float(found[0][1].sum()) == pytest.approx(44.0)


@pytest.mark.parametrize("value", [-1, 3])
def test_a_parent_out_of_range_is_refused(value: int) -> None:
    y, groups = draws(20), torch.arange(20) % 3
    groups[3] = value
    gate = DirichletGate(2, batch_shape=(2, 3))

    def model() -> None:
        weights = gate.sample_weights(y)
        with pyro.plate("objects", 20, dim=-1):
            weights.assign("z", parent=[torch.ones(20).long(), groups])

    with pytest.raises(ValueError, match=r"`parent` must be from 0 to 2; got (-1 to 2|0 to 3)"):
        svi_of(model, gate).step()


def test_weights_that_are_sampled_twice_are_refused() -> None:
    gate = DirichletGate(2)

    def model() -> None:
        gate.sample_weights(MEANS)
        gate.sample_weights(MEANS)

    with pytest.raises(RuntimeError, match="Give each gate its own `name`"):
        svi_of(model, gate).step()
    with pytest.raises(RuntimeError, match="Give each gate its own `name`"):
        poutine.trace(model).get_trace()


@pytest.mark.filterwarnings("ignore:Found vars in model but not guide", "ignore::RuntimeWarning")
@pytest.mark.parametrize("how", ["hidden", "not enumerated", "five draws"])
def test_assignments_that_are_drawn_from_their_prior_are_no_evidence(how: str) -> None:
    """They would be counted as data, and differ from step to step."""
    unset: Any = {"enumerate": None}
    gate = DirichletGate(2)
    model = mixture(gate)
    if how == "hidden":
        model = poutine.block(model, hide=["gate.assignment"])
    elif how == "five draws":
        model = config_enumerate(model, num_samples=5)
    else:
        model = poutine.infer_config(model, config_fn=lambda _: unset)
    with pytest.raises(RuntimeError, match="leave its assignments to be enumerated"):
        svi_of(model, gate).step(draws(20))
    assert gate.posterior_concentration.tolist() == [1.0, 1.0]


def test_one_gate_a_document_in_a_sequential_plate_with_a_subsample() -> None:
    y = draws(6, 30)
    gates = [DirichletGate(2, name=f"document_{d}") for d in range(6)]
    models = [mixture(gate, f"words_{d}") for d, gate in enumerate(gates)]

    def model() -> None:
        for d in pyro.plate("documents", 6, subsample_size=3):
            models[int(d)](y[int(d)])

    pyro.set_rng_seed(0)
    svi = svi_of(model, *gates)
    for _ in range(60):
        svi.step()
    for gate, own in zip(gates, y, strict=True):
        alone = DirichletGate(2)
        by_itself = svi_of(mixture(alone), alone)
        for _ in range(20):
            by_itself.step(own)
        torch.testing.assert_close(gate.posterior_concentration, alone.posterior_concentration, rtol=1e-5, atol=0)


def test_a_scale_around_weights_of_parts_is_refused() -> None:
    gate = DirichletGate(2, batch_shape=(3,))

    def model() -> None:
        words = pyro.plate("words", 10, dim=-2)
        with pyro.plate("documents", 3, dim=-1), poutine.scale(scale=5.0):
            z = gate.model(MEANS.new_zeros(10, 0), plate=words)
            with words:
                pyro.sample("y", dist.Normal(MEANS[z], 1.0), obs=draws(10, 3))

    with pytest.raises(ValueError, match=r"`poutine.scale` must not be around .* scaled by 5"):
        svi_of(model, gate, nesting=2).step()


def test_parts_go_part_of_the_way_where_their_objects_are_a_subsample_too() -> None:
    """The weights are within their posterior's width, and not those of the last twenty words."""
    y = draws(400, 4)
    gate, whole = DirichletGate(2, batch_shape=(4,)), DirichletGate(2, batch_shape=(4,))

    def model(gate: DirichletGate, n_documents: int, n_words: int) -> None:
        documents = pyro.plate("documents", 4, subsample_size=n_documents, dim=-1)
        words = pyro.plate("words", 400, subsample_size=n_words, dim=-2)
        with documents as columns:
            weights = gate.sample_weights(y)
            with words as rows:
                z = weights.assign("z")
                pyro.sample("y", dist.Normal(MEANS[z], 1.0), obs=y[rows][:, columns])

    pyro.set_rng_seed(0)
    batches, full = svi_of(model, gate, nesting=2), svi_of(model, whole, nesting=2)
    sizes = []
    for _ in range(400):
        batches.step(gate, 2, 20)
        sizes.append(gate.posterior.mean[:, 1].clone())
    for _ in range(20):
        full.step(whole, 4, 400)
    steps = torch.stack(sizes[-50:]).diff(dim=0).abs().max()
    assert steps < 0.05
    torch.testing.assert_close(gate.posterior.mean, whole.posterior.mean, rtol=0, atol=0.05)


@pytest.mark.parametrize("with_padding", [False, True])
def test_chains_of_a_data_loader_with_a_scale_around_them_take_small_steps(with_padding: bool) -> None:
    y = draws(200, 4)
    known: Any = torch.ones(20, 4).bool()
    if with_padding:
        known[3, 2:] = False
    gates = DirichletGate(2, name="first"), DirichletGate(2, batch_shape=(2,), name="rows")

    def model(y: Tensor) -> None:
        first, rows = (gate.sample_weights(y) for gate in gates)
        with pyro.plate("sequences", len(y), dim=-1), poutine.scale(scale=200 / len(y)):
            z = torch.zeros(()).long()
            for t in pyro.markov(range(4)):
                with poutine.mask(mask=known[:, t]):
                    z = rows.assign(f"z_{t}", parent=z) if t else first.assign("z_0")
                    pyro.sample(f"y_{t}", dist.Normal(MEANS[z], 1.0), obs=y[:, t])

    svi = svi_of(model, *gates)
    for _ in range(5):
        for batch in y.split(20):
            svi.step(batch)
    before = gates[1].posterior.mean.clone()
    svi.step(y[:20])
    assert 0.0 < float((gates[1].posterior.mean - before).abs().max()) < 0.01


@pytest.mark.parametrize("concentration", [0.1, 1.0])
def test_objects_without_evidence_lead_to_the_prior_and_it_stays(concentration: float) -> None:
    gate = DirichletGate(2, concentration=concentration)
    svi = svi_of(poutine.block(mixture(gate), hide=["objects.y"]), gate)
    y = draws(20)
    losses = [svi.step(y) for _ in range(3)]
    assert gate.posterior_concentration.tolist() == [concentration] * 2
    assert [*losses[1:], svi.evaluate_loss(y)] == pytest.approx([0.0] * 3, abs=1e-9)
    assert gate.posterior_concentration.tolist() == [concentration] * 2


def test_the_full_guide_of_untrained_gates_is_not_for_plain_svi() -> None:
    gate, y = DirichletGate(2), draws(50)
    model = mixture(gate)
    svi = svi_of(model, gate)
    loss = TraceEnum_ELBO(max_plate_nesting=1)
    plain = SVI(model, svi.full_guide, ClippedAdam({"lr": 0.01}), loss)
    with pytest.raises(RuntimeError, match=r"'gate\.weights' must be trained by ConjugateSVI"):
        plain.step(y)
    svi.step(y)
    assert plain.step(y) > 0.0


def test_the_full_guide_draws_at_once_from_its_first_call_on() -> None:
    gate, y = DirichletGate(2), draws(50)
    model = mixture(gate)
    svi = svi_of(model, gate)
    for _ in range(10):
        svi.step(y)
    pyro.set_rng_seed(0)
    drawn = Predictive(model, guide=svi.full_guide, num_samples=1000, parallel=True)(y)
    assert drawn["gate.assignment"].shape == (1000, 50)
    share = float(drawn["gate.assignment"].double().mean())
    assert share == pytest.approx(float(gate.posterior.mean[1]), abs=0.02)


def test_draws_of_weights_in_plates_are_not_at_once() -> None:
    gate, y = DirichletGate(2, batch_shape=(3,)), draws(40, 3)

    def model() -> None:
        words = pyro.plate("words", 40, dim=-2)
        with pyro.plate("documents", 3, dim=-1):
            z = gate.model(y.new_zeros(40, 0), plate=words)
            with words:
                pyro.sample("y", dist.Normal(MEANS[z], 1.0), obs=y)

    svi = svi_of(model, gate, nesting=2)
    for _ in range(10):
        svi.step()
    pyro.set_rng_seed(0)
    with pytest.raises(ValueError, match="`parallel` must be False"):
        Predictive(model, guide=svi.full_guide, num_samples=5, parallel=True)()
    weights = Predictive(svi.full_guide, num_samples=1000)()
    drawn = Predictive(model, posterior_samples=weights, num_samples=1000, parallel=True)()
    share = drawn["gate.assignment"].double().mean((0, 1))
    torch.testing.assert_close(share, gate.posterior.mean[:, 1], rtol=0, atol=0.02)
