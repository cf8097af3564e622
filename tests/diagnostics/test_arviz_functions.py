"""ArviZ's own functions on our data, for real: those that read predictions, likelihoods and priors."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mixpyro import DirichletGate, GLMExperts, LinearExperts, MixtureOfExperts, fit, to_arviz
from mixpyro.diagnostics import loo, psense_summary, resample
from mixpyro.diagnostics.arviz_versions import ArvizData, arviz, datasets_of, group, has_data_trees
from mixpyro.experts.families import Binomial, Poisson
from tests import products
from tests.diagnostics.fits import fitted

pyplot = pytest.importorskip("matplotlib.pyplot")
pytestmark = [
    pytest.mark.usefixtures("without_type_checks"),
    # ArviZ's and matplotlib's own.
    pytest.mark.filterwarnings("ignore"),
]

S = 120
Y = "experts.y"
BEFORE = not has_data_trees()


@pytest.fixture(autouse=True)
def _closed_figures() -> Iterator[None]:
    """Draw without a screen, and close the figures."""
    pyplot.switch_backend("Agg")
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)
    pyplot.close("all")


def of_lines() -> ArvizData:
    """Draws of two lines by the guide."""
    result, x, y = fitted()
    return to_arviz(result, x, y, n_draws=S)


def of_counts(family: Any) -> ArvizData:
    """Draws of a gate's weights beside experts of counts or of ones and zeros."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(50, 1, generator=generator, dtype=torch.float64)
    first = torch.rand(50, generator=generator) < 0.5
    eta = torch.where(first, 1.0 + 0.5 * x[:, 0], -1.0 - 0.4 * x[:, 0])
    if isinstance(family, Binomial):
        y = (torch.rand(50, generator=generator) < eta.sigmoid()).double()
    else:
        y = torch.poisson(eta.exp(), generator=generator)
    mixture = MixtureOfExperts(DirichletGate(2), GLMExperts(2, 1, family, prior_scale=3.0))
    return to_arviz(fit(mixture, x, y, n_restarts=1, progress=False), x, y, n_draws=S)


# Of the guide's draws, or of the resampled ones where a log likelihood is read.
OF_GUIDE: dict[str, Callable[[Any, ArvizData], Any]] = (
    {
        "plot_lm": lambda az, data: az.plot_lm(y=Y, idata=data, x=data.constant_data["x"].values[:, 0]),
        "plot_ts": lambda az, data: az.plot_ts(idata=data, y=Y),
        "plot_ppc": lambda az, data: az.plot_ppc(data),
        "plot_ppc of the prior": lambda az, data: az.plot_ppc(data, group="prior"),
        "plot_bpv": lambda az, data: az.plot_bpv(data),
    }
    if BEFORE
    else {
        "metrics": lambda az, data: az.metrics(data),
        "plot_ppc_pit": lambda az, data: az.plot_ppc_pit(data),
        "plot_ppc_interval": lambda az, data: az.plot_ppc_interval(data),
        "plot_ppc_dist_pit": lambda az, data: az.plot_ppc_dist_pit(data),
        "plot_ppc_censored": lambda az, data: az.plot_ppc_censored(data),
        "plot_ppc_dist": lambda az, data: az.plot_ppc_dist(data),
        "plot_ppc_dist of the prior": lambda az, data: az.plot_ppc_dist(data, group="prior_predictive"),
        "psense of the prior": lambda az, data: az.psense(data, group="prior"),
        "plot_prior_posterior": lambda az, data: az.plot_prior_posterior(data),
    }
)
RESAMPLED: dict[str, Callable[[Any, ArvizData], Any]] = {
    "loo": lambda az, data: az.loo(data),
    "compare": lambda az, data: az.compare({"one": data, "two": data}),
} | (
    {
        "loo_pit": lambda az, data: az.loo_pit(data, y=Y),
        "plot_loo_pit": lambda az, data: az.plot_loo_pit(data, y=Y),
        "waic": lambda az, data: az.waic(data),
        "psens of the prior": lambda az, data: az.psens(data, component="prior"),
    }
    if BEFORE
    else {
        "loo_metrics": lambda az, data: az.loo_metrics(data),
        "plot_loo_interval": lambda az, data: az.plot_loo_interval(data),
        "plot_loo_pit": lambda az, data: az.plot_loo_pit(data),
        "plot_psense_dist": lambda az, data: az.plot_psense_dist(data),
    }
)


@pytest.mark.parametrize("name", OF_GUIDE)
def test_functions_of_predictions(name: str) -> None:
    OF_GUIDE[name](arviz(), of_lines())


@pytest.mark.parametrize("name", RESAMPLED)
def test_functions_of_likelihoods_read_resampled_draws(name: str) -> None:
    RESAMPLED[name](arviz(), resample(of_lines()))


