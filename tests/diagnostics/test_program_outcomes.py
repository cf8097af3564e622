"""Log likelihoods of programs with several observed sites, inner plates, masks and other discrete sites, by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.ops.indexing import Vindex
from torch import Tensor

from mixpyro import DirichletGate
from mixpyro.diagnostics import loo, predictive_checks, program_to_arviz
from mixpyro.diagnostics.arviz_versions import arviz, datasets_of, group, has_data_trees

N, T, S = 9, 4, 5
GATE = DirichletGate(2)
pytestmark = pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto")


def normal(location: Any, scale: float = 1.0) -> dist.Normal:
    """Return a Normal in float64."""
    return dist.Normal(torch.as_tensor(location, dtype=torch.float64), scale)


def numbers(*shape: int) -> Tensor:
    """Return the same standard Normal numbers at each call."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def some_rows() -> Any:
    """Return True for two rows of three [N]; Pyro's types want a BoolTensor."""
    return torch.arange(N) % 3 > 0


def draws_of_mixture() -> dict[str, Tensor]:
    """Return draws of means and weights, [1, S, 2] each."""
    weights = (0.5 * numbers(1, S, 2)).softmax(-1)
    return {"means": 2.0 * numbers(1, S, 2), "gate.weights": weights}


def log_prior() -> Tensor:
    """Return log p(θ) of these draws [S]; a Dirichlet(1, 1) has the density one."""
    return normal(0.0, 5.0).log_prob(draws_of_mixture()["means"][0]).sum(-1)


def mixed(log_density_of_components: Tensor) -> np.ndarray:
    """Return log Σₖ πₖ exp(…) [S, N] of log densities [S, N, 2]."""
    log_weights = draws_of_mixture()["gate.weights"][0].log().unsqueeze(1)
    return (log_weights + log_density_of_components).logsumexp(-1).numpy()


def a_mixture(likelihood: Callable[[Tensor, pyro.plate], None]) -> Callable[[Tensor], None]:
    """Return a program with two means, whose likelihood is given the mean of each object's component."""

    def model(y: Tensor) -> None:
        means = pyro.sample("means", normal([0.0, 0.0], 5.0).to_event(1))
        plate = pyro.plate("objects", N, dim=-1)
        z = GATE.model(y.reshape(N, -1), plate=plate)
        likelihood(Vindex(means)[..., z], plate)

    return model


def converted(likelihood: Callable[[Tensor, pyro.plate], None], y: Tensor) -> Any:
    """Return what a program of :func:`a_mixture` becomes."""
    return program_to_arviz(a_mixture(likelihood), y, samples=draws_of_mixture())


def of(data: Any, name: str, variable: str) -> np.ndarray:
    """Return the only chain of a variable."""
    return np.asarray(group(data, name)[variable].values[0])


def by_component(y: Tensor, scale: float = 1.0) -> Tensor:
    """Return log Normal(yᵢ; mₖ, scale) [S, N, 2]."""
    return normal(draws_of_mixture()["means"][0].unsqueeze(1), scale).log_prob(y[:, None])


def test_sites_of_one_assignment_have_a_joint_log_likelihood() -> None:
    y = numbers(N, 2)

    def likelihood(mean: Tensor, plate: pyro.plate) -> None:
        with plate:
            pyro.sample("y1", normal(mean), obs=y[:, 0])
            pyro.sample("y2", normal(-mean, 2.0), obs=y[:, 1])

    data = converted(likelihood, y)
    expected = mixed(by_component(y[:, 0]) + by_component(-y[:, 1], 2.0))
    assert list(group(data, "log_likelihood")) == ["y1+y2"]
    np.testing.assert_allclose(of(data, "log_likelihood", "y1+y2"), expected, atol=1e-10)
    np.testing.assert_allclose(of(data, "sample_stats", "lp"), expected.sum(1) + log_prior().numpy(), rtol=1e-10)
    assert set(group(data, "observed_data")) == set(group(data, "posterior_predictive")) == {"y1", "y2"}
    np.testing.assert_array_equal(group(data, "observed_data")["y2"].values, y[:, 1])
    assert loo(data).observed.shape == (N, 2)  # type: ignore[union-attr]


