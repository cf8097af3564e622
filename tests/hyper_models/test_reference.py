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

SIZES = [1, 100, 5000]
K = 3


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make blocks smaller than the largest of the sizes, yet large enough for the vector operations of digamma."""
    monkeypatch.setattr(blocks, "LIMITS", blocks.Limits(numbers=10_000, least_rows=1))


def results(model: HyperModelDirichlet | HyperModelGateSparsed, z: Tensor) -> list[Tensor]:
    """LogPiExpectation and PredictPi after an E-step on z."""
    model.E_step(z, z, z, {})
    return [model.LogPiExpectation(z, z, {}), model.PredictPi(z, {})]


def of_reference(model: ReferenceDirichlet | ReferenceGateSparsed, z: Tensor) -> list[Tensor]:
    """The same of the reference."""
    model.e_step(z)
    return [model.log_pi_expectation(z), model.predict_pi(z)]


@pytest.mark.parametrize("n_objects", SIZES)
def test_the_global_dirichlet_is_the_references_where_that_is_right(n_objects: int) -> None:
    """Every mu is one and the rows of Z sum to one, as its normaliser takes for granted."""
    z = responsibilities(n_objects, K)
    plain = ReferenceDirichlet(K)
    plain.mu = plain.mu.double()
    for ours, theirs in zip(results(HyperModelDirichlet(K), z), of_reference(plain, z), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("gamma", [0.3, 4.0])
@pytest.mark.parametrize("n_objects", SIZES)
def test_the_dirichlet_an_object_is_the_references(n_objects: int, gamma: float) -> None:
    """Whatever the rows of Z sum to."""
    z = responsibilities(n_objects, K) * torch.linspace(0.1, 40.0, n_objects).unsqueeze(1)
    model, reference = HyperModelGateSparsed(K, gamma=gamma), ReferenceGateSparsed(K, gamma)
    reference.mu = reference.mu.double() / reference.mu.double().sum()
    for ours, theirs in zip(results(model, z), of_reference(reference, z), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("largest", [1.0, 1e3, 1e6])
@pytest.mark.parametrize("kind", [HyperModelDirichlet, HyperModelGateSparsed])
def test_float32_is_float64_to_rounding(kind: Any, largest: float) -> None:
    z = torch.rand(40_000, K) * torch.logspace(-6, 0, 40_000).unsqueeze(1) * largest
    for single, double in zip(results(kind(K), z), results(kind(K), z.double()), strict=True):
        assert single.dtype == torch.float32
        error = ((single.double() - double).abs() / double.abs().clamp_min(1.0)).max()
        assert error < 3e-6, f"relative error {error:.2e}"


@pytest.mark.parametrize("n_objects", SIZES)
@pytest.mark.parametrize("kind", [HyperModelDirichlet, HyperModelGateSparsed])
def test_the_caller_cannot_change_the_posterior(kind: Any, n_objects: int) -> None:
    """Neither by the Z of the E-step nor by results."""
    model, z = kind(K), responsibilities(n_objects, K, dtype=torch.float32)
    before = [result.clone() for result in results(model, z)]
    z.fill_(7.0)
    for result in (model.LogPiExpectation(z, z, {}), model.PredictPi(z, {})):
        result.zero_()
    for ours, kept in zip((model.LogPiExpectation(z, z, {}), model.PredictPi(z, {})), before, strict=True):
        assert torch.equal(ours, kept)


@pytest.mark.parametrize("kind", [HyperModelDirichlet, HyperModelGateSparsed])
def test_a_posterior_read_before_an_e_step_stays_what_it_was(kind: Any) -> None:
    model, z = kind(K), responsibilities(100, K)
    results(model, z)
    held = model.gate.posterior_concentration
    kept = held.clone()
    results(model, 2.0 * z)
    assert torch.equal(held, kept)
    assert not torch.equal(model.gate.posterior_concentration, kept)
    assert "posterior_concentration" in model.gate.state_dict()


@pytest.mark.parametrize("place", [0, 2500, 4999])
@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("kind", [HyperModelDirichlet, HyperModelGateSparsed])
def test_one_bad_value_among_many_is_refused_by_name(kind: Any, bad: float, place: int) -> None:
    model, z = kind(K), responsibilities(5000, K, dtype=torch.float32)
    kept = [result.clone() for result in results(model, z)]
    z[place, 1] = bad
    with pytest.raises(ValueError, match="`Z` must be finite and non-negative; got values from "):
        model.E_step(z, z, z, {})
    for ours, before in zip((model.LogPiExpectation(z, z, {}), model.PredictPi(z, {})), kept, strict=True):
        assert torch.equal(ours, before)


def test_with_validation_off_many_negative_values_pass() -> None:
    """Posteriors that are not positive are given to PyTorch's digamma."""
    z = -3.3 * responsibilities(5000, K)
    with pyro.validation_enabled(False):
        for single, double in zip(
            results(HyperModelGateSparsed(K), z.float()), of_reference(ReferenceGateSparsed(K), z.float()), strict=True
        ):
            torch.testing.assert_close(single, double, rtol=1e-4, atol=1e-4)
