"""What every gate must do; the test of each gate inherits it."""

import copy
import functools
import io
import math
from collections.abc import Callable
from typing import Any

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO
from pyro.nn import PyroModule
from torch import Tensor

from mixpyro.gates import Gate
from mixpyro.gates.conjugate import ConjugateGate
from mixpyro.numerics import nested
from tests.gates.bounds import by_svi, closed_form, closed_form_gradient, elbo, elbo_gradient
from tests.problems import in_plate, inputs, responsibilities

K = 3


class GateContract:
    """Inherited by ``Test<Gate>``, which gives :meth:`make`."""

    # Whether one evaluation of Pyro's ELBO is the closed form right after an update.
    elbo_has_no_noise = True
    # The argument that says how many components there are.
    sizes = "n_components"

    def make(self, n_components: int = K) -> Gate:
        """A gate that has seen no data."""
        raise NotImplementedError

    def logarithm_of_mean(self, gate: Gate, x: Tensor) -> Tensor:
        """What Jensen's inequality holds the expected logarithm to."""
        return gate.weights(x).log()

    def updated(self, n_objects: int = 11) -> tuple[Gate, Tensor, Tensor]:
        """A gate after one update, with the x [N, 2] and the responsibilities [N, K] of that update."""
        gate, x, r = self.make(), inputs(n_objects), responsibilities(n_objects, K)
        learn(gate, x, r)
        return gate, x, r

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("n_objects", [1, 4, 11])
    def test_results_have_the_dtype_and_rows_of_x(self, dtype: torch.dtype, n_objects: int) -> None:
        gate, _, _ = self.updated()
        x = inputs(n_objects, dtype=dtype)
        weights, expected = gate.weights(x), gate.expected_log_weights(x)
        assert weights.shape == (n_objects, K)
        assert expected.expand(n_objects, K).shape == (n_objects, K)
        assert weights.dtype == expected.dtype == dtype

    def test_weights_are_on_the_simplex_and_dominate_the_expected_logarithms(self) -> None:
        gate, x, _ = self.updated()
        weights, expected = gate.weights(x), gate.expected_log_weights(x)
        torch.testing.assert_close(weights.sum(-1), torch.ones(len(x), dtype=x.dtype))
        assert (expected <= self.logarithm_of_mean(gate, x) + 1e-12).all()

    def test_weights_may_be_changed_in_place(self) -> None:
        gate, x, _ = self.updated()
        before = gate.weights(x).detach().clone()
        with torch.no_grad():
            gate.weights(x).zero_()
        torch.testing.assert_close(gate.weights(x), before)

    def test_kl_divergence_is_float64_and_zero_before_data(self) -> None:
        gate, _, _ = self.updated()
        assert gate.kl_divergence().dtype == torch.float64
        assert gate.kl_divergence() >= 0
        assert self.make().kl_divergence() == 0

    def test_one_evaluation_of_the_elbo_equals_the_closed_form(self) -> None:
        """Right after an update q(π) cancels in the integrand: no sample of π makes a difference."""
        gate, x, r = self.updated()
        assert abs(elbo(gate, x, r) - closed_form(gate, x, r)) < 1e-10

    def test_a_users_own_loss_with_the_evidence_has_no_noise(self) -> None:
        """The weights at their exact posterior by ConjugateReparam, whatever the gate's own posterior is."""
        gate, x, r = self.updated()
        bound = closed_form(gate, x, r)
        fresh = self.make()
        fresh.load_state_dict(gate.state_dict())
        if isinstance(fresh, ConjugateGate):
            fresh.update(fresh.statistics(x, responsibilities(len(x), K, seed=3)))
        model = poutine.reparam(in_plate(fresh.model), fresh.reparam(x, r))
        loss = TraceEnum_ELBO(max_plate_nesting=1)
        losses = [loss.loss(model, lambda x: in_plate(fresh.assignment_guide)(x, r), x) for _ in range(5)]
        assert max(abs(loss + bound) for loss in losses) < 1e-10

    def test_state_dict_round_trip_with_weights_only(self) -> None:
        gate, x, _ = self.updated()
        file = io.BytesIO()
        torch.save(gate.state_dict(), file)
        file.seek(0)
        fresh = self.make()
        fresh.load_state_dict(torch.load(file, weights_only=True))
        assert_same_state(fresh.state_dict(), gate.state_dict())
        torch.testing.assert_close(fresh.weights(x), gate.weights(x), rtol=0, atol=0)

    def test_a_deep_copy_lives_on_its_own(self) -> None:
        gate, x, r = self.updated()
        state = copy.deepcopy(gate.state_dict())
        twin = copy.deepcopy(gate)
        learn(twin, x, responsibilities(len(x), K, seed=2))
        assert_same_state(gate.state_dict(), state)

    def test_moving_to_float32_keeps_the_weights(self) -> None:
        gate, x, _ = self.updated()
        before = gate.weights(x)
        torch.testing.assert_close(gate.float().weights(x), before, rtol=1e-5, atol=1e-6)

    @pytest.mark.cuda
    def test_on_cuda_as_on_cpu(self) -> None:
        gate, x, r = self.updated()
        on_cpu, gate = gate, copy.deepcopy(gate).cuda()
        learn(on_cpu, x, r)
        learn(gate, x.cuda(), r.cuda())
        expected, divergence = on_cpu.weights(x), on_cpu.kl_divergence()
        assert gate.weights(x.cuda()).is_cuda
        torch.testing.assert_close(gate.weights(x.cuda()).cpu(), expected)
        torch.testing.assert_close(gate.kl_divergence().cpu(), divergence)
        own = closed_form(gate, x.cuda(), r.cuda())
        assert own == pytest.approx(closed_form(on_cpu, x, r), abs=1e-10)
        if self.elbo_has_no_noise:
            assert elbo(gate, x.cuda(), r.cuda()) == pytest.approx(own, abs=1e-10)
        else:
            assert math.isfinite(elbo(gate, x.cuda(), r.cuda()))

    @pytest.mark.usefixtures("bad_arguments")
    @pytest.mark.parametrize(("bad", "error"), [(0, ValueError), (-2, ValueError), (2.0, TypeError), (True, TypeError)])
    def test_a_bad_number_of_components_is_refused(self, bad: object, error: type[Exception]) -> None:
        with pytest.raises(error, match=f"`{self.sizes}` must be .*got {bad}"):
            self.make(bad)  # type: ignore[arg-type]

    def test_sites_take_the_gates_name(self) -> None:
        gate, x, r = self.updated()

        class Program(PyroModule):
            def __init__(self) -> None:
                super().__init__()
                self.mixing = gate

            def forward(self) -> Tensor:
                return in_plate(self.mixing.model)(x)

        trace = poutine.trace(Program()).get_trace()
        names = [name for name, site in trace.nodes.items() if site["type"] == "sample" and name != "objects"]
        assert "mixing.assignment" in names
        assert all(name.startswith("mixing.") for name in names)

    def test_the_model_draws_assignments_in_the_callers_plate(self) -> None:
        gate, x, _ = self.updated()
        assignments = gate.model(x, plate=pyro.plate("rows", len(x), dim=-1))
        assert assignments.shape == (len(x),)
        assert assignments.min() >= 0
        assert assignments.max() < K

    @pytest.mark.usefixtures("bad_arguments")
    def test_the_plate_must_be_given(self) -> None:
        gate, x, r = self.updated()
        calls = gate.model, gate.guide, functools.partial(gate.assignment_guide, responsibilities=r)
        for call in calls:
            with pytest.raises(
                ValueError, match=r"`plate` must be the plate over the objects; got None.*\n.*plate = pyro"
            ):
                call(x)
            with pytest.raises(TypeError, match=r"`plate` must be a pyro.plate or a sequence of them; got 'objects'"):
                call(x, plate="objects")  # type: ignore[arg-type]

    def test_the_plate_may_have_any_dim(self) -> None:
        """The bound is that of the innermost plate."""
        gate, x, r = self.updated()
        losses = []
        for dim in (-1, -2):

            def program(call: Callable[..., Any], dim: int = dim, **given: Any) -> None:
                call(x, plate=pyro.plate("objects", len(x), dim=dim), **given)

            torch.manual_seed(0)
            model, guide = (
                functools.partial(program, gate.model),
                functools.partial(program, gate.guide, responsibilities=r),
            )
            losses.append(TraceEnum_ELBO(max_plate_nesting=2).loss(model, guide))
        assert losses[0] == pytest.approx(losses[1], abs=1e-9)

    @pytest.mark.usefixtures("bad_arguments")
    @pytest.mark.parametrize("bad", [None, 3, {1.0}, torch.ones(4, 2).long(), torch.ones(4, 2).half()])
    def test_inputs_of_another_type_are_refused_at_the_door(self, bad: Any) -> None:
        gate, plate = self.make(), pyro.plate("objects", 4, dim=-1)
        for call in (gate.model, gate.guide):
            with pytest.raises(TypeError, match=r"`x` must (be a torch.Tensor|have)"):
                call(bad, plate=plate)

    @pytest.mark.usefixtures("bad_arguments")
    def test_integer_inputs_give_no_integer_weights(self) -> None:
        """Results have the dtype of x: as integers all weights would be zero."""
        gate = self.make()
        for call in (gate.weights, gate.expected_log_weights):
            with pytest.raises(TypeError, match=r"`x` must have a floating dtype; got torch.int64. Use x.double\(\)"):
                call(torch.zeros(4, 2).long())

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_runs_with_a_leading_axis_go_as_they_go_alone(self, dtype: torch.dtype) -> None:
        """Log weights, divergences and updates of three runs together, against each by itself."""
        gate, x = self.make(), inputs(11, dtype=dtype)
        r = torch.stack([responsibilities(11, K, seed=seed).to(dtype).mT for seed in range(3)])
        state = nested.stack([gate.state()] * 3)
        together = gate.advanced(state, gate.sums(x, r, state), (x,), r, by_svi)
        log_weights, divergences = gate.log_weights(x, together, objects=slice(None)), gate.divergences(together)
        for run in range(3):
            alone = nested.stack([gate.state()])
            alone = nested.select(state, [run])
            one = r[[run]]
            alone = gate.advanced(alone, gate.sums(x, one, alone), (x,), one, by_svi)
            precision = 1e-12 if dtype == torch.float64 else 1e-6
            found = gate.log_weights(x, alone, objects=slice(None))[0].expand(K, 11)
            torch.testing.assert_close(log_weights[run].expand(K, 11), found, rtol=precision, atol=precision)
            torch.testing.assert_close(
                divergences.expand(3)[run], gate.divergences(alone).expand(1)[0], rtol=precision, atol=precision
            )
            gate.hold(nested.select(alone, 0))
            own = gate.expected_log_weights(x, objects=slice(None)).mT.expand(K, 11)
            torch.testing.assert_close(own, found, rtol=precision, atol=precision)

    def test_a_state_is_held_as_it_was_taken(self) -> None:
        gate, x, _ = self.updated()
        weights, fresh = gate.weights(x, objects=slice(None)), self.make()
        fresh.hold(gate.state())
        torch.testing.assert_close(fresh.weights(x, objects=slice(None)), weights, rtol=0, atol=0)

    def test_the_users_pyro_is_left_as_it_was(self) -> None:
        pyro.param("theirs", torch.ones(2))
        gate, x, _ = self.updated()
        state = torch.get_rng_state()
        gate.weights(x), gate.expected_log_weights(x), gate.kl_divergence()
        assert torch.equal(torch.get_rng_state(), state)
        with pyro.get_param_store().scope():
            in_plate(gate.model)(x), in_plate(gate.guide)(x)
        assert list(pyro.get_param_store()) == ["theirs"]


