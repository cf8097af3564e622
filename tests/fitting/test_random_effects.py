"""Fits of mixtures of regressions with random effects of groups."""

import copy
import csv
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from pyro.infer import Predictive, TraceEnum_ELBO
from torch import Tensor

from mixpyro import (
    DirichletGate,
    FitResult,
    Groups,
    HeterogeneousExperts,
    LinearExperts,
    MixtureOfExperts,
    RandomEffectsExperts,
    StickBreakingGate,
    StreamingFit,
    coefficients,
    criteria,
    fit,
    fit_minibatches,
    linear_response,
    load,
    refine,
    save,
    variance_components,
)
from tests.benchmarks.random_effects import simulated, truth
from tests.conftest import DATA
from tests.intervals.gibbs_random_effects import Rows, draws

pytestmark = pytest.mark.usefixtures("without_type_checks")

EFFECTS: list[int | str] = ["intercept", 0]


def sleepstudy() -> tuple[Tensor, Tensor, list[str]]:
    """Days [180, 1], reaction times [180] and subjects."""
    with (DATA / "sleepstudy.csv").open() as file:
        rows = list(csv.DictReader(file))
    x, y = (torch.tensor([float(row[name]) for row in rows]).double() for name in ("Days", "Reaction"))
    return x.unsqueeze(1), y, [row["Subject"] for row in rows]


def mixture(n_components: int = 2, **options: Any) -> MixtureOfExperts:
    """Random intercepts and slopes."""
    experts = RandomEffectsExperts(n_components, 1, EFFECTS, **options)
    return MixtureOfExperts(DirichletGate(n_components), experts)


def two_kinds(n_groups: int = 40, **options: Any) -> tuple[FitResult, Tensor, Tensor, Tensor]:
    """A fit of two components, in shuffled rows, with its data."""
    x, y, groups = simulated(n_groups, 1, 0)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    x, y, groups = x[order], y[order], groups[order]
    result = fit(mixture(**options), x, y, groups=groups, n_restarts=2, seed=0, progress=False)
    return result, x, y, groups


def test_one_component_agrees_with_lme4() -> None:
    """REML of lme4 1.1: fixed 251.405 and 10.467; deviations 24.741, 5.922 and 25.592, correlation 0.066."""
    x, y, groups = sleepstudy()
    result = fit(mixture(1), x, y, groups=groups, n_restarts=1, tolerance=1e-9, progress=False)
    table = coefficients(result, x, y, feature_names=["days"])
    for name, estimate, error in (("intercept", 251.405, 6.825), ("days", 10.467, 1.546)):
        row = table[f"experts: component 0, {name}"]
        assert row.estimate == pytest.approx(estimate, rel=1e-3)
        assert row.standard_error == pytest.approx(error, rel=0.1)
    components = variance_components(result, x, y, feature_names=["days"])
    for name, value, tolerance in (
        ("sd of random intercept", 24.741, 2.5),
        ("sd of random days", 5.922, 0.3),
        ("correlation of random days and random intercept", 0.066, 0.15),
        ("sd of noise", 25.592, 0.3),
    ):
        found = components[f"component 0, {name}"]
        assert found.estimate == pytest.approx(value, abs=tolerance), name
        assert found.low < value < found.high


def test_two_components_agree_with_the_exact_posterior() -> None:
    result, x, y, groups = two_kinds(60)
    table = coefficients(result, x, y)
    order = Groups.of(groups)
    experts = result.mixture.experts
    assert isinstance(experts, RandomEffectsExperts)
    exact = draws(Rows(x, y, order.index, [0, 1]), experts.prior_from_zero, result.responsibilities.argmax(1), 300)
    covariance = exact["covariance"]
    quantities = {
        "gate: component 1 against 0, log weight": (exact["weights"][:, 1] / exact["weights"][:, 0]).log(),
        "experts: component 0, intercept": exact["coefficients"][:, 0, 0],
        "experts: component 1, x0": exact["coefficients"][:, 1, 1],
        "experts: component 0, log precision": exact["precision"][:, 0].log(),
        "experts: component 1, log precision of random intercept": -covariance[:, 1, 0, 0].log(),
        "experts: component 0, regression of random x0 on random intercept": covariance[:, 0, 0, 1]
        / covariance[:, 0, 0, 0],
    }
    for name, values in quantities.items():
        row, deviation = table[name], float(values.std())
        assert abs(row.estimate - float(values.mean())) < 0.3 * deviation, name
        assert 0.82 < row.standard_error / deviation < 1.2, name


