"""The last result of a function of tensors."""

import copy
import pickle

import torch
from torch import Tensor

from mixpyro.numerics.last_result import LastResult


def test_the_same_values_are_computed_once() -> None:
    calls: list[int] = []

    def double(x: Tensor) -> Tensor:
        calls.append(1)
        return 2 * x

    last: LastResult[Tensor] = LastResult()
    x = torch.arange(3.0)
    first = last.of((x,), lambda: double(x))
    assert last.of((x.clone(),), lambda: double(x)) is first
    assert len(calls) == 1
    x += 1.0  # in place
    assert torch.equal(last.of((x,), lambda: double(x)), 2 * x)
    assert torch.equal(last.of((x.float().double(),), lambda: double(x.double())), 2 * x.double())
    last.of((x,), lambda: double(x), key="other")
    last.of((x,), lambda: double(x))
    assert len(calls) == 5
    # A number that is none is never the same.
    x[0] = torch.nan
    last.of((x,), lambda: double(x))
    last.of((x,), lambda: double(x))
    assert len(calls) == 7


def test_derivatives_are_not_kept() -> None:
    last: LastResult[Tensor] = LastResult()
    x = torch.arange(3.0)
    last.of((x,), lambda: 2 * x)
    leaf = x.clone().requires_grad_()
    assert last.of((leaf,), lambda: 2 * leaf).requires_grad
    assert not last.of((x,), lambda: 2 * x).requires_grad
    batched = torch.func.vmap(lambda row: last.of((row,), lambda: 3 * row))(torch.ones(2, 3))
    assert torch.equal(batched, 3 * torch.ones(2, 3))


def test_copies_are_empty() -> None:
    last: LastResult[Tensor] = LastResult()
    x = torch.arange(3.0)
    last.of((x,), lambda: 2 * x)
    for twin in (copy.deepcopy(last), pickle.loads(pickle.dumps(last))):
        assert torch.equal(twin.of((x,), lambda: 3 * x), 3 * x)
