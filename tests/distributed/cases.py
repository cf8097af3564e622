"""What the worker processes of the tests do: fits of the same rows, cut in shards."""

import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from mixpyro import (
    BayesianSoftmaxGate,
    DirichletGate,
    FitResult,
    GaussianExperts,
    GLMExperts,
    HeterogeneousOutputs,
    LinearExperts,
    MarginalObjectDirichletGate,
    MixtureOfExperts,
    NeuralExperts,
    NeuralGate,
    ObjectDirichletGate,
    SoftmaxGate,
    StickBreakingGate,
    TreeGate,
    fit,
    load,
    to_arviz,
)
from mixpyro.distributed import blocks
from mixpyro.experts.families import Gaussian, Poisson

K, N = 3, 150
# Blocks of 32 of the 150 objects: five, the last one short.
SMALL = blocks.Limits(least_objects=32, multiple=8)


def network(width: int) -> nn.Module:
    """A small network, the same on every rank."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, width)).double()


MIXTURES: dict[str, Callable[[], MixtureOfExperts]] = {
    "dirichlet, linear": lambda: MixtureOfExperts(DirichletGate(K), LinearExperts(K, 2)),
    "dirichlet, gaussian": lambda: MixtureOfExperts(DirichletGate(K), GaussianExperts(K, 1)),
    "object dirichlet, linear": lambda: MixtureOfExperts(ObjectDirichletGate(K), LinearExperts(K, 2)),
    "marginal, gaussian": lambda: MixtureOfExperts(
        MarginalObjectDirichletGate(K, learn_mean=True), GaussianExperts(K, 1)
    ),
    "sticks, gaussian": lambda: MixtureOfExperts(StickBreakingGate(4), GaussianExperts(4, 1)),
    "bayesian softmax, linear": lambda: MixtureOfExperts(BayesianSoftmaxGate(K, 2), LinearExperts(K, 2)),
    "tree, linear": lambda: MixtureOfExperts(TreeGate(((0, 1), 2), 2), LinearExperts(K, 2)),
    "softmax, poisson": lambda: MixtureOfExperts(SoftmaxGate(K, 2), GLMExperts(K, 2, Poisson())),
    "softmax, normal": lambda: MixtureOfExperts(SoftmaxGate(K, 2), GLMExperts(K, 2, Gaussian())),
    "neural, neural": lambda: MixtureOfExperts(
        NeuralGate(K, network(K), prior_scale=2.0), NeuralExperts(K, 2, network(K), Gaussian())
    ),
    "dirichlet, heterogeneous": lambda: MixtureOfExperts(
        DirichletGate(K), HeterogeneousOutputs([LinearExperts(K, 2), GaussianExperts(K, 1)])
    ),
}


def data(name: str = "") -> dict[str, Any]:
    """Rows with what else a fit takes."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(N, 2, generator=generator, dtype=torch.float64)
    z = torch.randint(K, (N, 1), generator=generator)
    y = x[:, :1] * (z - 1.0) + 3.0 * z + 0.3 * torch.randn(N, 1, generator=generator, dtype=torch.float64)
    rows: dict[str, Any] = {"x": x, "y": y}
    if "heterogeneous" in name:
        rows["y"] = torch.cat([y, z + torch.randn(N, 1, generator=generator, dtype=torch.float64)], dim=1)
    if "poisson" in name:
        rows["y"] = torch.poisson((0.4 * y).exp(), generator=generator)
    if "weights" in name:
        rows["weights"] = torch.rand(N, generator=generator, dtype=torch.float64)
    if "observed" in name:
        rows |= {"observed": z[:, 0], "mask": torch.arange(N) % 9 == 0}
    if "groups" in name:
        # Groups of two to four rows, none of which is cut by the shards of `CUTS`.
        rows["groups"] = (torch.arange(N) // 3 + (torch.arange(N) % 6 == 5)).long()
    if "groups and weights" in name:
        rows["weights"] = rows["weights"][rows["groups"]]
    if "given start" in name:
        rows["initial_responsibilities"] = torch.rand(N, K, generator=generator, dtype=torch.float64)
    if "missing" in name:
        rows["y"][::7] = torch.nan
        rows["missing"] = "ignore"
    return rows


OPTIONS: dict[str, dict[str, Any]] = {
    "neural, neural": {"n_restarts": 1, "max_iterations": 2, "n_gradient_steps": 2, "n_candidates": 2},
    "sticks, gaussian": {"n_restarts": 2, "max_iterations": 30},
    "tree, linear": {"n_restarts": 2, "max_iterations": 12},
}
# Where the rows are cut, of 1, 2, 3 and 4 ranks; a rank without rows among them.
CUTS = {1: [0, N], 2: [0, 39, N], 3: [0, 0, 105, N], 4: [0, 33, 75, 75, N]}


def shard(given: dict[str, Any], rank: int, size: int) -> dict[str, Any]:
    """The rows of a rank."""
    own = slice(CUTS[size][rank], CUTS[size][rank + 1])
    return {name: value[own] if isinstance(value, Tensor) else value for name, value in given.items()}


def fitted(name: str, rank: int, size: int, group: Any = None, **options: Any) -> FitResult:
    """Fit the shard of a rank of a case, the mixture's name and what else the rows have."""
    kind = name.split(" with ")[0]
    given = shard(data(name), rank, size)
    options = {"n_restarts": 3, "max_iterations": 15, **OPTIONS.get(kind, {}), **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fit(MIXTURES[kind](), **given, progress=False, process_group=group, **options)


def compared(result: FitResult) -> dict[str, Any]:
    """What must be equal to the last digit."""
    state = dict(result.mixture.state_dict())
    objects = state.pop(OF_OBJECTS) if isinstance(result.mixture.gate, ObjectDirichletGate) else None
    return {
        "traces": [run.trace for run in result.runs],
        "shares": result.shares,
        "state": state,
        "objects": objects,
        "optima": [(one.bound, one.runs, one.smallest_share) for one in result.optima],
        "cautions": result.cautions,
        "n_objects": result.data and result.data.n_objects,
        "n_rows": result.data and result.data.n_rows,
    }


OF_OBJECTS = "gate.posterior_concentration"


def of_case(rank: int, size: int, group: Any, name: str, **options: Any) -> dict[str, Any]:
    """What a fit finds."""
    return compared(fitted(name, rank, size, group, **options))


def reported(rank: int, size: int, group: Any) -> dict[str, Any]:
    """What a result of several processes says: what reads all rows, and what does not."""
    result = fitted("sticks, gaussian", rank, size, group)
    said: dict[int, str] = {}
    for report in (result.criteria, result.coefficients, lambda: to_arviz(result)):
        try:
            report()
        except ValueError as error:
            said[len(said)] = str(error)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        result.save(path)
        again = load(path)
    found = result.without_empty()
    return {
        "said": said,
        "counts": result.counts,
        "kept": [len(found.counts), found.mixture.n_components, result.n_used],
        "summary": result.summary(),
        "saved": all(torch.equal(v, again.state_dict()[n]) for n, v in result.mixture.state_dict().items()),
    }


def words_of(error: BaseException) -> str:
    """The kind of an error, what it says, and its notes."""
    return f"{type(error).__name__}: {error} {getattr(error, '__notes__', '')}"


def drawn_start(mixture: MixtureOfExperts, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
    """A start."""
    return torch.rand(len(x), mixture.n_components, generator=generator, dtype=torch.float64)
