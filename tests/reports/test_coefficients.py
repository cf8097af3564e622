"""Standard errors of a fitted mixture's coefficients."""

import copy
import math
import warnings

import pytest
import torch
from torch import Tensor, nn

from mixpyro import (
    DirichletGate,
    GLMExperts,
    LinearExperts,
    MixtureOfExperts,
    NeuralGate,
    ObjectDirichletGate,
    PointMassExperts,
    SoftmaxGate,
    as_table,
    coefficients,
    fit,
    linear_response,
)
from mixpyro.experts.families import Binomial, Categorical, Family, Gaussian, Poisson
from mixpyro.gates import Gate
from tests.problems import inputs, lines
from tests.reports.fits import patent_fit, patents


@pytest.mark.parametrize("family", [Gaussian(), Poisson(), Binomial()])
def test_one_component_has_the_standard_errors_of_a_regression(family: Family) -> None:
    """√ of the diagonal of (X'WX)⁻¹, with the textbook's weights; the error of log σ̂ is 1 / √(2N)."""
    x = inputs(50, 2)
    eta = 0.3 + x @ torch.tensor([0.5, -0.4]).double()
    y = {
        "Gaussian": eta + inputs(50, 1, seed=1)[:, 0],
        "Poisson": torch.poisson(eta.exp()),
        "Binomial": torch.bernoulli(eta.sigmoid()),
    }[type(family).__name__]
    mixture = MixtureOfExperts(SoftmaxGate(1, 0), GLMExperts(1, 2, family))
    result = fit(mixture, x, y, gate_x=x[:, :0], n_restarts=1)
    table = coefficients(result, x, y, gate_x=x[:, :0], feature_names=["dose", "age"])
    design = torch.cat([torch.ones(50, 1).double(), x], 1)
    fitted = design @ mixture.experts.coefficients[0, 0].detach()
    sigma = mixture.experts.scale.detach()
    weights = {
        "Gaussian": torch.ones(50).double() / sigma**2,
        "Poisson": fitted.exp(),
        "Binomial": fitted.sigmoid() * (1 - fitted.sigmoid()),
    }[type(family).__name__]
    known = torch.linalg.inv(design.T @ (weights.unsqueeze(-1) * design)).diagonal().sqrt()
    found = torch.tensor([row.standard_error for row in table.values()], dtype=torch.float64)
    torch.testing.assert_close(found[:3], known, rtol=1e-6, atol=0)
    assert list(table)[:3] == [f"experts: component 0, {name}" for name in ("intercept", "dose", "age")]
    if family.has_scale:
        assert table["experts: component 0, log scale"].standard_error == pytest.approx(1 / math.sqrt(100), rel=1e-6)


def test_the_coefficients_of_the_patents_are_named_and_printed() -> None:
    x, y, gate_x = patents()
    result = patent_fit()
    table = coefficients(result, x, y, gate_x=gate_x, feature_names=["lgRD"], gate_feature_names=["RDS"])
    assert list(table) == [
        "gate: component 1 against 0, intercept",
        "gate: component 1 against 0, RDS",
        "experts: component 0, intercept",
        "experts: component 0, lgRD",
        "experts: component 1, intercept",
        "experts: component 1, lgRD",
    ]
    row = table["experts: component 1, lgRD"]
    assert row.estimate == float(result.mixture.experts.coefficients[1, 0, 1].detach())
    assert row.z == pytest.approx(row.estimate / row.standard_error)
    two_sided = 2 * torch.distributions.Normal(0.0, 1.0).cdf(torch.tensor(-abs(row.z)).double())
    assert row.p_value == pytest.approx(float(two_sided), abs=1e-12)
    lines = as_table(table).splitlines()
    assert lines[0].split() == ["estimate", "standard_error", "z", "p_value", "low", "high"]
    assert lines[4].startswith("experts: component 0, lgRD ")


def test_unknown_assignments_make_standard_errors_larger() -> None:
    """The standard errors of the M-step take the responsibilities as known."""
    x, y, gate_x = patents()
    result = patent_fit()
    gate = result.mixture.gate
    known = gate.standard_errors(gate_x, result.responsibilities).flatten().tolist()
    table = coefficients(result, x, y, gate_x=gate_x)
    unknown = [row.standard_error for name, row in table.items() if name.startswith("gate")]
    assert all(second > first for first, second in zip(known, unknown, strict=True))