def test_sites_without_a_common_variable_have_one_log_likelihood_each() -> None:
    y, other = numbers(N, 2), numbers(3)

    def likelihood(mean: Tensor, plate: pyro.plate) -> None:
        with plate:
            pyro.sample("y1", normal(mean), obs=y[:, 0])
        with pyro.plate("groups", 3):
            pyro.sample("y2", normal(0.0, 2.0), obs=other)

    data = converted(likelihood, y)
    first, second = mixed(by_component(y[:, 0])), normal(0.0, 2.0).log_prob(other).expand(S, -1).numpy()
    np.testing.assert_allclose(of(data, "log_likelihood", "y1"), first, atol=1e-10)
    np.testing.assert_allclose(of(data, "log_likelihood", "y2"), second, atol=1e-10)
    assert group(data, "log_likelihood")["y2"].dims == ("chain", "draw", "groups")
    lp = first.sum(1) + second.sum(1) + log_prior().numpy()
    np.testing.assert_allclose(of(data, "sample_stats", "lp"), lp, rtol=1e-10)
    with pytest.raises(ValueError, match="`site` must be one of y1, y2; got None"):
        loo(data)
    assert len(loo(data, site="y2").pointwise) == 3
    with pytest.raises(ValueError, match="`site` must be one of y1, y2; got None"):
        predictive_checks(data)
    assert predictive_checks(data, site="y2")["mean"].observed == pytest.approx(float(other.mean()))


def test_repeated_measures_of_an_object_count_together() -> None:
    y = numbers(T, N)

    def likelihood(mean: Tensor, plate: pyro.plate) -> None:
        with pyro.plate("times", T, dim=-2), plate:
            pyro.sample("y", normal(mean), obs=y)

    data = converted(likelihood, y.T)
    expected = mixed(sum(by_component(row) for row in y))  # type: ignore[arg-type]
    np.testing.assert_allclose(of(data, "log_likelihood", "y"), expected, atol=1e-10)
    np.testing.assert_array_equal(group(data, "observed_data")["y"].values, y.T)
    assert group(data, "posterior_predictive")["y"].dims == ("chain", "draw", "object", "times")


def test_sites_of_several_values_an_object() -> None:
    y = numbers(N, T)

    def likelihood(mean: Tensor, plate: pyro.plate) -> None:
        with plate:
            pyro.sample("y", normal(0.0).expand([T]).mask(True).to_event(1), obs=y)
            pyro.sample(
                "w", dist.MultivariateNormal(mean.unsqueeze(-1) * torch.ones(T).double(), torch.eye(T).double()), obs=y
            )

    data = converted(likelihood, y)
    np.testing.assert_allclose(of(data, "log_likelihood", "w"), mixed(sum(by_component(c) for c in y.T)), atol=1e-10)  # type: ignore[arg-type]
    np.testing.assert_allclose(of(data, "log_likelihood", "y")[0], normal(0.0).log_prob(y).sum(-1), atol=1e-10)
    assert group(data, "posterior_predictive")["w"].dims == ("chain", "draw", "object", "w_dim_0")
    assert "constant_data" not in datasets_of(data)


@pytest.mark.parametrize("how", ["handler", "distribution"])
def test_masked_rows_are_left_out(how: str) -> None:
    y, seen = numbers(N), some_rows()
    kept = np.flatnonzero(seen)

    def likelihood(mean: Tensor, plate: pyro.plate) -> None:
        with plate, poutine.mask(mask=seen if how == "handler" else True):
            fn = normal(mean) if how == "handler" else normal(mean).mask(seen)
            pyro.sample("y", fn, obs=y)

    data = converted(likelihood, y)
    expected = mixed(by_component(y))[:, kept]
    np.testing.assert_allclose(of(data, "log_likelihood", "y"), expected, atol=1e-10)
    np.testing.assert_array_equal(group(data, "log_likelihood")["object"].values, kept)
    np.testing.assert_array_equal(group(data, "observed_data")["y"].values, y[seen])
    assert group(data, "posterior_predictive")["y"].shape == (1, S, len(kept))
    np.testing.assert_allclose(of(data, "sample_stats", "lp"), expected.sum(1) + log_prior().numpy(), rtol=1e-10)
    if not has_data_trees():
        assert arviz().loo(data).n_data_points == len(kept)


def test_an_object_with_one_of_two_outcomes_keeps_its_row() -> None:
    y, seen = numbers(N, 2), some_rows()

    def likelihood(mean: Tensor, plate: pyro.plate) -> None:
        with plate:
            pyro.sample("y1", normal(mean), obs=y[:, 0])
            with poutine.mask(mask=seen):
                pyro.sample("y2", normal(mean), obs=y[:, 1])

    data = converted(likelihood, y)
    expected = mixed(by_component(y[:, 0]) + by_component(y[:, 1]) * seen[:, None])
    np.testing.assert_allclose(of(data, "log_likelihood", "y1+y2"), expected, atol=1e-10)
    observed = group(data, "observed_data")["y2"].values
    np.testing.assert_array_equal(np.isnan(observed), ~seen.numpy())
    np.testing.assert_array_equal(observed[seen], y[seen, 1])
    check = predictive_checks(data, site="y2")["mean"]
    assert check.observed == pytest.approx(float(y[seen, 1].mean()))
    assert np.isfinite(check.replicated).all()


