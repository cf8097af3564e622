"""Bounds and posteriors that independent programs computed, on real data.

The table `conjugate_vb.json` is exact at K = 1, where the bound is the log evidence. At K ≥ 2 its program found a lower
bound than there is: its E-step adds ½ u'Λ⁻¹u to the expected log likelihood where the expectation of the square
subtracts it. That is shown here in two ways: with that sign the table comes out to the digit, and our own bound at our
own posterior is higher while Pyro's ELBO, which knows nothing of our formulas, agrees with it.
"""

import json
from typing import Any

import pytest
import torch
from pyro.infer import TraceEnum_ELBO
from torch import Generator, Tensor

from mixpyro import DirichletGate, LinearExperts, MixtureOfExperts, fit
from mixpyro.fitting.starts import random_subsets
from tests.conftest import DATA, read_table
from tests.problems import in_plate

pytestmark = pytest.mark.usefixtures("without_type_checks")

CASES = json.loads((DATA / "conjugate_vb.json").read_text())["cases"]
CO2, ETHANOL = CASES


def problem(case: dict[str, Any], n_components: int) -> tuple[MixtureOfExperts, Tensor, Tensor]:
    """The mixture and data of one case."""
    x, y = read_table(case["data"], case["x"][1], case["y"])
    precision = {"identity": 1.0, "0.01 identity": 0.01}[case["L0"]]
    experts = LinearExperts(
        n_components, 1, coefficient_precision=precision, noise_shape=case["a0"], noise_rate=case["b0"]
    )
    return MixtureOfExperts(DirichletGate(n_components, concentration=0.5), experts), x, y


@pytest.mark.parametrize("case", CASES, ids=["co2", "ethanol"])
def test_the_bound_of_one_component_is_the_log_evidence(case: dict[str, Any]) -> None:
    mixture, x, y = problem(case, 1)
    assert fit(mixture, x, y).bound == pytest.approx(case["bound"]["1"], abs=1e-4)


def test_two_components_on_ethanol() -> None:
    mixture, x, y = problem(ETHANOL, 2)
    assert fit(mixture, x, y).bound == pytest.approx(ETHANOL["bound"]["2"], abs=1e-4)
    order = mixture.experts.coefficients[:, 0, 1].argsort(descending=True)
    assert_posterior(mixture, order, ETHANOL["K2"])


def test_two_components_on_co2() -> None:
    """Our own answer, which a program written from the formulas alone, in NumPy, gave as well."""
    mixture, x, y = problem(CO2, 2)
    assert fit(mixture, x, y).bound == pytest.approx(-87.97906, abs=1e-4)
    found = mixture.gate.posterior_concentration.sort(descending=True).values
    torch.testing.assert_close(found, torch.tensor([22.7002, 6.2998]).double(), rtol=1e-3, atol=0)


def assert_posterior(mixture: MixtureOfExperts, order: Tensor, known: dict[str, Any]) -> None:
    """Every parameter to 1e-3 relative."""
    experts = mixture.experts
    for ours, theirs in (
        (mixture.gate.posterior_concentration, known["dirichlet"]),
        (experts.coefficients[:, 0], known["w"]),
        (experts.posterior_shape, known["gamma_shape"]),
        (experts.posterior_rate[:, 0], known["gamma_rate"]),
    ):
        torch.testing.assert_close(ours[order], torch.tensor(theirs).double(), rtol=1e-3, atol=5e-5)


def with_their_sign(mixture: MixtureOfExperts, x: Tensor, y: Tensor, r: Tensor) -> float:
    """Coordinate ascent as the table's program has it, and the true bound at where it ends."""
    for _ in range(150):
        mixture.gate.update(mixture.gate.statistics(x, r))
        mixture.experts.update(mixture.experts.statistics(x, y, r))
        design = mixture.experts.design(x)
        leverage = torch.einsum("ne,kef,nf->nk", design, mixture.experts.posterior.precision.inverse(), design)
        log_joint = mixture.expected_log_joint(x, y)
        r = (log_joint + leverage).softmax(-1)
    return float((r * log_joint - torch.xlogy(r, r)).sum() - mixture.kl_divergence())


@pytest.mark.parametrize("case", CASES, ids=["co2", "ethanol"])
@pytest.mark.parametrize("n_components", [2, 3])
def test_the_tables_program_has_a_sign_wrong(case: dict[str, Any], n_components: int) -> None:
    mixture, x, y = problem(case, n_components)
    generator = Generator().manual_seed(0)
    reached = [with_their_sign(mixture, x, y, random_subsets(mixture, x, y, generator)) for _ in range(6)]
    theirs = case["bound"][str(n_components)]
    if (case["data"], n_components) == ("co2_gnp.csv", 3):
        theirs = -94.073  # "most find"; the best of the table is 1 start in 40
    assert max(reached) == pytest.approx(theirs, abs=2e-4)
    if case is CO2 and n_components == 2:
        assert min(reached) == pytest.approx(case["local_optimum_K2"], abs=1e-4)


@pytest.mark.parametrize("case", CASES, ids=["co2", "ethanol"])
@pytest.mark.parametrize(("n_components", "gain"), [(2, 0.0), (3, 3.0)])
def test_our_bound_is_higher_and_pyro_agrees_with_it(case: dict[str, Any], n_components: int, gain: float) -> None:
    mixture, x, y = problem(case, n_components)
    result = fit(mixture, x, y, tolerance=1e-12)
    assert result.bound > case["bound"][str(n_components)] + gain
    mixture.gate.update(mixture.gate.statistics(x, result.responsibilities))
    mixture.experts.update(mixture.experts.statistics(x, y, result.responsibilities))

    def guide(x: Tensor, y: Tensor) -> None:
        mixture.experts.guide(x)
        in_plate(mixture.gate.guide)(x, responsibilities=result.responsibilities)

    elbo = -TraceEnum_ELBO(max_plate_nesting=1).loss(mixture.model, guide, x, y)
    assert elbo == pytest.approx(result.bound, abs=1e-7)
