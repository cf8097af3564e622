"""A tree gate on every path: fits, streams, files, intervals, draws, plots and Pyro programs."""

import copy
import functools
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import MCMC, NUTS, Predictive
from pyro.optim import ClippedAdam
from torch import Tensor

from mixpyro import (
    ConjugateSVI,
    DirichletGate,
    FitResult,
    LinearExperts,
    MixtureOfExperts,
    StreamingFit,
    TreeGate,
    coefficients,
    compare,
    criteria,
    fit,
    fit_minibatches,
    linear_response,
    load,
    refine,
    save,
    to_arviz,
)
from mixpyro.diagnostics import plots, relabel
from mixpyro.diagnostics.labels import Alignment
from mixpyro.intervals.relabelling import Relabelling
from tests.tree_search.problems import rows_of, tree_of_lines

pytestmark = [
    pytest.mark.usefixtures("without_type_checks"),
    pytest.mark.filterwarnings("ignore:only one of", "ignore:the noise of component"),
]
TREE = ((0, 1), 2)
N = 120
ROWS = rows_of(TREE, [[0.5, 3.0, 0.0], [0.0, 0.0, 3.0]], N)
X, Y, LEAVES = ROWS


@functools.cache
def cached() -> FitResult:
    """A fit from a start near the truth, which no test changes."""
    start = torch.nn.functional.one_hot(LEAVES, 3).double() + 0.05
    return fit(tree_of_lines(TREE), X, Y, initial_responsibilities=start, tolerance=1e-10, progress=False)


def fitted() -> FitResult:
    """A fit of one's own."""
    return copy.deepcopy(cached())


def fit_once(**options: Any) -> FitResult:
    """A fit from a start near the truth."""
    start = torch.nn.functional.one_hot(LEAVES, 3).double() + 0.05
    return fit(tree_of_lines(TREE), X, Y, initial_responsibilities=start, tolerance=1e-10, progress=False, **options)


def test_a_fit_never_lowers_the_bound_which_is_that_of_the_mixture() -> None:
    result = cached()
    assert result.converged
    assert min(np.diff(result.trace)) > -1e-8
    assert float(result.mixture.bound(X, Y)) == pytest.approx(result.bound, abs=1e-7)
    assert float((result.responsibilities.argmax(-1) == LEAVES).double().mean()) > 0.9


def test_a_row_of_weight_two_is_two_rows() -> None:
    weights = torch.ones(N).double()
    weights[:40] = 2.0
    rows = torch.cat([torch.arange(N), torch.arange(40)])
    start = torch.nn.functional.one_hot(LEAVES, 3).double() + 0.05
    twice = fit(
        tree_of_lines(TREE), X[rows], Y[rows], initial_responsibilities=start[rows], tolerance=1e-10, progress=False
    )
    assert fit_once(weights=weights).bound == pytest.approx(twice.bound, abs=1e-4)


def test_known_components_are_kept() -> None:
    mask = torch.arange(N) < 40
    result = fit(tree_of_lines(TREE), X, Y, observed=LEAVES, mask=mask, n_restarts=3, progress=False)
    assert torch.equal(result.responsibilities[mask].argmax(-1), LEAVES[mask])


def test_inputs_of_the_gates_own_are_read() -> None:
    gate = TreeGate(TREE, 1)
    result = fit(MixtureOfExperts(gate, LinearExperts(3, 2)), X, Y, gate_x=X[:, :1], n_restarts=2, progress=False)
    weights = result.mixture.gate.weights(X[:, :1])
    found = result.mixture.predictive(X, gate_x=X[:, :1]).mixture_distribution.probs
    torch.testing.assert_close(found, weights)


def test_a_fit_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    options: dict[str, Any] = {"n_restarts": 3, "progress": False, "checkpoint": tmp_path / "file"}
    first = fit(tree_of_lines(TREE), X, Y, **options)
    again = fit(tree_of_lines(TREE), X, Y, **options)
    assert again.bound == first.bound


@pytest.mark.filterwarnings("ignore:the bound still changed")
def test_minibatches_and_streams_come_near_the_fit() -> None:
    in_batches = fit_minibatches(tree_of_lines(TREE), X, Y, batch_size=60, n_epochs=20, n_restarts=6, progress=False)
    assert in_batches.bound == pytest.approx(cached().bound, abs=1.0)
    stream = StreamingFit(tree_of_lines(TREE), n_objects=N, n_restarts=6)
    for _ in range(10):
        for rows in (slice(0, 60), slice(60, 120)):
            stream.partial_fit(X[rows], Y[rows])
    assert float(stream.mixture.bound(X, Y)) > cached().bound - 3.0


