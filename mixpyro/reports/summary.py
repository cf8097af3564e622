"""What a person should know of a fit: text for a terminal, tables for a notebook."""

import html
import math
import warnings
from typing import Any, NamedTuple

from mixpyro import arguments
from mixpyro.arguments.signals import pass_on
from mixpyro.fitting.outcomes import MOST_OPTIMA
from mixpyro.fitting.result import FitResult
from mixpyro.reports.coefficient_table import CoefficientTable
from mixpyro.reports.coefficients import INTERVALS, coefficients
from mixpyro.reports.components import components
from mixpyro.reports.criteria import Criteria, criteria
from mixpyro.reports.descriptions import describe
from mixpyro.reports.named_rows import NamedRows

# Estimated parameters beyond which a summary has no table of them: their information matrix takes seconds to compute.
MOST_ESTIMATED = 300
# Parameters beyond which a table of them is too long to read.
MOST_PARAMETERS = 1000


# Of a fit on many processes.
MEAN_FIELD = "note: intervals are those of the mean field, too short where components overlap; others read every row."


class Section(NamedTuple):
    """A part of a summary: a table with a title, or lines."""

    title: str
    table: NamedRows[Any] | None = None
    lines: tuple[str, ...] = ()


class Summary(str):
    """Text that a notebook shows as tables."""

    sections: tuple[Section, ...] = ()

    @classmethod
    def of(cls, sections: list[Section]) -> "Summary":
        """Return the summary of sections.

        Args:
            sections: in order.
        """
        text: list[str] = []
        for section in sections:
            text += [*section.lines] if section.table is None else ["", section.title, str(section.table)]
        made = cls("\n".join(text))
        made.sections = tuple(sections)
        return made

    def __repr__(self) -> str:
        """Return the text itself, as an interactive session shows it."""
        return str(self)

    def _repr_html_(self) -> str:
        """Return tables for a notebook."""
        return html_of(self.sections)


@arguments.checked(probability=arguments.probability)
def summary_of(result: FitResult, *, probability: float = 0.9) -> Summary:
    """Return how a fit ended, components, parameters, criteria, optima, priors and cautions.

    Args:
        result: of a fit that keeps its rows.
        probability: that intervals hold, above 0 and below 1.

    Raises:
        ValueError: if the probability is not between 0 and 1.
    """
    table, notes = _parameters(result, probability)
    sections = [
        Section("", lines=(describe(result), f"fit: {result}", *_criteria_lines(result))),
        Section(_components_title(result), components(result)),
    ]
    if table is not None:
        sections += [Section(f"parameters, with {probability:.0%} intervals", table)]
        sections += [Section("noises and scales", noises)] if (noises := table.noises()) else []
    sections += [Section("", lines=("",))]
    sections += [Section("", lines=tuple(_optima_lines(result) + _prior_lines(result)))]
    cautions = [f"caution: {caution}" for caution in result.cautions]
    return Summary.of([*sections, Section("", lines=(*notes, *cautions))])


def html_of_result(result: FitResult) -> str:
    """Return what a notebook shows of a result, without the parameters, whose errors take time to compute.

    Args:
        result: of a fit.
    """
    cautions = tuple(f"caution: {caution}" for caution in result.cautions)
    advice = "result.summary() has the parameters with their errors, result.plot() pictures."
    sections = (
        Section("", lines=(describe(result), str(result))),
        Section(_components_title(result), components(result)),
        Section("", lines=(*cautions, advice)),
    )
    return html_of(sections)


def html_of(sections: tuple[Section, ...]) -> str:
    """Return sections as HTML.

    Args:
        sections: in order.
    """
    parts: list[str] = []
    for section in sections:
        if section.table is not None:
            parts.append(f"<h4>{html.escape(section.title)}</h4>{section.table._repr_html_()}")
        else:
            parts += [f"<p>{html.escape(line)}</p>" for line in section.lines if line]
    return f"<div>{''.join(parts)}</div>"


def _components_title(result: FitResult) -> str:
    """Return the title of the table of components, which on many processes has a column of this one's rows."""
    return "components" if result.n_processes == 1 else "components (most_probable: rows of this process alone)"


def _parameters(result: FitResult, probability: float) -> tuple[CoefficientTable | None, list[str]]:
    """Return the parameters with intervals, and what to know of them; None and why where there are none."""
    n_estimated = sum(one.numel() for one in result.mixture.parameters() if one.requires_grad)
    n_parameters = result.mixture.gate.n_parameters + result.mixture.experts.n_parameters
    if n_estimated > MOST_ESTIMATED or n_parameters > MOST_PARAMETERS:
        return None, [f"note: {n_parameters} parameters are too many for a table; see `mixpyro.coefficients`."]
    if not result.converged:
        return None, ["note: no table of parameters, whose errors are those of a maximum: the fit has not converged."]
    intervals = INTERVALS[0] if result.n_processes == 1 else INTERVALS[1]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            table = coefficients(result, intervals=intervals, probability=probability)
        except (ValueError, RuntimeError) as error:
            pass_on(error)
            return None, [f"note: no table of parameters: {error}"]
    notes = [] if result.n_processes == 1 else [MEAN_FIELD]
    return table, notes + [f"note: {one.message}" for one in caught if str(one.message) not in result.cautions]


def _criteria_lines(result: FitResult) -> list[str]:
    """Return the criteria in a line; why not where there are none."""
    try:
        found: Criteria = criteria(result)
    except (ValueError, RuntimeError) as error:
        pass_on(error)
        return [f"criteria: none, because {error}"]
    evidence = "" if math.isnan(found.log_evidence) else f"log evidence ≥ {found.log_evidence:.2f}, "
    return [
        f"criteria: {evidence}log likelihood {found.log_likelihood:.3f}, {found.n_parameters} parameters, "
        f"AIC {found.aic:.2f}, BIC {found.bic:.2f}, ICL {found.icl:.2f}, entropy {found.entropy:.2f} nats"
    ]


def _optima_lines(result: FitResult) -> list[str]:
    """Return the distinct optima, a line each, where there are several."""
    if len(result.optima) <= 1:
        return []
    return [f"optimum {number}: {optimum}" for number, optimum in enumerate(result.optima[:MOST_OPTIMA])]


def _prior_lines(result: FitResult) -> list[str]:
    """Return the priors in words."""
    parts = (("gate", result.mixture.gate), ("experts", result.mixture.experts))
    return [f"prior of the {name}: {words}" for name, part in parts if (words := part.prior_in_words())]