def test_factors_and_data_outside_of_plates_count_in_lp() -> None:
    y = numbers(N)

    def likelihood(mean: Tensor, plate: pyro.plate) -> None:
        pyro.sample("total", normal(1.0), obs=torch.tensor(3.0).double())
        pyro.factor("penalty", torch.tensor(-4.0).double())
        with plate:
            pyro.factor("label", -0.5 * mean)
            pyro.sample("y", normal(mean), obs=y)

    data = converted(likelihood, y)
    means = draws_of_mixture()["means"][0]
    expected = mixed(by_component(y) - 0.5 * means.unsqueeze(1))
    assert list(group(data, "log_likelihood")) == ["y"]
    np.testing.assert_allclose(of(data, "log_likelihood", "y"), expected, atol=1e-10)
    lp = expected.sum(1) + log_prior().numpy() - 4.0 + float(normal(1.0).log_prob(torch.tensor(3.0)))
    np.testing.assert_allclose(of(data, "sample_stats", "lp"), lp, rtol=1e-10)


def test_a_scale_stands_outside_of_the_sum() -> None:
    y = numbers(N)

    def scaled(y: Tensor) -> None:
        with poutine.scale(scale=0.5):
            a_mixture(likelihood)(y)

    def likelihood(mean: Tensor, plate: pyro.plate) -> None:
        with plate:
            pyro.sample("y", normal(mean), obs=y)

    data = program_to_arviz(scaled, y, samples=draws_of_mixture())
    np.testing.assert_allclose(of(data, "log_likelihood", "y"), 0.5 * mixed(by_component(y)), atol=1e-10)

    def partly(mean: Tensor, plate: pyro.plate) -> None:
        with plate, poutine.scale(scale=0.5):
            pyro.sample("y", normal(mean), obs=y)

    with pytest.raises(ValueError, match=r"`model` must scale gate.assignment, y by one number"):
        converted(partly, y)


def test_latents_of_objects_that_depend_on_the_assignment() -> None:
    """p(y | u, θ) = Σₖ πₖ p(u | k) p(y | u, k) / Σₖ πₖ p(u | k), for y may tell of k what u does not."""
    y, u = numbers(N), numbers(2, N)[1]

    def model(y: Tensor) -> None:
        means = pyro.sample("means", normal([0.0, 0.0], 5.0).to_event(1))
        plate = pyro.plate("objects", N, dim=-1)
        z = GATE.model(y[:, None], plate=plate)
        with plate:
            mean = Vindex(means)[..., z]
            level = pyro.sample("u", normal(mean, 2.0))
            pyro.sample("y", normal(level + mean), obs=y)

    data = program_to_arviz(model, y, samples={**draws_of_mixture(), "u": u.expand(1, S, N)})
    joint, prior = mixed(by_component(u, 2.0) + by_component(y - u)), mixed(by_component(u, 2.0))
    np.testing.assert_allclose(of(data, "log_likelihood", "y"), joint - prior, atol=1e-10)
    np.testing.assert_allclose(of(data, "sample_stats", "lp"), joint.sum(1) + log_prior().numpy(), rtol=1e-10)


@pytest.mark.parametrize("vectorised", [True, False])
def test_hidden_markov_models_are_summed_over_all_paths(vectorised: bool) -> None:
    """One log likelihood a sequence, by the forward algorithm; Pyro uses the dims of the states again and again."""
    y = numbers(N, T)
    transition = torch.tensor([[0.7, 0.3], [0.2, 0.8]]).double()
    means = numbers(1, S, 2)

    def model(y: Tensor) -> None:
        mean = pyro.sample("means", normal([0.0, 0.0], 5.0).to_event(1))
        with pyro.plate("sequences", N, dim=-1):
            z: Any = 0
            for t in pyro.markov(range(T)):
                z = pyro.sample(f"z_{t}", dist.Categorical(Vindex(transition)[z]), infer={"enumerate": "parallel"})
                location = Vindex(mean)[..., z] if vectorised else mean[z]
                pyro.sample(f"y_{t}", normal(location), obs=y[:, t])

    def converted() -> Any:
        return program_to_arviz(model, y, samples={"means": means})

    if vectorised:
        data = converted()
    else:
        with pytest.warns(RuntimeWarning, match="Vindex"):
            data = converted()
    emission = normal(means[0].reshape(S, 1, 1, 2)).log_prob(y.unsqueeze(-1))
    forward = transition[0].log() + emission[:, :, 0]
    for t in range(1, T):
        forward = (forward.unsqueeze(-1) + transition.log()).logsumexp(-2) + emission[:, :, t]
    np.testing.assert_allclose(of(data, "log_likelihood", "y_0+y_1+y_2+y_3"), forward.logsumexp(-1), atol=1e-10)
    assert set(group(data, "observed_data")) == {f"y_{t}" for t in range(T)}


