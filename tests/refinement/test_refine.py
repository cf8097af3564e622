"""The ladder from a fit to its exact posterior, against Gibbs sampling, and every rung of it."""

import warnings

import pytest
import torch
from torch import Tensor, nn

from mixpyro import (
    DirichletGate,
    GaussianExperts,
    GLMExperts,
    HeterogeneousExperts,
    LinearExperts,
    LinearResponse,
    MarginalObjectDirichletGate,
    MixtureOfExperts,
    ObjectDirichletGate,
    Refined,
    SoftmaxGate,
    fit,
    linear_response,
    refine,
    to_arviz,
)
from mixpyro.diagnostics import khat, loo
from mixpyro.diagnostics.arviz_versions import group
from mixpyro.experts.families import Gaussian, Poisson
from mixpyro.intervals.proposals import StudentT
from mixpyro.numerics.design_matrix import with_intercept
from mixpyro.refinement import nuts
from mixpyro.refinement import refine as module
from tests.benchmarks.simulated import SETTINGS, simulate
from tests.intervals.exact import stacked
from tests.intervals.gibbs import Pair, gibbs
from tests.intervals.gibbs_conjugate import DirichletWeights, Lines
from tests.intervals.line_fits import fitted, lines_fit

pytestmark = [
    pytest.mark.usefixtures("without_type_checks"),
    pytest.mark.filterwarnings("ignore:.*of the information:RuntimeWarning"),
]


def exact(x: Tensor, y: Tensor, mixture: MixtureOfExperts, z: Tensor, n_draws: int = 4000) -> Tensor:
    """Draw the coordinates of two lines by Gibbs sampling."""
    gate = DirichletWeights(mixture.gate.prior.concentration[None])
    experts = Lines(stacked([mixture.experts.prior_from_zero]), with_intercept(x)[None], y[None, :, 0])
    return gibbs(Pair(gate, experts, 2), z[None], n_draws=n_draws)[:, 0]


def assert_widths(found: Refined, known: Tensor, low: float, high: float) -> None:
    """The 90 % intervals are as wide as those of known draws, and means differ by less than a fifth of the sd."""
    ends = torch.tensor([0.05, 0.95]).double()
    width = (found.interval(0.9).diff(dim=0) / known.quantile(ends, dim=0).diff(dim=0)).squeeze(0)
    assert bool(((low < width) & (width < high)).all()), width
    shift = (found.estimates - known.mean(0)) / known.std(0)
    assert bool((shift.abs() < 0.2).all()), shift


@pytest.mark.parametrize("setting", [0, 1])
def test_reweighted_draws_have_the_exact_widths(setting: int) -> None:
    x, y, z, _ = simulate(SETTINGS[setting], 3)
    result, x, y = lines_fit(setting)
    found = refine(result, x, y, seed=1, progress=False)
    assert found.rung == "importance sampling" and found.khat < 0.5
    assert str(found).startswith("importance sampling: k-hat") and "of draws by linear response" in found.why
    assert_widths(found, exact(x, y, result.mixture, z), 0.88, 1.12)


def test_overlapping_lines_need_no_more_than_adaptation() -> None:
    """Intervals of the mean field are half as wide; the posterior is skewed.

    By default a tenth of it is in another mode, where one line fits a few rows with hardly any noise, which refinement
    does not look for: hence the prior of the noise.
    """
    x, y, z, _ = simulate(SETTINGS[2], 9)
    start = nn.functional.one_hot(z, 2).double() + 0.05
    experts = LinearExperts(2, 1, coefficient_precision=0.01, noise_shape=1.0, noise_rate=0.1)
    result = fitted(DirichletGate(2), experts, x, y, start)
    found = refine(result, x, y, seed=0, progress=False)
    assert found.rung != "NUTS"
    known = exact(x, y, result.mixture, z, 8000)
    assert_widths(found, known, 0.8, 1.2)
    mean_field = linear_response(result, x, y).mean_field.diagonal().sqrt()
    assert float((mean_field / found.standard_deviations).min()) < 0.75


