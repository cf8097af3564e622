"""Criteria for model choice of fitted mixtures."""

from typing import Any

import pytest
import torch

from mixpyro import (
    DirichletGate,
    GLMExperts,
    LinearExperts,
    MarginalObjectDirichletGate,
    MixtureOfExperts,
    NeuralGate,
    ObjectDirichletGate,
    SoftmaxGate,
    as_table,
    compare,
    criteria,
    fit,
)
from mixpyro.experts.families import Gaussian
from mixpyro.gates import Gate
from tests.conftest import read_table
from tests.fitting.test_maximum_likelihood import PATENT, patent
from tests.problems import lines


@pytest.mark.usefixtures("without_type_checks")
def test_criteria_of_the_patents() -> None:
    """BIC to the published digits; ICL to the difference that the two programs' stopping rules allow."""
    x, y = read_table("patent.csv", "lgRD", "Patents")
    gate_x, _ = read_table("patent.csv", "RDS", "Patents")
    found = criteria(patent(3, gated=True), x, y, gate_x=gate_x)
    assert found.n_parameters == PATENT["parameters"]
    assert found.log_likelihood == pytest.approx(PATENT["loglik"], abs=1e-3)
    assert found.bic == pytest.approx(PATENT["BIC"], abs=5e-3)
    assert found.icl == pytest.approx(PATENT["ICL"], abs=0.05)
    assert found.aic == pytest.approx(2 * 10 - 2 * PATENT["loglik"], abs=2e-3)
    r = patent(3, gated=True).responsibilities
    assert found.entropy == pytest.approx(torch.distributions.Categorical(r).entropy().sum().item())


@pytest.mark.filterwarnings("ignore:the noise of component", "ignore:only one of")
def test_by_maximum_likelihood_the_log_likelihood_is_the_bound() -> None:
    x, y, _ = lines(60, 2)
    result = fit(MixtureOfExperts(SoftmaxGate(2, 1), GLMExperts(2, 1, Gaussian())), x, y, n_restarts=4)
    assert criteria(result, x, y).log_likelihood == pytest.approx(result.bound, abs=1e-8)


@pytest.mark.filterwarnings("ignore:only one of 3 restarts", "ignore:the noise of component")
@pytest.mark.usefixtures("without_type_checks")
def test_the_bic_finds_the_number_of_components() -> None:
    x, y, _ = lines(150, 2, noise=0.2, seed=2)
    results = {
        f"K = {k}": fit(MixtureOfExperts(SoftmaxGate(k, 1), GLMExperts(k, 1, Gaussian())), x, y, n_restarts=3)
        for k in (1, 2, 3)
    }
    rows = compare(results, x, y)
    assert next(iter(rows)) == "K = 2"
    table = as_table(rows).splitlines()
    assert len(table) == 5
    columns = ["bound", "log_likelihood", "n_parameters", "aic", "bic", "icl", "entropy", "log_evidence"]
    assert table[0].split() == columns
    assert table[1].startswith("K = 2")


def test_criteria_count_rows_by_their_weights() -> None:
    x, y, _ = lines(40, 2)
    counts = 1 + torch.arange(40) % 3
    rows = torch.arange(40).repeat_interleave(counts)
    start = torch.rand(40, 2, dtype=torch.float64)
    weighted, repeated = (MixtureOfExperts(SoftmaxGate(2, 1), GLMExperts(2, 1, Gaussian())) for _ in range(2))
    first = fit(weighted, x, y, weights=counts.double(), initial_responsibilities=start)
    second = fit(repeated, x[rows], y[rows], initial_responsibilities=start[rows])
    assert tuple(criteria(first, x, y)) == pytest.approx(
        tuple(criteria(second, x[rows], y[rows])), rel=1e-5, nan_ok=True
    )
    with pytest.raises(ValueError, match="`x` must be what was fitted, 40 rows; got 39"):
        criteria(first, x[1:], y[1:])


@pytest.mark.parametrize(
    ("gate", "n_parameters"),
    [
        (DirichletGate(3), 2),
        (ObjectDirichletGate(3), 0),
        (MarginalObjectDirichletGate(3, learn_mean=True), 2),
        (NeuralGate(3, torch.nn.Linear(2, 3)), 9),
        (SoftmaxGate(3, 2), 6),
    ],
)
def test_parameters_are_counted(gate: Gate, n_parameters: int) -> None:
    assert gate.n_parameters == n_parameters
    assert LinearExperts(3, 2, 2).n_parameters == 3 * 2 * 4
    assert GLMExperts(3, 2, Gaussian()).n_parameters == 3 * 4


def test_the_predictive_distribution_is_the_mixture_of_the_experts() -> None:
    x, y, _ = lines(80, 2)
    mixture = MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1))
    fit(mixture, x, y, n_restarts=4)
    expected = (mixture.gate.weights(x) * mixture.experts.predictive(x).log_prob(y.unsqueeze(1)).exp()).sum(-1)
    torch.testing.assert_close(mixture.log_prob(x, y), expected.log(), rtol=0, atol=1e-10)
    predictive = mixture.predictive(x[:3])
    torch.testing.assert_close(predictive.mean, mixture.predict(x[:3]))
    assert predictive.sample((5,)).shape == (5, 3, 1)


@pytest.mark.parametrize("kind", [ObjectDirichletGate, MarginalObjectDirichletGate])
def test_predictions_are_for_new_objects_whatever_their_number(kind: Any) -> None:
    """As many rows as the fit had are not its objects: their own y would enter their predictions."""
    x, y, _ = lines(40, 2)
    mixture = MixtureOfExperts(kind(2), LinearExperts(2, 1))
    fit(mixture, x, y, n_restarts=4)
    torch.testing.assert_close(mixture.predict(x)[:7], mixture.predict(x[:7]))
    torch.testing.assert_close(mixture.log_prob(x, y)[:7], mixture.log_prob(x[:7], y[:7]))
