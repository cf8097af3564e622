"""The Dirichlet adapters compared with the plain formulas of the reference, on few rows and on several blocks."""

from typing import Any

import pyro
import pytest
import torch
from torch import Tensor

from mixpyro.hyper_models import HyperModelDirichlet, HyperModelGateSparsed
from mixpyro.numerics import blocks
from tests.benchmarks.speed.reference import ReferenceDirichlet, ReferenceGateSparsed
from tests.problems import responsibilities

MANY = 5000
SIZES = [1, 100, MANY]
K = 3


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make blocks smaller than the largest of the sizes, yet large enough for the vector operations of digamma."""
    monkeypatch.setattr(blocks, "LIMITS", blocks.Limits(numbers=10_000, least_rows=1))


def results(model: HyperModelDirichlet | HyperModelGateSparsed, z: Tensor) -> list[Tensor]:
    """Return LogPiExpectation and PredictPi after an E-step on z."""
    model.E_step(z, z, z, {})
    return [model.LogPiExpectation(z, z, {}), model.PredictPi(z, {})]


def of_reference(model: ReferenceDirichlet | ReferenceGateSparsed, z: Tensor) -> list[Tensor]:
    """Return the same two results of the reference."""
    model.e_step(z)
    return [model.log_pi_expectation(z), model.predict_pi(z)]


@pytest.mark.parametrize("n_objects", SIZES)
def test_one_dirichlet_gives_the_results_of_the_reference(n_objects: int) -> None:
    """Every mu is one and the rows of Z sum to one, as the normaliser of the reference assumes."""
    z = responsibilities(n_objects, K)
    plain = ReferenceDirichlet(K)
    plain.mu = plain.mu.double()
    for ours, theirs in zip(results(HyperModelDirichlet(K), z), of_reference(plain, z), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("gamma", [0.3, 4.0])
@pytest.mark.parametrize("n_objects", SIZES)
def test_a_dirichlet_for_each_object_gives_the_results_of_the_reference(n_objects: int, gamma: float) -> None:
    """The rows of Z need not sum to one."""
    z = responsibilities(n_objects, K) * torch.linspace(0.1, 40.0, n_objects).unsqueeze(1)
    model, reference = HyperModelGateSparsed(K, gamma=gamma), ReferenceGateSparsed(K, gamma)
    reference.mu = reference.mu.double() / reference.mu.double().sum()
    for ours, theirs in zip(results(model, z), of_reference(reference, z), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("largest", [1.0, 1e3, 1e6])
@pytest.mark.parametrize("kind", [HyperModelDirichlet, HyperModelGateSparsed])
def test_results_in_float32_are_those_in_float64_but_for_rounding(kind: Any, largest: float) -> None:
    z = torch.rand(40_000, K) * torch.logspace(-6, 0, 40_000).unsqueeze(1) * largest
    for single, double in zip(results(kind(K), z), results(kind(K), z.double()), strict=True):
        assert single.dtype == torch.float32
        error = ((single.double() - double).abs() / double.abs().clamp_min(1.0)).max()
        assert error < 3e-6, f"relative error {error:.2e}"


@pytest.mark.parametrize("n_objects", SIZES)
@pytest.mark.parametrize("kind", [HyperModelDirichlet, HyperModelGateSparsed])
def test_changing_z_or_a_result_in_place_does_not_change_the_model(kind: Any, n_objects: int) -> None:
    model, z = kind(K), responsibilities(n_objects, K, dtype=torch.float32)
    before = [result.clone() for result in results(model, z)]
    z.fill_(7.0)
    for result in (model.LogPiExpectation(z, z, {}), model.PredictPi(z, {})):
        result.zero_()
    for ours, kept in zip((model.LogPiExpectation(z, z, {}), model.PredictPi(z, {})), before, strict=True):
        assert torch.equal(ours, kept)


@pytest.mark.parametrize("kind", [HyperModelDirichlet, HyperModelGateSparsed])
def test_a_posterior_read_before_an_e_step_does_not_change_in_it(kind: Any) -> None:
    model, z = kind(K), responsibilities(100, K)
    results(model, z)
    held = model.gate.posterior_concentration
    kept = held.clone()
    results(model, 2.0 * z)
    assert torch.equal(held, kept)
    assert not torch.equal(model.gate.posterior_concentration, kept)
    assert "posterior_concentration" in model.gate.state_dict()


@pytest.mark.parametrize("row", [0, MANY // 2, MANY - 1])
@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("kind", [HyperModelDirichlet, HyperModelGateSparsed])
def test_one_bad_value_among_many_is_refused_and_changes_nothing(kind: Any, bad: float, row: int) -> None:
    model, z = kind(K), responsibilities(MANY, K, dtype=torch.float32)
    kept = [result.clone() for result in results(model, z)]
    z[row, 1] = bad
    with pytest.raises(ValueError, match="`Z` must be finite and non-negative; got values from "):
        model.E_step(z, z, z, {})
    for ours, before in zip((model.LogPiExpectation(z, z, {}), model.PredictPi(z, {})), kept, strict=True):
        assert torch.equal(ours, before)


def test_with_validation_off_many_negative_values_give_the_results_of_the_reference() -> None:
    """Concentrations below zero are possible then."""
    z = -3.3 * responsibilities(MANY, K)
    with pyro.validation_enabled(False):
        for single, double in zip(
            results(HyperModelGateSparsed(K), z.float()), of_reference(ReferenceGateSparsed(K), z.float()), strict=True
        ):
            torch.testing.assert_close(single, double, rtol=1e-4, atol=1e-4)
