"""Programs that are refused leave the random state, and those that Pyro leaves at a site do not."""

from typing import Any

import pytest
import torch
from pyro import poutine

from mixpyro import DirichletGate, LinearExperts, MixtureOfExperts


def test_numbers_drawn_before_pyro_leaves_a_program_are_not_drawn_again() -> None:
    mixture = MixtureOfExperts(DirichletGate(3), LinearExperts(3, 1))
    x = torch.zeros(2, 1, dtype=torch.float64)
    weights: list[torch.Tensor] = []
    for _ in range(2):
        trace: Any = poutine.trace(poutine.escape(mixture.model, lambda site: site["name"] == "gate.assignment"))
        with pytest.raises(poutine.NonlocalExit) as left:
            trace.get_trace(x)
        left.value.reset_stack()
        weights.append(trace.trace.nodes["gate.weights"]["value"])
    assert not torch.equal(*weights)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_a_program_that_fails_leaves_the_random_state(device: str) -> None:
    mixture = MixtureOfExperts(DirichletGate(3, device=device), LinearExperts(3, 1, device=device))
    x = torch.zeros(2, 1, dtype=torch.float64, device=device)
    state = torch.cuda.get_rng_state if device == "cuda" else torch.get_rng_state

    def refuse(site: Any) -> bool:
        if site["name"] == "gate.assignment":
            raise ValueError("late")
        return False

    before = state()
    with pytest.raises(ValueError, match="late"):
        poutine.trace(poutine.escape(mixture.model, refuse)).get_trace(x)
    assert torch.equal(state(), before)
