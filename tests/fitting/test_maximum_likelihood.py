"""Gated mixtures by maximum likelihood, against published values, from the starts that a user gets by default."""

import functools
import json
import math
import warnings
from typing import Any

import pytest
import torch
from pyro.infer import TraceEnum_ELBO
from torch import Tensor

from mixpyro import (
    FitResult,
    GLMExperts,
    LinearExperts,
    MarginalObjectDirichletGate,
    MixtureOfExperts,
    SoftmaxGate,
    fit,
)
from mixpyro.experts.families import Gaussian, Poisson
from mixpyro.fitting.starts import random_subsets
from tests.conftest import DATA, read_table
from tests.problems import lines

# Some restarts of the Gaussian problems end on two or three points.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*restarts reached a higher bound"),
    pytest.mark.usefixtures("without_type_checks"),
]

PATENT, CO2, ETHANOL = json.loads((DATA / "maximum_likelihood.json").read_text())["cases"]


@functools.cache
def patent(n_components: int, *, gated: bool) -> FitResult:
    """Poisson regressions of the patents on log R&D; the gate reads R&D over sales, or nothing."""
    x, y = read_table("patent.csv", "lgRD", "Patents")
    gate_x, _ = read_table("patent.csv", "RDS", "Patents")
    gate_x = gate_x if gated else gate_x[:, :0]
    gate = SoftmaxGate(n_components, gate_x.shape[1])
    return fit(MixtureOfExperts(gate, GLMExperts(n_components, 1, Poisson())), x, y, gate_x=gate_x)


@functools.cache
def gaussian_lines(table: str, x_name: str, y_name: str, *, gated: bool, **options: Any) -> FitResult:
    """Two regressions with noises of their own."""
    x, y = read_table(table, x_name, y_name)
    gate = SoftmaxGate(2, 1) if gated else MarginalObjectDirichletGate(2, learn_mean=True)
    return fit(MixtureOfExperts(gate, GLMExperts(2, 1, Gaussian())), x, y, **options)


