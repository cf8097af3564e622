"""Parameters are trained in a store of their own, and the user's are as before afterwards."""

import pickle
import warnings
from typing import Any

import pyro
import pytest
import torch
from pyro.nn import PyroModule
from torch import nn

from mixpyro.pyro_internals.parameter_store import (
    gradients_set_aside,
    is_registered,
    kept_frozen,
    own_parameter_store,
    parameters_registered,
    refuse_shared_parameters,
    unregistered,
)


class Owner(PyroModule):
    """A Pyro module with a plain network."""

    def __init__(self) -> None:
        super().__init__("owner")
        self.network = nn.Linear(2, 1)


def pyro_linear() -> nn.Linear:
    """Make a linear layer that is a PyroModule."""
    kind: Any = PyroModule[nn.Linear]
    return kind(2, 1)


def test_gradients_are_cleared_inside_and_are_as_before_afterwards() -> None:
    parameters = list(nn.Linear(2, 1).parameters())
    parameters[0].grad = before = torch.ones(1, 2)
    with gradients_set_aside(parameters):
        assert all(parameter.grad is None for parameter in parameters)
        parameters[1].grad = torch.ones(1)
    assert parameters[0].grad is before
    assert parameters[1].grad is None


def test_the_own_store_is_empty_and_the_users_store_is_back_afterwards() -> None:
    pyro.param("theirs", torch.ones(2))
    owner = Owner()
    owner.network.bias.requires_grad_(False)
    with torch.no_grad(), own_parameter_store(owner) as trainable:
        assert not len(pyro.get_param_store())
        assert torch.is_grad_enabled()
        assert [id(parameter) for parameter in trainable] == [id(owner.network.weight)]
        pyro.param("weight", owner.network.weight)
    assert set(pyro.get_param_store()) == {"theirs"}


def test_what_pyro_does_to_parameters_is_undone() -> None:
    module = pyro_linear()
    module.bias.requires_grad_(False)
    with unregistered(module):
        module(torch.zeros(1, 2))
    assert not module.bias.requires_grad
    assert not len(pyro.get_param_store())
    pickle.loads(pickle.dumps(module))


def test_frozen_parameters_stay_frozen_and_out_of_the_store() -> None:
    module = pyro_linear()
    module.bias.requires_grad_(False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with kept_frozen(module):
            module(torch.zeros(1, 2))
    assert not module.bias.requires_grad
    assert set(pyro.get_param_store()) == {"weight"}


def test_plain_networks_count_as_registered_inside_only() -> None:
    owner = Owner()
    random = pyro_linear()
    with parameters_registered(owner):
        assert is_registered(owner.network)
        assert not is_registered(random)
    assert not is_registered(owner.network)


def test_parameters_of_another_module_under_the_same_name_are_refused() -> None:
    first, second = Owner(), Owner()
    pyro.module("owner.network", first.network)
    refuse_shared_parameters(first)
    with pytest.raises(RuntimeError, match=r"must belong to one module; got 'owner.network.weight'.*its own `name`"):
        refuse_shared_parameters(second)