def test_functions_of_ones_and_zeros() -> None:
    az, data = arviz(), of_counts(Binomial())
    resampled = resample(data)
    if BEFORE:
        az.plot_separation(data, y=Y)
        az.plot_loo_pit(resampled, y=Y)
    else:
        az.plot_ppc_pava(data)
        az.plot_loo_pava(resampled)
        az.metrics(data, kind="acc")
        az.loo_metrics(resampled, kind="acc")


def test_counts_are_whole_numbers() -> None:
    data = of_counts(Poisson())
    for name in ("observed_data", "posterior_predictive"):
        assert group(data, name)[Y].dtype == np.int64
    if not BEFORE:
        arviz().plot_ppc_rootogram(data)
    constants, replicated = group(data, "constant_data"), group(data, "posterior_predictive")[Y].values
    assert "experts.coefficients_estimate" in constants
    # The mean of y under the predictive distribution is near that of the data.
    assert replicated.mean() == pytest.approx(group(data, "observed_data")[Y].values.mean(), rel=0.3)


@pytest.mark.parametrize("name", ["loo", "compare", "waic"])
def test_draws_of_a_guide_are_not_taken_for_draws_of_the_posterior(name: str) -> None:
    az, data = arviz(), of_lines()
    if not hasattr(az, name):
        pytest.skip(f"this ArviZ has no {name}")
    with pytest.raises(TypeError, match=r"log likelihood not found|Encountered error"):
        getattr(az, name)({"one": data, "two": data} if name == "compare" else data)
    assert np.isfinite(loo(data).elpd)


def test_draws_by_mcmc_are_read_as_they_are() -> None:
    result, x, y = fitted("dirichlet", 1)
    data = to_arviz(result, x, y, n_draws=S, intervals="mean field")
    samples = {str(name): torch.as_tensor(one.values) for name, one in group(data, "posterior").items()}
    by_mcmc = to_arviz(result.mixture, x, y, samples=samples)
    elpd = arviz().loo(by_mcmc)
    assert float(elpd.elpd_loo if BEFORE else elpd.elpd) == pytest.approx(loo(data).elpd, abs=1e-6)


def test_several_outputs_keep_their_axis() -> None:
    result, x, y = fitted("dirichlet", 2, n_outputs=2)
    data = to_arviz(result, x, y, n_draws=3, output_names=["left", "right"])
    for name in ("posterior_predictive", "prior_predictive", "observed_data"):
        values = group(data, name)[Y]
        assert values.dims[-2:] == ("object", "output")
        assert values.coords["output"].values.tolist() == ["left", "right"]


@pytest.mark.parametrize(("gate", "experts"), products.PAIRS)
def test_summaries_of_every_gate_and_experts(gate: str, experts: str) -> None:
    mixture, (x, y) = products.fitted(gate, experts), products.data(experts)
    data = to_arviz(mixture, x, y, n_draws=30)
    for name in ("posterior", "prior"):
        if name in datasets_of(data) and len(group(data, name)):
            table = arviz().summary(data, group=name, kind="stats", **({} if BEFORE else {"round_to": 3}))
            assert len(table) == sum(one[0, 0].size for one in group(data, name).values())
    assert not [name for name in datasets_of(data).get("posterior", {}) if name == "gate.weights" and "object" in gate]


def test_power_scaling_sees_a_prior_that_disagrees(lines_of_one: tuple[Tensor, Tensor]) -> None:
    """A narrow prior far from the data moves the slope; ArviZ's diagnosis says so, and not with a wide one."""
    x, y = lines_of_one
    if BEFORE:
        result = fit(MixtureOfExperts(DirichletGate(1), LinearExperts(1, 1)), x, y, n_restarts=1, progress=False)
        with pytest.raises(RuntimeError, match=r"psense_summary must have ArviZ 1.x; got 0.23"):
            psense_summary(to_arviz(result, x, y, n_draws=S))
        return
    sensitivity = {}
    for name, precision in (("narrow", 300.0), ("wide", 1e-4)):
        experts = LinearExperts(1, 1, coefficient_precision=precision)
        result = fit(MixtureOfExperts(DirichletGate(1), experts), x, y, n_restarts=1, progress=False)
        table = psense_summary(to_arviz(result, x, y, n_draws=1000), var_names="experts.coefficients")
        sensitivity[name] = float(table["prior"].iloc[-1])
    assert sensitivity["narrow"] > 0.05 > sensitivity["wide"]


@pytest.fixture
def lines_of_one() -> tuple[Tensor, Tensor]:
    """A line with noise."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 1, generator=generator, dtype=torch.float64)
    return x, 2.0 * x[:, 0] + 0.5 * torch.randn(40, generator=generator, dtype=torch.float64)
