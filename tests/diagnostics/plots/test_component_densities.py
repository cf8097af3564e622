"""The plot of the predictive density of y."""

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.integrate import trapezoid

from mixpyro import DirichletGate, GaussianExperts, GLMExperts, MixtureOfExperts, fit
from mixpyro.diagnostics.plots import plot_component_densities
from mixpyro.experts.families import Binomial, Poisson
from tests import products
from tests.diagnostics.fits import fitted
from tests.diagnostics.plots.example import RESULT, X, Y, lines_by_label


def test_the_components_sum_to_the_predictive_density() -> None:
    lines = lines_by_label(plot_component_densities(RESULT, X, Y, n_points=400))
    total, points = np.asarray(lines["all"].get_ydata()), np.asarray(lines["all"].get_xdata())
    assert 0.8 < trapezoid(total, points) < 1.0
    shares = [np.asarray(lines[str(k)].get_ydata()) for k in range(3)]
    np.testing.assert_allclose(np.sum(shares, axis=0), total, rtol=1e-10)
    exact = RESULT.mixture.log_prob(X, torch.full_like(Y, points[100])).exp().mean()
    np.testing.assert_allclose(total[100], exact, rtol=1e-10)


def test_a_result_has_its_own_rows() -> None:
    given, own = plot_component_densities(RESULT, X, Y), plot_component_densities(RESULT)
    np.testing.assert_allclose(lines_by_label(own)["1"].get_ydata(), lines_by_label(given)["1"].get_ydata())
    assert own.get_xlabel() == "y"


def test_counts_have_bars_of_their_probabilities() -> None:
    generator = torch.Generator().manual_seed(0)
    rate = torch.where(torch.arange(80) % 2 == 0, 1.0, 12.0).double()
    y = torch.poisson(rate, generator=generator)
    x = torch.zeros(80, 0).double()
    mixture = MixtureOfExperts(DirichletGate(2), GLMExperts(2, 0, Poisson()))
    result = fit(mixture, x, y, n_restarts=2, progress=False)
    ax = plot_component_densities(result)
    heights = np.array([bar.get_height() for bar in ax.patches]).reshape(2, -1)  # type: ignore[attr-defined]
    counts = np.arange(int(y.min()), int(y.max()) + 1)
    weights = mixture.gate.weights(x[:1])[0].numpy()
    for k in range(2):
        mean = float(mixture.experts.predict(x[:1])[0, k, 0])
        np.testing.assert_allclose(heights[k], weights[k] * stats.poisson.pmf(counts, mean), rtol=1e-9)
    seen = np.asarray(lines_by_label(ax)["data"].get_ydata())
    np.testing.assert_allclose(seen, [float(np.mean(y.numpy() == count)) for count in counts])


def test_many_different_counts_are_lines() -> None:
    y = torch.tensor([0.0, 3.0, 7.0, 60.0, 90.0, 130.0]).double().repeat(5)
    mixture = MixtureOfExperts(DirichletGate(2), GLMExperts(2, 0, Poisson(), prior_scale=10.0))
    result = fit(mixture, torch.zeros(30, 0).double(), y, n_restarts=2, progress=False)
    ax = plot_component_densities(result)
    line = lines_by_label(ax)["all"]
    np.testing.assert_array_equal(line.get_xdata(), np.arange(131))
    assert ax.get_ylabel() == "Probability (square-root scale)"


def test_other_outputs_are_integrated_out() -> None:
    result, x, y = fitted(n_outputs=2)
    lines = lines_by_label(plot_component_densities(result, output="y1"))
    assert 0.8 < trapezoid(lines["all"].get_ydata(), lines["all"].get_xdata()) < 1.0
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(60, 2, generator=generator).double() @ torch.tensor([[1.0, 0.8], [0.0, 0.6]]).double()
    result = fit(MixtureOfExperts(DirichletGate(1), GaussianExperts(1, 2)), y[:, :0], y, progress=False)
    ax = plot_component_densities(result, output=1)
    line = lines_by_label(ax)["0"]
    # The marginal of a multivariate t distribution with its degrees of freedom.
    predictive = result.mixture.experts.predictive(y[:1, :0])
    scale = float((predictive.scale_tril @ predictive.scale_tril.mT)[0, 0, 1, 1].sqrt())
    expected = stats.t(float(predictive.df[0, 0]), float(predictive.loc[0, 0, 1]), scale).pdf(line.get_xdata())
    np.testing.assert_allclose(line.get_ydata(), expected, rtol=1e-8)
    with pytest.raises(ValueError, match="`output` must be one of the columns of y, y0, y1; got 'weight'"):
        plot_component_densities(result, output="weight")


def test_counts_beyond_the_trials_of_a_row_have_no_probability() -> None:
    trials = torch.tensor([2.0, 5.0]).double().repeat(10).unsqueeze(-1)
    y = torch.minimum(torch.arange(20).double() % 5, trials[:, 0])
    mixture = MixtureOfExperts(DirichletGate(1), GLMExperts(1, 0, Binomial(), exposure=True))
    result = fit(mixture, trials, y, n_restarts=1, progress=False)
    heights = [bar.get_height() for bar in plot_component_densities(result).patches]  # type: ignore[attr-defined]
    share = float(y.sum() / trials.sum())
    expected = [0.5 * (stats.binom.pmf(count, 2, share) + stats.binom.pmf(count, 5, share)) for count in range(5)]
    np.testing.assert_allclose(heights, expected, rtol=1e-6)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # It has not converged.
@pytest.mark.parametrize("experts", ["outputs", "inflated", "heterogeneous", "categorical"])
def test_every_kind_of_output_has_a_density(experts: str) -> None:
    mixture = products.fitted("dirichlet" if experts != "heterogeneous" else "softmax, prior", experts)
    x, y = products.data(experts)
    ax = plot_component_densities(mixture, x, y, output=0)
    if ax.get_ylabel() == "Probability":
        total = sum(bar.get_height() for bar in ax.patches)  # type: ignore[attr-defined]
    else:
        line = lines_by_label(ax)["all"]
        total = trapezoid(line.get_ydata(), line.get_xdata())
    assert 0.8 < total <= 1.0 + 1e-9