def test_many_groups_are_found_to_within_two_standard_errors() -> None:
    x, y, groups = simulated(400, 1, 3)
    result = fit(mixture(), x, y, groups=groups, n_restarts=2, seed=0, progress=False)
    rows = [row for name, row in coefficients(result, x, y).items() if not name.startswith("gate")]
    is_reversed = rows[1].estimate < 0.0
    expected = truth()[1:]
    if is_reversed:
        parts = expected.split([4, 2, 4, 2])
        expected = torch.cat([part.unflatten(0, (2, -1)).flip(0).flatten() for part in parts])
    outside = sum(
        abs(row.estimate - float(v)) > 2.0 * row.standard_error for row, v in zip(rows, expected, strict=True)
    )
    assert outside <= 2


def test_the_bound_rises_and_is_below_the_elbo_of_the_program_without_effects() -> None:
    """The program has the effects integrated out exactly, so its ELBO is a little higher."""
    result, x, y, groups = two_kinds()
    assert min(torch.tensor(result.runs[0].trace).diff()) > -1e-8
    own = result.mixture
    assert float(own.bound(x, y, groups=groups)) == pytest.approx(result.bound, abs=1e-6)
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    values = torch.tensor(
        [-elbo.loss(lambda: own.model(x, y, groups=groups), lambda: own.guide(x, y, groups=groups)) for _ in range(30)]
    )
    excess, error = float(values.mean()) - result.bound, float(values.std()) / math.sqrt(30)
    assert -3.0 * error < excess < 3.0 + 3.0 * error


def test_units_and_origins_change_no_responsibility() -> None:
    result, x, y, groups = two_kinds()
    other = fit(mixture(), 1e3 * x + 5e4, 1e-3 * y - 7.0, groups=groups, n_restarts=2, seed=0, progress=False)
    torch.testing.assert_close(other.responsibilities, result.responsibilities, rtol=0, atol=1e-5)
    first, second = result.mixture.experts, other.mixture.experts
    slopes = second.effect_covariances[:, 1, 1] * 1e12
    torch.testing.assert_close(slopes, first.effect_covariances[:, 1, 1], rtol=1e-3, atol=0)


def test_without_a_random_intercept_slopes_are_of_x_from_zero() -> None:
    """A shift of x is another model then; units change nothing."""
    x, y, groups = simulated(30, 1, 0)

    def fitted(scale: float) -> FitResult:
        own = MixtureOfExperts(DirichletGate(1), RandomEffectsExperts(1, 1, [0]))
        return fit(own, scale * (x + 5.0), y, groups=groups, n_restarts=1, progress=False)

    first, second = fitted(1.0), fitted(100.0)
    ratio = first.mixture.experts.effect_covariances / second.mixture.experts.effect_covariances
    torch.testing.assert_close(ratio, torch.full_like(ratio, 1e4), rtol=1e-4, atol=0)


def test_effects_of_groups_predict_their_rows() -> None:
    result, x, y, groups = two_kinds()
    own, order = result.mixture, Groups.of(groups)
    experts = own.experts
    assert isinstance(experts, RandomEffectsExperts)
    effects = experts.effects_of_groups(x, y, groups)
    r = own.assign(x, y, groups=groups).responsibilities
    of_rows = experts.predict_rows(x, order.index, effects)
    known = (r[order.index] * of_rows).sum(1)
    new = own.predict(x, responsibilities=r[order.index])[:, 0]
    assert (known - y).square().mean() < 0.5 * (new - y).square().mean()
    # By least squares of a group's rows, drawn towards zero.
    rows, k = order.index == 3, int(r[3].argmax())
    u = torch.cat([torch.ones_like(x[rows]), x[rows]], 1)
    q = experts.posterior_from_zero
    ridge = q.effect_precision[k] / q.noise.mean[k]
    mean = torch.linalg.solve(u.mT @ u + ridge, u.mT @ (y[rows] - u @ q.mean[k]))
    torch.testing.assert_close(effects.means[3, k], mean)
    with pytest.raises(ValueError, match=r"`groups` must be \d+ integers from 0 to 39"):
        experts.predict_rows(x, order.index + 40, effects)


@pytest.mark.parametrize("shared", ["noise_per_component", "covariance_per_component"])
def test_what_components_share_is_one_parameter(shared: str) -> None:
    result, x, y, groups = two_kinds(**{shared: False})
    assert criteria(result, x, y).n_parameters == 1 + 4 + 2 + 6 - (1 if shared.startswith("noise") else 3)
    assert min(torch.tensor(result.runs[0].trace).diff()) > -1e-8
    assert ("log precision" in result.mixture.experts.quantity_names(["x0"])) == shared.startswith("noise")
    n_noises, n_effects = (1, 6) if shared.startswith("noise") else (2, 3)
    assert len(variance_components(result, x, y)) == n_noises + n_effects


