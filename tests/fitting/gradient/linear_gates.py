"""Linear softmax gates, trained by a few steps."""

import torch
from torch import Tensor, nn

from mixpyro.fitting.gradient.m_step import MStep
from mixpyro.gates import NeuralGate
from tests.problems import inputs, responsibilities

K = 3


def gate(name: str = "gate") -> NeuralGate:
    """Make a linear softmax gate."""
    return NeuralGate(K, nn.Linear(2, K).double(), name=name)


def train(first: nn.Module, m_step: MStep, n_steps: int = 5) -> list[Tensor]:
    """Take a few steps and return the parameters."""
    for _ in range(n_steps):
        m_step.step(inputs(20), responsibilities(20, K))
    return [parameter.detach().clone() for parameter in first.parameters()]


def assert_all_equal(first: list[Tensor], second: list[Tensor]) -> None:
    """Compare bit for bit."""
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def trained_alone(seed: int) -> list[Tensor]:
    """Train a gate drawn under ``seed`` in a program that has no other module."""
    torch.manual_seed(seed)
    only = gate()
    return train(only, MStep(only))
