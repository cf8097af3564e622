"""Where a run of variational EM starts from: responsibilities drawn at random in several ways."""

import functools
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from mixpyro.mixture import MixtureOfExperts
from mixpyro.typing import Inputs, Outputs, Responsibilities

Start = Callable[[MixtureOfExperts, Inputs, Outputs], Responsibilities]


def given_start(responsibilities: Responsibilities) -> Start:
    """A start of the user's own."""
    return lambda mixture, x, y: responsibilities


def random_starts(n_restarts: int, seed: int) -> list[Start]:
    """Starts of a fit; each draws from a generator of its own, so that none depends on how many there are."""
    return [functools.partial(draw_start, restart=restart, seed=seed) for restart in range(n_restarts)]


def draw_start(mixture: MixtureOfExperts, x: Inputs, y: Outputs, *, restart: int, seed: int) -> Responsibilities:
    """Experts on random subsets of the rows, every third time random assignments, [N, K]."""
    generator = Generator().manual_seed(((seed << 20) + restart) % 2**63)
    if restart % 3 == 2:
        return random_assignments(x, mixture.n_components, generator)
    return from_random_subsets(mixture, x, y, generator)


def random_assignments(x: Inputs, n_components: int, generator: Generator) -> Responsibilities:
    """Each object in one component, drawn uniformly, [N, K]."""
    chosen = torch.randint(n_components, (len(x),), generator=generator).to(x.device)
    return one_hot(chosen, n_components, like=x)


def from_random_subsets(mixture: MixtureOfExperts, x: Inputs, y: Outputs, generator: Generator) -> Responsibilities:
    """Each expert sees a few rows of its own; the responsibilities [N, K] are what these experts then say of all rows.

    A subset has two rows more than the experts have inputs, enough for a line and little enough to lie in one
    component. The mixture's experts are left holding what the subsets said.
    """
    k, size = mixture.n_components, x.shape[1] + 2
    order = torch.randperm(len(x), generator=generator).to(x.device)
    # Where there are too few rows for disjoint subsets, they go round.
    rows = order[torch.arange(k * size, device=x.device) % len(x)]
    membership = one_hot(torch.arange(k, device=x.device).repeat_interleave(size), k, like=x)
    mixture.experts.update(mixture.experts.statistics(x[rows], y[rows], membership))
    mixture.experts.maximise(x[rows], y[rows], membership)
    return mixture.experts.expected_log_likelihood(x, y).softmax(-1)


def one_hot(labels: Tensor, n_components: int, *, like: Tensor) -> Responsibilities:
    """Rows of the identity, in the dtype of ``like``."""
    return torch.nn.functional.one_hot(labels, n_components).to(like.dtype)