@pytest.mark.parametrize(("usable", "rung"), [(9.0, "adaptive importance sampling"), (-9.0, "NUTS")])
def test_every_rung_samples_the_same_posterior(usable: float, rung: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limits of k-hat are lowered, so that the first rung is left behind."""
    x, y, z, _ = simulate(SETTINGS[1], 3, 60)
    start = nn.functional.one_hot(z, 2).double() + 0.05
    result = fitted(DirichletGate(2), LinearExperts(2, 1), x, y, start)
    monkeypatch.setattr(module, "GOOD", -9.0)
    monkeypatch.setattr(module, "USABLE", usable)
    monkeypatch.setattr(nuts, "N_WARMUP", 40)
    found = refine(result, x, y, n_draws=160, seed=0, progress=False)
    assert found.rung == rung
    assert "rounds" in found.why
    assert_widths(found, exact(x, y, result.mixture, z), 0.75, 1.3)
    n_chains = 2 if rung == "NUTS" else 1
    assert found.samples["experts.coefficients"].shape == (n_chains, 160 // n_chains, 2, 1, 2)


def test_estimated_parameters_are_drawn_too() -> None:
    """A softmax gate without a prior has a flat one, and a Poisson's coefficients follow their likelihood."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(120, 1, generator=generator, dtype=torch.float64)
    z = torch.rand(120, generator=generator) < 0.5
    rate = torch.where(z, torch.exp(0.5 + 0.3 * x[:, 0]), torch.exp(3.0 - 0.2 * x[:, 0]))
    y = torch.poisson(rate, generator=generator)
    start = nn.functional.one_hot(z.long(), 2).double() + 0.05
    result = fitted(SoftmaxGate(2, 1, prior_scale=2.0), GLMExperts(2, 1, Poisson()), x, y, start)
    found = refine(result, x, y, progress=False)
    response = linear_response(result, x, y)
    assert found.names == response.names
    torch.testing.assert_close(found.standard_deviations, response.standard_deviations, rtol=0.15, atol=0)
    assert found.samples["gate.coefficients"].shape == (1, 1000, 1, 2)
    assert found.samples["experts.coefficients"].shape == (1, 1000, 2, 1, 2)
    data = to_arviz(result, x, y, samples=found.samples, progress=False)
    assert group(data, "posterior")["gate.coefficients"].std() > 0.1
    assert "log_likelihood" in data and "log_q" not in group(data, "sample_stats")


@pytest.mark.parametrize("covariance", ["full", "diagonal", "spherical"])
def test_densities_are_refined(covariance: str) -> None:
    generator = torch.Generator().manual_seed(1)
    y = torch.randn(150, 2, generator=generator, dtype=torch.float64)
    y[:60] += 2.5
    start = nn.functional.one_hot((torch.arange(150) < 60).long(), 2).double() + 0.05
    x = y[:, :0]
    result = fitted(DirichletGate(2), GaussianExperts(2, 2, covariance=covariance), x, y, start)
    found = refine(result, x, y, progress=False)
    assert found.khat < 0.7
    ratio = found.standard_deviations / linear_response(result, x, y).standard_deviations
    assert bool(((0.8 < ratio) & (ratio < 1.4)).all()), ratio


def test_weights_of_objects_are_integrated_out() -> None:
    """An ObjectDirichletGate has the posterior of fixed weights, by another way: that of a softmax gate."""
    x, y, z, _ = simulate(SETTINGS[1], 3, 80)
    start = nn.functional.one_hot(z, 2).double() + 0.05
    of_objects = fitted(ObjectDirichletGate(2, concentration=50.0), LinearExperts(2, 1), x, y, start)
    gate = SoftmaxGate(2, 0)
    gate.coefficients_estimate.requires_grad_(False)
    shared = MixtureOfExperts(gate, LinearExperts(2, 1))
    other = fit(shared, x, y, gate_x=x[:, :0], initial_responsibilities=start, progress=False, tolerance=1e-10)
    first = linear_response(of_objects, x, y)
    second = linear_response(other, x, y, gate_x=x[:, :0])
    assert first.names == second.names
    torch.testing.assert_close(first.covariance, second.covariance, rtol=1e-5, atol=1e-9)
    found = refine(of_objects, x, y, progress=False)
    assert not any(name.startswith("gate") for name in found.samples)


def test_draws_depend_on_the_seed_alone_and_leave_the_random_state() -> None:
    result, x, y = lines_fit(1)
    torch.manual_seed(5)
    before, kept = torch.get_rng_state(), result.mixture.state()
    first = refine(result, x, y, seed=3, n_draws=50, progress=False)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(7)
    again, other = (refine(result, x, y, seed=seed, n_draws=50, progress=False) for seed in (3, 4))
    assert torch.equal(first.draws, again.draws) and not torch.equal(first.draws, other.draws)
    assert torch.equal(kept.gate.posterior[0], result.mixture.state().gate.posterior[0])


def test_known_components_and_weights_of_rows_count() -> None:
    """With all components known the posterior is that of the complete data."""
    x, y, z, _ = simulate(SETTINGS[2], 3, 60)
    mixture = MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1))
    result = fit(mixture, x, y, observed=z, progress=False)
    found = refine(result, x, y, progress=False)
    assert found.khat == -float("inf")
    own = result.mixture.experts.coefficient_standard_deviations.flatten()
    torch.testing.assert_close(found.standard_deviations[1:5], own, rtol=0.08, atol=0)


