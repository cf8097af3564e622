"""A model by formulas: columns of its rows, and the mixture of K components that reads them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from mixpyro.experts import (
    Experts,
    GaussianExperts,
    GLMExperts,
    LinearExperts,
    RandomEffectsExperts,
    SharedLinearExperts,
)
from mixpyro.experts.families import Family
from mixpyro.frontends.design import Design
from mixpyro.frontends.exposure import Exposure
from mixpyro.frontends.formula_data import group_ids
from mixpyro.frontends.formula_parts import FormulaParts
from mixpyro.frontends.response import Response
from mixpyro.gates import BayesianSoftmaxGate, DirichletGate, Gate, SoftmaxGate
from mixpyro.mixture import MixtureOfExperts

if TYPE_CHECKING:
    import pandas as pd

# What components can share that is no term.
INTERCEPT, SCALE = "intercept", "scale"


class FormulaRows(NamedTuple):
    """Rows as a mixture reads them."""

    x: "pd.DataFrame"  # inputs [N, D], and the exposure where there is one
    gate_x: "pd.DataFrame | None"  # what the gate reads [N, G]; None for a gate that reads nothing
    y: "pd.DataFrame | None" = None  # outcomes [N, P]; None where they were not asked for
    groups: Any = None  # an id of the group of each row [N]


@dataclass(frozen=True)
class FormulaModel:
    """What formulas say of a mixture, but for the number of its components.

    Attributes:
        parts: the formulas as text.
        response: of the left side.
        experts: columns that the experts read.
        gate: columns that the gate reads; None for weights that are the same for all objects.
        exposure: offset or number of trials; None without.
        groups: names of the columns of groups; None for ids that are no columns, or rows alone.
        misses: whether a response may be missing.
        random: names of columns of x, and "intercept", whose coefficients vary from group to group; None without.
        shared: names of columns of x, "intercept" and "scale" that components have in common.
    """

    parts: FormulaParts
    response: Response
    experts: Design
    gate: Design | None
    exposure: Exposure | None = None
    groups: str | Sequence[str] | None = None
    misses: bool = False
    random: tuple[str, ...] | None = None
    shared: tuple[str, ...] = ()

    @property
    def family(self) -> Family | None:
        """Of the outcomes; None for the conjugate Gaussian."""
        return self.response.family

    def rows(self, data: "pd.DataFrame", *, with_outcomes: bool = False) -> FormulaRows:
        """Return new rows as the mixture reads them.

        Args:
            data: with the columns that the formulas use, but for the response where it is not wanted.
            with_outcomes: whether y is wanted, and the groups.

        Raises:
            ValueError: if a column or a value is missing, or a level was not in the fit.
        """
        x = self.experts.columns(data)
        if self.exposure is not None:
            x = with_exposure(x, self.exposure, self.exposure.values(data))
        gate_x = None if self.gate is None else self.gate.columns(data)
        if not with_outcomes:
            return FormulaRows(x, gate_x)
        groups = None if self.groups is None else group_ids(data, self.groups)
        misses = self.misses and not self.response.levels
        y = self.response.outcomes(self.response.design.columns(data, may_be_missing=misses))
        return FormulaRows(x, gate_x, y, groups)

    def mixture(self, n_components: int) -> MixtureOfExperts:
        """Return an unfitted mixture.

        Args:
            n_components: K.
        """
        return MixtureOfExperts(self._gate(n_components), self._experts(n_components))

    def _gate(self, k: int) -> Gate:
        """Return the gate: estimated beside experts that are estimated, else with a posterior."""
        n_columns = 0 if self.gate is None else len(self.gate.names)
        if self.family is not None:
            return SoftmaxGate(k, n_columns)
        return BayesianSoftmaxGate(k, n_columns) if n_columns else DirichletGate(k)

    def _experts(self, k: int) -> Experts:
        """Return the experts."""
        names, own_noise = self.experts.names, not self.parts.shares_scale
        n_outputs = len(self.response.names)
        if self.family is not None:
            shared = [one if one in (INTERCEPT, SCALE) else names.index(one) for one in self.shared]
            return GLMExperts(k, len(names), self.family, exposure=self.exposure is not None, shared=shared)
        if self.random is not None:
            effects = [one if one == INTERCEPT else names.index(one) for one in self.random]
            return RandomEffectsExperts(k, len(names), effects, noise_per_component=own_noise)
        intercept = self.experts.has_intercept
        if self.shared:
            slopes = [names.index(one) for one in self.shared]
            return SharedLinearExperts(k, len(names), n_outputs, shared=slopes, intercept=intercept)
        if not names:
            return GaussianExperts(k, n_outputs, covariance="full" if own_noise else "tied")
        return LinearExperts(k, len(names), n_outputs, intercept=intercept, noise_per_component=own_noise)


def with_exposure(x: "pd.DataFrame", exposure: Exposure, values: Any) -> "pd.DataFrame":  # noqa: ANN401 (an array)
    """Return x with the exposure as its last column.

    Args:
        x: inputs [N, D].
        exposure: of them.
        values: of each row [N].
    """
    name = f"{exposure.argument}({exposure.text})"
    return x.assign(**{name: values})


def tensor_of(frame: "pd.DataFrame") -> Tensor:
    """Return the numbers of a frame [N, D], float64.

    Args:
        frame: of float64.
    """
    return torch.from_numpy(frame.to_numpy(dtype="float64", copy=True))
