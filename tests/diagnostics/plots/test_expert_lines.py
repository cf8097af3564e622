"""The plot of the experts' means along an input."""

import numpy as np
import pytest
import torch

from mixpyro import DirichletGate, GLMExperts, LinearExperts, MixtureOfExperts, fit, to_arviz
from mixpyro.diagnostics.arviz_versions import group
from mixpyro.diagnostics.plots import plot_expert_lines
from mixpyro.experts.families import Binomial, Categorical, CensoredGaussian, Poisson
from mixpyro.fitting.result import FitResult
from tests.diagnostics.plots.example import DATA, RESULT, X, lines_by_label, remark


def _of_three_inputs(family: str) -> FitResult:
    """Fit two components on three inputs, of which the second moves y most."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(120, 3, generator=generator).double()
    mean = torch.where(torch.arange(120) % 2 == 0, 1.0 + x[:, 0] + 2.0 * x[:, 1], -2.0 - x[:, 1])
    y = mean + 0.2 * torch.randn(120, generator=generator).double()
    experts = GLMExperts(2, 3, Poisson(), prior_scale=3.0) if family == "poisson" else LinearExperts(2, 3)
    y = torch.poisson((0.4 * y + 1.0).exp(), generator=generator) if family == "poisson" else y
    start = torch.nn.functional.one_hot(torch.arange(120) % 2, 2).double() + 0.05
    mixture = MixtureOfExperts(DirichletGate(2), experts)
    return fit(mixture, x, y, initial_responsibilities=start, progress=False)


def test_lines_are_the_means_of_given_draws() -> None:
    ax = plot_expert_lines(DATA, RESULT, n_points=50)
    mean = group(DATA, "posterior")["experts.coefficients"].values[0, :, :, 0].mean(0)
    for k in range(3):
        line = lines_by_label(ax)[str(k)]
        x = np.asarray(line.get_xdata())
        np.testing.assert_allclose(line.get_ydata(), mean[k, 0] + mean[k, 1] * x, rtol=1e-8)
        own = X[:, 0].numpy()[RESULT.responsibilities[:, k].numpy() > 0.5]
        assert x.min() <= own.min() and own.max() <= x.max()
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("dose", "yield")


def test_lines_of_a_result_are_its_means() -> None:
    ax = plot_expert_lines(RESULT)
    for k in range(3):
        line = lines_by_label(ax)[str(k)]
        means = RESULT.mixture.experts.predict(X.new_tensor(line.get_xdata()).unsqueeze(-1))[:, k, 0]
        np.testing.assert_allclose(line.get_ydata(), means, rtol=1e-12)


@pytest.mark.parametrize("family", ["gaussian", "poisson"])
def test_points_are_partial_residuals_of_several_inputs(family: str) -> None:
    result = _of_three_inputs(family)
    assert result.rows is not None
    x, y = result.rows.x, result.rows.y[:, 0]
    ax = plot_expert_lines(result, feature="x1")
    r = result.shares
    own = r.argmax(-1)
    centre = (r.T @ x) / r.sum(0).unsqueeze(-1)
    held = torch.stack([centre[own, 0], x[:, 1], centre[own, 2]], 1)
    there, here = (result.mixture.experts.predict(rows)[torch.arange(len(x)), own, 0].detach() for rows in (x, held))
    expected = (y - there + here) if family == "gaussian" else y * here / there
    for k in range(2):
        points = np.asarray(ax.collections[k].get_offsets())
        np.testing.assert_allclose(points[:, 0], x[own == k, 1])
        np.testing.assert_allclose(points[:, 1], expected[own == k], rtol=1e-9, atol=1e-9)
        line = lines_by_label(ax)[str(k)]
        at = centre[k].repeat(len(line.get_xdata()), 1)
        at[:, 1] = torch.as_tensor(line.get_xdata())
        np.testing.assert_allclose(line.get_ydata(), result.mixture.experts.predict(at)[:, k, 0].detach(), rtol=1e-9)
    assert ax.get_ylabel() == "y\n(x0 and x2 at each component's means)"


def test_points_are_fainter_where_their_component_is_unsure() -> None:
    shares = np.tile([1.0, 0.0, 0.0], (len(X), 1))
    shares[0] = 0.4, 0.3, 0.3
    points = plot_expert_lines(RESULT, responsibilities=shares).collections[0]
    alphas = np.asarray(points.get_facecolor())[:, 3]
    np.testing.assert_allclose(alphas[:2], [0.15 + 0.5 * 0.1, 0.65])


def test_an_empty_component_has_no_line() -> None:
    responsibilities = RESULT.responsibilities.numpy()[:, [0, 1, 2]].copy()
    responsibilities[:, 0] += responsibilities[:, 2]
    responsibilities[:, 2] = 0.0
    lines = lines_by_label(plot_expert_lines(DATA, RESULT, responsibilities=responsibilities))
    assert len(lines["2 (empty)"].get_xdata()) == 0
    assert len(lines["0"].get_xdata()) > 0


def test_categories_have_probabilities() -> None:
    x = torch.linspace(-1.0, 1.0, 30).double().unsqueeze(-1)
    y = ((x[:, 0] > 0).double() + (x[:, 0] > 0.6).double()).roll(4)
    mixture = MixtureOfExperts(DirichletGate(1), GLMExperts(1, 1, Categorical(3), prior_scale=30.0))
    result = fit(mixture, x, y, n_restarts=1, progress=False)
    ax = plot_expert_lines(result, output=1, n_points=5)
    line = lines_by_label(ax)["0"]
    points = x.new_tensor(np.asarray(line.get_xdata())).unsqueeze(-1)
    np.testing.assert_allclose(line.get_ydata(), mixture.experts.predict(points)[:, 0, 1].detach(), rtol=1e-9)
    np.testing.assert_array_equal(np.asarray(ax.collections[0].get_offsets())[:, 1], y == 1)
    assert ax.get_ylabel() == "Probability of y = 1"
    assert plot_expert_lines(result).get_ylabel() == "Probability of y = 2"
    with pytest.raises(ValueError, match="`output` must be a category below 3; got 3"):
        plot_expert_lines(result, output=3)


def test_infinite_limits_of_outcomes_are_left_out() -> None:
    x = torch.linspace(-1.0, 1.0, 20).double().unsqueeze(-1)
    outcome = 2.0 * x + 0.1 * torch.sin(30.0 * x)
    y = torch.cat([outcome.clamp_max(1.0), outcome.where(outcome < 1.0, torch.inf)], 1)
    mixture = MixtureOfExperts(DirichletGate(1), GLMExperts(1, 1, CensoredGaussian(), prior_scale=10.0))
    result = fit(mixture, x, y, n_restarts=1, progress=False)
    ax = plot_expert_lines(to_arviz(result, x, y, n_draws=10), result, output=1)
    assert np.isfinite(ax.get_ylim()).all()
    assert np.asarray(ax.collections[0].get_offsets()).shape[0] == int(y[:, 1].isfinite().sum())


def test_known_components_and_missing_outputs_have_lines() -> None:
    x = torch.linspace(-1.0, 1.0, 40).double().unsqueeze(-1)
    y = torch.where(torch.arange(40) % 2 == 0, 1.0 + x[:, 0], -1.0 - x[:, 0]) + 0.1 * torch.sin(40 * x[:, 0])
    y[::7] = torch.nan
    known, mask = torch.arange(40) % 2, torch.arange(40) < 4
    mixture = MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1))
    result = fit(mixture, x, y, observed=known, mask=mask, missing="ignore", n_restarts=1, progress=False)
    ax = plot_expert_lines(result)
    assert sum(len(np.asarray(points.get_offsets())) for points in ax.collections[:2]) == int((~y.isnan()).sum())
    assert len(ax.collections) == 4
    assert remark(ax) == ""


def test_without_inputs_there_are_no_lines() -> None:
    y = torch.randn(20, 1, generator=torch.Generator().manual_seed(0)).double()
    mixture = MixtureOfExperts(DirichletGate(1), LinearExperts(1, 0))
    result = fit(mixture, y[:, :0], y, progress=False)
    with pytest.raises(ValueError, match="`x` must have a column for lines along it; got none"):
        plot_expert_lines(result)


def test_trials_are_held_at_a_whole_number() -> None:
    x = torch.linspace(-1.0, 1.0, 20).double()
    trials = torch.tensor([2.0, 5.0]).double().repeat(10)
    y = torch.where(x > 0.0, trials, (x < -0.5).double())
    mixture = MixtureOfExperts(DirichletGate(1), GLMExperts(1, 1, Binomial(), exposure=True, prior_scale=10.0))
    result = fit(mixture, torch.stack([x, trials], 1), y, n_restarts=1, progress=False)
    line = lines_by_label(plot_expert_lines(result))["0"]
    points = torch.as_tensor(np.asarray(line.get_xdata()))
    rows = torch.stack([points, torch.full_like(points, 4.0)], 1)
    np.testing.assert_allclose(line.get_ydata(), mixture.experts.predict(rows)[:, 0, 0].detach(), rtol=1e-9)
    along = lines_by_label(plot_expert_lines(result, feature=1, n_points=4))["0"]
    np.testing.assert_array_equal(along.get_xdata(), [2.0, 3.0, 4.0, 5.0])
