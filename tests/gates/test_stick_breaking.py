"""The gate of a Dirichlet process or a Pitman–Yor process."""

import copy
from typing import Any

import pyro
import pytest
import torch
from pyro import poutine
from pyro.distributions import Beta, Gamma, LogNormal
from pyro.infer import TraceEnum_ELBO
from torch import Tensor

from mixpyro.gates import StickBreakingGate
from tests.gates.bounds import closed_form, elbo
from tests.gates.contract import K, LatentWeightsContract
from tests.problems import in_plate, inputs, responsibilities


class TestStickBreakingGate(LatentWeightsContract):
    """The contract."""

    def make(self, n_components: int = K) -> StickBreakingGate:
        return StickBreakingGate(n_components, concentration=0.7)

    def test_half_a_step_goes_half_way(self) -> None:
        """In the counts; the order of components is that of the counts."""
        gate, x, r = self.updated()
        other = responsibilities(len(x), K, seed=1)
        gate.update(gate.statistics(x, other), step_size=0.5)
        expected = self.make()
        expected.update(expected.statistics(x, 0.5 * (r + other)))
        for name, value in gate.state_dict().items():
            torch.testing.assert_close(value, expected.state_dict()[name])

    def test_a_users_own_loss_with_the_evidence_has_no_noise(self) -> None:
        """Whatever the gate's own posterior is; in its order."""
        gate, x, r = self.updated()
        bound = closed_form(gate, x, r)
        gate.update(gate.statistics(x, 3.0 * r))
        model = poutine.reparam(in_plate(gate.model), gate.reparam(x, r))
        loss = TraceEnum_ELBO(max_plate_nesting=1)
        losses = [loss.loss(model, lambda x: in_plate(gate.assignment_guide)(x, r), x) for _ in range(5)]
        assert max(abs(loss + bound) for loss in losses) < 1e-10

    def test_the_gradient_of_the_elbo_is_zero_after_an_update(self) -> None:
        gate, x, r = self.updated()
        assert isinstance(gate, StickBreakingGate)
        assert _elbo_gradient(gate, x, r).abs().max() < 1e-10
        gate.update(gate.statistics(x, 1.01 * r))
        assert _elbo_gradient(gate, x, r).abs().max() > 1e-4

    def test_the_gradient_of_the_closed_form_is_zero_after_an_update(self) -> None:
        gate, x, r = self.updated()
        leaves = []
        for name in ("posterior_own", "posterior_rest"):
            leaves.append(getattr(gate, name).clone().requires_grad_())
            setattr(gate, name, leaves[-1])
        for gradient in torch.autograd.grad(gate.partial_bound(x, r), leaves):
            assert gradient.abs().max() < 1e-10


class TestPitmanYor(TestStickBreakingGate):
    """The contract with a discount."""

    def make(self, n_components: int = K) -> StickBreakingGate:
        return StickBreakingGate(n_components, concentration=0.7, discount=0.3)


def _elbo_gradient(gate: StickBreakingGate, x: Tensor, r: Tensor) -> Tensor:
    """As ``elbo_gradient`` of the contract, in both parameters of each share."""
    leaves = [getattr(gate, name).clone().requires_grad_() for name in ("posterior_own", "posterior_rest")]
    gate.posterior_own, gate.posterior_rest = leaves

    class Stick(poutine.messenger.Messenger):
        def _pyro_sample(self, message: Any) -> None:
            if message["name"] == gate.site("sticks"):
                q = message["fn"].base_dist
                detached = type(message["fn"])(q.concentration1.detach(), q.concentration0.detach())
                message.update(fn=detached, value=q.rsample())

    def guide(x: Tensor) -> None:
        with Stick():
            in_plate(gate.guide)(x, responsibilities=r, objects=slice(None))

    loss = TraceEnum_ELBO(max_plate_nesting=1).differentiable_loss(in_plate(gate.model), guide, x)
    return torch.stack(torch.autograd.grad(loss, leaves))


@pytest.mark.usefixtures("without_type_checks")
def test_a_learnt_concentration_has_its_bound() -> None:
    """By the mean of 400 evaluations of the ELBO, for q has shares and concentration independent."""
    gate, x, r = StickBreakingGate(K, concentration=Gamma(2.0, 3.0)), inputs(11), responsibilities(11, K)
    gate.update(gate.statistics(x, r))
    found = torch.tensor([elbo(gate, x, r) for _ in range(400)])
    assert abs(found.mean() - closed_form(gate, x, r)) < 4.0 * found.std() / len(found) ** 0.5
    assert found.std() < 1.0
    assert gate.latent_sites == ["gate.sticks", "gate.concentration", "gate.assignment"]


def test_a_half_step_of_a_learnt_concentration_is_that_of_its_counts() -> None:
    gate, x = StickBreakingGate(K, concentration=Gamma(2.0, 3.0)), inputs(11)
    first, second = (gate.statistics(x, responsibilities(11, K, seed=seed)) for seed in range(2))
    gate.update(first)
    gate.update(second, step_size=0.5)
    expected = copy.deepcopy(gate)
    expected.forget()
    expected.update(type(first)(0.5 * (first.counts + second.counts)))
    for name, value in gate.state_dict().items():
        torch.testing.assert_close(value, expected.state_dict()[name])