def test_draws_for_arviz_are_those_of_linear_response() -> None:
    result, x, y = lines_fit(1)
    response = linear_response(result, x, y)
    data = to_arviz(result, x, y, n_draws=4000, progress=False)
    assert group(data, "posterior").attrs["intervals"] == "linear response"
    slopes = group(data, "posterior")["experts.coefficients"].values.reshape(4000, -1).std(0)
    expected = [
        s for s, name in zip(response.standard_deviations.tolist(), response.names, strict=True) if "experts" in name
    ]
    assert slopes == pytest.approx(expected[: len(slopes)], rel=0.06)
    mean_field = to_arviz(result, x, y, n_draws=4000, intervals="mean field", progress=False)
    assert khat(data) < khat(mean_field)
    assert loo(data).elpd == pytest.approx(loo(mean_field).elpd, abs=1.5)


@pytest.mark.parametrize("prior_scale", [None, 2.0])
def test_estimates_have_draws_for_arviz(prior_scale: float | None) -> None:
    """A MAP estimate was a thousand equal draws once, with the best marks of every check."""
    x, y, z, _ = simulate(SETTINGS[1], 3, 120)
    start = nn.functional.one_hot(z, 2).double() + 0.05
    experts = GLMExperts(2, 1, Gaussian(), prior_scale=prior_scale)
    result = fitted(SoftmaxGate(2, 1, prior_scale=prior_scale), experts, x, y, start, tolerance=1e-10)
    response = linear_response(result, x, y)
    data = to_arviz(result, x, y, n_draws=300, progress=False)
    posterior = group(data, "posterior")
    drawn = [posterior[name].values.reshape(300, -1).std(0) for name in posterior.data_vars]
    assert set(posterior.data_vars) == {"gate.coefficients", "experts.coefficients", "experts.log_scale"}
    names = ["gate.coefficients", "experts.coefficients", "experts.log_scale"]
    by_name = dict(zip(posterior.data_vars, drawn, strict=True))
    found = torch.cat([torch.as_tensor(by_name[name]) for name in names])
    torch.testing.assert_close(found, response.standard_deviations, rtol=0.2, atol=0)
    assert posterior.attrs["n_estimated_parameters"] == 0
    assert 0.0 < khat(data) < 1.0
    lp, log_q = (group(data, "sample_stats")[name].values.reshape(-1) for name in ("lp", "log_q"))
    assert abs(float((lp - log_q).std())) < 2.0


