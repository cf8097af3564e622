"""What a summary says of formulas, rows and the choice of K."""

import math
from typing import TYPE_CHECKING, NamedTuple

from mixpyro.experts.families import Binomial, Categorical
from mixpyro.frontends.families_by_name import GAUSSIAN
from mixpyro.frontends.formula_model import FormulaModel
from mixpyro.reports.named_rows import NamedRows
from mixpyro.reports.summary import Section

if TYPE_CHECKING:
    import pandas as pd


class Candidate(NamedTuple):
    """Criteria of a fit with one number of components."""

    log_evidence: float  # a lower bound, nats; NaN where parameters are estimated
    log_likelihood: float
    n_parameters: int
    aic: float
    bic: float
    icl: float


class Candidates(NamedRows[Candidate]):
    """Fits with several numbers of components."""

    @property
    def shown(self) -> tuple[str, ...]:
        """Names of the columns that have numbers."""
        has_evidence = not all(math.isnan(row.log_evidence) for row in self.values())
        return tuple(name for name in Candidate._fields if has_evidence or name != "log_evidence")


def head_of(
    model: FormulaModel,
    n_rows: int,
    n_dropped: int,
    choice: str,
    candidates: "pd.DataFrame | None",
) -> list[Section]:
    """Return the first sections of a summary.

    Args:
        model: the formulas.
        n_rows: that were used.
        n_dropped: that were not, for a value was missing.
        choice: why this K was chosen.
        candidates: a row for each K.
    """
    parts, family = model.parts, GAUSSIAN if model.family is None else type(model.family).__name__
    gate = "" if parts.gate is None else f", weights ~ {parts.gate}"
    dropped = f", {n_dropped} dropped for missing values" if n_dropped else ""
    scaled = "" if model.gate is None else ", ".join(model.gate.scales)
    units = [f"the gate reads {scaled} from the mean, in standard deviations"] if scaled else []
    response = model.response
    if response.levels and isinstance(model.family, Binomial):
        units.append(f"probabilities are those of {response.names[0]} = {response.levels[1]!r}")
    elif response.levels and isinstance(model.family, Categorical):
        of_predictors = ", ".join(f"{number} of {level!r}" for number, level in enumerate(response.levels[1:], 1))
        units.append(f"predictors are log odds against {response.names[0]} = {response.levels[0]!r}: {of_predictors}")
    lines = (f"{parts.experts}{gate}; family {family}", f"{n_rows} rows used{dropped}", choice, *units)
    if candidates is None or len(candidates) < 2:
        return [Section("", lines=lines)]
    rows = {
        f"K = {k}": Candidate(*(row.item() if hasattr(row, "item") else row for row in values))
        for k, *values in candidates[list(Candidate._fields)].itertuples()
    }
    return [Section("", lines=lines), Section("numbers of components", Candidates(rows)), Section("", lines=("",))]
