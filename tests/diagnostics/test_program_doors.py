"""What program_to_arviz says of arguments that do not fit, of point estimates, and of programs with parts."""

import warnings
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoDelta, AutoLaplaceApproximation, AutoNormal
from pyro.ops.indexing import Vindex
from pyro.optim import ClippedAdam
from torch import Tensor

from mixpyro import ConjugateSVI, DirichletGate
from mixpyro.diagnostics import khat, loo, program_to_arviz
from mixpyro.diagnostics.arviz_versions import group
from mixpyro.diagnostics.log_likelihoods import log_likelihoods
from tests.diagnostics.programs import GATE, N, a_mixture, normal, numbers

D, W, V, K = 3, 5, 4, 2


def y_of_objects() -> Tensor:
    """Return y [N]."""
    return 2.0 * numbers(N)


def likelihood(location: Tensor, plate: pyro.plate) -> None:
    """Observe y."""
    with plate:
        pyro.sample("y", normal(location), obs=y_of_objects())


model = a_mixture(likelihood)


def svi_with(kind: Any) -> ConjugateSVI:
    """Return an SVI whose automatic guide has taken a step."""
    pyro.clear_param_store()
    rest = kind(poutine.block(model, hide=GATE.latent_sites))
    svi = ConjugateSVI(model, rest, ClippedAdam({"lr": 0.01}), gates=GATE)
    svi.step(y_of_objects())
    return svi


@pytest.mark.parametrize("kind", [AutoDelta, AutoLaplaceApproximation])
def test_point_estimates_of_a_guide_count_as_estimated(kind: Any) -> None:
    svi = svi_with(kind)
    with pytest.warns(RuntimeWarning, match="`guide` has one value for means, an estimate without a posterior"):
        found = program_to_arviz(svi, y_of_objects(), n_draws=20)
    assert group(found, "posterior").attrs["n_estimated_parameters"] == 2


def test_parameters_under_a_constraint_count_as_estimated() -> None:
    pyro.clear_param_store()
    gate = DirichletGate(2, concentration_prior=dist.Gamma(2.0, 1.0))

    def program(y: Tensor) -> None:
        scale = pyro.param("scale", torch.ones(()).double(), constraint=dist.constraints.positive)
        shift = pyro.param("shift", torch.zeros(3).double())
        plate = pyro.plate("objects", N, dim=-1)
        z = gate.model(y, plate=plate)
        with plate:
            pyro.sample("y", dist.Normal(z.double() + shift.sum(), scale), obs=y)

    svi = ConjugateSVI(program, lambda y: None, ClippedAdam({"lr": 0.01}), gates=gate)
    svi.step(y_of_objects())
    found = program_to_arviz(svi, y_of_objects(), n_draws=5)
    assert group(found, "posterior").attrs["n_estimated_parameters"] == 2 + 1 + 3


@pytest.mark.parametrize("n_draws", [1, 20])
def test_draws_from_a_posterior_are_no_point_estimates(n_draws: int) -> None:
    found = program_to_arviz(svi_with(AutoNormal), y_of_objects(), n_draws=n_draws)
    assert group(found, "posterior").attrs["n_estimated_parameters"] == 0


def test_nothing_is_said_of_a_single_draw() -> None:
    found = program_to_arviz(svi_with(AutoNormal), y_of_objects(), n_draws=1)
    for report in (khat, loo):
        with pytest.raises(ValueError, match="`data` must have at least 25 draws, better a thousand; got 1"):
            report(found)


def test_a_guide_without_the_weights_names_what_has_them() -> None:
    svi = svi_with(AutoNormal)
    with pytest.raises(ValueError, match=r"got no 'gate.weights'.*pass the ConjugateSVI in place of the model"):
        program_to_arviz(model, y_of_objects(), guide=svi.guide)


