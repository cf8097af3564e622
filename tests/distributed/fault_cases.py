"""What the worker processes do where a rank is given other arguments than the others."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from mixpyro import LinearExperts, MixtureOfExperts, fit, fit_batches, fit_formula, grow_tree
from tests.distributed.cases import MIXTURES, K, N, data, shard, words_of


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
        return words_of(error)
    return "no error"


def _read(mixture: MixtureOfExperts, given: dict[str, Any], bad: bool, group: Any) -> None:
    """Fit batches whose reader fails on one rank."""

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        yield given["x"], given["y"]
        if bad:
            raise OSError("the file is gone")
        yield given["x"], given["y"]

    fit_batches(mixture, batches(), n_epochs=1, n_restarts=2, process_group=group)
