"""Networks are evaluated in their own dtype, inside and outside Pyro programs."""

from typing import Any

import pyro
import pytest
import torch
from pyro.distributions import Normal
from pyro.nn import PyroModule, PyroSample, pyro_method
from torch import Tensor, nn

from mixpyro.pyro_internals.networks import ANY_OUTPUT, evaluate, network_of, trainable_parameters


class Owner(PyroModule):
    """A Pyro module with a network or a list of networks.

    Args:
        network: any torch module.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__("owner")
        self.network = network

    @pyro_method
    def model(self, x: Tensor) -> list[Tensor]:
        """Evaluate the network in a Pyro program."""
        return evaluate(self, x, ANY_OUTPUT)


@pytest.mark.parametrize("kind", [nn.Linear, PyroModule[nn.Linear]])
def test_the_store_stays_empty_outside_a_program_and_has_the_parameters_inside(kind: Any) -> None:
    owner = Owner(kind(2, 1))
    x = torch.ones(3, 2).double()
    (outside,) = evaluate(owner, x, ANY_OUTPUT)
    assert outside.dtype == torch.float32
    assert not len(pyro.get_param_store())
    (inside,) = owner.model(x)
    torch.testing.assert_close(inside, outside)
    assert len(pyro.get_param_store()) == 2


def test_every_network_of_a_list_is_evaluated_in_its_dtype() -> None:
    owner = Owner(nn.ModuleList([nn.Linear(2, 1), nn.Linear(2, 4).double()]))
    for outputs in (evaluate(owner, torch.ones(3, 2), ANY_OUTPUT), owner.model(torch.ones(3, 2))):
        assert [(tuple(output.shape), output.dtype) for output in outputs] == [
            ((3, 1), torch.float32),
            ((3, 4), torch.float64),
        ]


def test_looking_at_a_network_registers_nothing() -> None:
    owner = Owner(nn.Linear(2, 1))
    owner.network.bias.requires_grad_(False)
    assert [tuple(parameter.shape) for parameter in trainable_parameters(network_of(owner))] == [(1, 2)]
    assert not len(pyro.get_param_store())


def test_random_weights_are_refused_outside_a_program() -> None:
    kind: Any = PyroModule[nn.Linear]
    network = kind(2, 1)
    network.weight = PyroSample(Normal(0.0, 1.0).expand([1, 2]).to_event(2))
    with pytest.raises(RuntimeError, match=r"`network` must have no random weights.*got PyroSample"):
        evaluate(Owner(network), torch.ones(3, 2), ANY_OUTPUT)
