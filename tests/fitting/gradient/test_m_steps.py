"""The M-steps of all parts of a mixture."""

import torch
from torch import nn

from mixpyro.fitting.gradient.m_steps import GradientMSteps
from mixpyro.gates import NeuralGate
from tests.problems import inputs, responsibilities


def test_every_part_is_raised_towards_its_own_optimum() -> None:
    gates = [NeuralGate(k, nn.Linear(2, k).double(), name=f"gate {k}") for k in (2, 3)]
    m_steps = GradientMSteps(n_steps=50)
    x = inputs(30)
    for _ in range(3):
        for gate in gates:
            r = responsibilities(30, gate.n_components)
            before = gate.partial_bound(x, r).item()
            m_steps(gate, x, r)
            assert gate.partial_bound(x, r).item() >= before
    for gate in gates:
        gate.partial_bound(x, responsibilities(30, gate.n_components)).backward()
        assert all(torch.as_tensor(p.grad).abs().max() < 1e-4 for p in gate.parameters())
