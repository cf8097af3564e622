"""Designs of gates that are regressions: units and origins of x, and numbers beyond all squares."""

from typing import Any

import pytest
import torch
from torch import Tensor

from mixpyro import BayesianSoftmaxGate, LinearExperts, MixtureOfExperts, SoftmaxGate, TreeGate, fit
from mixpyro.conjugate.normal import NormalCoefficients
from mixpyro.gates.bayesian_logits import BayesianLogitGate
from tests.problems import lines

K, D = 3, 2
GATES: list[type[Any]] = [BayesianSoftmaxGate, TreeGate]


def in_units(kind: type[Any], factor: float, shift: float) -> BayesianLogitGate:
    """A gate whose prior is that of the coefficients of z = (x − shift) / factor, for each of its blocks."""
    to_z = torch.eye(1 + D, dtype=torch.float64) / factor
    to_z[0, 0], to_z[1:, 0] = 1.0, -shift / factor

    class InUnits(kind):
        @property
        def prior(self) -> NormalCoefficients:
            of_z = super().prior
            whole = torch.kron(torch.eye(of_z.mean.shape[-1] // (1 + D), dtype=torch.float64), to_z)
            inverse = torch.linalg.inv(whole)
            return NormalCoefficients(of_z.mean @ whole, inverse @ of_z.precision @ inverse.mT)

    gate: BayesianLogitGate = InUnits(K, D)
    return gate


def problem() -> tuple[Tensor, Tensor, Tensor]:
    x, y, z = lines(150, K, n_features=D, noise=0.4, seed=3)
    return x, y, torch.nn.functional.one_hot(z, K).double()


@pytest.mark.filterwarnings("ignore:the best run has not converged", "ignore:the prior says more")
@pytest.mark.parametrize(("factor", "shift"), [(1e6, 1e7), (1e-6, 1e-3), (1.0, 1e3), (-1e3, 0.0), (1e90, 1e91)])
@pytest.mark.parametrize("kind", GATES)
def test_a_fit_is_that_of_any_units_whose_prior_is_the_same(kind: type[Any], factor: float, shift: float) -> None:
    x, y, r = problem()
    # Experts read x as it was: their prior follows its scale up to rounding alone.
    plain, changed = (
        fit(
            MixtureOfExperts(in_units(kind, *units), LinearExperts(K, D)),
            x,
            y,
            gate_x=x * units[0] + units[1],
            initial_responsibilities=r,
            tolerance=0.0,
            max_iterations=8,
        )
        for units in ((1.0, 0.0), (factor, shift))
    )
    assert changed.trace == pytest.approx(plain.trace, abs=1e-5)
    torch.testing.assert_close(changed.responsibilities, plain.responsibilities, rtol=0, atol=1e-6)
    found = changed.mixture.gate.weights(x * factor + shift)
    torch.testing.assert_close(found, plain.mixture.gate.weights(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", [*GATES, SoftmaxGate])
@pytest.mark.parametrize("n_components", [2, 3, 6])
def test_weights_far_away_are_those_of_the_direction(kind: type[Any], n_components: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(60, D).double()
    r = torch.rand(60, n_components).double()
    gate = kind(n_components, D)
    gate.maximise(x, r / r.sum(1, keepdim=True))
    direction = torch.tensor([[1.0, -0.3], [-0.2, 0.7]]).double()
    near, far = gate.weights(1e12 * direction), gate.weights(1e300 * direction)
    torch.testing.assert_close(far, near, rtol=0, atol=1e-9)
    torch.testing.assert_close(far.sum(1), torch.ones(2).double())


@pytest.mark.parametrize("kind", GATES)
def test_to_learn_from_numbers_without_squares_is_refused(kind: type[Any]) -> None:
    x, y, r = problem()
    gate = kind(K, D)
    before = gate.posterior
    with pytest.raises(ValueError, match=rf"`x` of a {kind.__name__} must be within .*Standardise x"):
        gate.maximise(1e300 * x, r)
    assert all(torch.equal(a, b) for a, b in zip(gate.posterior, before, strict=True))
    with pytest.raises(ValueError, match="Standardise x"):
        fit(MixtureOfExperts(gate, LinearExperts(K, D)), x, y, gate_x=1e300 * x, n_restarts=2, progress=False)


@pytest.mark.parametrize("kind", GATES)
def test_a_column_far_from_zero_is_warned_of(kind: type[Any]) -> None:
    x, _, r = problem()
    gate = kind(K, D)
    for origin, is_far in ((1e3, False), (1e7, True)):
        gate.maximise(x + origin, r, n_steps=5)
        found = [warning for warning in gate.prior_warnings(x + origin, r) if "digits" in warning]
        assert bool(found) == is_far
    assert "column 0" in found[0]
