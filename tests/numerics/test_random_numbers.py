"""Random numbers from a seed, and the global state that they leave."""

import sys
import threading
from collections.abc import Callable

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from mixpyro.numerics.random_numbers import Generators, nothing_drawn, own_random_numbers

ONES, EYE = torch.ones(3), torch.eye(3).expand(1, 3, 3)
# Everything that PyTorch can draw: factories, fills, distributions and layers.
DRAWS: dict[str, Callable[[], Tensor]] = {
    "rand": lambda: torch.rand(3),
    "randn": lambda: torch.randn(3, dtype=torch.float64),
    "rand_like": lambda: torch.rand_like(ONES),
    "randn_like": lambda: torch.randn_like(ONES),
    "randint": lambda: torch.randint(2, 9, (5,)),
    "randint_like": lambda: torch.randint_like(ONES, 9),
    "randperm": lambda: torch.randperm(9),
    "normal": lambda: torch.normal(ONES, 2.0),
    "normal of numbers": lambda: torch.normal(1.0, 2.0, (3,)),
    "multinomial": lambda: torch.multinomial(ONES, 2),
    "fills": lambda: torch.stack([torch.empty(3).uniform_(), torch.empty(3).exponential_(), torch.empty(3).random_()]),
    "counts": lambda: torch.cat([torch.poisson(ONES), torch.binomial(9 * ONES, ONES / 2), torch.bernoulli(ONES / 2)]),
    "gamma": lambda: torch.as_tensor(dist.Gamma(ONES, 1.0).rsample((2,))),
    "dirichlet": lambda: torch.as_tensor(dist.Dirichlet(ONES).rsample((2,))),
    "von Mises": lambda: torch.as_tensor(dist.VonMises(0.0 * ONES, 1.0).sample()),
    "categorical": lambda: torch.as_tensor(dist.Categorical(ONES).sample((9,))),
    "dropout": lambda: nn.functional.dropout(torch.ones(20)),
    "attention": lambda: nn.functional.scaled_dot_product_attention(EYE, EYE, EYE, dropout_p=0.5),
    "recurrent": lambda: torch.as_tensor(nn.LSTM(2, 2, num_layers=2, dropout=0.5)(torch.ones(9, 2))[0]),
    "in inference mode": lambda: torch.inference_mode()(lambda: nn.functional.dropout(torch.ones(20)))(),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_draws_are_by_the_seed_and_leave_the_global_state(draw: Callable[[], Tensor]) -> None:
    """The same numbers as from the global generator under the same seed, which is not moved."""
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(3)
        expected = draw()
    before = torch.get_rng_state()
    for _ in range(2):
        with own_random_numbers(3):
            assert torch.equal(draw(), expected)
    with own_random_numbers(4):
        assert not torch.equal(draw(), expected)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_generator_that_was_given_is_used() -> None:
    with own_random_numbers(0):
        for seed in (5, 5):
            drawn = torch.randn(3, generator=torch.Generator().manual_seed(seed))
            assert torch.equal(drawn, torch.randn(3, generator=torch.Generator().manual_seed(5)))
            filled = torch.empty(3).normal_(generator=torch.Generator().manual_seed(seed))
            assert torch.equal(filled, torch.empty(3).normal_(generator=torch.Generator().manual_seed(5)))


def test_blocks_can_be_nested_and_left() -> None:
    with own_random_numbers(1):
        expected = torch.rand(2)
    with own_random_numbers(1):
        first = torch.rand(1)
        with own_random_numbers(2):
            torch.rand(7)
        with torch.random.fork_rng([]), nothing_drawn():
            torch.rand(7)
        assert torch.equal(torch.cat([first, torch.rand(1)]), expected)


def test_threads_draw_their_own_numbers() -> None:
    """The same as one after the other, also of operations that take no generator."""
    with own_random_numbers(7):
        expected = [draw() for draw in DRAWS.values()]
    before, found = torch.get_rng_state(), list[bool]()

    def draws() -> None:
        for _ in range(5):
            with own_random_numbers(7):
                found.append(all(map(torch.equal, [draw() for draw in DRAWS.values()], expected)))

    threads = [threading.Thread(target=draws) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == 30 * [True]
    assert torch.equal(torch.get_rng_state(), before)


def test_an_error_ends_the_block() -> None:
    before = torch.get_rng_state()
    with pytest.raises(KeyError), own_random_numbers(1), own_random_numbers(2):
        raise KeyError
    with torch.random.fork_rng([]):
        torch.rand(1)
        assert not torch.equal(torch.get_rng_state(), before)


def test_generators_tell_whether_anything_was_drawn() -> None:
    generators = Generators(10**30)
    with generators.in_use():
        torch.ones(2).sum()
        assert not generators.have_drawn
        nn.functional.dropout(ONES)
        assert generators.have_drawn


def test_seeds_are_checked() -> None:
    with pytest.raises(ValueError, match="`seed` must be at least 0; got -1"), own_random_numbers(-1):
        pass
    with pytest.raises(Exception, match="seed"), own_random_numbers(1.5):  # type: ignore[arg-type]
        pass


def test_the_compiler_of_pytorch_is_not_imported() -> None:
    """It takes seconds, and nothing here is compiled."""
    was_there = "torch._dynamo" in sys.modules
    with own_random_numbers(0):
        torch.rand(1)
    assert ("torch._dynamo" in sys.modules) is was_there


@pytest.mark.cuda
def test_draws_on_a_device_leave_its_state() -> None:
    device = torch.device("cuda")
    before = torch.cuda.get_rng_state(device)
    draws = []
    for _ in range(2):
        with own_random_numbers(3):
            layer = nn.functional.dropout(torch.ones(20, device=device))
            draws.append(torch.cat([torch.rand(2, device=device), layer, torch.ones(2, device=device).normal_()]))
    assert torch.equal(*draws)
    assert torch.equal(torch.cuda.get_rng_state(device), before)