def test_a_row_of_weight_n_counts_as_n_rows() -> None:
    x, y, z = lines(60, 2)
    counts = 1 + torch.arange(60) % 3
    rows = torch.arange(60).repeat_interleave(counts)
    start = nn.functional.one_hot(z, 2).double()
    mixture = MixtureOfExperts(SoftmaxGate(2, 1), GLMExperts(2, 1, Gaussian()))
    result = fit(mixture, x, y, weights=counts.double(), initial_responsibilities=start)
    weighted = coefficients(result, x, y)
    repeated = coefficients(mixture, x[rows], y[rows])
    for name, row in weighted.items():
        assert tuple(row) == pytest.approx(tuple(repeated[name]), rel=1e-9, nan_ok=True)


def test_experts_with_posteriors_are_held_fixed() -> None:
    """The information is minus the Hessian of the bound in the gate's coefficients, the gate's prior included."""
    x, y, z = lines(80, 2)
    mixture = MixtureOfExperts(SoftmaxGate(2, 1, prior_scale=1.5), LinearExperts(2, 1))
    result = fit(mixture, x, y, initial_responsibilities=nn.functional.one_hot(z, 2).double())
    with pytest.warns(RuntimeWarning, match="the experts part, a LinearExperts, is held as if it were known"):
        table = coefficients(result, x, y, intervals="mean field")
    of_gate = {name: row for name, row in table.items() if name.startswith("gate")}
    assert all(math.isnan(row.p_value) for row in of_gate.values())
    assert list(of_gate) == ["gate: component 1 against 0, intercept", "gate: component 1 against 0, x0"]
    log_likelihood = mixture.experts.expected_log_likelihood(x, y)

    def bound(theta: Tensor) -> Tensor:
        logits = torch.stack([torch.zeros(80).double(), theta[0] + theta[1] * x[:, 0]], 1)
        evidence = (logits.log_softmax(-1) + log_likelihood).logsumexp(-1).sum()
        return evidence - (theta**2).sum() / (2 * 1.5**2)

    theta = mixture.gate.coefficients.detach().flatten()
    hessian = torch.autograd.functional.hessian(bound, theta)
    known = torch.linalg.inv(-hessian).diagonal().sqrt()
    found = torch.tensor([row.standard_error for row in of_gate.values()], dtype=torch.float64)
    torch.testing.assert_close(found, known)


@pytest.mark.parametrize(("scale", "offset"), [(1000.0, 5000.0), (1e-6, 0.0), (1.0, 2000.0)])
def test_standard_errors_do_not_depend_on_the_unit_of_x(scale: float, offset: float) -> None:
    x, y, z = lines(60, 2)
    start = nn.functional.one_hot(z, 2).double()
    found = []
    for inputs_ in (x, scale * x + offset):
        mixture = MixtureOfExperts(SoftmaxGate(2, 1), GLMExperts(2, 1, Gaussian()))
        result = fit(mixture, inputs_, y, initial_responsibilities=start, tolerance=1e-12)
        found.append(coefficients(result, inputs_, y, feature_names=["t"]))
    for name in ("gate: component 1 against 0, t", "experts: component 0, t"):
        assert scale * found[1][name].standard_error == pytest.approx(found[0][name].standard_error, rel=1e-3)


def test_only_collinear_columns_have_infinite_standard_errors() -> None:
    x, y, z = lines(60, 2)
    start = nn.functional.one_hot(z, 2).double()
    tables = []
    for gate_x in (x, torch.cat([x, x], 1)):
        mixture = MixtureOfExperts(SoftmaxGate(2, gate_x.shape[1]), GLMExperts(2, 1, Gaussian()))
        result = fit(mixture, x, y, gate_x=gate_x, initial_responsibilities=start, tolerance=1e-10)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            tables.append(coefficients(result, x, y, gate_x=gate_x))
    assert "do not determine 2 of 9 coefficients (gate: component 1 against 0, x0; gate:" in str(caught[0].message)
    assert {name for name, row in tables[1].items() if math.isinf(row.standard_error)} == {
        "gate: component 1 against 0, x0",
        "gate: component 1 against 0, x1",
    }
    for name in (
        "gate: component 1 against 0, intercept",
        "experts: component 1, x0",
        "experts: component 0, log scale",
    ):
        assert tables[1][name].standard_error == pytest.approx(tables[0][name].standard_error, rel=1e-3)


