"""Small fits of rows in groups, for tests of reports and programs: rows of a group are not next to each other."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mixpyro import (
    DirichletGate,
    FitResult,
    GaussianExperts,
    GLMExperts,
    HeterogeneousExperts,
    LinearExperts,
    MixtureOfExperts,
    ObjectDirichletGate,
    SoftmaxGate,
    StickBreakingGate,
    fit,
)
from mixpyro.experts.families import Poisson
from mixpyro.groups import Groups

N_GROUPS = 12


class Problem(NamedTuple):
    """Rows of groups, in a random order."""

    x: Tensor  # [N, 1]
    y: Tensor  # [N, 1]
    gate_x: Tensor  # [N, 1], the same in all rows of a group
    ids: list[str]  # of the group of each row

    @property
    def groups(self) -> Groups:
        """Of the rows."""
        return Groups.of(self.ids)


def problem(*, counts: bool = False, n_groups: int = N_GROUPS, most_rows: int = 4) -> Problem:
    """Two lines that cross, a group of one to four rows on one of them."""
    generator = torch.Generator().manual_seed(3)
    sizes = 1 + torch.arange(n_groups) % most_rows
    index = torch.arange(n_groups).repeat_interleave(sizes)
    index = index[torch.randperm(len(index), generator=generator)]
    x = 2.0 * torch.rand(len(index), 1, generator=generator, dtype=torch.float64) - 1.0
    own = torch.linspace(-1, 1, n_groups).double().unsqueeze(1)
    signs = torch.where(torch.arange(n_groups) % 2 == 0, 1.0, -1.0).double()[index].unsqueeze(1)
    mean = 0.4 * signs + 0.8 * signs * x
    noise = torch.randn(len(index), 1, generator=generator, dtype=torch.float64)
    y = torch.poisson((1.0 + mean).exp(), generator=generator) if counts else mean + 0.5 * noise
    return Problem(x, y, own[index], [f"g{number}" for number in index.tolist()])


MIXTURES: dict[str, Callable[[], MixtureOfExperts]] = {
    "dirichlet, lines": lambda: MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1)),
    "dirichlet, density": lambda: MixtureOfExperts(DirichletGate(2), GaussianExperts(2, 1)),
    "softmax, counts": lambda: MixtureOfExperts(
        SoftmaxGate(2, 1, prior_scale=1.0), GLMExperts(2, 1, Poisson(), prior_scale=1.0)
    ),
    "softmax, lines": lambda: MixtureOfExperts(SoftmaxGate(2, 1, prior_scale=1.0), LinearExperts(2, 1)),
    "own weights, lines": lambda: MixtureOfExperts(ObjectDirichletGate(2), LinearExperts(2, 1)),
    "sticks, lines": lambda: MixtureOfExperts(StickBreakingGate(2), LinearExperts(2, 1)),
    "dirichlet, unlike": lambda: MixtureOfExperts(
        DirichletGate(2), HeterogeneousExperts([LinearExperts(1, 1), LinearExperts(1, 1, intercept=False)])
    ),
}


class Fitted(NamedTuple):
    """A fit of groups and its rows."""

    result: FitResult
    problem: Problem

    @property
    def rows(self) -> dict[str, Any]:
        """What was fitted, by the names of arguments."""
        of_gate = {"gate_x": self.problem.gate_x}
        own = of_gate if self.result.data is not None and self.result.data.n_gate_features is not None else {}
        return {"x": self.problem.x, "y": self.problem.y} | own


def fitted(name: str, *, groups: Any = None, most_rows: int = 4, **options: Any) -> Fitted:
    """Fit a mixture to rows in groups."""
    own = problem(counts="counts" in name, most_rows=most_rows)
    gate_x = own.gate_x if "softmax" in name else None
    start: dict[str, Any] = {"n_restarts": 1, "max_iterations": 3000, "tolerance": 1e-12, "progress": False}
    by = own.ids if groups is None else groups
    result = fit(MIXTURES[name](), own.x, own.y, gate_x=gate_x, groups=by, **(start | options))
    return Fitted(result, own)