@pytest.mark.parametrize("shape", [(6,), (6, 2), (1, 6, 3)])
def test_draws_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    samples = {"means": torch.zeros(shape), "gate.weights": torch.full((1, 6, 2), 0.5)}
    with pytest.raises(ValueError, match=r"must have \[chains, draws, 2\] for means.*group_by_chain=True"):
        program_to_arviz(model, y_of_objects(), samples=samples, n_draws=10)


@pytest.mark.usefixtures("without_type_checks")
def test_draws_may_be_arrays() -> None:
    samples: Any = {"means": np.zeros((2, 3, 2)), "gate.weights": np.full((2, 3, 2), 0.5)}
    found = program_to_arviz(model, y_of_objects(), samples=samples, n_draws=10)
    expected = normal(0.0).log_prob(y_of_objects()).expand(2, 3, -1)
    np.testing.assert_allclose(log_likelihoods(found)["y"].values, expected, atol=1e-10)


@pytest.mark.parametrize(
    ("axes", "error", "message"),
    [
        (
            {"means": "component"},
            TypeError,
            r"`axes` must be .* of strings; got \{'means': 'component'\}",
        ),
        ({"mean": ("component",)}, ValueError, "of latent sites, or of plates around them: .*means.*; got 'mean'"),
        ({"means": ("component", "column")}, ValueError, "must have 1 names for the value of 'means'; got 2"),
    ],
)
@pytest.mark.usefixtures("without_type_checks")
def test_names_of_axes_that_there_are_not_are_refused(axes: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        program_to_arviz(svi_with(AutoNormal), y_of_objects(), n_draws=3, axes=axes)


def test_deterministic_sites_are_no_reason_to_run_draw_by_draw() -> None:
    def program(y: Tensor) -> None:
        means = pyro.sample("means", normal([0.0, 0.0], 5.0).to_event(1))
        shifted = pyro.deterministic("shifted", means + 1.0)
        plate = pyro.plate("objects", N, dim=-1)
        z = GATE.model(y, plate=plate)
        with plate:
            pyro.sample("y", normal(Vindex(torch.as_tensor(shifted))[..., z], 1e-3), obs=y)

    samples = {"means": 9.0 * numbers(1, 6, 2), "gate.weights": torch.full((1, 6, 2), 0.5).double()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = program_to_arviz(program, y_of_objects(), samples=samples, n_draws=10)
    replicates = torch.as_tensor(group(found, "posterior_predictive")["y"].values[0])
    distances = (replicates.unsqueeze(-1) - samples["means"][0].unsqueeze(1) - 1.0).abs()
    assert distances.amin(-1).max() < 0.01


def test_a_guide_is_run_for_all_draws_where_the_model_has_inner_plates() -> None:
    gate, words = DirichletGate(K, batch_shape=(D,), name="topics"), torch.arange(W * D).reshape(W, D) % V

    def topics(words: Tensor) -> None:
        of_topics = pyro.sample("words_of", dist.Dirichlet(torch.ones(K, V).double()).to_event(1))
        with pyro.plate("documents", D, dim=-1):
            weights = gate.sample_weights(torch.empty(0).double())
            with pyro.plate("words", W, dim=-2):
                z = weights.assign("z")
                pyro.sample("word", dist.Categorical(Vindex(of_topics)[..., z, :]), obs=words)

    pyro.clear_param_store()
    rest = AutoNormal(poutine.block(topics, expose=["words_of"]))
    svi = ConjugateSVI(topics, rest, ClippedAdam({"lr": 0.01}), gates=gate)
    svi.step(words)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # none that the guide is run for each draw alone
        found = program_to_arviz(svi, words, n_draws=6)
    draws = {name: torch.as_tensor(values.values[0]) for name, values in group(found, "posterior").items()}
    joint = draws["words_of"][:, :, words] * draws["topics.weights"].mT.unsqueeze(2)  # [S, K, W, D]
    expected = joint.sum(1).log().flatten(1)
    np.testing.assert_allclose(log_likelihoods(found)["word"].values[0], expected, atol=1e-10)
