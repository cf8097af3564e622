"""Components that the first batch of a stream lacks."""

import pickle
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mixpyro import (
    DirichletGate,
    GaussianExperts,
    GLMExperts,
    LinearExperts,
    MixtureOfExperts,
    SoftmaxGate,
    StreamingFit,
    fit,
)
from mixpyro.experts.families import Gaussian, Poisson

K = 3


def linear() -> MixtureOfExperts:
    return MixtureOfExperts(DirichletGate(K), LinearExperts(K, 1))


def clouds() -> MixtureOfExperts:
    return MixtureOfExperts(DirichletGate(K), GaussianExperts(K, 2))


def gated() -> MixtureOfExperts:
    return MixtureOfExperts(SoftmaxGate(K, 1), LinearExperts(K, 1))


def lines_by_newton() -> MixtureOfExperts:
    return MixtureOfExperts(DirichletGate(K), GLMExperts(K, 1, Gaussian()))


def counts() -> MixtureOfExperts:
    return MixtureOfExperts(DirichletGate(K), GLMExperts(K, 1, Poisson(), prior_scale=10.0))


def rows(make: Callable[[], MixtureOfExperts], numbers: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw rows of given components."""
    x = torch.rand(len(numbers), 1, generator=generator).double() * 2.0 - 1.0
    noise = torch.randn(len(numbers), 2, generator=generator).double()
    z = numbers.unsqueeze(-1)
    if make is clouds:
        return x[:, :0], torch.cat([8.0 * (z == 1), 8.0 * (z == 2)], -1) + noise
    if make is counts:
        rate = torch.tensor([[0.0, 1.0], [3.0, 0.5], [5.0, -0.5]]).double()[numbers]
        return x, torch.poisson((rate[:, :1] + rate[:, 1:] * x).exp(), generator=generator)
    slopes = torch.tensor([[0.0, 1.0], [4.0, -1.0], [-5.0, 2.0]]).double()[numbers]
    return x, slopes[:, :1] + slopes[:, 1:] * x + 0.3 * noise[:, :1]


def streamed(make: Callable[[], MixtureOfExperts], batches: list[tuple[Tensor, Tensor]]) -> StreamingFit:
    stream = StreamingFit(make(), n_restarts=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for batch in batches:
            stream.partial_fit(*batch)
    return stream


@pytest.mark.parametrize("make", [linear, clouds, gated, lines_by_newton, counts])
def test_a_component_that_the_first_batch_lacks_is_found(make: Callable[[], MixtureOfExperts]) -> None:
    generator = torch.Generator().manual_seed(0)
    first = torch.randint(2, (500,), generator=generator)
    later = [torch.randint(K, (500,), generator=generator) for _ in range(8)]
    batches = [rows(make, one, generator) for one in (first, *later)]
    mixture = streamed(make, batches).mixture
    x, y = (torch.cat(part) for part in zip(*batches[1:], strict=True))
    full = fit(make(), x, y, n_restarts=6, progress=False)
    assert float(mixture.bound(x, y)) >= full.bound - 0.03 * abs(full.bound)


@pytest.mark.parametrize("make", [linear, clouds, lines_by_newton])
def test_sorted_streams_show_one_component_after_another(make: Callable[[], MixtureOfExperts]) -> None:
    generator = torch.Generator().manual_seed(1)
    batches = [rows(make, torch.full((400,), k), generator) for k in range(K) for _ in range(2)]
    mixture = streamed(make, batches).mixture
    x, y = rows(make, torch.arange(K).repeat_interleave(50), generator)
    labels = mixture.assign(x, y).responsibilities.argmax(-1).reshape(K, 50)
    modes = labels.mode(-1).values
    assert len(set(modes.tolist())) == K
    assert float((labels == modes.unsqueeze(-1)).double().mean()) > 0.9


@pytest.mark.parametrize("make", [linear, clouds, lines_by_newton])
def test_a_stream_of_fewer_components_stays_as_it_is(make: Callable[[], MixtureOfExperts]) -> None:
    """Batches that the first has prepared for: no component takes over rows, so that none jumps."""
    generator = torch.Generator().manual_seed(2)
    batches = [rows(make, torch.randint(2, (500,), generator=generator), generator) for _ in range(12)]
    stream = streamed(make, batches[:1])
    for batch in batches[1:]:
        before = stream.mixture.assign(*batches[0]).responsibilities
        stream.partial_fit(*batch)
        after = stream.mixture.assign(*batches[0]).responsibilities
        assert float((after - before).abs().mean()) < 0.1


def test_the_same_stream_finds_the_same() -> None:
    generator = torch.Generator().manual_seed(0)
    first = torch.randint(2, (300,), generator=generator)
    later = [torch.randint(K, (300,), generator=generator) for _ in range(3)]
    batches = [rows(linear, one, generator) for one in (first, *later)]
    one, other = streamed(linear, batches), streamed(linear, batches[:1])
    other = pickle.loads(pickle.dumps(other))
    for batch in batches[1:]:
        other.partial_fit(*batch)
    for own, its in zip(one.mixture.state_dict().values(), other.mixture.state_dict().values(), strict=True):
        torch.testing.assert_close(own, its, rtol=0.0, atol=0.0)


def test_batches_may_have_another_dtype() -> None:
    generator = torch.Generator("cpu").manual_seed(0)
    dtypes = [torch.float64, torch.float32, torch.float64]
    batches = [rows(linear, torch.full((30,), number), generator) for number in range(3)]
    stream = streamed(linear, [(x.to(dtype), y.to(dtype)) for (x, y), dtype in zip(batches, dtypes, strict=True)])
    assert stream.n_seen == 90
