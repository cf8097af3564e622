"""Diagnostics of fits whose rows share a component within groups."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributions import Normal

from mixpyro import fit, refine, to_arviz
from mixpyro.diagnostics import ResponsibilityDraws, as_arviz, compare_loo, exact_loo, loo, predictive_checks
from mixpyro.diagnostics.arviz_versions import datasets_of
from mixpyro.diagnostics.draws import draw_from_posterior, evaluate
from mixpyro.diagnostics.observations import Observations
from mixpyro.diagnostics.plots import plot_component_densities, plot_expert_lines
from mixpyro.groups import Groups
from mixpyro.numerics import blocks
from tests.grouped_fits import MIXTURES, N_GROUPS, Fitted, fitted

pytestmark = [
    pytest.mark.usefixtures("without_type_checks"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]
S = 30
CASES: dict[str, Fitted] = {}


def case(name: str) -> Fitted:
    """Return a fit, the same in all tests."""
    if name not in CASES:
        CASES[name] = fitted(name, tolerance=1e-9, max_iterations=200)
    return CASES[name]


def test_axes_are_of_groups_and_of_rows() -> None:
    own = case("softmax, counts")
    data = datasets_of(to_arviz(own.result, **own.rows, n_draws=S, intervals="mean field"))
    likelihood, constants = data["log_likelihood_of_guide"]["experts.y"], data["constant_data"]
    assert likelihood.dims == ("chain", "draw", "object")
    assert likelihood["object"].values.tolist() == list(own.problem.groups.ids)
    for name in ("posterior_predictive", "observed_data"):
        assert data[name]["experts.y"].dims[-1] == "row"
    assert constants["x"].dims == ("row", "feature") and constants["gate_x"].dims == ("row", "gate_feature")
    assert constants["group_number"].values.tolist() == own.problem.groups.index.tolist()
    np.testing.assert_array_equal(data["observed_data"]["experts.y"].values, own.problem.y[:, 0].numpy())


def test_log_likelihoods_are_those_of_groups_by_hand() -> None:
    own = case("dirichlet, lines")
    data = datasets_of(to_arviz(own.result, **own.rows, n_draws=S))
    draws = {name: torch.tensor(values.values[0]) for name, values in data["posterior"].data_vars.items()}
    x, y = own.problem.x[:, 0], own.problem.y[:, 0]
    by_hand = torch.zeros(S, N_GROUPS).double()
    for s in range(S):
        lines = draws["experts.coefficients"][s].reshape(2, 2)
        deviations = draws["experts.precision"][s].reshape(2).rsqrt()
        for g in range(N_GROUPS):
            rows = own.problem.groups.index == g
            log_joint = [
                draws["gate.weights"][s, k].log()
                + Normal(lines[k, 0] + lines[k, 1] * x[rows], deviations[k]).log_prob(y[rows]).sum()
                for k in range(2)
            ]
            by_hand[s, g] = torch.stack(log_joint).logsumexp(0)
    found = data["log_likelihood_of_guide"]["experts.y"].values[0]
    np.testing.assert_allclose(found, by_hand.numpy(), rtol=0, atol=1e-10)
    log_prior = sum(values.values for values in data["log_prior"].data_vars.values())
    np.testing.assert_allclose(data["sample_stats"]["lp"].values - log_prior, by_hand.sum(-1)[None].numpy(), atol=1e-8)


@pytest.mark.parametrize("name", ["softmax, counts", "own weights, lines", "dirichlet, unlike"])
def test_groups_are_sums_of_their_rows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log joint of a group is its log weight and the log densities of its rows; in blocks as at once."""
    own = case(name)
    data = to_arviz(own.result, **own.rows, n_draws=S)
    drawn = ResponsibilityDraws(data, own.result, **own.rows)
    at_once = evaluate(drawn.data, drawn.sites, S)
    alone = copy.deepcopy(own.result.mixture)
    alone.fitted_columns = None
    rows = Observations.checked(alone, own.problem.x, own.problem.y, own.rows.get("gate_x"))
    of_rows = evaluate(rows, drawn.sites, S).log_joint
    weights = of_rows - _log_likelihood(own, drawn, of_rows)
    first = own.problem.groups.first_rows
    expected = own.problem.groups.sum((of_rows - weights).movedim(1, -1)).movedim(-1, 1) + weights[:, first]
    torch.testing.assert_close(at_once.log_joint, expected, rtol=0, atol=1e-9)
    monkeypatch.setattr(blocks, "LIMITS", blocks.LIMITS._replace(numbers=40, program_factor=1))
    in_blocks = datasets_of(to_arviz(own.result, **own.rows, n_draws=S))["log_likelihood_of_guide"]["experts.y"]
    np.testing.assert_allclose(in_blocks.values[0], at_once.log_likelihood.numpy(), rtol=0, atol=1e-9)


