"""Linear-response covariances against exact posteriors, the observed information and refits."""

import copy

import pytest
import torch
from torch import nn

from mixpyro import (
    DirichletGate,
    GaussianExperts,
    GLMExperts,
    LinearExperts,
    LinearResponse,
    MixtureOfExperts,
    NeuralGate,
    PointMassExperts,
    RelevanceLinearExperts,
    SoftmaxGate,
    fit,
    linear_response,
    observed_information,
)
from mixpyro.experts.families import Gaussian, Poisson
from mixpyro.numerics import blocks, nested
from tests.intervals.exact import DataSets, exact_draws
from tests.intervals.line_fits import fitted, lines_fit, relative, rows
from tests.reports.fits import patent_fit, patents

pytestmark = pytest.mark.usefixtures("without_type_checks")


def test_of_components_far_apart_it_is_the_mean_field() -> None:
    result, x, y = lines_fit(0)
    response = linear_response(result, x, y)
    assert response.missing_information < 1e-6
    torch.testing.assert_close(response.covariance, response.mean_field, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(("setting", "short", "rest"), [(0, 0.0, 0.06), (1, 0.08, 0.08)])
def test_standard_deviations_are_those_of_the_exact_posterior(setting: int, short: float, rest: float) -> None:
    """By Gibbs; where components cross, the mean field's are too small."""
    result, x, y = lines_fit(setting)
    response = linear_response(result, x, y)
    data = DataSets(x[None], y[None], result.responsibilities.argmax(-1)[None])
    exact = exact_draws([result], data, n_draws=2000)[:, 0]
    ratio = response.standard_deviations / exact.std(0)
    assert float((ratio - 1.0).abs().max()) < rest
    assert float((response.mean_field.diagonal().sqrt() / exact.std(0)).mean()) < 1.02 - short
    assert float(((exact.mean(0) - response.estimates) / exact.std(0)).abs().max()) < 0.2


@pytest.mark.parametrize("case", ["patents", "lines, prior"])
def test_of_estimated_parameters_it_is_the_inverse_information(case: str) -> None:
    if case == "patents":
        (x, y, gate_x), result = patents(), patent_fit()
    else:
        x, y, start = rows(1)
        gate_x, experts = x, GLMExperts(2, 1, Gaussian(), prior_scale=3.0)
        result = fitted(SoftmaxGate(2, 1, prior_scale=2.0), experts, x, y, start)
    response = linear_response(result, x, y, gate_x=None if gate_x is x else gate_x)
    at_optimum = copy.deepcopy(result.mixture)
    nn.utils.vector_to_parameters(response.estimates, at_optimum.parameters())
    information = observed_information(at_optimum, x, y, gate_x=gate_x)
    assert relative(response.covariance, torch.linalg.inv(information), response.standard_deviations) < 1e-9
    assert 0.0 < response.missing_information < 1.0


def test_posteriors_and_estimates_enter_together() -> None:
    """Of posteriors alone beside a gate that is held, variances would be smaller."""
    x, y, start = rows(2)
    response = linear_response(fitted(SoftmaxGate(2, 1), LinearExperts(2, 1), x, y, start), x, y)
    assert len(response.names) == 4 + 2 + 2
    assert response.names[-1] == "gate: component 1 against 0, x0"
    assert float(response.covariance[:6, 6:].abs().max()) > 0.0
    bare = linear_response(
        fitted(SoftmaxGate(2, 0), LinearExperts(2, 1), x, y, start, gate_x=x[:, :0]), x, y, gate_x=x[:, :0]
    )
    conjugate = linear_response(fitted(DirichletGate(2), LinearExperts(2, 1), x, y, start), x, y)
    ratio = bare.standard_deviations[[6, 0, 1, 2, 3, 4, 5]] / conjugate.standard_deviations
    assert float((ratio - 1.0).abs().max()) < 0.2


@pytest.mark.parametrize("gate", ["neural", "learnt"])
def test_other_gates_have_it_too(gate: str) -> None:
    x, y, start = rows(1)
    with torch.random.fork_rng([]):
        network = nn.Sequential(nn.Linear(1, 2), nn.Tanh(), nn.Linear(2, 2)).double()
    prior = torch.distributions.Gamma(torch.tensor(2.0).double(), torch.tensor(1.0).double())
    made = NeuralGate(2, network, prior_scale=1.0) if gate == "neural" else DirichletGate(2, concentration_prior=prior)
    response = linear_response(fitted(made, RelevanceLinearExperts(2, 1), x, y, start, max_iterations=2000), x, y)
    assert bool(response.covariance.isfinite().all())
    assert bool((response.covariance.diagonal() >= response.mean_field.diagonal() * (1.0 - 1e-9)).all())
    assert response.influence().shape == (200, len(response.names))


def test_components_in_another_order_are_blocks_in_another_order() -> None:
    x, y, start = rows(1)
    first = linear_response(fitted(DirichletGate(2), LinearExperts(2, 1), x, y, start), x, y)
    other = linear_response(fitted(DirichletGate(2), LinearExperts(2, 1), x, y, start.flip(1)), x, y)
    order, sign = [0, 3, 4, 1, 2, 6, 5], torch.tensor([-1.0, 1, 1, 1, 1, 1, 1]).double()
    moved = sign.unsqueeze(-1) * other.covariance[order][:, order] * sign
    assert relative(moved, first.covariance, first.standard_deviations) < 1e-9


def test_a_row_of_weight_two_counts_as_two_rows() -> None:
    x, y, start = rows(1)
    weights = 1.0 + (torch.arange(len(x)) < 50).double()
    prior = {"coefficient_precision": 0.01, "noise_rate": 0.1}
    result = fitted(DirichletGate(2), LinearExperts(2, 1, **prior), x, y, start, weights=weights)  # type: ignore[arg-type]
    weighted = linear_response(result, x, y)
    repeated = [torch.cat([part, part[:50]]) for part in (x, y, start)]
    more_x, more_y, more_start = repeated
    other = fitted(DirichletGate(2), LinearExperts(2, 1, **prior), more_x, more_y, more_start)  # type: ignore[arg-type]
    twice = linear_response(other, more_x, more_y)
    assert relative(weighted.covariance, twice.covariance, twice.standard_deviations) < 1e-9
    influence = twice.influence()
    torch.testing.assert_close(weighted.influence()[:50], influence[:50] + influence[200:], rtol=1e-6, atol=1e-9)


def test_blocks_of_rows_give_the_covariance_of_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    result, x, y = lines_fit(2)
    whole = linear_response(result, x, y)
    monkeypatch.setattr(blocks, "LIMITS", blocks.Limits(least_rows=1, most_rows=7))
    parts = linear_response(result, x, y)
    assert relative(parts.covariance, whole.covariance, whole.standard_deviations) < 1e-10
    torch.testing.assert_close(parts.influence(), whole.influence(), rtol=1e-8, atol=1e-12)


def test_a_float32_fit_has_the_covariance_of_its_rows() -> None:
    x, y, start = rows(1)
    narrow = (x.float(), y.float())
    wide = (x.float().double(), y.float().double())
    first = linear_response(fitted(DirichletGate(2), LinearExperts(2, 1), x.float(), y.float(), start), *narrow)
    other = linear_response(fitted(DirichletGate(2), LinearExperts(2, 1), *wide, start), *wide)
    assert first.covariance.dtype == torch.float64
    assert relative(first.covariance, other.covariance, other.standard_deviations) < 1e-5


def test_the_result_is_unchanged_and_a_loose_fit_is_brought_to_the_optimum() -> None:
    x, y, start = rows(1)
    loose = fitted(DirichletGate(2), LinearExperts(2, 1), x, y, start, tolerance=1e-2)
    before = nested.apply(torch.clone, loose.mixture.state())
    found = linear_response(loose, x, y)
    assert nested.equal(before, loose.mixture.state())
    assert any("standard deviations away from the fit" in caution for caution in found.cautions)
    tight = linear_response(fitted(DirichletGate(2), LinearExperts(2, 1), x, y, start), x, y)
    assert tight.cautions == ()
    torch.testing.assert_close(found.estimates, tight.estimates, rtol=1e-8, atol=1e-9)
    assert relative(found.covariance, tight.covariance, tight.standard_deviations) < 1e-8


def estimates_of(change: float, part: str) -> LinearResponse:
    """Return the response of lines with one row's weight, or a prior's power, changed."""
    x, y, start = rows(1)
    weights = torch.ones(len(x)).double()
    if part == "row":
        weights[7] += change
    power = 1.0 + (change if part != "row" else 0.0)
    # Of log τ the power of the prior leaves 2 (a − 1) + E, hence the shape; a coefficient of zero stays at zero.
    shape = power * (2.0 - 1.0 + 1.0) - 1.0 + 1.0
    gate = DirichletGate(2, concentration=1.0 + 2.0 * (power if part == "gate" else 1.0))
    options = {"coefficient_mean": 0.5, "coefficient_precision": 2.0 * power, "noise_shape": shape, "noise_rate": power}
    plain = {"coefficient_mean": 0.5, "coefficient_precision": 2.0, "noise_shape": 2.0, "noise_rate": 1.0}
    experts = LinearExperts(2, 1, **(options if part == "experts" else plain))  # type: ignore[arg-type]
    return linear_response(fitted(gate, experts, x, y, start, weights=weights), x, y)


@pytest.mark.parametrize("part", ["row", "gate", "experts"])
def test_derivatives_are_those_of_refits(part: str) -> None:
    higher, lower = (estimates_of(change, part) for change in (1e-3, -1e-3))
    middle = estimates_of(0.0, part)
    numerical = (higher.estimates - lower.estimates) / 2e-3
    exact = middle.influence()[7] if part == "row" else middle.prior_sensitivity[part]
    torch.testing.assert_close(exact, numerical, rtol=1e-4, atol=1e-6)


def test_the_sandwich_of_one_regression_is_that_of_white() -> None:
    x, y, _ = rows(0)
    result = fit(
        MixtureOfExperts(DirichletGate(1), LinearExperts(1, 1, coefficient_precision=1e-9)), x, y, progress=False
    )
    response = linear_response(result, x, y)
    u = torch.cat([torch.ones_like(x), x], dim=1)
    residual = y - u @ torch.linalg.lstsq(u, y).solution
    bread = torch.linalg.inv(u.mT @ u)
    white = bread @ (u * residual).mT @ (u * residual) @ bread
    torch.testing.assert_close(response.sandwich()[:2, :2], white, rtol=1e-6, atol=1e-12)
    groups = torch.arange(200) // 4
    sums = torch.zeros(50, 2).double().index_add_(0, groups, u * residual)
    torch.testing.assert_close(response.sandwich(groups)[:2, :2], bread @ sums.mT @ sums @ bread, rtol=1e-6, atol=1e-12)


def test_nothing_is_missing_where_all_components_are_known() -> None:
    x, y, start = rows(1)
    mixture = MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1))
    result = fit(mixture, x, y, observed=start.argmax(-1), progress=False)
    response = linear_response(result, x, y)
    assert response.missing_information < 1e-9
    assert relative(response.covariance, response.mean_field, response.standard_deviations) < 1e-9