def test_a_point_with_negative_information_gives_a_warning() -> None:
    x, y, _ = lines(60, 2)
    mixture = MixtureOfExperts(SoftmaxGate(2, 1), GLMExperts(2, 1, Gaussian()))
    with torch.no_grad():
        mixture.experts.coefficients.copy_(torch.tensor([[[0.0, 0.1]], [[0.0, -0.1]]]))
        mixture.experts.log_scale.fill_(-1.0)
    with pytest.warns(RuntimeWarning, match="the likelihood is not at a maximum"):
        coefficients(mixture, x, y)


def test_a_network_has_numbered_names_and_is_not_changed() -> None:
    x, y, z = lines(60, 2)
    gate = NeuralGate(2, nn.Linear(1, 2), prior_scale=1.0)
    gate.network.bias.requires_grad_(False)
    mixture = MixtureOfExperts(gate, GLMExperts(2, 1, Gaussian()))
    result = fit(mixture, x, y, initial_responsibilities=nn.functional.one_hot(z, 2).double())
    state = copy.deepcopy(mixture.state_dict())
    with torch.no_grad():
        table = coefficients(result, x.float(), y.float())
    assert list(table)[:2] == ["gate: network.weight[0, 0]", "gate: network.weight[1, 0]"]
    assert all(math.isfinite(row.standard_error) for row in table.values())
    assert all(torch.equal(value, state[name]) for name, value in mixture.state_dict().items())
    assert all(parameter.grad is None for parameter in mixture.parameters())
    assert gate.network.weight.dtype == torch.float32


def test_names_include_the_predictor_of_a_category() -> None:
    names = GLMExperts(1, 1, Categorical(3)).parameter_names(["dose", "trials"])
    assert names["coefficients_estimate"] == [
        f"component 0, predictor {c}, {name}" for c in (1, 2) for name in ("intercept", "dose")
    ]


@pytest.mark.usefixtures("bad_arguments")
def test_bad_arguments_are_refused() -> None:
    x, y, gate_x = patents()
    mixture = patent_fit().mixture
    for arguments, error, message in (
        ({"feature_names": ["a", "b"]}, ValueError, r"`feature_names` must be 1 different names.*got \['a', 'b'\]"),
        ({"gate_feature_names": []}, ValueError, "`gate_feature_names` must be 1 different names"),
        ({"feature_names": "lgRD"}, TypeError, "`feature_names` must be a sequence of strings; got 'lgRD'"),
        ({"weights": -torch.ones(70).double()}, ValueError, "`weights` must be at least 0"),
        ({"intervals": "exact"}, ValueError, "`intervals` must be one of 'linear response', 'mean field'; got 'exact'"),
        ({"probability": 1.0}, ValueError, "`probability` must be below 1; got 1.0"),
    ):
        with pytest.raises(error, match=message):
            coefficients(mixture, x, y, gate_x=gate_x, **arguments)
    with pytest.raises(TypeError, match="`fitted` must be what `fit` returned or a mixture; got None"):
        coefficients(None, x, y)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`gate_feature_names` must be 1 different names"):
        coefficients(MixtureOfExperts(SoftmaxGate(2, 1), LinearExperts(2, 1)), x, y, gate_feature_names=["a", "b"])
    without = MixtureOfExperts(DirichletGate(1), PointMassExperts(1, 1.0))
    with pytest.raises(ValueError, match="`mixture` must have estimated parameters; got posteriors alone"):
        coefficients(without, x, torch.ones(70, 1).double())


def test_estimates_that_are_not_a_maximum_for_the_data_give_a_warning() -> None:
    x, y, z = lines(200, 2)
    weights = torch.where(y[:, 0] > 0, 10.0, 1.0).double()
    mixture = MixtureOfExperts(SoftmaxGate(2, 1), GLMExperts(2, 1, Gaussian()))
    result = fit(mixture, x, y, weights=weights, initial_responsibilities=nn.functional.one_hot(z, 2).double())
    coefficients(result, x, y)
    with pytest.warns(RuntimeWarning, match="the estimates are not a maximum for these data.*had the fit weights"):
        coefficients(mixture, x, y)