@pytest.mark.usefixtures("bad_arguments")
def test_what_cannot_be_refined_is_refused() -> None:
    result, x, y = lines_fit(1)
    with pytest.raises(TypeError, match="`result` must be what `fit` returned"):
        refine("result", x, y)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`x` and `y` must be the rows that were fitted"):
        refine(result, x, y + 1.0)
    with pytest.raises(ValueError, match="`n_draws`"):
        refine(result, x, y, n_draws=1)
    with pytest.raises(ValueError, match="`probability` must be below 1"):
        refine(result, x, y, n_draws=10, progress=False).interval(1.0)
    with pytest.raises(TypeError, match="`nuts` must be True or False; got 'no'"):
        refine(result, x, y, nuts="no")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`intervals` must be None where `samples` are given"):
        to_arviz(result, x, y, intervals="mean field", samples={})
    with pytest.raises(ValueError, match="`intervals` must be one of"):
        to_arviz(result, x, y, intervals="exact")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refine(result, x, y, n_draws=10, progress=False)


def test_one_component_is_the_posterior_itself() -> None:
    """Nothing is unknown: the posterior is exact, and its only weight is a site all the same."""
    x, y, _, _ = simulate(SETTINGS[0], 3, 40)
    result = fit(MixtureOfExperts(DirichletGate(1), LinearExperts(1, 1)), x, y, progress=False)
    data = to_arviz(result, x, y, n_draws=100, progress=False)
    assert khat(data) == -float("inf")
    assert bool((group(data, "posterior")["gate.weights"] == 1.0).all())
    samples = refine(result, x, y, n_draws=50, progress=False).samples
    assert group(to_arviz(result, x, y, samples=samples, progress=False), "posterior").sizes["draw"] == 50


