"""Rows of a fit in float64, block by block, with their responsibilities."""

from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor

from mixpyro.fitting.known_labels import joint_of
from mixpyro.fitting.table import Table
from mixpyro.mixture import MixtureOfExperts
from mixpyro.numerics.blocks import rows_per_block
from mixpyro.numerics.normalised import normalised
from mixpyro.shapes import Value


class Block(NamedTuple):
    """Some objects, which are rows or groups of rows."""

    rows: slice
    gate_x: Tensor  # [B, G]
    columns: Value  # what the experts read of objects
    weights: Tensor  # [B]
    log_joint: Tensor  # [K, B], nats


def blocks_of(mixture: MixtureOfExperts, table: Table, *, width: int) -> Iterator[Block]:
    """Yield all objects in order, in float64.

    Args:
        mixture: in float64.
        table: the rows, of any dtype.
        width: numbers that each temporary has for a row.
    """
    table = table._replace(columns=())
    of_groups = mixture.experts.reads_groups
    if of_groups:  # Their columns are a few numbers of each group, not of each row.
        table = table.in_float64().with_columns(mixture.experts)
    for objects in table.slices(rows_per_block(width, table.x.device)):
        block = table.block(objects) if of_groups else table.block(objects).in_float64().with_columns(mixture.experts)
        log_joint, columns = joint_of(mixture, block.columns, block.labels)
        weights = block.gate_x.new_ones(block.size) if block.weights is None else block.weights
        found = log_joint(block.gate_x, columns, objects=objects)
        yield Block(objects, block.gate_x, block.columns, weights, found)


def evidence_of(block: Block) -> tuple[Tensor, Tensor]:
    """Return responsibilities [K, B] and log evidences [B], zero for a row of weight zero.

    Args:
        block: of rows, without derivatives.
    """
    r, log_evidence = normalised(block.log_joint.contiguous())
    return r, log_evidence.masked_fill(block.weights == 0.0, 0.0)
