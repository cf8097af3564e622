"""Regressions that have slopes and a noise in common."""

from typing import Any

import pytest
import torch
from torch import Tensor

from mixpyro import (
    DirichletGate,
    GaussianExperts,
    LinearExperts,
    MixtureOfExperts,
    SharedLinearExperts,
    StickBreakingGate,
    coefficients,
    fit,
    load,
    save,
)
from tests.experts.contract import N_FEATURES, ConjugateExpertsContract, K
from tests.experts.joint_bounds import assert_joint_elbo_equals_the_closed_form
from tests.problems import inputs, lines

# Of [1, x0, x1], with every covariance different from zero.
PRIOR = torch.tensor([[0.5, 0.1, -0.05], [0.1, 0.4, 0.15], [-0.05, 0.15, 0.6]]).double()


def make(n_components: int = K, **changes: Any) -> SharedLinearExperts:
    """Experts for two outputs that share the slope of x1, with a prior that differs from the defaults."""
    options = {
        "shared": [1],
        "coefficient_mean": [0.3, -0.2, 0.1],
        "coefficient_precision": PRIOR,
        "noise_shape": 2.0,
        "noise_rate": [0.5, 0.8],
    }
    return SharedLinearExperts(n_components, N_FEATURES, 2, **{**options, **changes})


class TestSharedLinearExperts(ConjugateExpertsContract):
    """The contract, with an intercept and a slope for each component."""

    n_outputs = 2

    def make(self, n_components: int = K) -> SharedLinearExperts:
        return make(n_components)

    def test_one_evaluation_of_the_joint_elbo_equals_the_closed_form(self) -> None:
        assert_joint_elbo_equals_the_closed_form(*self.updated())


def side_by_side(x: Tensor, labels: Tensor, n_components: int) -> Tensor:
    """Columns 1 and x0 of each component, zero in the rows of others, then x1."""
    u = torch.cat([torch.ones(len(x), 1).double(), x], 1)
    own = torch.nn.functional.one_hot(labels, n_components).double().unsqueeze(-1) * u[:, None, :2]
    return torch.cat([own.flatten(1), u[:, 2:]], 1)


def test_with_known_components_it_is_one_regression() -> None:
    """Prior, posterior, evidence and predictions against LinearExperts of the columns side by side."""
    x, y, _ = lines(40, K, n_features=N_FEATURES, n_outputs=2)
    labels = torch.arange(40) % K
    experts, r = make(), torch.nn.functional.one_hot(labels, K).double()
    conditional, slope = PRIOR[:2, :2], torch.linalg.solve(PRIOR[:2, :2], PRIOR[:2, 2:])
    precision = torch.block_diag(*[conditional] * K, torch.zeros(1, 1).double())
    precision[:-1, -1:] = (conditional @ slope).repeat(K, 1)
    precision[-1:, :-1] = precision[:-1, -1:].mT
    precision[-1, -1] = PRIOR[2, 2] + (K - 1) * (slope.mT @ conditional @ slope).squeeze()
    mean = [*[0.3, -0.2] * K, 0.1]
    options: dict[str, Any] = {"noise_shape": 2.0, "noise_rate": [0.5, 0.8], "intercept": False}
    one = LinearExperts(1, 2 * K + 1, 2, coefficient_mean=mean, coefficient_precision=precision, **options)
    torch.testing.assert_close(experts.prior.precision, one.prior.precision)
    columns = side_by_side(x, labels, K)
    experts.update(experts.statistics(x, y, r))
    one.update(one.statistics(columns, y, torch.ones(40, 1).double()))
    torch.testing.assert_close(experts.posterior.mean, one.posterior.mean)
    torch.testing.assert_close(experts.posterior.precision, one.posterior.precision)
    torch.testing.assert_close(experts.posterior.rate, one.posterior.rate)
    torch.testing.assert_close(experts.kl_divergence(), one.kl_divergence())
    theirs = one.expected_log_likelihood(columns, y)[:, 0]
    torch.testing.assert_close(experts.expected_log_likelihood(x, y)[torch.arange(40), labels], theirs)
    predicted = experts.predictive(x).log_prob(y.unsqueeze(1))[torch.arange(40), labels]
    torch.testing.assert_close(predicted, one.predictive(columns).log_prob(y.unsqueeze(1))[:, 0])
    stacked = one.coefficients[0]
    assert torch.equal(experts.coefficients[0, :, 2], experts.coefficients[2, :, 2])
    for k in range(K):
        torch.testing.assert_close(experts.coefficients[k], stacked[:, [2 * k, 2 * k + 1, -1]])
        deviations = one.coefficient_standard_deviations[0][:, [2 * k, 2 * k + 1, -1]]
        torch.testing.assert_close(experts.coefficient_standard_deviations[k], deviations)


