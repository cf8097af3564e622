"""Delete a component: its rows go to the others, each row to those that explain it best."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mixpyro.fitting.em import Snapshot
from mixpyro.fitting.moves.points import Point, can_be_emptied, snapshots
from mixpyro.fitting.table import Table
from mixpyro.mixture import MixtureOfExperts
from mixpyro.numerics import nested


def deletions(mixture: MixtureOfExperts, table: Table, point: Point, components: Sequence[int]) -> list[Snapshot]:
    """Return the starts of runs after each of several deletions, from a restricted E-step without the component.

    Args:
        mixture: whose formulas are used.
        table: with columns.
        point: where the move starts.
        components: numbers of those to delete.

    References:
        Hughes, Sudderth (2014), bnpy: reliable and scalable variational inference for Bayesian nonparametric models.
    """
    state, numbers = nested.stack([point.state]), torch.tensor(list(components), device=table.x.device)

    def changed(r: Tensor, rows: slice, part: Table) -> Tensor:
        joint = mixture.log_joint(part.gate_x, part.columns, state)[0].expand_as(r)
        each = joint.expand(len(components), *joint.shape).clone()
        each[torch.arange(len(components), device=r.device), numbers] = -torch.inf
        shares = each.softmax(-2)
        lost = r[numbers].unsqueeze(1)
        rest = r.expand_as(each).clone()
        rest[torch.arange(len(components), device=r.device), numbers] = 0.0
        return rest + lost * shares.nan_to_num(1.0 / len(r))

    return snapshots(mixture, table, point, changed, len(components))


def deletable(table: Table, point: Point, most: int) -> list[int]:
    """Return the components that may be deleted, the smallest first; not the last that has rows.

    Args:
        table: the rows.
        point: where the move starts.
        most: number of components to return.
    """
    counts, free = point.counts(table).tolist(), can_be_emptied(point, table)
    used = [k for k, count in enumerate(counts) if count >= 1e-6]
    return sorted((k for k in used if free[k]), key=counts.__getitem__)[:most] if len(used) > 1 else []