def test_a_noise_has_no_p_value() -> None:
    x, y, _ = lines(50, 1)
    nothing = x[:, :0]
    result = fit(MixtureOfExperts(SoftmaxGate(1, 0), GLMExperts(1, 1, Gaussian())), x, y, gate_x=nothing)
    table = coefficients(result, x, y, gate_x=nothing)
    assert math.isnan(table["experts: component 0, log scale"].p_value)
    assert not math.isnan(table["experts: component 0, x0"].p_value)


@pytest.mark.parametrize("gate", [DirichletGate(2), SoftmaxGate(2, 1, prior_scale=2.0), SoftmaxGate(2, 1)])
def test_every_part_has_intervals_by_linear_response(gate: Gate) -> None:
    """Longer than those of the mean field where components overlap, and equal to the response's own."""
    x, y, z = lines(80, 2)
    mixture = MixtureOfExperts(gate, LinearExperts(2, 1))
    result = fit(mixture, x, y, initial_responsibilities=nn.functional.one_hot(z, 2).double(), tolerance=1e-10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = coefficients(result, x, y, feature_names=["dose"], probability=0.95)
        mean_field = coefficients(result, x, y, feature_names=["dose"], intervals="mean field")
    response = linear_response(result, x, y, feature_names=["dose"])
    assert list(table) == list(response.names) == list(mean_field)
    assert [row.standard_error for row in table.values()] == response.standard_deviations.tolist()
    assert all(row.standard_error > mean_field[name].standard_error for name, row in table.items())
    row = table["experts: component 0, dose"]
    assert row.high - row.estimate == pytest.approx(1.959964 * row.standard_error, rel=1e-6)
    own = mixture.experts.coefficient_standard_deviations[0, 0, 1]
    assert mean_field["experts: component 0, dose"].standard_error == pytest.approx(float(own), rel=1e-9)


def test_without_a_linear_response_the_mean_field_is_told_as_such() -> None:
    """Two equal columns of the gate, whose coefficients the data do not tell apart."""
    x, y, z = lines(60, 2)
    mixture = MixtureOfExperts(SoftmaxGate(2, 2), LinearExperts(2, 1))
    twice = x.repeat(1, 2)
    result = fit(mixture, x, y, gate_x=twice, initial_responsibilities=nn.functional.one_hot(z, 2).double() + 0.05)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table = coefficients(result, x, y, gate_x=twice)
    first = str(caught[0].message)
    assert first.startswith("standard errors are those of the mean field") and "do not determine" in first
    own = mixture.experts.coefficient_standard_deviations[0, 0, 1]
    assert table["experts: component 0, x0"].standard_error == pytest.approx(float(own), rel=1e-9)
    assert table["gate: component 1 against 0, x0"].standard_error == math.inf


def test_weights_of_objects_are_integrated_out() -> None:
    x, y, z = lines(60, 2)
    mixture = MixtureOfExperts(ObjectDirichletGate(2), LinearExperts(2, 1))
    result = fit(mixture, x, y, initial_responsibilities=nn.functional.one_hot(z, 2).double())
    table = coefficients(result, x, y)
    response = linear_response(result, x, y)
    assert [row.standard_error for row in table.values()] == response.standard_deviations.tolist()
    assert not any(name.startswith("gate") for name in table)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_learnt_mean_beside_regressions_has_its_own_names() -> None:
    """A mean of K numbers has K − 1 free ones, and stands behind the experts."""
    x, y, _ = lines(60, 2)
    result = fit(
        MixtureOfExperts(ObjectDirichletGate(2, learn_mean=True), GLMExperts(2, 1, Gaussian())), x, y, n_restarts=2
    )
    table = coefficients(result)
    slopes = [row for name, row in table.items() if name.endswith("x0")]
    assert len(slopes) == 2
    assert all(row.z == pytest.approx(row.estimate / row.standard_error) for row in slopes)
    (mean,) = (row for name, row in table.items() if name.startswith("gate"))
    assert math.isnan(mean.z)