def test_of_one_component_they_are_linear_experts() -> None:
    x, y, _ = lines(30, 1, n_features=N_FEATURES, n_outputs=2)
    bound = []
    for experts in (SharedLinearExperts(1, N_FEATURES, 2, shared=[1]), LinearExperts(1, N_FEATURES, 2)):
        bound.append(fit(MixtureOfExperts(DirichletGate(1), experts), x + 50.0, y, progress=False).bound)
    assert bound[0] == pytest.approx(bound[1], abs=1e-9)


def parallel(n_objects: int = 120) -> tuple[Tensor, Tensor, Tensor]:
    """Parallel planes that overlap, far from zero: x [N, 2], y [N, 1], the component of each row."""
    z = torch.arange(n_objects) % 2
    x = inputs(n_objects, N_FEATURES)
    y = 1.5 * z + 0.7 * x[:, 0] - 0.4 * x[:, 1] + 0.5 * inputs(n_objects, 1, seed=5)[:, 0]
    return 30.0 + x, y.unsqueeze(-1), z


@pytest.mark.usefixtures("without_type_checks")
def test_a_fit_is_that_of_the_same_columns_in_other_units(tmp_path: Any) -> None:
    x, y, z = parallel()
    start = 0.8 * torch.nn.functional.one_hot(z, 2).double() + 0.1
    results = []
    for rows, outcome in ((x, y), (1000.0 * x - 5.0, 3.0 + 0.01 * y)):
        mixture = MixtureOfExperts(DirichletGate(2), SharedLinearExperts(2, N_FEATURES, shared=[0, 1]))
        results.append(fit(mixture, rows, outcome, initial_responsibilities=start, progress=False))
        trace = torch.tensor(results[-1].trace)
        assert (trace.diff() > -1e-9).all()
    torch.testing.assert_close(results[0].responsibilities, results[1].responsibilities, rtol=0, atol=1e-6)
    save(results[0].mixture, tmp_path / "model")
    assert torch.equal(load(tmp_path / "model").log_prob(x, y), results[0].mixture.log_prob(x, y))
    fewer = results[0].mixture.experts.with_components([1])
    torch.testing.assert_close(fewer.coefficients, results[0].mixture.experts.coefficients[[1]])


@pytest.mark.usefixtures("without_type_checks")
def test_a_shared_slope_has_one_name_and_the_error_of_all_rows() -> None:
    x, y, z = parallel()
    mixture = MixtureOfExperts(DirichletGate(2), SharedLinearExperts(2, N_FEATURES, shared=[0, 1]))
    known = torch.ones(len(x)).bool()
    result = fit(mixture, x, y, observed=z, mask=known, progress=False)
    found = coefficients(result, x, y, feature_names=["dose", "age"])
    names = [
        "component 0, intercept",
        "component 1, intercept",
        "all components, dose",
        "all components, age",
        "log precision",
    ]
    assert list(found)[1:] == [f"experts: {name}" for name in names]
    u = torch.cat([torch.nn.functional.one_hot(z, 2).double(), x], 1)
    solution = torch.linalg.lstsq(u, y).solution
    variance = (y - u @ solution).square().sum() / (len(x) - 4)
    errors = (variance * torch.linalg.inv(u.mT @ u).diagonal()).sqrt()
    for row, estimate, error in zip(list(found.values())[1:5], solution[:, 0], errors, strict=True):
        assert abs(row.estimate - float(estimate)) < 0.1 * float(error)
        assert row.standard_error == pytest.approx(float(error), rel=0.05)


