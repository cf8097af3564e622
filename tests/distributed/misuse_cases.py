"""What the worker processes do as people who have not read all of the documentation, and with streams that go on."""

import copy
import pickle
import warnings
from typing import Any

from mixpyro import StreamingFit, fit
from mixpyro.diagnostics.plots import plot_overview
from tests.distributed.cases import CUTS, MIXTURES, N, data


def with_rows(rank: int, size: int, group: Any, whose: str, stream: bool) -> dict[str, list[str]]:
    """What a fit warns of and keeps as cautions; ranks have rows of their own, or two of them the same, or all."""
    given, own = data(), slice(CUTS[size][rank], CUTS[size][rank + 1])
    own = {"own": own, "two": slice(0, 60) if rank < 2 else own, "all": slice(None), "few": slice(0, 5)}[whose]
    mixture, x, y = MIXTURES["dirichlet, linear"](), given["x"][own], given["y"][own]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if stream:
            StreamingFit(mixture, n_restarts=2, process_group=group).partial_fit(x, y).partial_fit(x, y)
            cautions = []
        else:
            options: dict[str, Any] = {"n_restarts": 2, "max_iterations": 2, "progress": False}
            cautions = list(fit(mixture, x, y, process_group=group, **options).cautions)
    return {"warned": [str(one.message) for one in caught], "cautions": cautions}


def gone_on(rank: int, size: int, group: Any) -> dict[str, Any]:
    """How streams go on that were copied, or pickled in the default group; and what a pickle of others says."""
    given, half = data(), N // 2
    firsts, lasts = (slice(first + half * rank // size, first + half * (rank + 1) // size) for first in (0, half))
    found: dict[str, Any] = {}
    for name, process_group in (("default", None), ("given", group)):
        stream = StreamingFit(MIXTURES["dirichlet, linear"](), n_restarts=2, process_group=process_group)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stream.partial_fit(given["x"][firsts], given["y"][firsts])
        try:
            kept = pickle.dumps(stream)
        except TypeError as error:
            found["said"], kept = str(error), b""
        streams = [stream, copy.deepcopy(stream), *([pickle.loads(kept)] if kept else [])]
        for one in streams:
            one.partial_fit(given["x"][lasts], given["y"][lasts])
        found[name] = [one.mixture.experts.coefficients for one in streams]
        found["pickle"] = kept or found["pickle"]
    return found


def reported_without_rows(rank: int, size: int, group: Any) -> dict[str, Any]:
    """What ranks report of which one has all rows: warnings of a picture, the summary, coefficients, a refusal."""
    given, own = data(), slice(0, N) if rank == 0 else slice(0, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mixture = MIXTURES["dirichlet, linear"]()
        result = fit(mixture, given["x"][own], given["y"][own], n_restarts=2, progress=False, process_group=group)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        plot_overview(result)
    try:
        result.coefficients()
        said = ""
    except ValueError as error:
        said = str(error)
    coefficients = result.coefficients(intervals="mean field").to_csv()
    warned = [str(one.message) for one in caught]
    return {"warned": warned, "summary": str(result.summary()), "coefficients": coefficients, "said": said}