def on_two_rows(mixture: MixtureOfExperts, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
    """Give two rows to the first component, whose line meets them, and the others to the second."""
    responsibilities = torch.tensor([0.0, 1.0]).to(y).repeat(len(y), 1)
    responsibilities[torch.randperm(len(y), generator=generator)[:2]] = torch.tensor([1.0, 0.0]).to(y)
    return responsibilities


def bic(result: FitResult, n_objects: int) -> float:
    """−2 log L + p log N."""
    n_parameters = result.mixture.gate.n_parameters + result.mixture.experts.n_parameters
    return -2.0 * result.bound + n_parameters * math.log(n_objects)


def test_three_gated_poisson_regressions_of_patents() -> None:
    result = patent(3, gated=True)
    assert result.bound == pytest.approx(PATENT["loglik"], abs=1e-3)
    assert bic(result, 70) == pytest.approx(PATENT["BIC"], abs=5e-3)
    experts = result.mixture.experts.coefficients[:, 0].detach()
    order = experts[:, 1].argsort()
    known = torch.tensor(PATENT["experts_coefficients"]).double()
    torch.testing.assert_close(experts[order], known, rtol=1e-3, atol=2e-3)
    gate = torch.cat([torch.zeros(1, 2).double(), result.mixture.gate.coefficients.detach()])[order]
    # The likelihood is so flat along the steep slope that its fourth digit depends on where a program stops.
    torch.testing.assert_close(
        gate[1:] - gate[0], torch.tensor(PATENT["gate_against_first"]).double(), rtol=5e-3, atol=0
    )


@pytest.mark.parametrize("n_components", [2, 3])
def test_patents_with_a_constant_gate(n_components: int) -> None:
    known = PATENT["constant_gate_BIC"][str(n_components)]
    assert bic(patent(n_components, gated=False), 70) == pytest.approx(known, abs=1e-2)


@pytest.mark.parametrize("n_components", [1, 2])
def test_patents_with_a_gate(n_components: int) -> None:
    known = PATENT["gated_BIC"][str(n_components)]
    assert bic(patent(n_components, gated=True), 70) == pytest.approx(known, abs=1e-2)


@pytest.mark.parametrize(
    ("case", "columns"), [(CO2, ("co2_gnp.csv", "GNP", "CO2")), (ETHANOL, ("ethanol.csv", "NO", "Equivalence"))]
)
def test_two_gaussian_regressions(case: dict[str, float], columns: tuple[str, str, str]) -> None:
    gated = gaussian_lines(*columns, gated=True)
    assert gated.bound == pytest.approx(case["loglik"], abs=1e-3)
    assert not gated.degeneracies
    assert gaussian_lines(*columns, gated=False).bound == pytest.approx(case["constant_gate_loglik"], abs=1e-3)


def test_most_subsets_lead_to_the_best_regressions() -> None:
    """With the noise that a line has about three rows it met, one in three did."""
    result = gaussian_lines("co2_gnp.csv", "GNP", "CO2", gated=False, starts=(random_subsets,), n_candidates=1)
    assert sum(abs(run.bound - result.bound) < 0.1 for run in result.runs) >= 12


def test_regressions_that_are_worse_are_given_up() -> None:
    result = gaussian_lines("co2_gnp.csv", "GNP", "CO2", gated=True)
    worse = [run for run in result.runs if not run.converged]
    assert worse
    assert max(run.bound for run in worse) < result.bound - 0.1


def test_runs_whose_noise_collapses_are_not_chosen() -> None:
    """Every second start begins, and ends, on two points, with any likelihood it likes."""
    starts = random_subsets, on_two_rows
    with pytest.warns(RuntimeWarning, match=r"restarts reached a higher bound.* nats.*the noise of component . has"):
        result = gaussian_lines("co2_gnp.csv", "GNP", "CO2", gated=True, starts=starts, n_candidates=1)
    collapsed = [run for run in result.runs if run.degeneracies]
    assert collapsed
    assert max(run.bound for run in collapsed) > result.bound + 10
    assert "has collapsed on" in collapsed[0].degeneracies[0]
    assert f"{len(collapsed)} were degenerate" in str(result)


@pytest.mark.filterwarnings("ignore:the noise of component")
def test_a_fit_that_finds_nothing_but_degenerate_runs_warns() -> None:
    x, y, _ = lines(20, 1)
    start = torch.zeros(20, 2).double()
    start[:2, 0], start[2:, 1] = 1.0, 1.0
    mixture = MixtureOfExperts(SoftmaxGate(2, 0), GLMExperts(2, 1, Gaussian()))
    with pytest.warns(RuntimeWarning, match="every run is degenerate: the noise of component 0 has collapsed"):
        fit(mixture, x, y, gate_x=x[:, :0], initial_responsibilities=start)


def test_a_best_that_one_run_found_warns() -> None:
    x, y = read_table("patent.csv", "lgRD", "Patents")
    mixture = MixtureOfExperts(SoftmaxGate(4, 0), GLMExperts(4, 1, Poisson()))
    with pytest.warns(RuntimeWarning, match="only one of 2 restarts reached the best bound; raise `n_restarts`"):
        fit(mixture, x, y, gate_x=x[:, :0], n_restarts=2, n_candidates=1, starts=[random_subsets], seed=1)


@pytest.mark.parametrize("make_experts", [lambda: GLMExperts(2, 1, Gaussian()), lambda: LinearExperts(2, 1)])
@pytest.mark.parametrize(
    "make_gate", [lambda: SoftmaxGate(2, 1), lambda: MarginalObjectDirichletGate(2, learn_mean=True)]
)
def test_a_row_of_weight_three_is_three_rows(make_experts: object, make_gate: object) -> None:
    x, y, _ = lines(40, 2)
    counts = 1 + torch.arange(40) % 3
    weighted, repeated = (MixtureOfExperts(make_gate(), make_experts()) for _ in range(2))  # type: ignore[operator]
    start = torch.rand(40, 2, dtype=torch.float64)
    first = fit(weighted, x, y, weights=counts.double(), initial_responsibilities=start)
    rows = torch.arange(40).repeat_interleave(counts)
    second = fit(repeated, x[rows], y[rows], initial_responsibilities=start[rows])
    assert first.bound == pytest.approx(second.bound, abs=1e-6)
    torch.testing.assert_close(weighted.experts.predict(x), repeated.experts.predict(x), rtol=1e-4, atol=1e-5)


def test_gate_inputs_of_their_own() -> None:
    x, y, _ = lines(60, 2)
    gate_x = torch.randn(60, 3, dtype=torch.float64)
    mixture = MixtureOfExperts(SoftmaxGate(2, 3, prior_scale=1.0), LinearExperts(2, 1))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="only one of|the noise of component")
        result = fit(mixture, x, y, gate_x=gate_x, n_restarts=2)
    assert mixture.bound(x, y, gate_x=gate_x).item() == pytest.approx(result.bound, abs=1e-9)
    assert mixture.predict(x[:5], gate_x=gate_x[:5]).shape == (5, 1)
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    assert math.isfinite(elbo.loss(mixture.model, mixture.guide, x, y, gate_x=gate_x))


@pytest.mark.usefixtures("bad_arguments")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"gate_x": torch.zeros(19, 1).double()},
            "`gate_x` must have the rows and dtype of `x`, 20 rows of torch.float64",
        ),
        ({"gate_x": torch.zeros(20, 1)}, "got 20 rows of torch.float32"),
        ({"gate_x": torch.full((20, 1), torch.nan).double()}, "`gate_x` must be finite"),
        ({"weights": torch.ones(19).double()}, r"`weights` must have shape \[20\].*got \[19\]"),
        ({"weights": -torch.ones(20).double()}, "`weights` must be at least 0, and not all 0; got values from -1"),
        ({"weights": torch.zeros(20).double()}, "and not all 0"),
    ],
)
def test_bad_gate_inputs_and_weights_are_refused(arguments: dict[str, Tensor], message: str) -> None:
    x, y, _ = lines(20, 2)
    with pytest.raises(ValueError, match=message):
        fit(MixtureOfExperts(SoftmaxGate(2, 1), LinearExperts(2, 1)), x, y, **arguments)  # type: ignore[arg-type]
