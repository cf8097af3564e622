"""What users of Pyro do by habit around a gate: right, or refused with what to write."""

import signal
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import MCMC, NUTS, TraceEnum_ELBO
from pyro.infer.autoguide import AutoDelta, AutoNormal, init_to_value
from pyro.ops.indexing import Vindex
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


def test_nuts_of_a_program_with_its_plate_has_the_right_weights() -> None:
    y, gate = two_groups(), DirichletGate(2)

    def model() -> None:
        plate = pyro.plate("data", len(y), dim=-1)
        z = gate.model(y, plate=plate)
        with plate:
            pyro.sample("y", dist.Normal(MEANS[z], 1.0), obs=y)

    pyro.set_rng_seed(0)
    run = MCMC(NUTS(model, max_plate_nesting=1), num_samples=100, warmup_steps=50, disable_progbar=True)
    run.run()
    assert float(run.get_samples()["gate.weights"].mean(0)[0]) == pytest.approx(0.49, abs=0.03)


def test_a_sparse_prior_does_not_decide_where_the_gate_starts() -> None:
    """A published program: 480 cells without and 20 with a guide. Its ungated answer is 0.955, 0.045 and 1.77."""
    torch.manual_seed(0)
    y = torch.cat([0.3 * torch.randn(480) + 0.2, 2 + 0.3 * torch.randn(20)])
    gate = DirichletGate(2, concentration=torch.tensor([0.99, 0.01]))

    def model() -> None:
        with pyro.plate("components", 2):
            locations = pyro.sample("locations", dist.Normal(1.0, 2.0))
        scale = pyro.sample("scale", dist.LogNormal(-3.0, 2.0))
        plate = pyro.plate("data", len(y), dim=-1)
        z = gate.model(y, plate=plate)
        with plate:
            pyro.sample("y", dist.Normal(locations[z], scale), obs=y)

    start = {"locations": torch.tensor([0.0, 1.0]), "scale": torch.tensor(0.3)}
    guide = AutoDelta(poutine.block(model, expose=["locations", "scale"]), init_loc_fn=init_to_value(values=start))
    svi = ConjugateSVI(model, guide, ClippedAdam({"lr": 0.01}), TraceEnum_ELBO(max_plate_nesting=1), gates=gate)
    losses = [svi.step() for _ in range(300)]
    assert losses[-1] < 195.0
    assert gate.posterior_concentration[1] == pytest.approx(23.6, abs=1.0)
    assert float(pyro.param("AutoDelta.locations").detach()[1]) == pytest.approx(1.77, abs=0.02)


def test_a_start_can_be_given() -> None:
    y, gate = two_groups(), DirichletGate(2, concentration=[0.99, 0.01])
    gate.initialise(weights=[1.0, 3.0])
    torch.testing.assert_close(gate.weights(y[:1, None])[0], torch.tensor([0.25, 0.75]).double())
    r = torch.tensor([[0.9, 0.1]]).double().repeat(10, 1)
    gate.initialise(y[:10, None], r)
    torch.testing.assert_close(gate.posterior_concentration, torch.tensor([9.99, 1.01]).double())
    gate.initialise()
    torch.testing.assert_close(gate.posterior_concentration, torch.tensor([9.99, 1.01]).double())
    with pytest.raises(ValueError, match="`weights` must be"):
        gate.initialise(weights=[1.0, -3.0])


