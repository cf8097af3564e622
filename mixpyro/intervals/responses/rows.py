"""Rows of a fit in float64, block by block, with their responsibilities."""

from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor

from mixpyro.fitting.known_labels import joint_of
from mixpyro.fitting.table import Table
from mixpyro.mixture import MixtureOfExperts
from mixpyro.numerics.blocks import rows_per_block, slices
from mixpyro.numerics.normalised import normalised
from mixpyro.shapes import Value


class Block(NamedTuple):
    """Some rows."""

    rows: slice
    gate_x: Tensor  # [B, G]
    columns: Value  # what the experts read, rows along the last axis
    weights: Tensor  # [B]
    log_joint: Tensor  # [K, B], nats


def blocks_of(mixture: MixtureOfExperts, table: Table, *, width: int) -> Iterator[Block]:
    """Yield all rows in order, in float64.

    Args:
        mixture: in float64.
        table: the rows, of any dtype.
        width: numbers that each temporary has for a row.
    """
    for rows in slices(len(table.x), rows_per_block(width, table.x.device)):
        block = table._replace(columns=()).block(rows)
        x, y, gate_x = block.x.double(), block.y.double(), block.gate_x.double()
        own = mixture.experts.columns(x, y)
        log_joint, columns = joint_of(mixture, own, block.labels)
        weights = gate_x.new_ones(len(x)) if block.weights is None else block.weights.double()
        found = log_joint(gate_x, columns, objects=rows)
        yield Block(rows, gate_x, own, weights, found)


def evidence_of(block: Block) -> tuple[Tensor, Tensor]:
    """Return responsibilities [K, B] and log evidences [B], zero for a row of weight zero.

    Args:
        block: of rows, without derivatives.
    """
    r, log_evidence = normalised(block.log_joint.contiguous())
    return r, log_evidence.masked_fill(block.weights == 0.0, 0.0)
