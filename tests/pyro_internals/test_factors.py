"""Sums over discrete sites, against Pyro's own contraction and by enumeration of all values."""

import itertools
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO, config_enumerate
from torch import Tensor

from mixpyro.pyro_internals.factors import Factors, aligned

N, T, K = 4, 3, 2


def numbers(*shape: int) -> Tensor:
    """Return the same standard Normal numbers at each call."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def rows(n: int) -> Tensor:
    """Return a table of transitions [n, K]."""
    return numbers(n, K).softmax(-1)


def normal(location: Tensor) -> dist.Normal:
    """Return a Normal of unit scale."""
    return dist.Normal(location.double(), 1.0)


def nested() -> None:
    """Words in documents, each with a discrete site."""
    documents, words = pyro.plate("documents", N, dim=-1), pyro.plate("words", T, dim=-2)
    with documents:
        c = pyro.sample("c", dist.Categorical(rows(1)[0]))
        pyro.sample("title", normal(c), obs=numbers(N))
        with words:
            z = pyro.sample("z", dist.Categorical(rows(K)[c]))
            pyro.sample("y", normal(z), obs=numbers(T, N))


def chain() -> None:
    """A hidden Markov model whose dims are used again."""
    with pyro.plate("sequences", N, dim=-1):
        z: Any = 0
        for t in pyro.markov(range(6)):
            z = pyro.sample(f"z_{t}", dist.Categorical(rows(K)[z]))
            pyro.sample(f"y_{t}", normal(z), obs=numbers(6, N)[t])


def two_chains() -> None:
    """Two hidden Markov chains with one emission."""
    with pyro.plate("sequences", N, dim=-1):
        z: Any = 0
        w: Any = 0
        for t in pyro.markov(range(4)):
            z = pyro.sample(f"z_{t}", dist.Categorical(rows(K)[z]))
            w = pyro.sample(f"w_{t}", dist.Categorical(rows(K)[w]))
            pyro.sample(f"y_{t}", normal(z + 2 * w), obs=numbers(4, N)[t])


def shared() -> None:
    """A discrete site of all data, masked data and a scale."""
    with poutine.scale(scale=2.5):
        switch = pyro.sample("switch", dist.Categorical(rows(1)[0]))
        with pyro.plate("objects", N, dim=-1):
            z = pyro.sample("z", dist.Categorical(rows(K)[switch]))
            mask: Any = torch.arange(N) > 0
            with poutine.mask(mask=mask):
                pyro.sample("y", normal(z), obs=numbers(N))


def factors_of(model: Callable[[], None], n_dims: int) -> Factors:
    """Return the factors of a program whose discrete sites are enumerated."""
    enumerated = poutine.enum(config_enumerate(model, default="parallel"), first_available_dim=-1 - n_dims)
    trace = poutine.trace(enumerated).get_trace()
    trace.compute_log_prob()
    return Factors(trace)


@pytest.mark.parametrize("model", [nested, chain, two_chains, shared])
def test_the_sum_is_that_of_pyro(model: Callable[[], None]) -> None:
    factors = factors_of(model, 2)
    total = sum(float(factors.summed_out(sites).values.sum()) for sites in factors.connected())
    elbo = TraceEnum_ELBO(max_plate_nesting=2)
    assert total == pytest.approx(-elbo.loss(config_enumerate(model, default="parallel"), lambda: None), rel=1e-12)


@pytest.mark.parametrize("variable", ["c", "z"])
def test_marginals_are_those_of_all_values(variable: str) -> None:
    factors = factors_of(nested, 2)
    (sites,) = factors.connected()
    found = aligned(factors.marginal(variable, sites), ["words", "documents", variable][variable == "c" :])
    first, table, y, title = rows(1)[0], rows(K), numbers(T, N), numbers(N)
    joint = torch.zeros(N, *[K] * (1 + T), dtype=torch.float64)
    for values in itertools.product(range(K), repeat=1 + T):
        c, words = values[0], torch.tensor(values[1:])
        log_density = first[c].log() + normal(torch.tensor(c)).log_prob(title) + table[c, words].log().sum()
        joint[:, values[0], values[1], values[2], values[3]] = (
            log_density + normal(words[:, None]).log_prob(y).sum(0)
        ).exp()
    joint = joint / joint.flatten(1).sum(1).reshape(-1, *[1] * (1 + T))
    if variable == "c":
        expected = joint.sum((2, 3, 4))
    else:
        others = [[axis for axis in range(1, 2 + T) if axis != 2 + t] for t in range(T)]
        expected = torch.stack([joint.sum(axes) for axes in others])
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_variables_of_crossed_plates_are_refused() -> None:
    """Rows and columns of a table, whose entries depend on both: the sum has K to the power of N terms."""

    def model() -> None:
        one, other = pyro.plate("rows", N, dim=-2), pyro.plate("columns", T, dim=-1)
        with one:
            z = pyro.sample("z", dist.Categorical(rows(1)[0]))
        with other:
            w = pyro.sample("w", dist.Categorical(rows(1)[0]))
        with one, other:
            pyro.sample("y", normal(z + 2 * w), obs=numbers(N, T))

    factors = factors_of(model, 2)
    with pytest.raises(ValueError, match=r"`model` must have its discrete sites in nested plates.*got w, z in"):
        factors.summed_out(factors.connected()[0])