@pytest.mark.parametrize("name", GATES)
def test_objects_without_likelihood_leave_the_gate_as_it_is(name: str) -> None:
    """Blocked outcomes, and assignments that another value replaces."""
    x, y = inputs(100), two_groups()

    def programs(gate: Gate) -> list[Callable[[], None]]:
        def model(outcome: bool = True) -> None:
            plate = pyro.plate("data", len(y), dim=-1)
            z = gate.model(x, plate=plate)
            if outcome:
                with plate:
                    pyro.sample("y", dist.Normal(MEANS[z], 1.0), obs=y)

        fixed = torch.zeros(100).long()
        return [
            lambda: model(outcome=False),
            poutine.do(model, {"gate.assignment": fixed}),
            poutine.block(model, hide=["y"]),
        ]

    for number in range(3):
        pyro.clear_param_store()
        gate = GATES[name]()
        before = {key: value.clone() for key, value in gate.state_dict().items()}
        svi = conjugate(programs(gate)[number], gate)
        with pyro.validation_enabled(False):
            losses = [svi.step() for _ in range(3)]
        after = gate.state_dict()
        if name == "dirichlet":
            torch.testing.assert_close(after, before)
        if name == "object" and len(after["posterior_concentration"]):
            torch.testing.assert_close(after["posterior_concentration"], torch.full((100, 2), 1.5).double())
        assert all(torch.isfinite(torch.tensor(losses)))


def test_a_padded_batch_counts_what_is_there() -> None:
    """Sequences of different lengths in one tensor; padding is masked in the likelihood."""
    y = two_groups(20, 28).reshape(8, 6)
    there = torch.arange(6) < torch.tensor([6, 5, 1, 3, 6, 2, 4, 6]).unsqueeze(1)
    gates = DirichletGate(2), DirichletGate(2)

    def padded() -> None:
        plates = pyro.plate("sequences", 8, dim=-2), pyro.plate("positions", 6, dim=-1)
        z = gates[0].model(y, plate=plates)
        with plates[0], plates[1], poutine.mask(mask=there.bool()):  # type: ignore[call-overload]
            pyro.sample("y", dist.Normal(MEANS[z], 1.0), obs=y)

    def flat() -> None:
        plate = pyro.plate("data", int(there.sum()), dim=-1)
        z = gates[1].model(y[there], plate=plate)
        with plate:
            pyro.sample("y", dist.Normal(MEANS[z], 1.0), obs=y[there])

    losses = [
        [svi.step() for _ in range(5)] for svi in (conjugate(padded, gates[0], nesting=2), conjugate(flat, gates[1]))
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-9)
    torch.testing.assert_close(gates[0].posterior_concentration, gates[1].posterior_concentration)


@pytest.mark.parametrize("name", GATES)
def test_objects_in_two_plates_are_those_of_one(name: str) -> None:
    x, y = inputs(24), two_groups(10, 14)
    found = []
    for shape, dims in (((24,), (-1,)), ((4, 6), (-2, -1)), ((4, 6), (-3, -1))):
        torch.manual_seed(0)
        pyro.clear_param_store()
        gate = GATES[name]()
        if name == "object" and len(shape) > 1:
            plates = [pyro.plate(f"plate_{dim}", size, dim=dim) for size, dim in zip(shape, dims, strict=True)]
            with pytest.raises(ValueError, match="one plate for a gate with weights of each object; got 2"):
                gate.model(x.reshape(4, 6, 2), plate=plates)
            continue

        def model(shape: tuple[int, ...] = shape, dims: tuple[int, ...] = dims, gate: Gate = gate) -> None:
            plates = [pyro.plate(f"plate_{dim}", size, dim=dim) for size, dim in zip(shape, dims, strict=True)]
            z = gate.model(x.reshape(*shape, 2), plate=plates)
            view = [dict(zip(dims, shape, strict=True)).get(dim, 1) for dim in range(min(dims), 0)]
            with ExitStack() as stack:
                for plate in plates:
                    stack.enter_context(plate)
                pyro.sample("y", dist.Normal(MEANS[z], 1.0), obs=y.reshape(view))

        svi = conjugate(model, gate, nesting=3)
        losses = [svi.step() for _ in range(4)]
        r = svi.responsibilities()[0].reshape(24, 2)
        found.append((losses, r))
    for losses, r in found[1:]:
        assert losses == pytest.approx(found[0][0], abs=1e-9)
        torch.testing.assert_close(r, found[0][1])