def _log_likelihood(own: Fitted, drawn: ResponsibilityDraws, of_rows: torch.Tensor) -> torch.Tensor:
    """Return log p(y | x, k) of rows [S, N, K] from two groupings: a second copy of each row adds it once more."""
    mixture = copy.deepcopy(own.result.mixture)
    mixture.fitted_columns = None
    x, y = (torch.cat([part, part]) for part in (own.problem.x, own.problem.y))
    gate_x = own.rows.get("gate_x")
    twice = None if gate_x is None else torch.cat([gate_x, gate_x])
    number = torch.arange(len(own.problem.x)).repeat(2)
    return evaluate(Observations.checked(mixture, x, y, twice, number), drawn.sites, S).log_joint - of_rows


def test_groups_of_one_row_are_rows() -> None:
    options: dict[str, Any] = {"max_iterations": 30, "most_rows": 1, "tolerance": 1e-6}
    own = fitted("dirichlet, lines", **options)
    rows: dict[str, Any] = {"x": own.problem.x, "y": own.problem.y}
    alone = fit(MIXTURES["dirichlet, lines"](), **rows, n_restarts=1, max_iterations=30, tolerance=1e-6)
    assert alone.bound == own.result.bound
    grouped, ungrouped = (to_arviz(one, **rows, n_draws=100) for one in (own.result, alone))
    for name in ("log_likelihood_of_guide", "log_prior", "posterior", "sample_stats"):
        for variable, values in datasets_of(grouped)[name].data_vars.items():
            np.testing.assert_array_equal(values.values, datasets_of(ungrouped)[name][variable].values)
    assert exact_loo(own.result, **rows).elpd == exact_loo(alone, **rows).elpd
    assert compare_loo({"grouped": loo(grouped), "alone": loo(ungrouped)})["grouped"].difference == 0.0


def test_the_order_of_rows_does_not_matter() -> None:
    own = case("dirichlet, lines")
    order = torch.randperm(len(own.problem.x))
    groups = Groups.of([own.problem.ids[row] for row in order.tolist()])
    x, y = own.problem.x[order], own.problem.y[order]
    data = datasets_of(to_arviz(own.result.mixture, x, y, groups=groups, n_draws=S))
    same = datasets_of(to_arviz(own.result.mixture, own.problem.x, own.problem.y, groups=own.problem.ids, n_draws=S))
    found, expected = (one["log_likelihood_of_guide"]["experts.y"] for one in (data, same))
    np.testing.assert_allclose(found.sel(object=expected["object"]).values, expected.values, rtol=0, atol=1e-10)


def test_loo_leaves_groups_out() -> None:
    """Densities of a group that is left out are the mean over draws of the posterior of the others."""
    own = case("dirichlet, lines")
    rows, groups = own.rows, own.problem.groups
    exact, elpd = exact_loo(own.result, **rows), loo(to_arviz(own.result, **rows, n_draws=2000))
    assert len(elpd.pointwise) == len(exact.pointwise) == N_GROUPS
    trusted = elpd.pareto_k < 0.4
    assert trusted.sum() > 6 and np.abs(elpd.pointwise - exact.pointwise)[trusted].max() < 0.1
    for g in (2, 7):
        out = groups.index == g
        mixture = copy.deepcopy(own.result.mixture)
        start = own.result.responsibilities[torch.arange(N_GROUPS) != g]
        x, y = rows["x"], rows["y"]
        given: dict[str, Any] = {"groups": groups.index[~out], "initial_responsibilities": start, "tolerance": 1e-9}
        fit(mixture, x[~out], y[~out], **given, max_iterations=200)
        data = Observations.checked(mixture, x[out], y[out], None, groups.index[out])
        drawn = draw_from_posterior(data, 20000, objects=None, of_objects=False)
        found = evaluate(data, drawn.sites, 20000).log_likelihood
        assert abs(exact.pointwise[g] - float(found.exp().mean().log())) < 0.03


def test_models_that_leave_out_other_groups_are_refused() -> None:
    own = case("dirichlet, lines")
    elpd = loo(to_arviz(own.result, **own.rows, n_draws=100))

    assert elpd.groups is not None
    other = elpd._replace(groups=elpd.groups[::-1].copy())
    with pytest.raises(ValueError, match="`models` must leave out the same objects"):
        compare_loo({"one": elpd, "other": other})
    assert as_arviz(elpd) is not None


@pytest.mark.filterwarnings("ignore:Estimated shape parameter")
def test_arviz_leaves_groups_out_of_draws_by_refine() -> None:
    arviz = pytest.importorskip("arviz")
    own = case("dirichlet, lines")
    refined = refine(own.result, **own.rows, n_draws=400, nuts=False, progress=False)
    data = to_arviz(own.result, **own.rows, samples=refined.samples)
    found = arviz.loo(data, pointwise=True)
    values = getattr(found, "elpd_i", None)
    values = np.asarray(found.loo_i if values is None else values)
    assert values.shape == (N_GROUPS,)
    assert abs(float(values.sum()) - loo(data).elpd) < 0.5