def test_runs_of_a_learnt_concentration_go_as_they_go_alone() -> None:
    TestLearnt().test_runs_with_a_leading_axis_go_as_they_go_alone(torch.float64)
    TestLearnt().test_state_dict_round_trip_with_weights_only()
    TestLearnt().test_moving_to_float32_keeps_the_weights()


class TestLearnt(TestStickBreakingGate):
    """Parts of the contract: those that do not ask for a bound without noise."""

    __test__ = False

    def make(self, n_components: int = K) -> StickBreakingGate:
        return StickBreakingGate(n_components, concentration=Gamma(2.0, 3.0))


def test_the_largest_component_is_first_wherever_it_is() -> None:
    gate, x = StickBreakingGate(3), inputs(6)
    r = torch.tensor([[0.0, 0.0, 1.0]] * 3 + [[1.0, 0.0, 0.0]] * 2 + [[0.0, 1.0, 0.0]]).double()
    gate.update(gate.statistics(x, r))
    assert gate.posterior_rank.tolist() == [1.0, 2.0, 0.0]
    other = StickBreakingGate(3)
    other.update(other.statistics(x, r[:, [2, 0, 1]]))
    torch.testing.assert_close(gate.weights(x)[:, [2, 0, 1]], other.weights(x))


def test_what_is_beyond_is_the_weight_of_all_others() -> None:
    """A component that takes none of the objects does not change the others' share of the whole."""
    x, r = inputs(10), responsibilities(10, 2)
    found = []
    for n in (2, 3, 6):
        gate = StickBreakingGate(n, concentration=2.0)
        gate.update(gate.statistics(x, torch.nn.functional.pad(r, (0, n - 2))))
        found.append(gate.weights(x)[0, :2] * (1.0 - gate.weight_beyond))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0])
    # Of one component with all objects, v ~ Beta(1 + N, α).
    gate = StickBreakingGate(1, concentration=2.0)
    gate.update(gate.statistics(x, torch.ones(10, 1).double()))
    assert gate.weight_beyond == pytest.approx(2.0 / 13.0)


def test_the_model_scores_that_no_object_is_beyond() -> None:
    gate, x = StickBreakingGate(2), inputs(3)
    shares = torch.tensor([0.5, 0.25]).double()
    model = poutine.condition(in_plate(gate.model), data={"gate.sticks": shares})
    weights = torch.tensor([0.5, 0.125]).double()
    trace = poutine.trace(model).get_trace(x)
    site: Any = trace.nodes["gate.assignment"]
    torch.testing.assert_close(site["fn"].log_prob(site["value"]), weights.log()[site["value"]])
    torch.testing.assert_close(trace.nodes["gate.weights"]["value"], weights)
    known = poutine.condition(
        lambda: gate.model(x, plate=pyro.plate("o", 3), observed=torch.tensor([0, 1, 1])), data={"gate.sticks": shares}
    )
    scored = poutine.trace(known).get_trace().log_prob_sum() - Beta(1.0, torch.ones(2).double()).log_prob(shares).sum()
    torch.testing.assert_close(scored, weights.log()[[0, 1, 1]].sum())


def test_the_draws_of_a_small_concentration_are_finite() -> None:
    gate, x = StickBreakingGate(5, concentration=1e-3), inputs(4)
    for seed in range(20):
        pyro.set_rng_seed(seed)
        trace = poutine.trace(in_plate(gate.model)).get_trace(x)
        assert bool(torch.as_tensor(trace.log_prob_sum()).isfinite())


@pytest.mark.parametrize("concentration", [1e-3, 1.0, 50.0, Gamma(0.1, 10.0)])
def test_a_program_starts_from_alike_weights(concentration: float | Gamma) -> None:
    gate, x = StickBreakingGate(4, concentration=concentration), inputs(1)
    before = gate.state()
    gate.initialise()
    torch.testing.assert_close(gate.weights(x), torch.full((1, 4), 0.25).double())
    assert gate.is_new
    gate.update(gate.statistics(x, torch.full((1, 4), 0.25).double()))
    learnt = gate.state()
    gate.initialise()
    torch.testing.assert_close(gate.state().posterior, learnt.posterior)
    gate.forget()
    torch.testing.assert_close(gate.state().posterior, before.posterior)


@pytest.mark.usefixtures("bad_arguments")
@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"concentration": 0.0}, ValueError, "`concentration` must be .*; got 0.0"),
        ({"concentration": -1.0, "discount": 0.5}, ValueError, "`concentration` must be"),
        ({"concentration": "one"}, TypeError, "`concentration` must be .*; got 'one'"),
        ({"concentration": LogNormal(0.0, 1.0)}, TypeError, "a number or one Gamma distribution; got LogNormal"),
        ({"concentration": Gamma(torch.ones(2), torch.ones(2))}, TypeError, "one Gamma distribution; got"),
        ({"concentration": Gamma(1.0, 1.0), "discount": 0.5}, ValueError, "a number where `discount` is above zero"),
        ({"discount": 1.0}, ValueError, "`discount` must be below 1; got 1.0"),
        ({"discount": -0.1}, ValueError, "`discount` must be"),
        ({"concentration": 1e-60, "dtype": torch.float32}, ValueError, "`concentration` must be above 0"),
    ],
)
def test_a_bad_prior_is_refused(given: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        StickBreakingGate(2, **given)
