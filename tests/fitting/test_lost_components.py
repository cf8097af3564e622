"""Components that the first batch of a stream lacks."""

import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mixpyro import (
    BayesianSoftmaxGate,
    DirichletGate,
    GaussianExperts,
    GLMExperts,
    LinearExperts,
    MixtureOfExperts,
    RelevanceLinearExperts,
    SharedLinearExperts,
    SoftmaxGate,
    StickBreakingGate,
    StreamingFit,
    TreeGate,
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


def of_several(n_components: int) -> MixtureOfExperts:
    return MixtureOfExperts(DirichletGate(n_components), LinearExperts(n_components, 1))


def rates() -> MixtureOfExperts:
    return MixtureOfExperts(DirichletGate(K), GLMExperts(K, 1, Poisson()))


def shared() -> MixtureOfExperts:
    return MixtureOfExperts(DirichletGate(K), SharedLinearExperts(K, 1, shared=[0], intercept=True))


def relevant() -> MixtureOfExperts:
    return MixtureOfExperts(DirichletGate(K), RelevanceLinearExperts(K, 1))


def sticks() -> MixtureOfExperts:
    return MixtureOfExperts(StickBreakingGate(K), LinearExperts(K, 1))


def gated_with_a_posterior() -> MixtureOfExperts:
    return MixtureOfExperts(BayesianSoftmaxGate(K, 1), LinearExperts(K, 1))


def tree() -> MixtureOfExperts:
    return MixtureOfExperts(TreeGate(K, 1), LinearExperts(K, 1))


def rows(make: Callable[[], MixtureOfExperts], numbers: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw rows of given components."""
    x = torch.rand(len(numbers), 1, generator=generator).double() * 2.0 - 1.0
    noise = torch.randn(len(numbers), 2, generator=generator).double()
    z = numbers.unsqueeze(-1)
    if make is clouds:
        return x[:, :0], torch.cat([8.0 * (z == 1), 8.0 * (z == 2)], -1) + noise
    if make in (counts, rates):
        rate = torch.tensor([[0.0, 1.0], [3.0, 0.5], [5.0, -0.5]]).double()[numbers]
        return x, torch.poisson((rate[:, :1] + rate[:, 1:] * x).exp(), generator=generator)
    slopes = torch.tensor([[0.0, 1.0], [4.0, -1.0], [-5.0, 2.0], [9.0, 0.0], [-10.0, 1.0]]).double()[numbers]
    if make is shared:
        slopes = torch.stack([slopes[:, 0], torch.ones(len(slopes)).double()], dim=-1)
    return x, slopes[:, :1] + slopes[:, 1:] * x + 0.3 * noise[:, :1]


def streamed(make: Callable[[], MixtureOfExperts], batches: list[tuple[Tensor, Tensor]]) -> StreamingFit:
    stream = StreamingFit(make(), n_restarts=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for batch in batches:
            stream.partial_fit(*batch)
    return stream


MAKES = [linear, clouds, gated, lines_by_newton, counts, rates, shared, relevant, sticks, gated_with_a_posterior, tree]


@pytest.mark.parametrize("make", MAKES)
def test_a_component_that_the_first_batch_lacks_is_found(make: Callable[[], MixtureOfExperts]) -> None:
    generator = torch.Generator().manual_seed(0)
    first = torch.randint(2, (500,), generator=generator)
    later = [torch.randint(K, (500,), generator=generator) for _ in range(6)]
    batches = [rows(make, one, generator) for one in (first, *later)]
    mixture = streamed(make, batches).mixture
    x, y = (torch.cat(part) for part in zip(*batches[1:], strict=True))
    full = fit(make(), x, y, n_restarts=2, progress=False)
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


@pytest.mark.parametrize("way", ["weights", "groups", "missing"])
@pytest.mark.parametrize("make", [linear, clouds])
def test_weights_groups_and_missing_outputs_hide_no_component(make: Callable[[], MixtureOfExperts], way: str) -> None:
    generator = torch.Generator().manual_seed(3)
    stream = StreamingFit(make(), n_restarts=2)
    for number in range(6):
        numbers = torch.randint(2 if number == 0 else K, (150,), generator=generator).repeat_interleave(2)
        x, y = rows(make, numbers, generator)
        options: dict[str, Any] = {}
        if way == "weights":
            options["weights"] = 0.5 + torch.rand(len(x), generator=generator).double()
        elif way == "groups":
            options["groups"] = torch.arange(len(x)) // 2
        else:
            y[torch.rand(y.shape, generator=generator) < 0.05] = torch.nan
            options["missing"] = "ignore"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            stream.partial_fit(x, y, **options)
    x, y = rows(make, torch.arange(K).repeat_interleave(50), generator)
    pairs = torch.arange(len(x)) // 2 if way == "groups" else None
    r = stream.mixture.assign(x, y, groups=pairs).responsibilities
    modes = r.argmax(-1).reshape(K, -1).mode(-1).values
    assert len(set(modes.tolist())) == K


@pytest.mark.parametrize("size", [10, 200])
def test_a_component_of_one_row_in_a_hundred_is_found(size: int) -> None:
    """The badly explained rows of short batches are counted together."""
    generator = torch.Generator().manual_seed(4)
    stream = streamed(linear, [rows(linear, torch.randint(2, (300,), generator=generator), generator)])
    for _ in range(2000 // size):
        is_rare = torch.rand(size, generator=generator) < 0.015
        numbers = torch.where(is_rare, 2, torch.randint(2, (size,), generator=generator))
        stream.partial_fit(*rows(linear, numbers, generator))
    x, y = rows(linear, torch.arange(K).repeat_interleave(40), generator)
    modes = stream.mixture.assign(x, y).responsibilities.argmax(-1).reshape(K, 40).mode(-1).values
    assert len(set(modes.tolist())) == K
    assert float(stream.mixture.gate.weights(x)[0].amin()) < 0.03


def test_several_components_are_found_at_once() -> None:
    """One component that takes all badly explained rows would leave none for the others."""
    generator = torch.Generator().manual_seed(5)
    numbers = [torch.randint(2, (300,), generator=generator)]
    numbers += [torch.randint(5, (400,), generator=generator) for _ in range(4)]
    batches = [rows(linear, one, generator) for one in numbers]
    mixture = streamed(lambda: of_several(5), batches).mixture
    x, y = (torch.cat(part) for part in zip(*batches[1:], strict=True))
    full = fit(of_several(5), x, y, n_restarts=8, progress=False)
    assert float(mixture.bound(x, y)) >= full.bound - 0.03 * abs(full.bound)


def test_far_rows_harm_no_good_fit() -> None:
    """Outliers belong to no component: the lines that were found stay where they are."""
    generator = torch.Generator().manual_seed(6)
    batches = [rows(linear, torch.randint(2, (200,), generator=generator), generator) for _ in range(20)]
    for number, (_, y) in enumerate(batches):
        if number % 2:
            y[:2] = 1e3 * torch.randn(2, 1, generator=generator).double()
    mixture = streamed(linear, batches).mixture
    x, y = rows(linear, torch.arange(2).repeat_interleave(100), generator)
    labels = mixture.assign(x, y).responsibilities.argmax(-1).reshape(2, 100)
    modes = labels.mode(-1).values
    assert len(set(modes.tolist())) == 2
    assert float((labels == modes.unsqueeze(-1)).double().mean()) > 0.95