def test_a_known_component_without_an_outcome_counts_for_the_weights() -> None:
    """Rows that are known and have no y are more of one component: as a larger concentration of its weight."""
    x, y, start = rows(1)
    known, mask, y_seen = torch.zeros(len(x), dtype=torch.long), torch.zeros(len(x), dtype=torch.bool), y.clone()
    mask[:6], y_seen[:6] = True, torch.nan
    one, more = (
        MixtureOfExperts(DirichletGate(2, concentration=prior), LinearExperts(2, 1)) for prior in (1.0, [7.0, 1.0])
    )
    options = {"progress": False, "tolerance": 1e-12}
    result = fit(one, x, y_seen, observed=known, mask=mask, missing="ignore", initial_responsibilities=start, **options)  # type: ignore[arg-type]
    other = fit(more, x[6:], y[6:], initial_responsibilities=start[6:], **options)  # type: ignore[arg-type]
    response, expected = linear_response(result, x, y_seen), linear_response(other, x[6:], y[6:])
    torch.testing.assert_close(response.covariance[:5, :5], expected.covariance[:5, :5], rtol=0.02, atol=1e-6)


def test_names_and_the_caution_of_missing_information() -> None:
    x, y, start = rows(1)
    result = fitted(DirichletGate(2), GaussianExperts(2, 1), x, y, start)
    response = linear_response(result, x, y)
    assert response.names[0] == "gate: component 1 against 0, log weight"
    assert response.names[1:3] == ("experts: component 0, mean y0", "experts: component 1, mean y0")
    share = response.missing_information
    assert any("of the information" in caution for caution in response.cautions) == (share > 0.95)