class UpdatedContract(GateContract):
    """What a gate must do besides if it has statistics and an update."""

    def test_half_a_step_goes_half_way(self) -> None:
        gate, x, r = self.updated()
        start = copy.deepcopy(gate.state_dict())
        other = responsibilities(len(x), K, seed=1)
        gate.update(gate.statistics(x, other), step_size=0.5)
        halfway = copy.deepcopy(gate.state_dict())
        gate.update(gate.statistics(x, other))
        for name, end in gate.state_dict().items():
            torch.testing.assert_close(halfway[name], (start[name] + end) / 2)

    @pytest.mark.usefixtures("bad_arguments")
    @pytest.mark.parametrize(
        ("bad", "error", "message"),
        [
            (torch.full((11, K), float("nan")), ValueError, "finite and non-negative; got values from nan"),
            (torch.full((11, K), float("inf")), ValueError, "finite and non-negative; got values from inf"),
            (torch.full((11, K), -0.5), ValueError, "got values from -0.5 to -0.5"),
            (torch.ones(11, K + 1), ValueError, r"shape \[11, 3\].*got \[11, 4\]"),
            (torch.ones(10, K), ValueError, r"shape \[11, 3\].*got \[10, 3\]"),
            (torch.ones(K), ValueError, r"got \[3\]"),
            (torch.ones(11, K, dtype=torch.int64), TypeError, "floating dtype; got torch.int64"),
            ([[1.0] * K] * 11, TypeError, "torch.Tensor; got list"),
        ],
    )
    def test_bad_responsibilities_are_refused(self, bad: object, error: type[Exception], message: str) -> None:
        gate, x, _ = self.updated()
        state = copy.deepcopy(gate.state_dict())
        with pytest.raises(error, match=f"`responsibilities` must.*{message}"):
            gate.statistics(x, bad)
        assert_same_state(gate.state_dict(), state)

    @pytest.mark.usefixtures("bad_arguments")
    def test_no_rows_are_refused(self) -> None:
        with pytest.raises(ValueError, match=r"at least one row; got \[0, 3\]"):
            self.make().statistics(torch.zeros(0, 2), torch.zeros(0, K))

    def test_values_are_used_as_they_are_with_validation_off(self) -> None:
        gate, x, r = self.updated()
        with pyro.validation_enabled(False):
            statistics = gate.statistics(x, -r)
        for negative, positive in zip(statistics, gate.statistics(x, r), strict=True):
            assert torch.equal(negative, -positive)

    def test_an_update_keeps_no_graph_of_the_responsibilities(self) -> None:
        gate, x, r = self.updated()
        gate.update(gate.statistics(x, 1.0 * r.requires_grad_()))
        assert not any(buffer.requires_grad for buffer in gate.buffers())
        copy.deepcopy(gate)


