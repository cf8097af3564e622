"""Results of a fit to distinct rows, told of all rows, and with components in another order."""

import copy
import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro.fitting.result import FitResult
from mixpyro.frontends.distinct_rows import DistinctRows
from mixpyro.mixture import MixtureOfExperts
from mixpyro.shapes import Responsibilities
from mixpyro.tables.given import GivenRows


class Rows(NamedTuple):
    """What a mixture reads of N rows."""

    x: Tensor  # inputs of the experts [N, D]
    y: Tensor  # outputs [N, P]
    gate_x: Tensor | None  # inputs of the gate [N, G]; None where it reads none, or those of the experts

    def at(self, numbers: Tensor) -> "Rows":
        """Return some of the rows.

        Args:
            numbers: of the rows.
        """
        return Rows(self.x[numbers], self.y[numbers], None if self.gate_x is None else self.gate_x[numbers])


def of_all_rows(result: FitResult, distinct: DistinctRows, given: GivenRows, weights: Tensor | None) -> FitResult:
    """Return the result of a fit to distinct rows as one of all rows, in their order.

    The bound is the same: a row of weight three is three rows, and one of weight zero is none.

    Args:
        result: of the distinct rows.
        distinct: which they are.
        given: all rows, with the names of their columns.
        weights: how much each of all rows counts [N]; None where each counts once.
    """
    kind, uncounted = torch.as_tensor(distinct.kind), torch.as_tensor(distinct.uncounted)

    def spread(shares: Float[Tensor, "M K"], mixture: MixtureOfExperts) -> Responsibilities:
        found = shares[kind]
        if len(uncounted):
            x, y, gate_x = Rows(given.x, given.y, given.gate_x).at(uncounted)
            found[uncounted] = mixture.assign(x, y, gate_x=gate_x).responsibilities
        return found

    optima = tuple(
        one
        if one.responsibilities is None
        else dataclasses.replace(one, responsibilities=spread(one.responsibilities, result.at(number)))
        for number, one in enumerate(result.optima)
    )
    assert result.data is not None
    return dataclasses.replace(
        result,
        shares=spread(result.shares, result.mixture),
        weights=weights,
        optima=optima,
        data=dataclasses.replace(result.data, n_rows=len(given.x)),
        rows=given,
    )


def in_order(result: FitResult, order: Sequence[int]) -> FitResult:
    """Return a result whose components have other numbers.

    Args:
        result: of a gate whose posterior is tensors of a number for each component, of components with one prior.
        order: the number before of each component [K].
    """
    if list(order) == sorted(order):
        return result
    before = result.mixture
    gate = copy.deepcopy(before.gate)
    gate.hold_posterior(type(gate.posterior)(*(part[list(order)] for part in gate.posterior)))
    mixture = type(before)(gate, before.experts.with_components(order))
    mixture.fitted_columns = before.fitted_columns
    shares = result.shares[:, list(order)]
    optima = result.optima
    if optima and optima[0].state is not None:
        own = None if optima[0].responsibilities is None else shares
        optima = (dataclasses.replace(optima[0], state=mixture.state(), responsibilities=own), *optima[1:])
    return dataclasses.replace(result, mixture=mixture, shares=shares, optima=optima, _template=copy.deepcopy(mixture))