@pytest.mark.usefixtures("bad_arguments")
def test_what_it_does_not_cover_is_refused() -> None:
    result, x, y = lines_fit()
    with pytest.raises(TypeError, match="`result` must be what `fit` returned or a mixture; got 'result'"):
        linear_response("result", x, y)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`x` and `y` must be the rows that were fitted"):
        linear_response(result, x, y + 1.0)
    without = MixtureOfExperts(DirichletGate(1), PointMassExperts(1, 1.0))
    with pytest.raises(ValueError, match="`result` must be of a mixture with parameters; got one without any"):
        linear_response(without, x, torch.ones_like(y))
    response = linear_response(result, x, y)
    with pytest.raises(ValueError, match="`groups` must have an id for each of 200 rows; got 3"):
        response.sandwich(torch.zeros(3, dtype=torch.long))
    with pytest.raises(TypeError, match="`groups` must be a tensor of integers"):
        response.sandwich(torch.zeros(200))
    with pytest.raises(ValueError, match="`groups` must be at least two groups"):
        response.sandwich(torch.zeros(200, dtype=torch.long))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_parameters_that_the_data_do_not_determine_are_refused() -> None:
    x, y = torch.ones(30, 1).double(), torch.arange(30).double() % 4
    mixture = MixtureOfExperts(DirichletGate(1), GLMExperts(1, 1, Poisson()))
    result = fit(mixture, x, y, progress=False)
    with pytest.raises(ValueError, match="do not determine experts: component 0"):
        linear_response(result, x, y)
