"""The plot of the experts' means along an input."""

import numpy as np
import torch

from mixpyro import DirichletGate, GLMExperts, MixtureOfExperts, fit, to_arviz
from mixpyro.diagnostics.arviz_versions import group
from mixpyro.diagnostics.plots import plot_expert_lines
from mixpyro.experts.families import CensoredGaussian
from tests.diagnostics.plots.example import DATA, RESULT, X, lines_by_label


def test_lines_are_the_posterior_means() -> None:
    ax = plot_expert_lines(DATA, RESULT, n_points=10)
    mean = group(DATA, "posterior")["experts.coefficients"].values[0, :, :, 0].mean(0)
    x = np.linspace(float(X.min()), float(X.max()), 10)
    for k in range(3):
        np.testing.assert_allclose(lines_by_label(ax)[str(k)].get_ydata(), mean[k, 0] + mean[k, 1] * x, rtol=1e-8)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("dose", "yield")


def test_an_empty_component_has_no_line() -> None:
    responsibilities = RESULT.responsibilities.numpy()[:, [0, 1, 2]].copy()
    responsibilities[:, 0] += responsibilities[:, 2]
    responsibilities[:, 2] = 0.0
    lines = lines_by_label(plot_expert_lines(DATA, RESULT, responsibilities=responsibilities))
    assert len(lines["2 (empty)"].get_xdata()) == 0
    assert len(lines["0"].get_xdata()) > 0


def test_infinite_limits_of_outcomes_are_left_out() -> None:
    x = torch.linspace(-1.0, 1.0, 20).double().unsqueeze(-1)
    outcome = 2.0 * x + 0.1 * torch.sin(30.0 * x)
    y = torch.cat([outcome.clamp_max(1.0), outcome.where(outcome < 1.0, torch.inf)], 1)
    mixture = MixtureOfExperts(DirichletGate(1), GLMExperts(1, 1, CensoredGaussian(), prior_scale=10.0))
    result = fit(mixture, x, y, n_restarts=1, progress=False)
    ax = plot_expert_lines(to_arviz(result, x, y, n_draws=10), result, output=1)
    assert np.isfinite(ax.get_ylim()).all()
    assert np.asarray(ax.collections[0].get_offsets()).shape[0] == int(y[:, 1].isfinite().sum())