def test_float32_finds_what_float64_finds() -> None:
    start = torch.nn.functional.one_hot(LEAVES, 3) + 0.05
    single = fit(tree_of_lines(TREE), X.float(), Y.float(), initial_responsibilities=start.float(), progress=False)
    assert single.bound == pytest.approx(cached().bound, abs=0.05)
    torch.testing.assert_close(single.mixture.gate.coefficients, cached().mixture.gate.coefficients, rtol=0, atol=0.02)


def test_a_saved_mixture_has_its_tree(tmp_path: Path) -> None:
    mixture = fitted().mixture
    save(mixture, tmp_path / "file")
    loaded = load(tmp_path / "file")
    assert loaded.gate.tree == TREE
    assert torch.equal(loaded.bound(X, Y), mixture.bound(X, Y))


def test_intervals_are_wider_than_those_of_the_mean_field() -> None:
    names = ["age", "dose"]
    by_response = coefficients(cached(), X, Y, feature_names=names)
    alone = coefficients(cached(), X, Y, feature_names=names, intervals="mean field")
    wanted = [f"gate: {name}" for name in cached().mixture.gate.coefficient_names(names)]
    assert list(by_response)[:6] == wanted
    assert all(by_response[name].standard_error > 0.99 * alone[name].standard_error for name in wanted)
    assert any(by_response[name].standard_error > 1.02 * alone[name].standard_error for name in wanted)


def test_criteria_count_the_labellings_of_the_tree() -> None:
    """Components 0 and 1 may change places, and neither with 2."""
    found = criteria(cached(), X, Y)
    assert found.log_evidence == pytest.approx(cached().bound + np.log(2.0))
    assert found.n_parameters == cached().mixture.experts.n_parameters + 6
    assert list(compare({"tree": cached(), "again": cached()}, X, Y)) == ["tree", "again"]


def test_draws_are_named_by_node_and_relabelled_within_the_tree() -> None:
    data = to_arviz(cached(), X, Y, n_draws=20, feature_names=["age", "dose"])
    drawn = data.posterior["gate.coefficients"]
    assert drawn.dims == ("chain", "draw", "gate_node", "gate_regressor")
    assert list(drawn["gate_node"].values) == ["components 0, 1 against 2", "component 0 against 1"]
    order = np.tile([0, 1, 2], (20, 1))
    order[::2] = [1, 0, 2]
    given = Alignment(order, np.ones((20, 3)), np.full((N, 3), 1 / 3), 1)
    moved = relabel(data, given).posterior["gate.coefficients"].values[0]
    np.testing.assert_array_equal(moved[1::2], drawn.values[0, 1::2])
    np.testing.assert_array_equal(moved[::2, 0], drawn.values[0, ::2, 0])
    np.testing.assert_array_equal(moved[::2, 1], -drawn.values[0, ::2, 1])
    order[0] = [2, 1, 0]
    with pytest.raises(ValueError, match="`order` must map the tree"):
        relabel(data, given)


