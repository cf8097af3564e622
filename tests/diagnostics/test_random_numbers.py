"""Random numbers from a seed, and the state that they leave."""

import pytest
import torch

from mixpyro.diagnostics.random_numbers import own_random_numbers


def test_the_random_state_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices that the data are not on are not reseeded: their state would not be restored."""
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("all devices were reseeded"))
    before = torch.get_rng_state()
    with own_random_numbers(torch.device("cpu"), 3):
        first = torch.rand(1)
    with own_random_numbers(torch.device("cpu"), 3):
        assert torch.equal(torch.rand(1), first)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.cuda
def test_the_random_state_of_the_device_is_restored() -> None:
    device = torch.device("cuda")
    before = torch.cuda.get_rng_state(device)
    draws = []
    for _ in range(2):
        with own_random_numbers(device, 3):
            draws.append(torch.rand(2, device=device))
    assert torch.equal(*draws)
    with own_random_numbers(torch.device("cpu"), 3):
        assert torch.equal(torch.cuda.get_rng_state(device), before)
    assert torch.equal(torch.cuda.get_rng_state(device), before)