@pytest.mark.usefixtures("bad_arguments")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shared": []}, "`shared` must be numbers of columns of x, at least one; got"),
        ({"shared": ["intercept"]}, "`shared` must be numbers of columns of x, at least one; got"),
        ({"shared": [2]}, "`shared` must have as each entry a number below 2"),
        (
            {"shared": [0, 1], "intercept": False, "coefficient_mean": 0.0, "coefficient_precision": 1.0},
            "`shared` must leave",
        ),
        ({"coefficient_mean": torch.arange(18.0).reshape(3, 2, 3)}, "`coefficient_mean` must be the same"),
    ],
)
def test_bad_arguments_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**changes)


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize("kind", ["shared slope", "tied"])
def test_what_is_left_without_empty_components_has_the_same_bound(kind: str) -> None:
    """Of what is in common, nothing is lost with a component; the rest of it has its prior."""
    x, y, z = parallel()
    y = torch.cat([y + 8.0 * z.unsqueeze(-1), 6.0 * z.unsqueeze(-1) + inputs(len(x), 1, seed=7)], 1)
    experts = (
        SharedLinearExperts(4, N_FEATURES, 2, shared=[0, 1])
        if kind == "shared slope"
        else GaussianExperts(4, 2, covariance="tied")
    )
    start = torch.zeros(len(x), 4).double()
    start[torch.arange(len(x)), 3 - 2 * z] = 1.0
    mixture = MixtureOfExperts(StickBreakingGate(4), experts)
    result = fit(mixture, x, y, initial_responsibilities=start + 1e-6, progress=False)
    assert result.n_used == 2
    found = result.without_empty()
    assert found.bound == pytest.approx(result.bound, abs=1e-3)
    assert float(found.mixture.bound(x, y)) == pytest.approx(found.bound, abs=1e-3)
    kept = result.counts.argsort(descending=True, stable=True)[:2]
    torch.testing.assert_close(found.mixture.experts.predict(x), result.mixture.experts.predict(x)[:, kept])


def test_linear_response_of_known_components_is_the_posterior() -> None:
    """Quantities of two outputs in the order of their names."""
    x, y, z = parallel(60)
    y = torch.cat([y, 2.0 - y.flip(0)], 1)
    experts = SharedLinearExperts(2, N_FEATURES, 2, shared=[1])
    known = torch.ones(len(x)).bool()
    result = fit(MixtureOfExperts(DirichletGate(2), experts), x, y, observed=z, mask=known, progress=False)
    found = coefficients(result, x, y)
    estimates, errors = experts.coefficients, experts.coefficient_standard_deviations
    for k, whose in enumerate(("component 0", "component 1")):
        for p in range(2):
            for column, name in enumerate(("intercept", "x0", "x1")):
                row = found[f"experts: {'all components' if name == 'x1' else whose}, output {p}, {name}"]
                assert row.estimate == pytest.approx(float(estimates[k, p, column]), rel=1e-6)
                assert row.standard_error == pytest.approx(float(errors[k, p, column]), rel=1e-6)


def test_a_far_prior_of_a_shared_slope_counts_once() -> None:
    """The share of the noise that the caution names is that of one regression on the columns side by side."""
    x, y, z = parallel()
    r = torch.nn.functional.one_hot(z, 2).double()
    shares = []
    for precision in (0.05, 50.0):
        options = {"coefficient_mean": [0.0, 40.0], "coefficient_precision": precision}
        experts = SharedLinearExperts(2, 1, shared=[0], **options)  # type: ignore[arg-type]
        experts.centre(x[:, :1] - 30.0, y)
        experts.update(experts.statistics(x[:, :1] - 30.0, y, r))
        shares.append([message for message in experts.cautions() if "the prior of the coefficients is far" in message])
    assert [len(found) for found in shares] == [1, 1]
    distance = 0.5 * experts.posterior.distance_from(experts.prior) / experts.posterior.rate
    assert f"is {float(distance):.0%} of the noise" in shares[1][0]
