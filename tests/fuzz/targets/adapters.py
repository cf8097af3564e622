"""Hyper models of older EM loops, and rows of processes."""

import random
from typing import Any

import torch

from mixpyro import distributed, hyper_models
from tests.fuzz.call import Call
from tests.fuzz.made import gamma
from tests.fuzz.right_values import numbers, rows_of_one
from tests.fuzz.targets.parts import shares

K, D, N = 3, 2, 9
METHODS = ("E_step", "M_step", "LogPiExpectation", "PredictPi")


def _model(rng: random.Random) -> Any:
    """Return an adapter."""
    kind = rng.randrange(5)
    if kind == 0:
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            return hyper_models.HyperExpertNN(D, 4, K, epochs=1)
    if kind == 1:
        return hyper_models.HyperModelDirichlet(K)
    if kind == 2:
        return hyper_models.HyperModelDirichlet(K, mu_prior=gamma())
    return hyper_models.HyperModelGateSparsed(K, gamma=2.0, learn_mu=kind == 3)


def method(rng: random.Random) -> Call:
    """A step, or weights, of an adapter."""
    model, name = _model(rng), rng.choice(METHODS)
    z = shares(N, K, rng, torch.float32)
    given: dict[str, Any] = {"X": torch.ones(N, D), "Y": torch.ones(N, 1), "Z": z, "HyperParameters": {}}
    if name != "E_step":
        model.E_step(**given)
    if name == "LogPiExpectation":
        del given["Z"]
    if name == "PredictPi":
        del given["Z"], given["Y"]
    # What an adapter does not read may be anything; a network shuffles its rows by the global random state.
    fixed = frozenset({"Y", "HyperParameters"})
    changes = name in ("E_step", "M_step")

    def check(result: Any, given: dict[str, Any]) -> list[str]:
        if name == "PredictPi":
            return rows_of_one("weights", result)
        return numbers("log weights", result) if name == "LogPiExpectation" else []

    word = f"{type(model).__name__}.{name}"
    draws = type(model).__name__ == "HyperExpertNN" and changes
    function = getattr(model, name)
    return Call(word, function, given, owner=model, changes=changes, draws=draws, check=check, fixed=fixed)


def constructor(rng: random.Random) -> Call:
    """The constructor of an adapter."""
    cls, given = rng.choice(
        [
            (
                hyper_models.HyperExpertNN,
                {"input_dim": 2, "hidden_dim": 3, "output_dim": 4, "epochs": 1, "device": "cpu"},
            ),
            (hyper_models.HyperModelDirichlet, {"output_dim": 3, "device": "cpu", "mu": 2.0}),
            (hyper_models.HyperModelDirichlet, {"output_dim": 3, "mu": torch.ones(3), "mu_prior": gamma()}),
            (
                hyper_models.HyperModelGateSparsed,
                {"output_dim": 3, "gamma": 2.0, "mu": torch.ones(3), "learn_mu": True},
            ),
        ]
    )
    return Call(cls.__name__, cls, given, draws=cls is hyper_models.HyperExpertNN)


def _of_ten_rows(result: Any, given: dict[str, Any]) -> list[str]:
    """Return a complaint if the rows of a process alone are not all rows."""
    return [] if result == slice(0, given["n_rows"]) and given["n_rows"] >= 0 else [f"the shard is {result}"]


def shard(rng: random.Random) -> Call:
    """The rows of this process."""
    if rng.random() < 0.5:
        return Call("shard", distributed.shard, {"n_rows": 10, "device": "cpu"}, check=_of_ten_rows)
    return Call("processes_of", distributed.processes_of, {"group": None})


MAKERS = {"HyperModel": method, "HyperModel, constructors": constructor, "distributed": shard}