def test_a_scale_around_the_gate_is_refused_and_one_around_the_objects_is_right() -> None:
    """Batches of 20 of 400 objects: the gate knows all of them in the end, not the last batch."""
    y = two_groups(100, 300)[torch.randperm(400, generator=torch.Generator().manual_seed(1))]
    gate = DirichletGate(2)

    def around(batch: Tensor) -> None:
        plate = pyro.plate("data", len(batch), dim=-1)
        with poutine.scale(scale=400 / len(batch)):
            z = gate.model(batch, plate=plate)
            with plate:
                pyro.sample("y", dist.Normal(MEANS[z], 1.0), obs=batch)

    with pytest.raises(ValueError, match=r"scaled by 20.*`plate\(size=N, subsample_size=B\)`"):
        conjugate(around, gate).step(y[:20])
    assert gate.posterior_concentration.tolist() == [1.0, 1.0]

    def objects(batch: Tensor) -> None:
        weights = gate.sample_weights(batch)
        with poutine.scale(scale=400 / len(batch)), pyro.plate("data", len(batch), dim=-1):
            z = weights.assign("z")
            pyro.sample("y", dist.Normal(MEANS[z], 1.0), obs=batch)

    def subsampled(batch: Tensor) -> None:
        plate = pyro.plate("data", 400, subsample_size=len(batch), dim=-1)
        z = gate.model(batch, plate=plate)
        with plate:
            pyro.sample("y", dist.Normal(MEANS[z], 1.0), obs=batch)

    for model in (objects, subsampled):
        gate.forget()
        svi = conjugate(model, gate)
        for _ in range(5):
            for batch in y.split(20):
                svi.step(batch)
        assert gate.posterior_concentration.sum() == pytest.approx(402.0, abs=0.5)
        assert float(gate.weights(y[:1, None])[0, 0]) == pytest.approx(0.26, abs=0.03)


def test_a_mask_around_the_gate_is_refused() -> None:
    y, gate = two_groups(), DirichletGate(2)
    plate = pyro.plate("data", len(y), dim=-1)
    with (
        poutine.mask(mask=y > 0),  # type: ignore[call-overload]
        pytest.raises(ValueError, match=r"`poutine.mask` must not be around.*assign\(name\)"),
    ):
        gate.model(y, plate=plate)


def test_vectorised_particles_name_vindex_and_dtypes_name_x() -> None:
    y, gate = two_groups(), DirichletGate(2)

    def model(x: Tensor, vectorised: bool = False) -> None:
        means = pyro.sample("means", dist.Normal(MEANS, 1.0).to_event(1))
        plate = pyro.plate("data", len(y), dim=-1)
        z = gate.model(x, plate=plate)
        with plate:
            pyro.sample("y", dist.Normal(Vindex(means)[..., z] if vectorised else means[z], 1.0), obs=y)

    guide = AutoNormal(poutine.block(model, hide=gate.latent_sites))
    loss = TraceEnum_ELBO(max_plate_nesting=1, num_particles=4, vectorize_particles=True)
    svi = conjugate(model, gate, guide, loss=loss)
    with pytest.raises(ValueError, match=r"`Vindex\(means\)\[..., z\]` of pyro.ops.indexing in place of `means\[z\]`"):
        svi.step(y)
    assert torch.isfinite(torch.tensor(svi.step(y, vectorised=True)))


# Python drops an interrupt that comes in the callback of a weak reference, and says so.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_leaves_no_gradients() -> None:
    """At sixty moments of a step."""
    y, gate = two_groups(2000, 2000), DirichletGate(2)

    def model() -> None:
        means = pyro.param("means", lambda: MEANS.clone())
        plate = pyro.plate("data", len(y), dim=-1)
        z = gate.model(y, plate=plate)
        with plate:
            pyro.sample("y", dist.Normal(means[z], 1.0), obs=y)

    svi = conjugate(model, gate)
    svi.step()
    interrupted = 0

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for moment in range(60):
            signal.setitimer(signal.ITIMER_REAL, 2e-4 * (moment + 1))
            try:
                svi.step()
            except KeyboardInterrupt:
                interrupted += 1
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            leaf = dict(pyro.get_param_store().named_parameters())["means"]
            assert leaf.grad is None or not leaf.grad.any()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted > 10