def test_replicates_of_a_group_are_of_one_component() -> None:
    own = fitted("dirichlet, density", max_iterations=30)
    sites = {name: values[:1].expand(S, *values.shape[1:]) for name, values in _far_means(own).items()}
    data = Observations.checked(own.result, own.problem.x, own.problem.y, None)
    drawn = evaluate(data, sites, S, replicate=True).replicated
    assert drawn is not None and drawn.shape == (S, len(own.problem.x), 1)
    is_high = (drawn[..., 0] > 0).double()
    of_groups = data.groups.sum(is_high) / data.groups.segments.sizes
    assert bool(((of_groups == 0) | (of_groups == 1)).all()) and 0 < float(of_groups.mean()) < 1
    values = to_arviz(own.result, own.problem.x, own.problem.y, n_draws=S)
    checks = predictive_checks(values)
    assert checks["mean"].replicated.shape == (S,)


def _far_means(own: Fitted) -> dict[str, torch.Tensor]:
    """Return a draw of the posterior with the means of the components far apart."""
    drawn = datasets_of(to_arviz(own.result, own.problem.x, own.problem.y, n_draws=1, intervals="mean field"))[
        "posterior"
    ]
    sites = {str(name): torch.tensor(values.values[0]) for name, values in drawn.data_vars.items()}
    far = torch.tensor([[-100.0], [100.0]]).double()
    return sites | {"experts.mean": far.reshape(sites["experts.mean"].shape)}


def test_replicates_are_in_the_order_of_the_rows() -> None:
    own = case("dirichlet, lines")
    x = 50.0 * own.problem.x
    data = to_arviz(own.result.mixture, x, own.problem.y, groups=own.problem.ids, n_draws=200, intervals="mean field")
    drawn = datasets_of(data)["posterior_predictive"]["experts.y"].values[0]
    assert np.corrcoef(np.abs(drawn).mean(0), np.abs(x[:, 0].numpy()))[0, 1] > 0.95


def test_weights_of_groups_enter_lp() -> None:
    own = case("dirichlet, lines")
    of_groups = torch.linspace(0.5, 2.0, N_GROUPS).double()
    weights = own.problem.groups.spread(of_groups)
    weighted = fitted("dirichlet, lines", weights=weights, max_iterations=30)
    data = datasets_of(to_arviz(weighted.result, **weighted.rows, n_draws=S, intervals="mean field"))
    assert data["constant_data"]["weights"].dims == ("object",)
    log_prior = sum(values.values for values in data["log_prior"].data_vars.values())
    likelihood = data["log_likelihood_of_guide"]["experts.y"].values @ of_groups.numpy()
    np.testing.assert_allclose(data["sample_stats"]["lp"].values, likelihood + log_prior, rtol=0, atol=1e-8)


def test_responsibilities_of_draws_are_of_groups() -> None:
    own = case("sticks, lines")
    data = to_arviz(own.result, **own.rows, n_draws=S)
    drawn = ResponsibilityDraws(data, own.result, **own.rows)
    blocks_of_draws = np.concatenate(list(drawn))
    assert blocks_of_draws.shape == (S, N_GROUPS, 2)
    np.testing.assert_allclose(drawn.summary().mean, blocks_of_draws.mean(0), rtol=0, atol=1e-12)


def test_other_groups_than_those_of_the_fit_are_refused() -> None:
    own = case("dirichlet, lines")
    with pytest.raises(ValueError, match="`groups` must be those of the fit, 12 groups; got 30 groups"):
        to_arviz(own.result, **own.rows, groups=range(30))
    with pytest.raises(ValueError, match="`groups` must be given, as in the fit"):
        to_arviz(own.result.mixture, **own.rows)
    with pytest.raises(ValueError, match="`groups` must be None for a gate"):
        to_arviz(own.result.mixture.gate, own.problem.x, groups=own.problem.ids)


def test_plots_colour_rows_by_their_groups() -> None:
    path_collection = pytest.importorskip("matplotlib.collections").PathCollection
    own = case("dirichlet, lines")
    ax = plot_expert_lines(to_arviz(own.result, **own.rows, n_draws=S), own.result)
    points = [one for one in ax.collections if isinstance(one, path_collection)]
    component = own.problem.groups.spread(own.result.shares).argmax(-1)
    assert [len(one.get_offsets()) for one in points] == component.unique(return_counts=True)[1].tolist()
    colours = [np.unique(np.asarray(one.get_facecolor())[:, :3], axis=0) for one in points]
    assert all(len(one) == 1 for one in colours) and len(np.unique(np.concatenate(colours), axis=0)) == len(points)
    plot_component_densities(own.result, **own.rows)
