"""Fits with several numbers of components in one table, and which of them is chosen."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from mixpyro.arguments import shown
from mixpyro.fitting.result import FitResult
from mixpyro.reports.criteria import Criteria

if TYPE_CHECKING:
    import pandas as pd

# How to choose, the column that it is by, and whether more is better.
RULES = {
    "evidence": ("log_evidence", True),
    "bic": ("bic", False),
    "icl": ("icl", False),
    "aic": ("aic", False),
}
AUTO = "auto"


class Choice(NamedTuple):
    """Which number of components is chosen, and why."""

    k: int
    why: str  # in a sentence
    table: "pd.DataFrame"  # a row for each K


def check_rule(choose: object) -> None:
    """Raise unless there is such a rule.

    Args:
        choose: the argument of that name.

    Raises:
        ValueError: if there is none.
    """
    if not isinstance(choose, str) or choose not in (AUTO, *RULES):
        raise ValueError(f"`choose` must be one of {', '.join(map(repr, (AUTO, *RULES)))}; got {shown(choose)}.")


def chosen(fits: Mapping[int, FitResult], criteria: Mapping[int, Criteria], choose: str) -> Choice:
    """Return which fit is chosen, and a table of all.

    A fit whose every run is degenerate, an unbounded likelihood, is not chosen where there is another.

    Args:
        fits: by K.
        criteria: of them.
        choose: "auto" for the evidence where every parameter has a posterior, and else bic; or one of these, or icl or
            aic.

    Raises:
        ValueError: if there is no evidence to choose by.
    """
    has_evidence = not any(math.isnan(one.log_evidence) for one in criteria.values())
    rule = ("evidence" if has_evidence else "bic") if choose == AUTO else choose
    if rule == "evidence" and not has_evidence:
        raise ValueError(
            "`choose` must be 'auto', 'bic', 'icl' or 'aic' where parameters are estimated, so that the bound is none "
            "on the evidence; got 'evidence'."
        )
    sound = [k for k, fit in fits.items() if not fit.degeneracies] or list(fits)
    best = {name: _best(criteria, sound, name) for name in RULES if name != "evidence" or has_evidence}
    k = best[rule]
    return Choice(k, _why(k, rule, best, fits, sound), _table(fits, criteria, k))


def _best(criteria: Mapping[int, Criteria], among: list[int], rule: str) -> int:
    """Return the best K by a rule, the smallest of equal ones."""
    column, more_is_better = RULES[rule]
    sign = -1.0 if more_is_better else 1.0
    return min(sorted(among), key=lambda k: sign * getattr(criteria[k], column))


def _why(k: int, rule: str, best: Mapping[str, int], fits: Mapping[int, FitResult], sound: list[int]) -> str:
    """Return why this K is chosen, in a sentence, and what speaks against it."""
    if len(fits) == 1:
        return f"K = {k}, the one number of components that was fitted."
    words = {
        "evidence": "the largest bound on the log evidence, for every parameter has a posterior",
        "bic": "the smallest bic, for parameters are estimated" if "evidence" not in best else "the smallest bic",
        "icl": "the smallest icl, which counts clear assignments",
        "aic": "the smallest aic",
    }
    listed = ", ".join(map(str, sorted(fits)))
    sentence = f"K = {k} of {listed} by {words[rule]}"
    others = [f"{name} would choose K = {other}" for name, other in best.items() if other != k and name != rule]
    sentence += f"; {' and '.join(others)}." if others else "; all criteria agree."
    if k == max(fits):
        sentence += " It is the largest that was fitted: try more."
    left_out = sorted(set(fits) - set(sound))
    if left_out:
        sentence += f" K = {', '.join(map(str, left_out))} left out: the likelihood has no limit there."
    return sentence


def _table(fits: Mapping[int, FitResult], criteria: Mapping[int, Criteria], k: int) -> "pd.DataFrame":
    """Return a row for each K."""
    import pandas as pd

    columns = ("bound", "log_likelihood", "n_parameters", "aic", "bic", "icl", "log_evidence")
    rows = [
        {
            **{name: getattr(criteria[number], name) for name in columns},
            "converged": fit.converged,
            "n_reached_best": fit.n_reached_best(),
            "n_restarts": len(fit.runs),
            "chosen": number == k,
        }
        for number, fit in fits.items()
    ]
    return pd.DataFrame(rows, index=pd.Index(list(fits), name="K"))
