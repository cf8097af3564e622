"""What a fit says of priors that outweigh the data."""

from collections.abc import Callable

import pytest
import torch

from mixpyro import (
    DirichletGate,
    GaussianExperts,
    GLMExperts,
    HeterogeneousExperts,
    LinearExperts,
    MixtureOfExperts,
    RelevanceLinearExperts,
    SoftmaxGate,
    fit,
)
from mixpyro.experts import Experts
from mixpyro.experts.families import Binomial
from tests.problems import lines

MakeExperts = Callable[[], Experts]
# A prior that is too strong for lines of unit order, and what is said of it.
STRONG: dict[str, tuple[MakeExperts, float, float, str]] = {
    "noise": (lambda: LinearExperts(2, 1, noise_rate=0.01), 1e-3, 0.0, "more of the noise .*: `noise_rate`, 0.01"),
    "noise of a member": (
        lambda: HeterogeneousExperts([LinearExperts(2, 1, noise_rate=0.01)]),
        1e-3,
        0.0,
        "more of the noise .*: `noise_rate`, 0.01",
    ),
    "noise with relevance": (lambda: RelevanceLinearExperts(2, 1, noise_rate=0.01), 1e-3, 0.0, "`noise_rate`, 0.01"),
    "mean of coefficients": (
        lambda: LinearExperts(2, 1, coefficient_precision=0.01),
        1.0,
        1000.0,
        "the distance from `coefficient_mean` is 1?..%",
    ),
    "coefficients": (
        lambda: LinearExperts(2, 1, coefficient_precision=1e3),
        1.0,
        0.0,
        "more of coefficient . of component . .*`coefficient_precision`",
    ),
    "mean": (lambda: GaussianExperts(2, 1, mean_precision=0.01), 1.0, 1000.0, "the distance from `mean` is 1?..%"),
    "precision of means": (lambda: GaussianExperts(2, 1, mean_precision=1e3), 1.0, 0.0, "`mean_precision`, 1e.03"),
    "covariance": (lambda: GaussianExperts(2, 1, scale=100.0), 1e-2, 0.0, "more of a covariance .*: `scale`, 100"),
}


@pytest.mark.filterwarnings("ignore:only one of", "ignore:the noise of", "ignore:the prior")
@pytest.mark.parametrize("name", STRONG)
def test_a_prior_that_outweighs_the_data_is_told(name: str) -> None:
    make, factor, shift, message = STRONG[name]
    x, y, _ = lines(80, 2, seed=3)
    with pytest.warns(RuntimeWarning, match=message):
        fit(MixtureOfExperts(DirichletGate(2), make()), x, factor * y + shift, n_restarts=2)


DEFAULTS: list[MakeExperts] = [
    lambda: LinearExperts(2, 1),
    lambda: RelevanceLinearExperts(2, 1),
    lambda: GaussianExperts(2, 1),
    lambda: HeterogeneousExperts([LinearExperts(2, 1)]),
]


@pytest.mark.filterwarnings("ignore:only one of")
@pytest.mark.parametrize("make", DEFAULTS)
@pytest.mark.parametrize(("factor", "shift"), [(1.0, 0.0), (1e-3, 1e3)])
def test_of_a_default_prior_there_is_nothing_to_say(make: MakeExperts, factor: float, shift: float) -> None:
    x, y, _ = lines(80, 2, seed=3)
    assert not [
        caution
        for caution in fit(MixtureOfExperts(DirichletGate(2), make()), x, factor * y + shift, n_restarts=2).cautions
        if "prior" in caution
    ]


@pytest.mark.filterwarnings("ignore:only one of")
def test_a_gate_that_is_worth_more_objects_than_there_are_is_told() -> None:
    x, y, _ = lines(80, 2, seed=3)
    with pytest.warns(
        RuntimeWarning, match="more of the weights .*`concentration` sums to 100 objects, and there are 80"
    ):
        fit(MixtureOfExperts(DirichletGate(2, concentration=50.0), LinearExperts(2, 1)), x, y, n_restarts=2)


@pytest.mark.filterwarnings("ignore:only one of", "ignore:the best run", "ignore:the prior says more of the noise")
def test_estimates_under_a_prior_at_the_wrong_place_are_told() -> None:
    """An intercept at the year zero cannot be a thousand under Normal(0, 1)."""
    x, y, _ = lines(200, 2, seed=3)
    year = 2000.0 + 10.0 * x
    split = (x[:, 0] + 0.5 * y[:, 0].sin() > 0).double()
    experts = GLMExperts(1, 1, Binomial(), prior_scale=1.0)
    with pytest.warns(RuntimeWarning, match="coefficients of component 0 .*`prior_scale`, 1, has moved them by"):
        fit(MixtureOfExperts(DirichletGate(1), experts), year, split)
    with pytest.warns(RuntimeWarning, match="gate's coefficients .*`prior_scale`, 1, has moved them by"):
        start = torch.stack([split, 1 - split], 1) * 0.9 + 0.05
        mixture = MixtureOfExperts(SoftmaxGate(2, 1, prior_scale=1.0), LinearExperts(2, 1))
        fit(mixture, year, 10.0 * split.unsqueeze(1) + 0.1 * y, initial_responsibilities=start)


def test_few_objects_are_no_reason_to_worry() -> None:
    x = torch.arange(5.0).double().unsqueeze(1)
    assert fit(MixtureOfExperts(DirichletGate(1), LinearExperts(1, 1)), x, x, n_restarts=1).converged
