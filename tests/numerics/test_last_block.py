"""The result of the last block of rows."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

import mixpyro
from mixpyro.experts.families import Poisson
from mixpyro.numerics import nested
from mixpyro.numerics.last_block import LastBlock


@pytest.mark.parametrize("once", [True, False])
def test_a_result_of_the_same_tensors_is_kept(once: bool) -> None:
    last, x, calls = LastBlock(), torch.arange(3.0), list[int]()

    def double() -> Tensor:
        calls.append(1)
        return 2 * x

    def found() -> Any:
        return last.of((x,), double, once=once)

    assert found() is found()
    assert len(calls) == 1
    found()
    assert len(calls) == 1 + once
    last.of((x.clone(),), lambda: 2 * x, once=once)
    found()
    assert len(calls) == 2 + once


@pytest.mark.parametrize("once", [True, False])
def test_changes_in_place_are_seen(once: bool) -> None:
    last, x = LastBlock(), torch.arange(3.0)

    def found() -> Any:
        return last.of((x,), lambda: 2 * x, once=once)

    found()
    x += 1.0
    assert torch.equal(found(), 2 * x)
    x[0] = 5.0
    found().zero_()
    assert torch.equal(found(), 2 * x)
    x.detach()[1:].mul_(3.0)
    assert torch.equal(found(), 2 * x)


def test_derivatives_and_tensors_of_inference_mode_are_not_kept() -> None:
    last, leaf = LastBlock(), torch.arange(3.0).requires_grad_()
    with torch.no_grad():
        last.of((leaf,), lambda: 2 * leaf)
    assert last.of((leaf,), lambda: 2 * leaf).requires_grad
    with torch.no_grad():
        assert not last.of((leaf,), lambda: 2 * leaf).requires_grad
    with torch.inference_mode():
        x = torch.arange(3.0)
        last.of((x,), lambda: 2 * x)
        x += 1.0
        assert torch.equal(last.of((x,), lambda: 2 * x), 2 * x)


def test_copies_are_empty() -> None:
    last, x = LastBlock(), torch.arange(3.0)
    last.of((x,), lambda: 2 * x)
    for twin in (copy.deepcopy(last), pickle.loads(pickle.dumps(last))):
        assert torch.equal(twin.of((x,), lambda: 3 * x), 3 * x)


def test_parts_see_rows_and_states_that_were_changed_in_place() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(30, 2, generator=generator).double()
    y = torch.poisson(x[:, :1].exp(), generator=generator)
    mixture = mixpyro.MixtureOfExperts(mixpyro.SoftmaxGate(2, 2), mixpyro.GLMExperts(2, 2, Poisson()))
    with torch.no_grad():
        for parameter in mixture.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    mixture.gate.centre(x)
    mixture.experts.centre(x, y)
    state, columns = nested.stack([mixture.state()]), mixture.experts.columns(x, y)
    read = (x, *columns, *nested.tensors(state))
    for changed in read:
        mixture.log_joint(x, columns, state)
        changed.copy_(changed.flip(0) * 1.1)
        expected = copy.deepcopy(mixture).log_joint(x.clone(), columns, state)
        assert torch.equal(mixture.log_joint(x, columns, state), expected)


def test_parts_count_coefficients_in_the_columns_of_the_last_fit() -> None:
    x = torch.randn(30, 2, generator=torch.Generator().manual_seed(0)).double()
    gate = mixpyro.SoftmaxGate(2, 2)
    state, r = nested.stack([gate.state()]), torch.rand(1, 2, 30, generator=torch.Generator().manual_seed(1)).double()
    gate.centre(x)
    gate.log_weights(x, state)
    gate.centre(3.0 * x + 1.0)
    found, expected = gate.sums(x, r, state), copy.deepcopy(gate).sums(x, r, state)
    assert all(torch.equal(*pair) for pair in zip(nested.tensors(found), nested.tensors(expected), strict=True))
