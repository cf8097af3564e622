"""A caution where noises differ by more than twenty times."""

import functools
from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor, nn

from mixpyro import (
    DirichletGate,
    GaussianExperts,
    GLMExperts,
    HeterogeneousExperts,
    LinearExperts,
    MixtureOfExperts,
    NeuralExperts,
    PointMassExperts,
    SoftmaxGate,
    fit,
    fit_minibatches,
)
from mixpyro.experts import Experts
from mixpyro.experts.families import Gaussian, Poisson
from mixpyro.fitting.noises import noises_differ, unequal_noises

pytestmark = pytest.mark.usefixtures("without_type_checks")


def two_noises(ratio: float, *, scale: float = 1.0, n_outputs: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Two lines, a third of the rows with a noise ``ratio`` times smaller; and which rows are."""
    generator = Generator().manual_seed(0)
    x = torch.rand(300, 1, generator=generator, dtype=torch.float64)
    quiet = torch.arange(300) % 3 == 0
    noise = torch.where(quiet, 0.5 / ratio, 0.5).unsqueeze(-1)
    draws = torch.randn(300, n_outputs, generator=generator, dtype=torch.float64)
    # Uncorrelated and of unit variance in each group, so that the estimates have the ratio.
    for rows in (quiet, ~quiet):
        centred = draws[rows] - draws[rows].mean(0)
        draws[rows] = torch.linalg.solve_triangular(
            torch.linalg.cholesky(centred.T @ centred / rows.sum()), centred.T, upper=False
        ).T
    return x, scale * (torch.where(quiet.unsqueeze(-1), 3.0, -3.0) + noise * draws), quiet


EXPERTS: dict[str, Callable[[float], Experts]] = {
    "linear": lambda unit: LinearExperts(2, 0, noise_rate=1e-6 * unit**2, coefficient_precision=1e-6),
    "full": lambda unit: GaussianExperts(2, 1, scale=1e-6 * unit**2, mean_precision=1e-6),
    "diagonal": lambda unit: GaussianExperts(2, 1, scale=1e-6 * unit**2, mean_precision=1e-6, covariance="diagonal"),
    "spherical": lambda unit: GaussianExperts(2, 1, scale=1e-6 * unit**2, mean_precision=1e-6, covariance="spherical"),
    "glm": lambda unit: GLMExperts(2, 0, Gaussian()),
    "heterogeneous": lambda unit: HeterogeneousExperts(
        [LinearExperts(1, 0, noise_rate=1e-6 * unit**2, coefficient_precision=1e-6), GLMExperts(1, 0, Gaussian())]
    ),
}


@pytest.mark.filterwarnings("ignore:only one of", "ignore:.*outweigh")
@pytest.mark.parametrize("unit", [1.0, 1000.0])
@pytest.mark.parametrize("name", EXPERTS)
def test_the_caution_begins_at_twenty_in_any_unit(name: str, unit: float) -> None:
    for ratio, said in ((16.0, 0), (48.0, 1)):
        x, y, quiet = two_noises(ratio, scale=unit)
        start = torch.stack([quiet, ~quiet], 1).double()
        mixture = MixtureOfExperts(DirichletGate(2), EXPERTS[name](unit))
        if said:
            with pytest.warns(RuntimeWarning, match="the noise of component 0 is 4[5-9].* times smaller.*on 33%"):
                result = fit(mixture, x, y, initial_responsibilities=start)
        else:
            result = fit(mixture, x, y, initial_responsibilities=start)
        assert len([one for one in result.cautions if "times smaller" in one]) == said
        assert len(result.optima[0].cautions) == said


def test_networks_and_outputs_are_compared_one_by_one() -> None:
    experts = NeuralExperts(2, 1, nn.Linear(1, 4).double(), Gaussian(), n_outputs=2)
    with torch.no_grad():
        experts.log_scale.copy_(torch.tensor([[0.0, -3.0], [1.0, 0.5]]).double())
    assert "component 0 is 33.1 times smaller" in unequal_noises(experts, torch.tensor([5.0, 5.0]))[0]
    assert unequal_noises(experts, torch.tensor([0.5, 5.0])) == []
    with torch.no_grad():
        # Other units of the two outputs are no difference between components.
        experts.log_scale.copy_(torch.tensor([[9.0, -9.0], [9.0, -9.0]]).double())
    assert not noises_differ(experts)


@pytest.mark.parametrize("experts", [PointMassExperts(2), GLMExperts(2, 1, Poisson())])
def test_experts_without_a_noise_say_nothing(experts: Experts) -> None:
    assert not noises_differ(experts)
    assert unequal_noises(experts, torch.ones(2)) == []


def test_a_flat_component_is_told_by_its_least_direction() -> None:
    """Two elongated clusters at right angles are alike; one that is flat where the other is not is different."""
    experts = GaussianExperts(2, 2)
    for second, expected in (([1e-4, 1.0], False), ([1.0, 1.0], True)):
        shapes = torch.stack([torch.diag(torch.tensor(values)) for values in ([1.0, 1e-4], second)]).double()
        experts.posterior_scale.copy_(experts.posterior_degrees.reshape(-1, 1, 1) * shapes)
        turn = torch.linalg.qr(torch.randn(2, 2).double())[0] @ torch.diag(torch.tensor([1.0, 1e3]).double())
        assert noises_differ(experts) == expected
        experts.posterior_scale.copy_(turn @ experts.posterior_scale @ turn.T)
        assert noises_differ(experts) == expected


def test_minibatches_say_it_too() -> None:
    x, y, _ = two_noises(48.0)
    with pytest.warns(RuntimeWarning, match="times smaller than that of component"):
        fit_minibatches(MixtureOfExperts(DirichletGate(2), EXPERTS["linear"](1.0)), x, y, batch_size=100, n_restarts=2)


def test_other_optima_are_kept_where_the_best_looks_spurious() -> None:
    """A third of the rows nearly on a line: the run to the other maximum is finished, not given up."""
    generator = Generator().manual_seed(3)
    uniform = functools.partial(torch.rand, generator=generator, dtype=torch.float64)
    normal = functools.partial(torch.randn, generator=generator, dtype=torch.float64)
    x = 1.35 + 1.65 * uniform(150, 1)
    y = torch.where(uniform(150) < 0.35, x[:, 0], 1.95 + 0.03 * x[:, 0]) + 0.1 * normal(150)
    y = torch.where(uniform(150) < 0.33, x[:, 0] + 0.002 * normal(150), y)
    mixture = MixtureOfExperts(SoftmaxGate(2, 0), GLMExperts(2, 1, Gaussian()))
    with pytest.warns(RuntimeWarning) as caught:
        result = fit(mixture, x, y, gate_x=x[:, :0], n_restarts=6, progress=False)
    assert tuple(str(one.message) for one in caught) == result.cautions
    assert result.optima[0].cautions
    plain = [one for one in result.optima if not one.cautions]
    assert plain
    assert all(one.state is not None and one.converged for one in result.optima)
    assert all(run.converged for run in result.runs)
    number = result.optima.index(plain[0])
    scale = result.at(number).experts.scale.detach()
    assert float(scale.max() / scale.min()) < 20.0
