"""Alignment restores shuffled labels, and reports components that cannot be told apart."""

import numpy as np
import pytest
import torch

from mixpyro import DirichletGate, LinearExperts, MixtureOfExperts, fit, to_arviz
from mixpyro.diagnostics import Alignment, ResponsibilityDraws, align, relabel
from mixpyro.diagnostics.arviz_versions import container, group
from tests.diagnostics.fits import fitted


def separated(
    rng: np.random.Generator, n_components: int, n_draws: int, n_objects: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return responsibilities of certain assignments with noise, shuffled [S, N, K], and the shuffles [S, K]."""
    z = np.concatenate([np.arange(n_components), rng.integers(n_components, size=n_objects - n_components)])
    raw = 8.0 * np.eye(n_components)[z] + rng.normal(size=(n_draws, n_objects, n_components))
    clean = np.exp(raw) / np.exp(raw).sum(-1, keepdims=True)
    shuffles = np.stack([rng.permutation(n_components) for _ in range(n_draws)])
    return np.stack([draw[:, shuffle] for draw, shuffle in zip(clean, shuffles, strict=True)]), shuffles


def test_every_shuffle_of_separated_components_is_undone() -> None:
    rng = np.random.default_rng(0)
    for case in range(100):
        n_components = 2 + case % 7
        shuffled, shuffles = separated(rng, n_components, 6, 30)
        found = align(shuffled)
        labels = np.take_along_axis(shuffles, found.order, 1)
        assert (labels == labels[0]).all()
        assert found.trusted
        assert found.of_components.min() > 0.7


def test_components_that_cannot_be_told_apart_are_named() -> None:
    """The first two share their objects at random, draw by draw; the third is certain."""
    rng = np.random.default_rng(0)
    component = np.repeat([0, 1], [40, 20])
    share = rng.beta(0.5, 0.5, size=(50, 60))
    draws = np.stack(
        [share * (component == 0), (1 - share) * (component == 0), np.ones((50, 1)) * (component == 1)], -1
    )
    found = align(draws)
    assert not found.trusted
    assert (found.of_components[:2] < 0.5).all()
    assert found.of_components[2] > 0.9
    assert "NOT to be trusted for components [0, 1]" in str(found)


def test_uncertain_but_stable_responsibilities_are_trusted() -> None:
    """One component lies inside another: no object is certain, but all draws agree."""
    rng = np.random.default_rng(0)
    inner = np.clip(np.linspace(0.3, 0.6, 50) + 0.01 * rng.normal(size=(20, 50)), 0, 1)
    draws = np.stack([inner, 1 - inner], -1)
    draws[::2] = draws[::2, :, ::-1]
    found = align(draws)
    assert found.trusted
    assert (found.order[::2] == found.order[0]).all()
    assert (found.order[1::2] == found.order[0][::-1]).all()


def test_blocks_and_a_given_reference() -> None:
    rng = np.random.default_rng(1)
    shuffled, shuffles = separated(rng, 4, 10, 25)
    whole, blocks = align(shuffled), align([shuffled[:3], shuffled[3:]])
    np.testing.assert_array_equal(whole.order, blocks.order)
    np.testing.assert_allclose(whole.reference, blocks.reference)
    given = align(shuffled, reference=whole.reference[:, ::-1])
    np.testing.assert_array_equal(given.order, whole.order[:, ::-1])
    assert given.n_passes == 1


def test_two_solutions_of_a_fit_are_aligned() -> None:
    result, x, y = fitted("dirichlet", 3)
    start = result.responsibilities[:, [2, 0, 1]]
    other = fit(
        MixtureOfExperts(DirichletGate(3, concentration=2.0), LinearExperts(3, 1)),
        x,
        y,
        initial_responsibilities=start,
        progress=False,
    )
    found = align([result.responsibilities.numpy(), other.responsibilities.numpy()])
    np.testing.assert_array_equal(found.order, [[0, 1, 2], [1, 2, 0]])
    assert found.trusted


def test_draws_whose_labels_switch_are_restored() -> None:
    """Half of a posterior's draws are relabelled, as by a chain that switches labels."""
    result, x, y = fitted("dirichlet", 3)
    data = to_arviz(result, x, y, n_draws=40)
    samples = {name: torch.as_tensor(values.values) for name, values in group(data, "posterior").items()}
    for name in samples:
        samples[name] = torch.cat([samples[name][:, :20], samples[name][:, 20:, [1, 2, 0]]], 1)
    switched = to_arviz(result.mixture, x, y, samples=samples)
    responsibilities = ResponsibilityDraws(switched, result, x, y)
    found = align(responsibilities, reference=result.responsibilities.numpy())
    restored = relabel(switched, found)
    assert found.trusted
    for name, values in group(data, "posterior").items():
        np.testing.assert_array_equal(restored["posterior"][name].values, values.values)
        assert restored["posterior"][name].dims == values.dims
        np.testing.assert_array_equal(restored["posterior"][name].coords["component"].values, [0, 1, 2])


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`responsibilities` must be \[draws, objects, components\]; got shape \[3\]"):
        align(np.zeros(3)[None])
    with pytest.raises(ValueError, match=r"`responsibilities` must be \[4, 2\] a draw; got \[5, 2\]"):
        align([np.full((1, 4, 2), 0.5), np.full((1, 5, 2), 0.5)])
    result, x, y = fitted()
    with pytest.raises(ValueError, match="`alignment` must be of 7 draws; got 2"):
        relabel(to_arviz(result, x, y, n_draws=7), align(np.full((2, 4, 2), 0.5)))


def test_log_odds_of_a_gate_follow_their_components() -> None:
    """The weights of every object are those before, in the other order."""
    rng = np.random.default_rng(0)
    coefficients = rng.normal(size=(1, 6, 2, 3))
    order = np.stack([rng.permutation(3) for _ in range(6)])
    data = container(
        {"posterior": {"gate.coefficients": (("chain", "draw", "gate_component", "gate_regressor"), coefficients)}},
        {"gate_component": np.arange(1, 3)},
        {},
    )
    alignment = Alignment(order, np.ones((6, 3)), np.full((4, 3), 1 / 3), 1)
    found = relabel(data, alignment)["posterior"]["gate.coefficients"]
    u = rng.normal(size=(4, 3))

    def weights(log_odds: np.ndarray) -> np.ndarray:
        logits = np.concatenate([np.zeros((4, 1)), u @ log_odds.T], 1)
        return np.asarray(np.exp(logits) / np.exp(logits).sum(1, keepdims=True))

    assert found.dims == ("chain", "draw", "gate_component", "gate_regressor")
    for before, after, own in zip(coefficients[0], found.values[0], order, strict=True):
        np.testing.assert_allclose(weights(after), weights(before)[:, own])


def test_components_stay_within_the_sets_that_share_coefficients() -> None:
    """What components share has no axis of components, and is the same under every order within the sets."""
    own, common = np.arange(6.0).reshape(1, 2, 3), np.arange(4.0).reshape(1, 2, 2)
    data = container(
        {
            "posterior": {
                "experts.coefficients": (("chain", "draw", "component"), own),
                "experts.shared_coefficients": (("chain", "draw", "component_set"), common),
            }
        },
        {"component": np.arange(3), "component_set": np.array(["components 0 and 2", "component 1"])},
        {},
    )
    within = Alignment(np.array([[2, 1, 0], [0, 1, 2]]), np.ones((2, 3)), np.full((4, 3), 1 / 3), 1)
    found = relabel(data, within)["posterior"]
    np.testing.assert_array_equal(found["experts.coefficients"].values[0], [[2.0, 1.0, 0.0], [3.0, 4.0, 5.0]])
    np.testing.assert_array_equal(found["experts.shared_coefficients"].values, common)
    between = within._replace(order=np.array([[1, 0, 2], [0, 1, 2]]))
    with pytest.raises(ValueError, match=r"`alignment` must keep components within the sets that share coefficients, "):
        relabel(data, between)


def test_longer_floats_are_aligned_as_others() -> None:
    draws = [np.array([[0.9, 0.1], [0.2, 0.8]])] * 2
    longer = align([one.astype(np.longdouble) for one in draws], reference=draws[0].astype(np.longdouble))
    assert longer.order.tolist() == align(draws, reference=draws[0]).order.tolist()
