"""Random numbers from a seed, which leave the global random state as it is."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mixpyro import arguments


@contextmanager
def own_random_numbers(device: torch.device, seed: int) -> Iterator[None]:
    """Use random numbers from a seed inside, and restore the global random state afterwards.

    Args:
        device: on which numbers are drawn, besides the CPU.
        seed: at least 0.
    """
    seed = arguments.integer("seed", seed, least=0)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        # torch.manual_seed would reseed every device, also those that fork_rng does not restore.
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