def test_relabelled_draws_have_the_same_density() -> None:
    """Of rows and of the prior, evaluated at the draws and at their images."""
    mixture = cached().mixture
    images = Relabelling(mixture, [False] * 3)
    theta = torch.randn(4, images.parameters.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = [images.parameters.values(image) for image in images.images(theta)]
    assert images.orders == [(0, 1, 2), (1, 0, 2)]
    site = mixture.gate.site("coefficients")
    weights = [mixture.gate.log_weights_at(X, values[site]) for values in found]
    torch.testing.assert_close(weights[1], weights[0][..., [1, 0, 2]])
    prior = mixture.gate.weights_distribution(mixture.gate.prior, torch.float64)
    torch.testing.assert_close(prior.log_prob(found[1][site]), prior.log_prob(found[0][site]))


def test_refined_draws_and_linear_response_agree() -> None:
    refined = refine(cached(), X, Y, progress=False)
    response = linear_response(cached(), X, Y)
    draws = torch.as_tensor(np.asarray(refined.samples["gate.coefficients"])).flatten(0, -3)
    sd = response.standard_deviations[:6].reshape(2, 3)
    deviation = (draws.mean(0) - response.estimates[:6].reshape(2, 3)) / sd
    assert float(deviation.abs().max()) < 0.5
    torch.testing.assert_close(draws.std(0), sd, rtol=0.35, atol=0.0)


def test_pictures_of_the_gate_are_drawn() -> None:
    """And one of weights that all objects share is refused."""
    data = to_arviz(cached(), X, Y, n_draws=20)
    assert plots.plot_gate_map(data, cached()) is not None
    assert plots.plot_gate_curve(data, cached()) is not None
    with pytest.raises(ValueError, match=r"`data` must have draws of 'gate.weights'"):
        plots.plot_weights_forest(data)


def test_one_component_has_nothing_to_decide() -> None:
    result = fit(tree_of_lines((0,)), X, Y, n_restarts=1, progress=False)
    plain = fit(MixtureOfExperts(DirichletGate(1), LinearExperts(1, 2)), X, Y, n_restarts=1, progress=False)
    assert result.bound == pytest.approx(plain.bound)
    assert "gate.coefficients" not in coefficients(result, X, Y)
    assert "experts.coefficients" in to_arviz(result, X, Y, n_draws=5).posterior
    assert float(result.mixture.gate.kl_divergence()) == 0.0
    assert len(refine(result, X, Y, progress=False).samples)


def test_far_rows_and_columns_of_any_size_have_weights() -> None:
    gate = fitted().mixture.gate
    for far in (1e3, 1e8, 1e100):
        weights = gate.weights(far * X)
        torch.testing.assert_close(weights.sum(-1), torch.ones(N).double())
        assert bool(gate.expected_log_weights(far * X).isfinite().all())
    # E σ(η) goes to Φ(m / s) as both grow, and not to zero or one.
    torch.testing.assert_close(gate.weights(1e6 * X), gate.weights(1e9 * X), rtol=1e-3, atol=1e-4)


def program(gate: TreeGate, x: Tensor, y: Tensor | None) -> None:
    """Rows about one of three levels."""
    plate = pyro.plate("objects", len(x), dim=-1)
    z = gate.model(x, plate=plate)
    with plate:
        pyro.sample("y", dist.Normal(torch.tensor([3.0, 0.0, -3.0]).double()[z], 0.5), obs=y)


def levels() -> tuple[Tensor, Tensor]:
    """Rows of the program, and y."""
    noise = 0.5 * torch.randn(N, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return X, torch.tensor([3.0, 0.0, -3.0]).double()[LEAVES] + noise


def trained() -> TreeGate:
    """The gate of the program after steps of the natural gradient."""
    gate, (x, y) = TreeGate(TREE, 2, name="tree"), levels()
    model = functools.partial(program, gate)
    svi = ConjugateSVI(model, lambda x, y: None, ClippedAdam({"lr": 0.01}), gates=gate)
    losses = [svi.step(x, y) for _ in range(40)]
    assert losses[-1] < losses[0]
    assert losses[-1] == pytest.approx(losses[-2], abs=1e-3)
    return gate


@pytest.mark.usefixtures("without_type_checks")
def test_a_program_trained_by_natural_gradients_has_the_moments_of_nuts() -> None:
    """Means within half a standard deviation and standard deviations within a third, of 300 draws."""
    gate, (x, y) = trained(), levels()
    fresh = TreeGate(TREE, 2, name="tree")
    torch.manual_seed(0)
    mcmc = MCMC(NUTS(lambda: program(fresh, x, y)), num_samples=300, warmup_steps=100, disable_progbar=True)
    mcmc.run()
    draws = mcmc.get_samples()["tree.coefficients"]
    sd = draws.std(0)
    assert float(((draws.mean(0) - gate.coefficients) / sd).abs().max()) < 0.5
    torch.testing.assert_close(gate.covariance.diagonal(dim1=-2, dim2=-1).sqrt(), sd, rtol=0.33, atol=0.0)


def test_predictive_draws_the_coefficients() -> None:
    gate, (x, _) = trained(), levels()
    drawn = Predictive(lambda: program(gate, x, None), num_samples=5)()
    assert drawn["tree.coefficients"].shape[-2:] == (2, 3)
    assert drawn["y"].shape == (5, N)
