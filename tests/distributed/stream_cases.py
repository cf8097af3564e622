"""What the worker processes do with streams, whose batches lie on all ranks."""

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from mixpyro import DirichletGate, LinearExperts, MixtureOfExperts, StreamingFit, fit_batches
from tests.distributed.cases import MIXTURES, K, N, data


def of_posteriors(rank: int, size: int, group: Any) -> dict[str, Tensor]:
    """The state after a stream of four batches, each of which lies on all ranks."""
    mixture = MIXTURES["dirichlet, linear"]()
    stream = StreamingFit(mixture, n_restarts=2, process_group=group)
    given = data()
    for first in (0, 50, 100):
        low, high = (first + 50 * one // size for one in (rank, rank + 1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stream.partial_fit(given["x"][low:high], given["y"][low:high])
    return dict(mixture.state_dict())


def of_estimates(rank: int, size: int, group: Any, in_batches: bool) -> dict[str, Any]:
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


def that_lacks_a_component(rank: int, size: int, group: Any, what: str) -> dict[str, Tensor]:
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
