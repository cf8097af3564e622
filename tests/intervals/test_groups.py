"""Linear response, refinement and reports of fits whose rows share a component within groups."""

import copy
from typing import Any

import pytest
import torch

from mixpyro import (
    BayesianSoftmaxGate,
    DirichletGate,
    LinearExperts,
    MixtureOfExperts,
    TreeGate,
    coefficients,
    compare,
    fit,
    grow_tree,
    linear_response,
    polish,
    rearrange_tree,
    refine,
)
from mixpyro.diagnostics.draws import evaluate
from mixpyro.diagnostics.observations import Observations
from mixpyro.diagnostics.response_draws import samples_by_site
from mixpyro.fitting.fitted_rows import fitted_rows
from mixpyro.intervals.densities import LogJoint
from mixpyro.intervals.responses.autograd import ByAutograd
from mixpyro.intervals.responses.closed_form import ClosedForm
from tests.grouped_fits import N_GROUPS, Fitted, fitted
from tests.intervals.line_fits import relative

pytestmark = [
    pytest.mark.usefixtures("without_type_checks"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]
CASES: dict[str, Fitted] = {}


def case(name: str = "dirichlet, lines") -> Fitted:
    """Return a fit, the same in all tests."""
    if name not in CASES:
        CASES[name] = fitted(name, tolerance=1e-11, max_iterations=1000)
    return CASES[name]


@pytest.mark.parametrize("name", ["dirichlet, lines", "dirichlet, density"])
def test_the_closed_form_equals_automatic_differentiation(name: str) -> None:
    own = case(name)
    table = fitted_rows(own.result, **own.rows)
    assert ClosedForm.suits(own.result.mixture)
    closed = ClosedForm(copy.deepcopy(own.result.mixture), table).matrices()
    smooth = ByAutograd(copy.deepcopy(own.result.mixture), table, []).matrices()
    deviations = closed.covariance.diagonal().sqrt()
    assert relative(closed.covariance, smooth.covariance, deviations) < 1e-9
    scores = [torch.cat([part @ m.response for _, part in m.scores()]) / deviations for m in (closed, smooth)]
    torch.testing.assert_close(scores[0], scores[1], rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", ["dirichlet, lines", "softmax, counts"])
def test_influence_is_of_groups_and_the_derivative_in_their_weights(name: str) -> None:
    own, step = case(name), 1e-4
    response = linear_response(own.result, **own.rows)
    influence = response.influence()
    assert influence.shape == (N_GROUPS, len(response.names))
    of_rows: dict[str, Any] = {"x": own.problem.x, "y": own.problem.y, "gate_x": own.rows.get("gate_x")}
    for g in (1, 6):
        moved = []
        for weight in (1.0 + step, 1.0 - step):
            weights = torch.where(own.problem.groups.index == g, weight, 1.0).double()
            again = linear_response(own.result.mixture, **of_rows, weights=weights, groups=own.problem.ids)
            moved.append(again.estimates)
        found = (moved[0] - moved[1]) / (2.0 * step)
        assert float(((found - influence[g]) / response.standard_deviations).abs().max()) < 1e-4


def test_the_sandwich_is_of_groups_or_of_unions_of_them() -> None:
    own = case()
    response = linear_response(own.result, **own.rows)
    deviations = response.influence() - response.influence().mean(0)
    torch.testing.assert_close(response.sandwich(), deviations.mT @ deviations, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(response.sandwich(own.problem.ids), response.sandwich(), rtol=1e-9, atol=1e-12)
    half = response.influence().view(2, N_GROUPS // 2, -1)
    first_half = [own.problem.groups.ids.index(one) < N_GROUPS // 2 for one in own.problem.ids]
    sums = half.sum(1) - half.sum(1).mean(0)
    torch.testing.assert_close(response.sandwich(first_half), sums.mT @ sums, rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match="`groups` must be the same in all rows of a group"):
        response.sandwich(range(len(own.problem.x)))


@pytest.mark.parametrize("name", ["dirichlet, lines", "softmax, counts", "own weights, lines"])
def test_a_mixture_with_groups_has_the_reports_of_its_fit(name: str) -> None:
    own = case(name)
    of_result = coefficients(own.result, **own.rows)
    of_mixture = coefficients(own.result.mixture, **own.rows, groups=own.problem.ids)
    assert str(of_result) == str(of_mixture)  # NaN is not NaN
    with pytest.raises(ValueError, match="`groups` must be given, as in the fit"):
        coefficients(own.result.mixture, **own.rows)
    with pytest.raises(ValueError, match="`groups` must be those of the fit"):
        linear_response(own.result, **own.rows, groups=range(len(own.problem.x)))


@pytest.mark.parametrize("name", ["dirichlet, lines", "softmax, counts", "own weights, lines"])
def test_draws_by_refine_are_of_the_density_of_groups(name: str) -> None:
    """The log joint of linear response's coordinates is that of the Pyro model, up to the Jacobian."""
    own = case(name)
    response = linear_response(own.result, **own.rows)
    joint = LogJoint(response.mixture, response.table)
    theta = response.estimates + 0.1 * torch.randn(5, len(response.names)).double()
    ids, gate_x = own.problem.ids, own.rows.get("gate_x")
    data = Observations.checked(own.result.mixture, own.problem.x, own.problem.y, gate_x, ids)
    data = data._replace(mixture=response.mixture, gate_x=response.table.gate_x)
    values = {name: value.unsqueeze(0) for name, value in joint.parameters.values(theta).items()}
    sites = {name: value.squeeze(0) for name, value in samples_by_site(response.mixture, values).items()}
    found = evaluate(data, sites, 5).log_likelihood
    torch.testing.assert_close(joint.log_likelihood(theta), found, rtol=0, atol=1e-9)
    total = joint.log_prior(theta) + found.sum(-1)
    torch.testing.assert_close(joint(theta), total, rtol=0, atol=1e-9)
    torch.testing.assert_close(joint.with_gradient(theta)[0], total, rtol=0, atol=1e-9)


def test_a_mixture_is_refined_with_its_groups() -> None:
    own = case()
    options: dict[str, Any] = {"n_draws": 50, "nuts": False, "progress": False}
    of_result = refine(own.result, **own.rows, **options)
    of_mixture = refine(own.result.mixture, **own.rows, groups=own.problem.ids, **options)
    assert torch.equal(of_result.draws, of_mixture.draws)


def test_fits_compare_by_bounds_with_and_without_groups_but_not_by_bic() -> None:
    own = case()
    x, y = own.problem.x, own.problem.y
    start: dict[str, Any] = {"n_restarts": 1, "max_iterations": 20, "progress": False}
    alone = fit(MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1)), x, y, **start)
    ranking = compare({"grouped": own.result, "alone": alone}, x, y)
    assert ranking.by == "log_evidence" and set(ranking) == {"grouped", "alone"}
    counts = case("softmax, counts")
    other = fitted("softmax, counts", groups=torch.arange(len(x)), max_iterations=20)
    with pytest.raises(ValueError, match="`results` must be fits with the same groups of the rows where"):
        compare({"grouped": counts.result, "alone": other.result}, x, counts.problem.y, gate_x=counts.problem.gate_x)
    same = compare([counts.result, counts.result], x, counts.problem.y, gate_x=counts.problem.gate_x)
    assert same.by == "bic"


def test_trees_are_grown_and_rearranged_for_groups() -> None:
    own = case("softmax, lines").problem
    rows: dict[str, Any] = {"x": own.x, "y": own.y, "gate_x": own.gate_x}
    weights = own.groups.spread(torch.linspace(0.5, 1.5, N_GROUPS).double())
    found = grow_tree(
        lambda k: LinearExperts(k, 1), **rows, groups=own.ids, weights=weights, most_components=2, n_restarts=2
    ).result
    assert found.groups is not None and found.groups.same_as(own.groups) and len(found.responsibilities) == N_GROUPS
    start = torch.rand(N_GROUPS, 3).double()
    mixture = MixtureOfExperts(TreeGate((0, (1, 2)), 1), LinearExperts(3, 1))
    given: dict[str, Any] = {"groups": own.ids, "weights": weights, "max_iterations": 15, "progress": False}
    three = fit(mixture, **rows, initial_responsibilities=start, **given)
    best = rearrange_tree(three, **rows, max_iterations=30)
    assert (
        best.groups is not None
        and best.weights is not None
        and best.groups.same_as(own.groups)
        and best.bound >= three.bound
    )
    torch.testing.assert_close(best.weights, torch.linspace(0.5, 1.5, N_GROUPS).double())


def test_a_fit_of_groups_is_polished() -> None:
    own = case("softmax, lines").problem
    rows: dict[str, Any] = {"x": own.x, "y": own.y, "gate_x": own.gate_x}
    mixture = MixtureOfExperts(BayesianSoftmaxGate(2, 1), LinearExperts(2, 1))
    result = fit(mixture, **rows, groups=own.ids, n_restarts=1, max_iterations=100, progress=False)
    polished = polish(result, **rows, max_iterations=20)
    assert polished.groups is not None and polished.groups.same_as(own.groups) and polished.bound > result.bound - 1e-6
    bound = polished.mixture.bound(**rows, groups=own.ids)
    assert float(bound) == pytest.approx(polished.bound, abs=1e-6)
