"""Log likelihoods of programs with other discrete sites, latents, scales and factors, by hand."""

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
from mixpyro.diagnostics import ProgramResponsibilities, loo, program_to_arviz
from mixpyro.diagnostics.arviz_versions import datasets_of, group
from tests.diagnostics.programs import (
    GATE,
    N,
    S,
    T,
    a_mixture,
    by_component,
    converted,
    draws_of_mixture,
    log_prior,
    mixed,
    normal,
    numbers,
    of,
    some_rows,
)

pytestmark = pytest.mark.usefixtures("without_type_checks")


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


def test_a_likelihood_that_is_a_factor() -> None:
    """It has no value, so nothing is observed or replicated."""
    y = numbers(N)

    def likelihood(mean: Tensor, plate: pyro.plate) -> None:
        with plate:
            pyro.factor("custom", normal(mean).log_prob(y))

    data = converted(likelihood, y)
    np.testing.assert_allclose(of(data, "log_likelihood", "custom"), mixed(by_component(y)), atol=1e-10)
    assert not {"observed_data", "posterior_predictive"} & set(datasets_of(data))
    assert len(loo(data).pointwise) == N


@pytest.mark.parametrize("usual", [True, False])
@pytest.mark.parametrize(("n_objects", "n_draws", "n_components"), [(1, 5, 2), (4, 1, 2), (1, 1, 1), (2, 2, 2)])
@pytest.mark.filterwarnings("ignore:`model` is run for each")
def test_axes_of_length_one_and_of_equal_lengths(n_objects: int, n_draws: int, n_components: int, usual: bool) -> None:
    """With ``means[z]`` such lengths let a run of all draws at once succeed with another meaning."""
    y, gate = numbers(n_objects), DirichletGate(n_components)
    means, weights = numbers(1, n_draws, n_components), numbers(1, n_draws, n_components).softmax(-1)

    def model(y: Tensor) -> None:
        locations = pyro.sample("means", normal([0.0] * n_components, 5.0).to_event(1))
        plate = pyro.plate("objects", n_objects, dim=-1)
        z = gate.model(y[:, None], plate=plate)
        with plate:
            pyro.sample("y", normal(locations[z] if usual else Vindex(locations)[..., z]), obs=y)

    data = program_to_arviz(model, y, samples={"means": means, "gate.weights": weights}, n_draws=10)
    expected = (weights[0].log().unsqueeze(1) + normal(means[0].unsqueeze(1)).log_prob(y[:, None])).logsumexp(-1)
    np.testing.assert_allclose(of(data, "log_likelihood", "y"), expected, atol=1e-10)
    responsibilities = np.concatenate(list(ProgramResponsibilities(data, model, y)))
    assert responsibilities.shape == (n_draws, n_objects, n_components)
    np.testing.assert_allclose(responsibilities.sum(-1), 1.0)


def test_a_scale_stands_outside_of_the_sum() -> None:
    y = numbers(N)

    def scaled(y: Tensor) -> None:
        with poutine.scale(scale=0.5):
            a_mixture(likelihood)(y)

    def likelihood(mean: Tensor, plate: pyro.plate) -> None:
        with plate:
            pyro.sample("y", normal(mean), obs=y)

    data = program_to_arviz(scaled, y, samples=draws_of_mixture(), n_draws=10)
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

    data = program_to_arviz(model, y, samples={**draws_of_mixture(), "u": u.expand(1, S, N)}, n_draws=10)
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
        return program_to_arviz(model, y, samples={"means": means}, n_draws=10)

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
    data = program_to_arviz(model, y, False, samples={"means": means}, n_draws=10)
    expected = (rows[0].log() + emission).logsumexp(-1).reshape(S, -1)
    np.testing.assert_allclose(of(data, "log_likelihood", "y"), expected, atol=1e-10)
    np.testing.assert_array_equal(group(data, "observed_data")["y"].values, y.flatten())
    data = program_to_arviz(model, y, True, samples={"means": means}, n_draws=10)
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
    data = program_to_arviz(model, y, samples={"means": draws["means"], "weights": draws["gate.weights"]}, n_draws=10)
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

    data = program_to_arviz(a_mixture(likelihood), y, samples=samples, n_draws=10)
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
        program_to_arviz(subsampled, y, samples={"mean": numbers(1, S)}, n_draws=10)

    def all_masked(y: Tensor) -> None:
        mean = pyro.sample("mean", normal(0.0))
        with pyro.plate("objects", N), poutine.mask(mask=False):
            pyro.sample("y", normal(mean), obs=y)

    with pytest.raises(ValueError, match="`model` must have an observed value that no mask hides; got none"):
        program_to_arviz(all_masked, y, samples={"mean": numbers(1, S)}, n_draws=10)


def test_components_that_a_gate_knows_count_with_their_objects() -> None:
    y, labels, known = numbers(N), torch.arange(N) % 2, some_rows()

    def model(y: Tensor) -> None:
        means = pyro.sample("means", normal([0.0, 0.0], 5.0).to_event(1))
        plate = pyro.plate("objects", N, dim=-1)
        z = GATE.model(y, plate=plate, observed=labels, mask=known)
        with plate:
            pyro.sample("y", normal(Vindex(means)[..., z]), obs=y)

    draws = draws_of_mixture()
    data = program_to_arviz(model, y, samples=draws, n_draws=10)
    joint = draws["gate.weights"][0].log().unsqueeze(1) + by_component(y)
    expected = torch.where(known, joint.gather(-1, labels.expand(S, -1).unsqueeze(-1))[..., 0], joint.logsumexp(-1))
    assert list(group(data, "log_likelihood")) == ["y"]
    np.testing.assert_allclose(of(data, "log_likelihood", "y"), expected, atol=1e-10)
    np.testing.assert_allclose(of(data, "sample_stats", "lp"), log_prior() + expected.sum(-1), atol=1e-8)
    certain = torch.where(known.unsqueeze(-1), torch.eye(2)[labels], joint.softmax(-1))
    found = np.concatenate(list(ProgramResponsibilities(data, model, y)))
    np.testing.assert_allclose(found, certain, atol=1e-6)