def test_every_way_to_fit_ends_near_the_same_posterior(tmp_path: Path) -> None:
    result, x, y, groups = two_kinds()
    minibatches = fit_minibatches(mixture(), x, y, groups=groups, batch_size=200, n_restarts=2, n_epochs=8, seed=0)
    assert minibatches.bound > result.bound - 3.0
    order = groups.argsort(stable=True)
    half = int((groups[order] < 20).sum())
    stream = StreamingFit(mixture(), n_objects=40)
    for rows in (order[:half], order[half:]) * 4:
        stream.partial_fit(x[rows], y[rows], groups=groups[rows])
    assert float(stream.mixture.bound(x, y, groups=groups)) > result.bound - 20.0
    narrow = fit(mixture(), x.float(), y.float(), groups=groups, n_restarts=2, seed=0, progress=False)
    assert narrow.bound == pytest.approx(result.bound, abs=0.05)
    twice = fit(mixture(), x, y, groups=groups, weights=torch.full_like(y, 2.0), n_restarts=2, seed=0, progress=False)
    copies = fit(
        mixture(), x.repeat(2, 1), y.repeat(2), groups=torch.cat([groups, groups + 40]), n_restarts=2, progress=False
    )
    assert twice.bound == pytest.approx(copies.bound, abs=1e-3)
    save(result.mixture, tmp_path / "mixture.model")
    for own in (load(tmp_path / "mixture.model"), copy.deepcopy(result.mixture)):
        assert isinstance(own, MixtureOfExperts)
        assert torch.equal(own.bound(x, y, groups=groups), result.mixture.bound(x, y, groups=groups))


def test_refinement_and_predictive_draws() -> None:
    result, x, y, groups = two_kinds(14)
    refined = refine(result, x, y)
    assert refined.cautions == ()
    drawn = Predictive(result.mixture.model, guide=result.mixture.guide, num_samples=40)(x, groups=groups)["experts.y"]
    assert drawn.shape == (40, len(x), 1)
    own = result.mixture.predictive(x)
    assert float((drawn[..., 0].mean(0) - own.mean[:, 0]).abs().mean()) < 1.0
    together = float(result.mixture.log_prob(x, y, groups=groups).sum())
    assert together > float(own.log_prob(y.unsqueeze(1)).sum())


def test_superfluous_components_are_left_empty_and_stay_finite() -> None:
    x, y, groups = simulated(30, 1, 0)
    own = MixtureOfExperts(StickBreakingGate(4), RandomEffectsExperts(4, 1, EFFECTS))
    result = fit(own, x, y, groups=groups, n_restarts=2, seed=0, progress=False)
    assert math.isfinite(result.bound)
    assert own.predict(x).isfinite().all()


def test_a_prior_that_outweighs_the_groups_is_told() -> None:
    x, y, groups = simulated(40, 1, 0)
    with pytest.warns(RuntimeWarning, match="variance of the random effect 'intercept'.*`effect_scale`"):
        fit(mixture(1, effect_scale=[1e4, 0.1]), x, y, groups=groups, n_restarts=1, progress=False)


def test_groups_of_one_row_are_told() -> None:
    x, y, _ = sleepstudy()
    with pytest.warns(RuntimeWarning, match=r"groups have 1.00 rows on average.*random intercepts and noise"):
        fit(mixture(1), x, y, groups=range(len(x)), n_restarts=1, progress=False)


def test_influence_and_sandwich_are_of_groups() -> None:
    result, x, y, groups = two_kinds(14)
    response = linear_response(result, x, y)
    assert response.influence().shape == (14, 13)
    torch.testing.assert_close(response.sandwich(groups), response.sandwich())
    with pytest.raises(ValueError, match="`groups` must have an id for each of"):
        response.sandwich(torch.arange(14))


def test_what_does_not_fit_is_refused() -> None:
    x, y, _ = sleepstudy()
    with pytest.raises(ValueError, match="`groups` must be given for RandomEffectsExperts"):
        fit(mixture(), x, y)
    with pytest.raises(ValueError, match="`members` must have rows that are independent given their component"):
        HeterogeneousExperts([RandomEffectsExperts(1, 1), LinearExperts(1, 1)])
    for bad in (["x0"], [1], [0, 0], [], [True]):
        with pytest.raises(ValueError, match="`random_effects` must be different columns of x"):
            RandomEffectsExperts(1, 1, bad)
    with pytest.raises(TypeError, match="`random_effects` must be a sequence"):
        RandomEffectsExperts(1, 1, "intercept")
    with pytest.raises(ValueError, match="`effect_degrees` must be above 1"):
        RandomEffectsExperts(1, 1, EFFECTS, effect_degrees=0.5)
    with pytest.raises(ValueError, match="`fitted` must be of RandomEffectsExperts"):
        plain = MixtureOfExperts(DirichletGate(1), LinearExperts(1, 1))
        variance_components(fit(plain, x, y, n_restarts=1, progress=False), x, y)