def test_an_optimum_nearly_as_high_is_told_of() -> None:
    """Unlike experts can take each other's part, which no permutation of labels says."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(80, 1, generator=generator, dtype=torch.float64)
    first = torch.rand(80, generator=generator) < 0.5
    y = torch.where(first, 2 + x[:, 0], 0.5 * x[:, 0] - 2) + 0.5 * torch.randn(80, generator=generator).double()
    experts = HeterogeneousExperts([LinearExperts(1, 1), GLMExperts(1, 1, Gaussian())])
    result = fit(MixtureOfExperts(DirichletGate(2), experts), x, y, n_restarts=8, seed=0, progress=False)
    below = result.optima[0].bound - result.optima[1].bound
    assert below < 3.0
    found = refine(result, x, y, progress=False, nuts=False)
    assert any(f"another optimum is {below:.2g} nats lower" in caution for caution in found.cautions)
    other = refine(result.at(1), x, y, progress=False, nuts=False)
    assert not any("another optimum" in caution for caution in other.cautions)
    from_below = refine(result.optimum(1), x, y, progress=False, nuts=False)
    assert any(f"another optimum is {below:.2g} nats higher" in caution for caution in from_below.cautions)


def test_fixed_components_are_not_exchanged() -> None:
    """Two known normals of weights π and 1 − π: the posterior of π by quadrature has mass on both sides of a half."""
    generator = torch.Generator().manual_seed(4)
    x = torch.zeros(60, 0, dtype=torch.float64)
    means = torch.where(torch.rand(60, generator=generator) < 0.55, -0.5, 0.5)
    y = means.double() + torch.randn(60, generator=generator, dtype=torch.float64)
    experts = GLMExperts(2, 0, Gaussian())
    with torch.no_grad():
        experts.coefficients_estimate.copy_(torch.tensor([[[-0.5]], [[0.5]]]))
    for parameter in experts.parameters():
        parameter.requires_grad_(False)
    result = fit(MixtureOfExperts(DirichletGate(2), experts), x, y, n_restarts=1, progress=False)
    found = refine(result, x, y, n_draws=4000, progress=False).samples["gate.weights"][0, :, 0]
    grid = torch.linspace(0.0005, 0.9995, 1000, dtype=torch.float64).unsqueeze(1)
    normal = torch.distributions.Normal(torch.tensor([-0.5, 0.5]).double().unsqueeze(1), 1.0)
    first, second = normal.log_prob(y).exp()
    posterior = (grid * first + (1.0 - grid) * second).log().sum(1).softmax(0)
    mean = float(posterior @ grid[:, 0])
    deviation = float((posterior @ (grid[:, 0] - mean) ** 2).sqrt())
    assert float(found.mean()) == pytest.approx(mean, abs=0.1 * deviation)
    assert float(found.std()) == pytest.approx(deviation, rel=0.08)
    assert float(found.min()) < 0.45 < 0.55 < float(found.max())


@pytest.mark.parametrize("gate", [ObjectDirichletGate, MarginalObjectDirichletGate])
def test_a_learnt_mean_of_objects_is_an_estimate(gate: type[ObjectDirichletGate]) -> None:
    x, y, z, _ = simulate(SETTINGS[1], 3, 80)
    start = nn.functional.one_hot(z, 2).double() + 0.05
    result = fitted(gate(2, learn_mean=True), LinearExperts(2, 1), x, y, start, tolerance=1e-9)
    response = linear_response(result, x, y)
    assert response.names[-1] == "gate: component 1 against 0, intercept"
    found = refine(result, x, y, n_draws=100, progress=False)
    data = to_arviz(result.mixture, x, y, samples=found.samples, progress=False)
    assert group(data, "posterior")["gate.coefficients"].std() > 0.1
    weights = found.samples["gate.coefficients"][0, :, 0, 0].sigmoid()
    mean = torch.cat([torch.ones(80, 1).double(), x], 1) @ found.samples["experts.coefficients"][0, :, :, 0].mT
    deviation = found.samples["experts.precision"][0, :, :, 0].rsqrt().unsqueeze(1)
    each = torch.distributions.Normal(mean, deviation).log_prob(y)
    log_weights = torch.stack([(1.0 - weights).log(), weights.log()], -1).unsqueeze(1)
    known = (each + log_weights).logsumexp(-1)
    torch.testing.assert_close(torch.as_tensor(group(data, "log_likelihood")["experts.y"].values[0]), known)


def test_few_draws_by_nuts_are_compared_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    result, x, y = lines_fit(0)
    monkeypatch.setattr(module, "USABLE", -float("inf"))
    monkeypatch.setattr(module, "GOOD", -float("inf"))
    monkeypatch.setattr(nuts, "N_WARMUP", 5)
    monkeypatch.setattr(module, "MOST_ROUNDS", 1)
    monkeypatch.setattr(module, "approximate_posterior", lambda response, joint, freedom: _t_of(response))
    found = refine(result, x, y, n_draws=2, progress=False)
    assert found.rung == "NUTS"
    assert found.draws.shape == (2, 7)


def _t_of(response: LinearResponse) -> StudentT:
    """Return a t, whose k-hat is a number."""
    return StudentT.with_covariance(response.estimates, response.covariance, 5.0)


def test_nuts_that_is_left_out_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    result, x, y = lines_fit(1)
    monkeypatch.setattr(module, "USABLE", -1.0)
    monkeypatch.setattr(module, "GOOD", -1.0)
    found = refine(result, x, y, n_draws=10, nuts=False, progress=False)
    assert found.rung == "adaptive importance sampling"
    assert any("reweighted draws miss a part of the posterior" in caution for caution in found.cautions)
