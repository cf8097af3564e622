"""What a gate with a Normal posterior of coefficients must do; the test of each such gate inherits it.

The bound of such a gate is a lower bound on the evidence lower bound that Pyro's estimates have as their mean, or equal
to it by quadrature: the equalities to the last digit of other gates hold in :func:`mixpyro.expected_weights` alone.
"""

import copy
import itertools
from typing import Any

import pyro
import pytest
import torch
from pyro.infer import TraceEnum_ELBO

from mixpyro import expected_weights
from mixpyro.gates.bayesian_logits import BayesianLogitGate
from mixpyro.numerics import nested
from tests.gates.bounds import closed_form, elbo
from tests.gates.contract import UpdatedContract
from tests.problems import in_plate, responsibilities

K = 3


class BayesianLogitContract(UpdatedContract):
    """Inherited by ``Test<Gate>``, which gives ``make``."""

    # Nats by which the mean of Pyro's estimates may lie above the closed form.
    slack = 0.2
    elbo_has_no_noise = False
    # Natural-gradient steps until the posterior is near that of all rows.
    n_batches = 400
    # Largest standard error of that mean.
    noise = 0.05

    @pytest.mark.usefixtures("bad_arguments")
    @pytest.mark.parametrize(("bad", "error"), [(0, ValueError), (-1, ValueError), ("2", TypeError), (2.0, TypeError)])
    def test_no_steps_are_refused(self, bad: Any, error: type[Exception]) -> None:
        gate, x, r = self.updated()
        assert isinstance(gate, BayesianLogitGate)
        before = copy.deepcopy(gate.state_dict())
        with pytest.raises(error, match=r"`n_steps` must be .*; got"):
            gate.maximise(x, r, n_steps=bad)
        assert all(torch.equal(value, before[name]) for name, value in gate.state_dict().items())

    @pytest.mark.usefixtures("without_type_checks")
    def test_one_evaluation_of_the_elbo_equals_the_closed_form(self) -> None:
        """The mean of many does, from above: the closed form is a bound on it."""
        gate, x, r = self.updated(40)
        torch.manual_seed(0)
        estimates = torch.tensor([elbo(gate, x, r) for _ in range(400)])
        error = float(estimates.std()) / len(estimates) ** 0.5
        excess = float(estimates.mean()) - closed_form(gate, x, r)
        assert -4.0 * error < excess < self.slack + 4.0 * error
        assert error < self.noise

    def test_inside_expected_weights_the_elbo_is_the_closed_form(self) -> None:
        gate, x, r = self.updated()
        with expected_weights(gate):
            loss = TraceEnum_ELBO(max_plate_nesting=1)
            guide = in_plate(gate.guide)
            value = -loss.loss(in_plate(gate.model), lambda x: guide(x, responsibilities=r), x)
        assert value == pytest.approx(closed_form(gate, x, r), abs=1e-9)

    def test_a_users_own_loss_with_the_evidence_has_no_noise(self) -> None:
        gate, x, r = self.updated()
        with pytest.raises(TypeError, match="`reparam` must be called on a gate with an exact posterior"):
            gate.reparam(x, r)

    def test_sample_weights_is_refused(self) -> None:
        gate, x, _ = self.updated()
        with pytest.raises(TypeError, match=r"Call `gate\.model"):
            gate.sample_weights(x)

    def test_half_a_step_goes_half_way(self) -> None:
        """In natural parameters."""
        gate, x, r = self.updated()
        assert isinstance(gate, BayesianLogitGate)
        start, sums = gate.posterior, gate.statistics(x, responsibilities(len(x), K, seed=1))
        gate.update(sums, step_size=0.5)
        halfway = gate.posterior
        gate.update(sums)
        end = gate.posterior
        torch.testing.assert_close(halfway.precision, (start.precision + end.precision) / 2)
        torch.testing.assert_close(halfway.linear, (start.linear + end.linear) / 2)

    def test_values_are_used_as_they_are_with_validation_off(self) -> None:
        """Their sums are linear in the responsibilities."""
        gate, x, r = self.updated()
        with pyro.validation_enabled(False):
            statistics = gate.statistics(x, -r)
        torch.testing.assert_close(nested.scale(-1.0, statistics), gate.statistics(x, r))

    def test_the_bound_never_falls_from_step_to_step(self) -> None:
        gate, x, r = self.updated(60)
        assert isinstance(gate, BayesianLogitGate)
        gate.forget()
        bounds = []
        for _ in range(15):
            gate.maximise(x, r, n_steps=1)
            bounds.append(float(gate.partial_bound(x, r)))
        assert all(after >= before - 1e-9 for before, after in itertools.pairwise(bounds))
        assert bounds[-1] - bounds[-2] < 1e-6

    def test_the_gradient_of_the_closed_form_is_zero_at_its_maximum(self) -> None:
        """In the mean and in the precision, by autograd."""
        gate, x, r = self.updated(60)
        assert isinstance(gate, BayesianLogitGate)
        gate.maximise(x, r, n_steps=60)
        for _ in range(20):
            gate.update(gate.statistics(x, r))
        for name in gate.posterior_names:
            gate._buffers[name] = getattr(gate, name).clone().requires_grad_()
        gradients = torch.autograd.grad(
            gate.partial_bound(x, r), [getattr(gate, name) for name in gate.posterior_names]
        )
        assert max(float(gradient.abs().max()) for gradient in gradients) < self.gradient_at_maximum

    # Nodes that are fixed and few leave more.
    gradient_at_maximum = 1e-6

    @pytest.mark.usefixtures("without_type_checks")
    def test_a_natural_gradient_step_in_batches_reaches_the_optimum_of_all_rows(self) -> None:
        gate, x, r = self.updated(60)
        assert isinstance(gate, BayesianLogitGate)
        gate.maximise(x, r, n_steps=50)
        best, other = gate.posterior, self.make()
        assert isinstance(other, BayesianLogitGate)
        torch.manual_seed(0)
        for step in range(1, self.n_batches):
            rows = torch.randperm(60)[:20]
            sums = nested.scale(3.0, other.statistics(x[rows], r[rows]))
            other.update(sums, step_size=1.0 / (1.0 + 0.5 * step) ** 0.9)
        sd = best.covariance.diagonal(dim1=-2, dim2=-1).sqrt()
        assert ((other.posterior.mean - best.mean) / sd).abs().max() < 0.2
        torch.testing.assert_close(other.posterior.covariance.diagonal(dim1=-2, dim2=-1).sqrt(), sd, rtol=0.1, atol=0)

    def test_a_new_gate_is_new(self) -> None:
        gate, x, r = self.updated()
        assert self.make().is_new
        assert not gate.is_new
        twin: Any = copy.deepcopy(gate)
        twin.forget()
        assert twin.is_new
