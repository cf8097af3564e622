"""Groups of rows."""

import numpy as np
import pandas as pd
import pytest
import torch

from mixpyro.groups import Groups

IDS = ["b", "a", "b", "c", "a", "b"]
INDEX = [0, 1, 0, 2, 1, 0]


@pytest.mark.parametrize(
    ("ids", "own"),
    [
        (IDS, ("b", "a", "c")),
        (tuple(IDS), ("b", "a", "c")),
        (np.array(IDS), ("b", "a", "c")),
        (np.array(IDS, dtype=object), ("b", "a", "c")),
        (torch.tensor([7, 3, 7, 9, 3, 7]), (7, 3, 9)),
        (np.array([7, 3, 7, 9, 3, 7]), (7, 3, 9)),
        (torch.tensor([0.5, -1.0, 0.5, 9.0, -1.0, 0.5]), (0.5, -1.0, 9.0)),
        ([(1, "x"), (0, "y"), (1, "x"), (2, "z"), (0, "y"), (1, "x")], ((1, "x"), (0, "y"), (2, "z"))),
        ([torch.tensor(7), torch.tensor(3), 7, 9, 3, 7], (7, 3, 9)),
    ],
)
def test_ids_of_any_kind_are_numbered_as_they_appear(ids: object, own: tuple[object, ...]) -> None:
    groups = Groups.of(ids)
    assert groups.ids == own
    assert groups.index.tolist() == INDEX
    assert groups.first_rows.tolist() == [0, 1, 3]
    assert groups.segments.sizes.tolist() == [3, 2, 1]


def test_a_column_of_a_frame_is_taken() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"id": IDS}, index=range(5, 11))
    for column in (frame["id"], frame["id"].astype("category"), frame["id"].astype("string")):
        groups = Groups.of(column)
        assert groups.ids == ("b", "a", "c") and groups.index.tolist() == INDEX


def test_sums_and_rows_agree_with_a_loop() -> None:
    groups, values = Groups.of(IDS), torch.randn(2, 6).double()
    by_hand = torch.stack([values[:, torch.tensor(INDEX) == g].sum(-1) for g in range(3)], dim=-1)
    torch.testing.assert_close(groups.sum(values), by_hand, rtol=0, atol=1e-14)
    assert torch.equal(groups.spread(torch.eye(3)), torch.eye(3)[INDEX])
    rows = torch.arange(6)
    assert torch.equal(groups.sorted(rows), torch.tensor([0, 2, 5, 1, 4, 3]))
    torch.testing.assert_close(groups.segments.sum(groups.sorted(values.mT).mT), by_hand, rtol=0, atol=1e-14)


def test_what_rows_of_a_group_share_is_its_own() -> None:
    groups = Groups.of(IDS)
    assert groups.shared("weights", torch.tensor([2.0, 1.0, 2.0, 0.0, 1.0, 2.0])).tolist() == [2.0, 1.0, 0.0]
    with pytest.raises(ValueError, match="`weights` must be the same in all rows of a group; got rows of group 'a'"):
        groups.shared("weights", torch.tensor([2.0, 1.0, 2.0, 0.0, 3.0, 2.0]))


@pytest.mark.parametrize(
    ("ids", "kind", "message"),
    [
        ("abc", TypeError, "must be a sequence with an id for each row; got str"),
        (3, TypeError, "must be a sequence with an id for each row; got int"),
        ([[1], [2]], TypeError, "must have hashable ids; got list in row 0"),
        ([], ValueError, r"must have shape \[N\], an id for each row; got \[0\]"),
        (torch.zeros(2, 2), ValueError, r"must have shape \[N\], an id for each row; got \[2, 2\]"),
        (np.array([["a"], ["b"]]), ValueError, r"must have shape \[N\], an id for each row; got \[2, 1\]"),
        ([1, None], ValueError, "must have an id for each row; got None in row 1"),
        ([1.0, float("nan")], ValueError, "must have an id for each row; got nan in row 1"),
        (torch.tensor([1.0, float("nan")]), ValueError, "must have an id for each row; got NaN in 1 rows"),
        ([1, pd.NA], ValueError, "must have an id for each row; got <NA> in row 1"),
        (range(10**12), ValueError, r"must have at most 1e\+08 rows; got range"),
        (range(10**30), ValueError, r"must have at most 1e\+08 rows; got range"),
        (torch.nn.ModuleList(), TypeError, "must be a sequence with an id for each row"),
        (["a"], ValueError, "must have an id for each of 2 rows; got 1"),
    ],
)
def test_wrong_ids_are_refused(ids: object, kind: type[Exception], message: str, bad_arguments: None) -> None:
    with pytest.raises(kind, match=f"`ids` {message}"):
        Groups.of(ids, like=torch.zeros(2))


def test_sums_name_values_of_a_dtype_without_sums() -> None:
    with pytest.raises((TypeError, ValueError), match=r"^`values` must"):
        Groups.of([1, 2, 1]).sum(torch.ones(3).to(torch.uint64))
