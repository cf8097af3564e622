"""A result at another optimum than the best run's."""

import functools
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from mixpyro import (
    DirichletGate,
    FitResult,
    GLMExperts,
    LinearExperts,
    MixtureOfExperts,
    ObjectDirichletGate,
    SoftmaxGate,
    coefficients,
    criteria,
    fit,
    linear_response,
    to_arviz,
)
from mixpyro.experts.families import Gaussian
from tests.problems import lines

pytestmark = [pytest.mark.usefixtures("without_type_checks"), pytest.mark.filterwarnings("ignore")]
N_OBJECTS = 60


@functools.cache
def fitted(kind: str) -> tuple[FitResult, Tensor, Tensor, dict[str, Any]]:
    """Fit three lines with much noise, where restarts end at several optima."""
    x, y, z = lines(N_OBJECTS, 3, noise=0.8, seed=1)
    gate = ObjectDirichletGate(3) if kind == "object" else DirichletGate(3)
    options: dict[str, Any] = {}
    if kind == "weights":
        options["weights"] = torch.arange(N_OBJECTS).double() % 3
    if kind == "labels":
        options |= {"observed": z, "mask": torch.arange(N_OBJECTS) < 6}
    return (
        fit(MixtureOfExperts(gate, LinearExperts(3, 1)), x, y, n_restarts=8, progress=False, **options),
        x,
        y,
        options,
    )


@pytest.mark.parametrize("kind", ["plain", "weights", "labels", "object"])
def test_everything_of_the_result_is_of_the_optimum(kind: str) -> None:
    result, x, y, options = fitted(kind)
    assert len(result.optima) > 1
    before = result.mixture.predict(x)
    for number, one in enumerate(result.optima[:5]):
        chosen = result.optimum(number)
        assert chosen.bound == one.bound
        assert chosen.mixture is not result.mixture
        assert chosen.weights is result.weights
        assert chosen.observed is result.observed
        assert chosen.data == result.data
        assert chosen.optima[0].bound == one.bound
        assert len(chosen.optima) == len(result.optima)
        assigned = chosen.mixture.assign(x, y, objects=slice(None)).responsibilities
        unknown = torch.ones(N_OBJECTS, dtype=torch.bool) if result.observed is None else result.observed < 0
        torch.testing.assert_close(assigned[unknown], chosen.responsibilities[unknown], rtol=0, atol=1e-8)
        if result.observed is not None:
            assert (chosen.responsibilities[~unknown].argmax(-1) == result.observed[~unknown]).all()
        counts = chosen.responsibilities.mT @ (
            torch.ones(N_OBJECTS).double() if result.weights is None else result.weights
        )
        assert one.smallest_share == pytest.approx(float(counts.min() / counts.sum()), abs=1e-9)
        noises = chosen.mixture.experts.noises()
        assert noises is not None
        noises = noises[counts >= 1.0]
        assert one.noise_ratio == pytest.approx(float(noises.min() / noises.max()))
    torch.testing.assert_close(result.mixture.predict(x), before)
    with pytest.raises(IndexError, match="`number` must be below"):
        result.optimum(len(result.optima))


def test_reports_and_diagnostics_take_it() -> None:
    result, x, y, _ = fitted("plain")
    chosen = result.optimum(1)
    assert "a chosen optimum" in chosen.cautions[0]
    assert f"{chosen.bound:.4f}" in chosen.summary().splitlines()[1]
    found = criteria(chosen, x, y)
    assert found != criteria(result, x, y)
    coefficients(chosen, x, y)
    linear_response(chosen, x, y)
    assert to_arviz(chosen, x, y, n_draws=20).posterior.sizes["draw"] == 20


def test_an_optimum_without_responsibilities_says_what_to_do() -> None:
    import dataclasses

    result, *_ = fitted("plain")
    bare = dataclasses.replace(
        result, optima=(result.optima[0], dataclasses.replace(result.optima[1], responsibilities=None))
    )
    with pytest.raises(ValueError, match=r"Use `result.at\(1\)`"):
        bare.optimum(1)


def test_a_spurious_maximum_is_named_with_the_next_optimum_beside_it() -> None:
    """Ten rows nearly on a line among a hundred: the run on them has the higher likelihood."""
    generator = Generator().manual_seed(3)
    x = 3.0 * torch.rand(100, 1, generator=generator, dtype=torch.float64)
    side = torch.arange(100) % 2 == 0
    noise = 0.4 * torch.randn(100, generator=generator).double()
    y = torch.where(side, 2.6 + 0.3 * x[:, 0], 2.0 - 0.3 * x[:, 0]) + noise
    on_line = torch.arange(0, 60, 6)
    y[on_line] = 2.0 + 0.3 * x[on_line, 0] + 3e-3 * torch.randn(10, generator=generator).double()
    tight = torch.zeros(100, 2).double()
    tight[:, 1] = 1.0
    tight[on_line] = torch.tensor([1.0, 0.0]).double()
    split = torch.stack([side, ~side], 1).double()

    def starts(responsibilities: Tensor) -> Any:
        return lambda *_: responsibilities

    mixture = MixtureOfExperts(SoftmaxGate(2, 0), GLMExperts(2, 1, Gaussian()))
    kinds = [starts(tight), starts(split)]
    result = fit(mixture, x, y, gate_x=x[:, :0], starts=kinds, n_restarts=2, n_candidates=1, progress=False)
    named = [caution for caution in result.cautions if "spurious" in caution]
    assert len(named) == 1
    assert "McLachlan" in named[0]
    assert f"bound {result.optima[1].bound:.4f} nats" in named[0]
    assert "`result.optimum(1)`" in named[0]
    noises = result.optimum(1).mixture.experts.noises()
    assert noises is not None
    assert float(noises.min() / noises.max()) > 1 / 20
    assert result.optima[0].smallest_share == pytest.approx(0.1, abs=0.01)
    assert result.optima[0].noise_ratio is not None
    assert result.optima[0].noise_ratio < 1 / 20
