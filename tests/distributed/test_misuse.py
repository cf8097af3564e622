"""Do fits on many processes say what people who begin with them do wrong, and say it once?"""

import pickle
from typing import Any

import pytest
import torch

from tests.distributed import misuse_cases as cases
from tests.distributed.cases import N, data
from tests.distributed.conftest import Ask

MODULE = cases.__name__


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("whose", "said"), [("own", ""), ("two", "ranks 0, 1 of 3"), ("all", "ranks 0, 1, 2 of 3"), ("few", "")]
)
def test_rows_that_two_ranks_have_passed_are_said_once(whose: str, said: str, stream: bool, ask: Ask) -> None:
    found: list[dict[str, Any]] = ask("with_rows", 3, whose, stream, module=MODULE)
    same = [one for one in found[0]["warned"] if "have passed the same" in one]
    assert len(same) == bool(said) and all(said in one for one in same)
    assert [one["warned"] for one in found[1:]] == [[], []]
    if not stream:
        assert [one["cautions"] for one in found] == [found[0]["warned"]] * 3


def test_streams_go_on_from_a_pickle_with_any_number_of_processes(ask: Ask) -> None:
    found = ask("gone_on", 4, module=MODULE)
    for one in found:
        assert len(one["default"]) == 3 and len(one["given"]) == 2
        assert all(torch.equal(other, found[0]["default"][0]) for other in (*one["default"], *one["given"]))
        assert "`process_group` must be None" in one["said"]
    stream, half = pickle.loads(found[0]["pickle"]), N // 2
    stream.partial_fit(data()["x"][half:], data()["y"][half:])
    assert stream.n_seen == N
    assert torch.allclose(stream.mixture.experts.coefficients, found[0]["default"][0], rtol=1e-9)


def test_a_rank_without_rows_draws_and_reports(ask: Ask) -> None:
    plain = cases.reported_without_rows(0, 1, None)
    for one in ask("reported_without_rows", 2, module=MODULE):
        assert one["warned"] == []
        assert "rows of this process alone" in one["summary"] and "mean field" in one["summary"]
        assert one["coefficients"] == plain["coefficients"]
        assert "`intervals='mean field'`, which needs no rows" in one["said"]
    assert plain["said"] == "" and "this process alone" not in plain["summary"]