def test_assignments_in_two_plates_and_in_an_outer_one() -> None:
    """Words z under documents, whose topic mixture is one of two: the sum over c stands outside of those over z."""
    y = numbers(T, N)
    means = numbers(1, S, 2)
    rows = torch.tensor([[0.9, 0.1], [0.3, 0.7]]).double()

    def model(y: Tensor, nested: bool) -> None:
        mean = pyro.sample("means", normal([0.0, 0.0], 5.0).to_event(1))
        documents, words = pyro.plate("documents", N, dim=-1), pyro.plate("words", T, dim=-2)
        with documents:
            c: Any = pyro.sample("c", dist.Categorical(torch.tensor([0.4, 0.6]).double())) if nested else 0
            with words:
                z = pyro.sample("z", dist.Categorical(Vindex(rows)[c]))
                pyro.sample("y", normal(Vindex(mean)[..., z]), obs=y)

    emission = normal(means[0].reshape(S, 1, 1, 2)).log_prob(y.unsqueeze(-1))  # [S, T, N, 2]
    data = program_to_arviz(model, y, False, samples={"means": means})
    expected = (rows[0].log() + emission).logsumexp(-1).reshape(S, -1)
    np.testing.assert_allclose(of(data, "log_likelihood", "y"), expected, atol=1e-10)
    np.testing.assert_array_equal(group(data, "observed_data")["y"].values, y.flatten())
    data = program_to_arviz(model, y, True, samples={"means": means})
    of_words = (rows.log()[:, None, None, None] + emission).logsumexp(-1).sum(2)  # [2, S, N]
    expected = (torch.tensor([0.4, 0.6]).double().log()[:, None, None] + of_words).logsumexp(0)
    np.testing.assert_allclose(of(data, "log_likelihood", "y"), expected, atol=1e-10)
    np.testing.assert_array_equal(group(data, "observed_data")["y"].values, y.T)


def test_labels_that_are_known_for_some_rows() -> None:
    y, labels, known = numbers(N), torch.arange(N) % 2, some_rows()

    def model(y: Tensor) -> None:
        means = pyro.sample("means", normal([0.0, 0.0], 5.0).to_event(1))
        weights = pyro.sample("weights", dist.Dirichlet(torch.ones(2).double()))
        with pyro.plate("objects", N):
            z = pyro.sample("z", dist.Categorical(weights), obs=labels, obs_mask=known)
            pyro.sample("y", normal(Vindex(means)[..., z]), obs=y)

    draws = draws_of_mixture()
    data = program_to_arviz(model, y, samples={"means": draws["means"], "weights": draws["gate.weights"]})
    joint = draws["gate.weights"][0].log().unsqueeze(1) + by_component(y)
    expected = torch.where(known, joint.gather(-1, labels.expand(S, -1).unsqueeze(-1))[..., 0], joint.logsumexp(-1))
    (name,) = group(data, "log_likelihood")
    np.testing.assert_allclose(of(data, "log_likelihood", str(name)), expected, atol=1e-10)


def test_far_objects_do_not_underflow() -> None:
    """Component 1 fits and has no weight, component 0 has all the weight and does not fit."""
    y = torch.full((N,), 60.0).double()
    samples = {
        "means": torch.tensor([0.0, 60.0]).double().expand(1, S, 2),
        "gate.weights": torch.tensor([1.0, 1e-300], dtype=torch.float64).expand(1, S, 2),
    }

    def likelihood(mean: Tensor, plate: pyro.plate) -> None:
        with plate:
            pyro.sample("y", normal(mean), obs=y)

    data = program_to_arviz(a_mixture(likelihood), y, samples=samples)
    expected = 0.0 + np.log(1e-300) + float(normal(0.0).log_prob(torch.tensor(0.0)))
    np.testing.assert_allclose(of(data, "log_likelihood", "y"), expected, rtol=1e-10)


def test_programs_that_cannot_be_split_into_objects_are_refused() -> None:
    y = numbers(N)

    def subsampled(y: Tensor) -> None:
        mean = pyro.sample("mean", normal(0.0))
        with pyro.plate("objects", N, subsample_size=4) as rows:
            pyro.sample("y", normal(mean), obs=y[rows])

    with pytest.raises(
        ValueError, match=r"`model` must run on all data; got 4 of the 9 objects of the plate 'objects'"
    ):
        program_to_arviz(subsampled, y, samples={"mean": numbers(1, S)})

    def all_masked(y: Tensor) -> None:
        mean = pyro.sample("mean", normal(0.0))
        with pyro.plate("objects", N), poutine.mask(mask=False):
            pyro.sample("y", normal(mean), obs=y)

    with pytest.raises(ValueError, match="`model` must have an observed value that no mask hides; got none"):
        program_to_arviz(all_masked, y, samples={"mean": numbers(1, S)})
