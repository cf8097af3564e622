"""Samples of the objects of a stream."""

import torch

from mixpyro.fitting.kept_rows import KeptRows, joined
from mixpyro.fitting.table import Table
from mixpyro.numerics.segments import Segments


def numbered(numbers: torch.Tensor) -> Table:
    """Return objects that are told apart by their x."""
    x = numbers.double().unsqueeze(-1)
    return Table(x, x, x[:, :0], None)


def test_every_object_is_as_likely_to_be_kept() -> None:
    generator = torch.Generator().manual_seed(0)
    counts = torch.zeros(400)
    for _ in range(300):
        kept = KeptRows(40)
        for start in range(0, 400, 25):
            kept.add(numbered(torch.arange(start, start + 25)), None, generator)
        assert kept.table is not None
        assert (len(kept), kept.n_seen, kept.count) == (40, 400, 10.0)
        counts[kept.table.x.long().squeeze(-1)] += 1
    by_batch = counts.reshape(16, 25).mean(-1)
    # Thirty times each, and a standard error of one for the mean of a batch.
    assert float((by_batch - 30.0).abs().max()) < 4.0


def test_only_the_objects_that_are_named_are_kept() -> None:
    kept = KeptRows(5)
    for _ in range(4):
        kept.add(numbered(torch.arange(10)), torch.tensor([2, 7]), torch.Generator().manual_seed(1))
    assert kept.table is not None
    assert set(kept.table.x.flatten().tolist()) <= {2.0, 7.0}
    assert kept.n_seen == 8


def test_joined_objects_whose_gate_reads_x_share_it() -> None:
    x, own = torch.arange(3.0).unsqueeze(-1), torch.zeros(3, 2)
    both = joined([Table(x, x, x, None), Table(x, x, x, None)])
    assert both.gate_x is both.x
    apart = joined([Table(x, x, own, None), Table(x, x, own, None)])
    assert apart.gate_x.equal(torch.zeros(6, 2))


def test_objects_that_stand_for_many_are_kept_more_often() -> None:
    kept, counts = KeptRows(100), torch.ones(200)
    counts[:20] = 91.0
    kept.hold(numbered(torch.arange(200)), counts, torch.Generator().manual_seed(2))
    assert kept.table is not None
    assert (len(kept), kept.n_seen) == (100, 2000.0)
    assert int((kept.table.x < 20).sum()) in range(90, 93)


def test_joined_objects_keep_rows_weights_and_missing_outputs() -> None:
    one, x = numbered(torch.arange(3)), torch.arange(5).double().unsqueeze(-1)
    grouped = Table(x, x, x[:2, :0], torch.tensor([2.0, 3.0]).double(), segments=Segments(torch.tensor([4, 1])))
    both = joined([one, grouped._replace(misses=True)])
    assert both.segments is not None
    assert both.segments.sizes.tolist() == [1, 1, 1, 4, 1]
    assert both.weights is not None
    assert both.weights.tolist() == [1.0, 1.0, 1.0, 2.0, 3.0]
    assert (both.size, len(both.x), both.misses) == (5, 8, True)
