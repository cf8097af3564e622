"""What the worker processes do with rows of one block, streams, and arguments that differ between ranks."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from mixpyro import (
    DirichletGate,
    GLMExperts,
    LinearExperts,
    MixtureOfExperts,
    NeuralExperts,
    ObjectDirichletGate,
    RandomEffectsExperts,
    SoftmaxGate,
    StickBreakingGate,
    StreamingFit,
    fit,
    fit_batches,
    fit_formula,
    grow_tree,
)
from mixpyro.distributed import blocks
from mixpyro.experts.families import Gaussian, Poisson
from tests.distributed.cases import CUTS, SMALL, K, N, compared, data, network

MIXTURES: dict[str, Callable[[], MixtureOfExperts]] = {
    "softmax, poisson": lambda: MixtureOfExperts(SoftmaxGate(K, 2), GLMExperts(K, 2, Poisson())),
    "dirichlet, linear": lambda: MixtureOfExperts(DirichletGate(K), LinearExperts(K, 2)),
    "object dirichlet, poisson": lambda: MixtureOfExperts(ObjectDirichletGate(K), GLMExperts(K, 2, Poisson())),
    "learnt mean, linear": lambda: MixtureOfExperts(ObjectDirichletGate(K, learn_mean=True), LinearExperts(K, 2)),
    "dirichlet, random effects": lambda: MixtureOfExperts(DirichletGate(K), RandomEffectsExperts(K, 2)),
    "sticks, neural": lambda: MixtureOfExperts(
        StickBreakingGate(K), NeuralExperts(K, 2, network(K), Gaussian(), prior_scale=2.0)
    ),
}


def shard(given: dict[str, Any], rank: int, size: int) -> dict[str, Any]:
    """The rows of a rank."""
    own = slice(CUTS[size][rank], CUTS[size][rank + 1])
    return {name: value[own] if isinstance(value, Tensor) else value for name, value in given.items()}


def rows(name: str) -> dict[str, Any]:
    """Rows of a case; some that have weight zero, all of one rank's among them."""
    given = data(name)
    if "zero" in name:
        weights = torch.rand(N, generator=torch.Generator().manual_seed(2), dtype=torch.float64) + 0.1
        weights[::5], weights[CUTS[4][1] : CUTS[4][2]] = 0.0, 0.0
        given["weights"] = weights
    if "groups" in name:
        firsts = torch.tensor([int((given["groups"] == one).nonzero()[0, 0]) for one in given["groups"]])
        given["gate_x"] = given["x"][firsts]
    return given


def fitted(rank: int, size: int, group: Any, name: str, limits: blocks.Limits) -> dict[str, Any]:
    """What a fit finds, with responsibilities of every optimum; blocks as the limits say."""
    blocks.LIMITS = limits
    try:
        by_gradient = "neural" in name or "learnt" in name
        n_restarts, n_iterations = (2, 2) if by_gradient else (3, 8)
        options: dict[str, Any] = {"n_restarts": n_restarts, "max_iterations": n_iterations, "n_gradient_steps": 2}
        options |= {"n_candidates": 1} if by_gradient else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mixture = MIXTURES[name.split(" with ")[0]]()
            result = fit(mixture, **shard(rows(name), rank, size), progress=False, process_group=group, **options)
    finally:
        blocks.LIMITS = SMALL
    others = [one.responsibilities for one in result.optima[1:]]
    return compared(result) | {"others": others}


def streamed(rank: int, size: int, group: Any, in_batches: bool) -> dict[str, Any]:
    """The state and the warnings after a stream of three batches, of which rank 0 has no third one."""
    mixture, given = MIXTURES["softmax, poisson"](), data("poisson")

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for first in (0, 50, 100):
            low, high = (first + cut for cut in (50 * rank // size, 50 * (rank + 1) // size))
            if first == 100 and size > 1:
                if rank == 0:
                    return
                low, high = (100 + 50 * cut // (size - 1) for cut in (rank - 1, rank))
            yield given["x"][low:high], given["y"][low:high]

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if in_batches:
            fit_batches(mixture, batches(), n_epochs=1, n_restarts=2, process_group=group)
        else:
            stream = StreamingFit(mixture, n_restarts=2, process_group=group)
            nothing = given["x"][:0], given["y"][:0]
            for x, y in [*batches(), nothing][:3]:
                stream.partial_fit(x, y)
    return {"state": dict(mixture.state_dict()), "warnings": sorted(str(one.message) for one in caught)}


def stream_that_lacks_a_component(rank: int, size: int, group: Any, what: str) -> dict[str, Tensor]:
    """The state after batches of two blocks, the first of which has no row of the third component."""
    given = data(what)
    late = given["y"][:, 0] > 4.5
    order = torch.cat([(~late).nonzero()[:70, 0], late.nonzero()[:, 0], (~late).nonzero()[70:, 0]])
    given = {name: value[order] for name, value in given.items()}
    mixture = MixtureOfExperts(DirichletGate(K), LinearExperts(K, 2))
    stream = StreamingFit(mixture, n_restarts=2, process_group=group)
    for first, last in ((0, 70), (70, 110), (110, N)):
        low, high = (first + (last - first) * max(0, 2 * cut - size) // size for cut in (rank, rank + 1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stream.partial_fit(**{name: value[low:high] for name, value in given.items()})
    return dict(mixture.state_dict()) | {"intercepts": mixture.experts.coefficients[:, 0, 0].sort().values}


def with_fault(rank: int, size: int, group: Any, what: str) -> str:
    """What a rank says where rank 1 has something else than the others."""
    given, bad = shard(data(), rank, size), rank == 1
    mixture, options = MIXTURES["dirichlet, linear"](), dict[str, Any](n_restarts=2, max_iterations=3)
    try:
        if what == "type" and bad:
            options["progress"] = "yes"
        if what == "mixture" and bad:
            mixture = None  # type: ignore[assignment]
        if what == "dtype" and bad:
            given = {name: value.float() for name, value in given.items()}
        if what == "groups" and bad:
            given["groups"] = torch.arange(len(given["x"]))
        if what == "start" and bad:
            given["initial_responsibilities"] = torch.rand(len(given["x"]), K).double()
        if what == "own start":

            def start(*_: Any) -> Tensor:
                return torch.rand(N, K, generator=torch.Generator().manual_seed(rank)).double()

            options["starts"] = [start]
        if what == "levels":
            levels = ["u", "w"] if bad else ["u", "v"]
            given["x"] = pd.DataFrame({"a": given["x"][:, 0].numpy(), "b": (levels * N)[: len(given["x"])]})
        if what == "reader":
            _read(mixture, given, bad, group)
        elif what == "formula":
            table = pd.DataFrame({"y": data()["y"][:, 0].numpy(), "x": data()["x"][:, 0].numpy()})
            fit_formula("y ~ x", table, k=2)
        elif what == "tree":
            grow_tree(lambda k: LinearExperts(k, 2), **data(), most_components=2)
        else:
            fit(mixture, **given, **{"progress": False, "process_group": group, **options})
    except Exception as error:
        return f"{type(error).__name__}: {error} {getattr(error, '__notes__', '')}"
    return "no error"


def _read(mixture: MixtureOfExperts, given: dict[str, Any], bad: bool, group: Any) -> None:
    """Fit batches whose reader fails on one rank."""

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        yield given["x"], given["y"]
        if bad:
            raise OSError("the file is gone")
        yield given["x"], given["y"]

    fit_batches(mixture, batches(), n_epochs=1, n_restarts=2, process_group=group)
