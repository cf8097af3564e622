"""Programs that Pyro cannot vectorise, or vectorises wrongly, are run draw by draw with the same numbers."""

import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoNormal
from pyro.ops.indexing import Vindex
from torch import Tensor

from mixpyro import DirichletGate
from mixpyro.diagnostics import program_to_arviz
from mixpyro.diagnostics.arviz_versions import group
from mixpyro.diagnostics.log_likelihoods import OF_GUIDE, log_likelihoods

pytestmark = pytest.mark.usefixtures("without_type_checks")

N, S = 12, 6
GATE = DirichletGate(2)
Program = Callable[..., None]


def data() -> tuple[Tensor, Tensor]:
    """Return x without columns and y in two clusters."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(N, generator=generator, dtype=torch.float64) + torch.tensor([-2.0, 2.0]).repeat(N // 2)
    return torch.zeros(N, 0, dtype=torch.float64), y


def prior_of_means(n: int) -> dist.TorchDistribution:
    """Return the prior of the means."""
    return dist.Normal(torch.zeros(n, dtype=torch.float64), 5.0).to_event(1)


def a_model(location: Callable[[Tensor, Tensor], Tensor], *, in_a_plate: bool = False) -> Program:
    """Return a mixture of two Normals, given how it finds the location of each object."""

    def model(x: Tensor, y: Tensor) -> None:
        if in_a_plate:
            with pyro.plate("components", 2):
                means = pyro.sample("means", dist.Normal(torch.zeros((), dtype=torch.float64), 5.0))
        else:
            means = pyro.sample("means", prior_of_means(2))
        plate = pyro.plate("objects", len(x), dim=-1)
        z = GATE.model(x, plate=plate)
        with plate:
            pyro.sample("y", dist.Normal(location(means, z), 1.0), obs=y)

    return model


def as_advised(means: Tensor, z: Tensor) -> Tensor:
    """Index as Pyro advises."""
    return Vindex(means)[..., z]


def as_usual(means: Tensor, z: Tensor) -> Tensor:
    """Index as everyone does."""
    return means[z]


def with_a_branch(means: Tensor, z: Tensor) -> Tensor:
    """Branch in Python, to the same end."""
    return means[z] if float(means[0]) > 0 else torch.stack([means[0], means[1]])[z]


def converted(model: Program, samples: dict[str, Tensor] | None = None) -> tuple[Any, list[str]]:
    """Return what a program becomes under an automatic guide, and the warnings."""
    x, y = data()
    pyro.clear_param_store()
    guide = AutoNormal(poutine.block(model, hide=["gate.assignment"])) if samples is None else None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = program_to_arviz(model, x, y, guide=guide, samples=samples, n_draws=S, seed=1)
    return found, [str(w.message) for w in caught if issubclass(w.category, RuntimeWarning)]


@pytest.mark.parametrize("in_a_plate", [False, True])
@pytest.mark.parametrize("location", [as_usual, with_a_branch])
def test_draw_by_draw_gives_the_numbers_of_the_program_with_vindex(
    location: Callable[[Tensor, Tensor], Tensor], in_a_plate: bool
) -> None:
    x, y = data()
    one, warned = converted(a_model(location, in_a_plate=in_a_plate))
    assert [message for message in warned if "Vindex" in message and f"each of {S} draws alone" in message]
    assert len(warned) == 1
    draws = {name: torch.as_tensor(values.values[0]) for name, values in group(one, "posterior").items()}
    axis = "component" if in_a_plate else "means_dim_0"
    assert group(one, "posterior")["means"].dims == ("chain", "draw", axis)
    log_joint = draws["gate.weights"].log().unsqueeze(1) + dist.Normal(draws["means"].unsqueeze(1), 1.0).log_prob(
        y[:, None]
    )
    np.testing.assert_allclose(log_likelihoods(one)["y"].values[0], log_joint.logsumexp(-1), atol=1e-10)
    if not in_a_plate:
        together, none = converted(a_model(as_advised))
        assert not none
        for name, variable in (("posterior", "means"), (OF_GUIDE, "y"), ("sample_stats", "lp")):
            np.testing.assert_allclose(group(one, name)[variable], group(together, name)[variable], atol=1e-10)
        np.testing.assert_allclose(group(one, "sample_stats")["log_q"], group(together, "sample_stats")["log_q"])
    assert group(one, "posterior_predictive")["y"].shape == (1, S, N)
    assert group(one, "prior")["means"].shape == (1, S, 2)


WRONG_TOGETHER: dict[str, Callable[[Tensor], Tensor]] = {
    "mean of all draws": lambda means: means - means.mean(),
    "softmax over draws": lambda means: means.softmax(0),
    "running sum over draws": lambda means: means.cumsum(0),
    "flipped draws": lambda means: means.flip(0),
    "largest over draws": lambda means: means / means.abs().max(),
}


@pytest.mark.parametrize("name", WRONG_TOGETHER)
def test_a_run_that_mixes_draws_is_not_taken_for_right(name: str) -> None:
    """Each of these runs in a plate of draws without an error."""
    change = WRONG_TOGETHER[name]
    x, y = data()
    means = torch.randn(1, S, 2, dtype=torch.float64)
    weights = torch.full((1, S, 2), 0.5, dtype=torch.float64)
    samples = {"means": means, "gate.weights": weights}
    found, warned = converted(a_model(lambda m, z: Vindex(change(m))[..., z]), samples)
    assert len(warned) == 1
    locations = torch.stack([change(draw) for draw in means[0]])
    log_joint = dist.Normal(locations.unsqueeze(1), 1.0).log_prob(y[:, None]) + np.log(0.5)
    np.testing.assert_allclose(log_likelihoods(found)["y"].values[0], log_joint.logsumexp(-1), atol=1e-10)


def test_rounding_is_no_reason_to_run_draw_by_draw() -> None:
    """In float32, with sums over many rows; a warning would be an error here."""
    y = 30.0 + torch.randn(3000, generator=torch.Generator().manual_seed(0))

    def model(y: Tensor) -> None:
        means = pyro.sample("means", dist.Normal(torch.zeros(2), 5.0).to_event(1))
        plate = pyro.plate("objects", len(y), dim=-1)
        z = GATE.model(y[:, None], plate=plate)
        with plate:
            pyro.sample("y", dist.Normal(Vindex(means)[..., z], 1.0), obs=y)

    guide = AutoNormal(poutine.block(model, hide=["gate.assignment"]))
    found = program_to_arviz(model, y, guide=guide, n_draws=S)
    assert log_likelihoods(found)["y"].dtype == np.float32


@pytest.mark.parametrize("kind", ["sequential plate", "counts", "plate in a plate"])
def test_other_forms_of_programs_run_for_all_draws_at_once(kind: str) -> None:
    x, y = data()
    counts = torch.arange(N) % 5

    def model() -> None:
        rate = pyro.sample("rate", dist.Gamma(torch.ones((), dtype=torch.float64), 1.0))
        if kind == "counts":
            with pyro.plate("objects", N):
                pyro.sample("y", dist.Poisson(rate), obs=counts.double())
        elif kind == "sequential plate":
            for part in pyro.plate("parts", 2):
                with pyro.plate(f"objects {part}", N // 2):
                    pyro.sample(f"y {part}", dist.Poisson(rate), obs=counts.double()[part::2])
        else:
            with pyro.plate("groups", 3), pyro.plate("objects", N // 3):
                pyro.sample("y", dist.Bernoulli(rate.sigmoid()), obs=(counts > 2).double().reshape(N // 3, 3))

    def guide() -> None:
        pyro.sample("rate", dist.Gamma(torch.ones((), dtype=torch.float64), 2.0))

    found = program_to_arviz(model, guide=guide, n_draws=S)
    rate = torch.as_tensor(group(found, "posterior")["rate"].values[0]).unsqueeze(-1)
    if kind == "plate in a plate":
        expected = dist.Bernoulli(rate.sigmoid()).log_prob((counts > 2).double())
    else:
        expected = dist.Poisson(rate).log_prob(counts.double())
    likelihoods = log_likelihoods(found)
    parts = [likelihoods[name].values[0] for name in likelihoods]
    joined = np.stack(parts, -1).reshape(S, -1) if len(parts) > 1 else parts[0]
    np.testing.assert_allclose(joined, expected, atol=1e-10)


def test_a_guide_that_mixes_draws_is_run_draw_by_draw() -> None:
    x, y = data()

    def model(x: Tensor, y: Tensor) -> None:
        mean = pyro.sample("mean", dist.Normal(torch.zeros((), dtype=torch.float64), 5.0))
        with pyro.plate("objects", len(x), dim=-1):
            pyro.sample("shift", dist.Normal(mean, 1.0))
            pyro.sample("y", dist.Normal(mean, 1.0), obs=y)

    def guide(x: Tensor, y: Tensor) -> None:
        mean = pyro.sample("mean", dist.Normal(torch.zeros((), dtype=torch.float64), 1.0))
        with pyro.plate("objects", len(x), dim=-1):
            pyro.sample("shift", dist.Normal(mean.mean(), 0.5))

    with pytest.warns(RuntimeWarning, match="`guide` is run for each of 6 draws alone"):
        found = program_to_arviz(model, x, y, guide=guide, n_draws=S)
    draws = {name: torch.as_tensor(values.values[0]) for name, values in group(found, "posterior").items()}
    q = dist.Normal(0.0, 1.0).log_prob(draws["mean"])
    q = q + dist.Normal(draws["mean"].unsqueeze(-1), 0.5).log_prob(draws["shift"]).sum(-1)
    np.testing.assert_allclose(group(found, "sample_stats")["log_q"].values[0], q, rtol=1e-10)


def test_errors_of_the_program_surface_as_they_are() -> None:
    x, y = data()

    def guide(x: Tensor, y: Tensor) -> None:
        pyro.sample("means", dist.Normal(torch.zeros(2, dtype=torch.float64), 1.0).to_event(1))
        GATE.guide(x, plate=pyro.plate("objects", len(x), dim=-1))

    def fails(means: Tensor, z: Tensor) -> Tensor:
        raise KeyError("no such column")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(KeyError, match="no such column"):
            program_to_arviz(a_model(fails), x, y, guide=guide, n_draws=S)

    def fails_in_a_draw(means: Tensor, z: Tensor) -> Tensor:
        if means.ndim == 1 and float(means[0]) == 7.0:
            raise ArithmeticError("seven")
        return as_advised(means, z)

    means = torch.zeros(1, S, 2, dtype=torch.float64)
    means[0, -1] = 7.0
    samples = {"means": means, "gate.weights": torch.full_like(means, 0.5)}
    with pytest.raises(ArithmeticError, match="seven"), pytest.warns(RuntimeWarning, match=re.escape("seven")):
        program_to_arviz(a_model(fails_in_a_draw), x, y, samples=samples, n_draws=10)


def test_sites_that_depend_on_the_draw_are_refused() -> None:
    x, y = data()

    def model(x: Tensor, y: Tensor) -> None:
        mean = pyro.sample("mean", dist.Normal(torch.zeros((), dtype=torch.float64), 5.0))
        if float(mean) < -5.9:
            mean = pyro.sample("another", dist.Normal(torch.zeros((), dtype=torch.float64), 5.0))
        with pyro.plate("objects", len(x), dim=-1):
            pyro.sample("y", dist.Normal(mean, 1.0), obs=y)

    samples = {"mean": torch.linspace(6.0, -6.0, S, dtype=torch.float64).unsqueeze(0)}
    with (
        pytest.raises(ValueError, match=r"same continuous sites in every draw; got another in some draws only"),
        pytest.warns(RuntimeWarning),
    ):
        program_to_arviz(model, x, y, samples=samples, n_draws=10)