class LatentWeightsContract(UpdatedContract):
    """What a gate must do besides if its weights are latent, with a posterior that is updated."""

    def test_statistics_one_percent_off_fail_the_elbo_equality(self) -> None:
        gate, x, r = self.updated()
        gate.update(gate.statistics(x, 1.01 * r))
        assert abs(elbo(gate, x, r) - closed_form(gate, x, r)) > 1e-4

    def test_the_gradient_of_the_elbo_is_zero_after_an_update(self) -> None:
        gate, x, r = self.updated()
        assert elbo_gradient(gate, x, r).abs().max() < 1e-10
        gate.update(gate.statistics(x, 1.01 * r))
        assert elbo_gradient(gate, x, r).abs().max() > 1e-4

    def test_the_gradient_of_the_closed_form_is_zero_after_an_update(self) -> None:
        gate, x, r = self.updated()
        assert closed_form_gradient(gate, x, r).abs().max() < 1e-10

    @pytest.mark.usefixtures("bad_arguments")
    @pytest.mark.parametrize("step_size", [0.0, -1.0, 1.5, float("nan")])
    def test_a_bad_step_size_is_refused(self, step_size: float) -> None:
        gate, x, r = self.updated()
        state = copy.deepcopy(gate.state_dict())
        with pytest.raises(ValueError, match="`step_size` must be"):
            gate.update(gate.statistics(x, 1.1 * r), step_size=step_size)
        assert_same_state(gate.state_dict(), state)


def learn(gate: Gate, x: Tensor, r: Tensor) -> None:
    """The gate's update given responsibilities, or the maximum of its share of the bound."""
    if isinstance(gate, ConjugateGate):
        gate.update(gate.statistics(x, r))
    else:
        gate.maximise(x, r, by_gradient=by_svi)


def assert_same_state(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    """Bit for bit."""
    assert list(first) == list(second)
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
