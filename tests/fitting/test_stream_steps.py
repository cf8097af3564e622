"""Estimates of generalised linear models and softmax gates in streams."""

import copy
import math
import pickle
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mixpyro import DirichletGate, GLMExperts, HeterogeneousExperts, MixtureOfExperts, SoftmaxGate, StreamingFit, fit
from mixpyro.experts.families import (
    Binomial,
    Categorical,
    CensoredGaussian,
    Family,
    Gaussian,
    NegativeBinomial,
    Poisson,
    StudentT,
    ZeroTruncatedPoisson,
)
from mixpyro.fitting.starts import GivenResponsibilities

FAMILIES: dict[str, Callable[[], Family]] = {
    "gaussian": Gaussian,
    "student": StudentT,
    "censored": CensoredGaussian,
    "poisson": Poisson,
    "negative binomial": NegativeBinomial,
    "truncated": ZeroTruncatedPoisson,
    "binomial": Binomial,
    "categorical": lambda: Categorical(3),
}
COUNTS = ("poisson", "negative binomial", "truncated")
GATES: dict[str, Callable[..., DirichletGate | SoftmaxGate]] = {
    "dirichlet": lambda k, dtype: DirichletGate(k, dtype=dtype),
    "softmax": lambda k, dtype: SoftmaxGate(k, 2, dtype=dtype),
}


def outcomes(family: str, eta: Tensor, generator: torch.Generator) -> Tensor:
    """Draw y [N, P] at predictors [N, 1]."""
    if family in COUNTS:
        return torch.poisson(eta.exp(), generator=generator).clamp_min(1.0 if family == "truncated" else 0.0)
    uniform = torch.rand(eta.shape, generator=generator, dtype=eta.dtype)
    if family in ("binomial", "categorical"):
        ones = (uniform < eta.sigmoid()).to(eta.dtype)
        return ones + (uniform < 0.2) if family == "categorical" else ones
    y = eta + 0.3 * torch.randn(eta.shape, generator=generator, dtype=eta.dtype)
    return torch.cat([y, y], -1) if family == "censored" else y


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("family", FAMILIES)
def test_no_batch_makes_estimates_run_off(family: str, gate: str, dtype: torch.dtype) -> None:
    """Many random components; then batches of one value, of huge ones, far from the others, or separable."""
    k, generator = 50 if family == "poisson" and gate == "dirichlet" else 8, torch.Generator().manual_seed(0)
    experts = GLMExperts(k, 2, FAMILIES[family](), dtype=dtype)
    with torch.no_grad():
        experts.coefficients_estimate.copy_(torch.randn(experts.coefficients_estimate.shape, generator=generator))
    stream = StreamingFit(MixtureOfExperts(GATES[gate](k, dtype), experts), n_restarts=0)
    for number in range(6):
        x = torch.randn(100, 2, generator=generator).to(dtype)
        y = outcomes(family, 1.0 + x[:, :1], generator)
        if number % 3 == 1:
            huge = torch.full_like(y, 1e7) if family in COUNTS else (x[:, :1] > 0).to(y).expand_as(y)
            y = huge if family in (*COUNTS, "binomial", "categorical") else 1e4 * y
        if number % 3 == 2:
            x, y = 100.0 * x, torch.full_like(y, 1.0 if family == "truncated" else 0.0)
        stream.partial_fit(x, y)
    largest = 1e6 if family in ("gaussian", "student", "censored") else 50.0
    for parameter in stream.mixture.parameters():
        assert bool((parameter.abs() < largest).all())
    x = torch.randn(100, 2, generator=generator).to(dtype)
    assert math.isfinite(float(stream.mixture.bound(x, outcomes(family, 1.0 + x[:, :1], generator))))


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_stream_ends_near_the_fit_to_all_rows(family: str, gate: str) -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1500, 2, generator=generator).double()
    is_second = torch.rand(len(x), 1, generator=generator) < torch.sigmoid(1.5 * x[:, 1:])
    known = torch.cat([~is_second, is_second], -1).double()
    y = outcomes(family, torch.where(is_second, 2.0 + 0.5 * x[:, :1], -1.0 - x[:, :1]), generator)

    def made() -> MixtureOfExperts:
        return MixtureOfExperts(GATES[gate](2, torch.float64), GLMExperts(2, 2, FAMILIES[family]()))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        full = fit(
            made(),
            x,
            y,
            starts=[GivenResponsibilities(known)],
            n_restarts=1,
            n_candidates=1,
            tolerance=1e-5,
            progress=False,
        )
        mixture = made()
        mixture.load_state_dict(full.mixture.state_dict())
        with torch.no_grad():
            for parameter in mixture.experts.parameters():
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
        stream = StreamingFit(mixture, n_restarts=0)
        for rows in range(0, len(x), 150):
            stream.partial_fit(x[rows : rows + 150], y[rows : rows + 150])
    assert float(stream.mixture.bound(x, y)) >= full.bound - 0.01 * abs(full.bound)


def test_members_of_a_bank_take_steps_as_by_themselves() -> None:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(600, 2, generator=generator).double()
    y = torch.poisson((0.5 + 0.5 * x[:, :1]).exp(), generator=generator)
    one = GLMExperts(2, 2, Poisson(), prior_scale=3.0)
    with torch.no_grad():
        one.coefficients_estimate[1] += 0.3
    parts = [GLMExperts(1, 2, Poisson(), prior_scale=3.0) for _ in range(2)]
    with torch.no_grad():
        for number, part in enumerate(parts):
            part.coefficients_estimate.copy_(one.coefficients[number : number + 1])
    mixtures = [MixtureOfExperts(DirichletGate(2), experts) for experts in (one, HeterogeneousExperts(parts))]
    for mixture in mixtures:
        stream = StreamingFit(mixture, n_restarts=0)
        for rows in range(0, 600, 100):
            stream.partial_fit(x[rows : rows + 100], y[rows : rows + 100])
    torch.testing.assert_close(one.coefficients, torch.cat([part.coefficients for part in parts]))


def test_a_stream_goes_on_from_a_pickle() -> None:
    generator = torch.Generator().manual_seed(3)
    x = 1e4 + torch.randn(600, 1, generator=generator).double()
    y = torch.poisson((0.5 + 0.5 * (x - 1e4)).exp(), generator=generator)
    stream = StreamingFit(MixtureOfExperts(SoftmaxGate(1, 1), GLMExperts(1, 1, Poisson())), n_restarts=1)
    stream.partial_fit(x[:300], y[:300])
    copies = stream, pickle.loads(pickle.dumps(stream)), copy.deepcopy(stream)
    for one in copies:
        one.partial_fit(x[300:], y[300:])
    for one in copies[1:]:
        torch.testing.assert_close(one.mixture.experts.coefficients, stream.mixture.experts.coefficients)
    full = fit(MixtureOfExperts(SoftmaxGate(1, 1), GLMExperts(1, 1, Poisson())), x, y, n_restarts=1)
    assert float(stream.mixture.bound(x, y)) == pytest.approx(full.bound, rel=1e-2)
