"""Parameters laid end to end, and back."""

import torch
from torch import nn

from mixpyro.fitting.gradient.flat_parameters import FlatParameters, own_storage
from tests.problems import inputs


def network() -> nn.Linear:
    """One whose weight is not contiguous."""
    linear = nn.Linear(2, 3, dtype=torch.float64)
    linear.weight.data = linear.weight.data.T.contiguous().T
    return linear


def test_inside_the_parameters_are_parts_of_the_leaf_and_afterwards_where_they_were() -> None:
    linear = network()
    parameters = list(linear.parameters())
    seen_before = [p.data for p in parameters]
    strides = [p.stride() for p in parameters]
    flat = FlatParameters(parameters)
    with flat.laid_out() as leaf, torch.no_grad():
        assert all(p.untyped_storage().data_ptr() == leaf.untyped_storage().data_ptr() for p in linear.parameters())
        leaf.fill_(2.0)
    assert [id(p) for p in linear.parameters()] == [id(p) for p in parameters]
    assert [p.stride() for p in parameters] == strides
    for parameter, seen in zip(parameters, seen_before, strict=True):
        assert parameter.data_ptr() == seen.data_ptr()
        assert (seen == 2.0).all()
    assert len({p.untyped_storage().data_ptr() for p in (*parameters, flat.leaf)}) == 3


def test_values_that_were_changed_in_between_are_taken_over() -> None:
    linear = network()
    flat = FlatParameters(list(linear.parameters()))
    nn.init.ones_(linear.bias)
    with flat.laid_out() as leaf:
        assert (leaf[-3:] == 1.0).all()


def test_the_leaf_has_the_gradients_and_zero_for_a_parameter_without() -> None:
    linear = network()
    parameters = list(linear.parameters())
    flat = FlatParameters(parameters)
    x = inputs(5)
    (expected,) = torch.autograd.grad(linear(x).square().sum(), [linear.weight])
    with flat.laid_out() as leaf:
        for _ in range(2):
            (x @ linear.weight.mT + linear.bias.detach()).square().sum().backward()
            linear.bias.grad = None
            flat.take_gradients()
            assert leaf.grad is not None
            torch.testing.assert_close(leaf.grad[:6].view(3, 2), expected)
            assert (leaf.grad[6:] == 0.0).all()
            flat.drop_gradients()
    assert all(parameter.grad is None for parameter in parameters)


def test_a_parameter_that_is_alone_is_its_own_leaf() -> None:
    alone = nn.Parameter(torch.ones(2, 3))
    with FlatParameters([alone]).laid_out() as leaf:
        assert leaf is alone


def test_parameters_that_share_their_storage_are_told_apart() -> None:
    base = torch.zeros(6)
    first, second, third = nn.Parameter(base[:3]), nn.Parameter(base[3:]), nn.Parameter(torch.zeros(3))
    assert own_storage([first, second, third]) == {first: False, second: False, third: True}
