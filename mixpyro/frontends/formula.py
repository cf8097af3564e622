"""Fit a mixture of experts by formulas of the columns of a table."""

import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from types import FrameType
from typing import Any

import torch

from mixpyro import arguments
from mixpyro.arguments.late_imports import imported
from mixpyro.fitting.alike_on_ranks import refuse_processes
from mixpyro.fitting.fit import fit
from mixpyro.fitting.result import FitResult
from mixpyro.frontends.built_rows import Built
from mixpyro.frontends.choice import AUTO, check_rule, chosen
from mixpyro.frontends.formula_building import Request, build
from mixpyro.frontends.formula_result import FormulaResult
from mixpyro.reports.criteria import criteria

# Arguments of fit that have a value for each row.
OF_ROWS = ("observed", "mask")
# Packages whose frames may stand between a function and its caller.
CHECKERS = ("jaxtyping", "beartype")


def fit_formula(
    formula: str | Sequence[str],
    data: Any,  # noqa: ANN401 (a frame of any library, or a dict of columns)
    *,
    gate: str | None = None,
    family: object = "gaussian",
    k: int | Iterable[int] = range(1, 5),
    groups: Any = None,  # noqa: ANN401 (names of columns, or ids)
    weights: Any = None,  # noqa: ANN401 (name of a column, or numbers)
    offset: str | None = None,
    trials: str | None = None,
    random: str | None = None,
    shared: Sequence[str] = (),
    missing: str = "drop",
    choose: str = AUTO,
    context: Mapping[str, Any] | None = None,
    **options: Any,  # noqa: ANN401 (of fit)
) -> FormulaResult:
    """Fit mixtures of experts with formulas, one for each number of components, and choose one.

    Formulas are those of formulaic, close to R's: ``x + z``, ``x * z``, ``x:z``, ``np.log(x)``, ``C(x)``, ``I(x**2)``,
    ``bs(x, df=4)``, ``poly(x, 2)``, ``center(x)``, ``scale(x)``. Transforms and levels of categories are those of the
    rows of the fit wherever new rows are. Python functions are the caller's.

    The family "gaussian" has conjugate experts: LinearExperts, GaussianExperts for 'y ~ 1', RandomEffectsExperts with
    ``random``, SharedLinearExperts with ``shared``. Their gate is a BayesianSoftmaxGate, or a DirichletGate where
    weights are the same for all objects, so that the bound is one on the evidence. All other families are GLMExperts by
    maximum likelihood, with a SoftmaxGate, constant without ``gate``, so that the bound is the log likelihood.

    Args:
        formula: "y ~ x"; "y1 + y2 ~ x" for several responses of the family "gaussian" or "multinomial", and
            "lower + upper ~ x" for censored ones. Or several formulas, that of the gate among them:
            ["y ~ x", "weights ~ w"], or in the words of bambi's mixtures ["y ~ mixture(mu, sigma)", "mu ~ x",
            "weights ~ w"]. Components share there what ``mixture`` does not name: "y ~ mixture(mu)" has one noise.
        data: a table with the columns, a DataFrame or a dict. It is not changed.
        gate: what the weights of the components depend on, "~ w"; None where they are the same for all objects. With
            the family "gaussian", a column far from zero or not of unit order is counted from its mean in standard
            deviations, for the gate's prior is of unit scale; its coefficient is named ``scale(w)``.
        family: "gaussian", "poisson", "binomial", "negative_binomial", "student_t", "zero_truncated_poisson",
            "censored_gaussian", "categorical", "multinomial", or a Family of ``mixpyro.experts.families``.
        k: K, the number of components, or several to choose from.
        groups: name of the column of groups, or several names, or an id for each row: all rows of a group have one
            component.
        weights: how much each row counts: name of a column, an expression, or numbers [N].
        offset: added to the linear predictor of a count: "log(exposure)", or another expression or column.
        trials: number of trials of a binomial or multinomial: a column or an expression.
        random: "~ 1 + t" for coefficients that vary from group to group around those of the component.
        shared: terms whose coefficients all components have in common; with estimated experts also "intercept", and
            "scale" of the family ``Gaussian()``.
        missing: "drop" rows with a missing value in any column that is used, of response, terms, gate, groups, weights
            or offset; "error"; or "ignore" where a response was not observed, as for :func:`mixpyro.fit`.
        choose: the number of components by "evidence", "bic", "icl" or "aic"; "auto" for the evidence where every
            parameter has a posterior, and else bic.
        context: functions and constants that formulas use; the variables of the caller by default.
        **options: of :func:`mixpyro.fit`, such as ``n_restarts`` and ``seed``.

    Returns:
        The fit of the K that was chosen, a FitResult, with ``candidates``, ``choice`` and ``of(k)`` for the others.

    Raises:
        ImportError: if formulaic is not installed.
        TypeError: if an argument is of another type.
        ValueError: if a formula is not understood, or the table or the family does not fit it.
        RuntimeError: if no run of a fit reached a finite bound.

    Warns:
        RuntimeWarning: as :func:`mixpyro.fit` of the fit that is chosen, and if terms depend on which rows there are.

    Example:
        >>> from mixpyro import fit_formula
        >>> data = {"y": [1.0, 2.1, 2.9, 4.2, 5.0, 5.8], "x": [1, 2, 3, 4, 5, 6]}
        >>> result = fit_formula("y ~ x", data, k=1)
        >>> result.predict({"x": [10]}).round(1).tolist()
        [9.8]
    """
    _need_formulaic()
    context = _variables_of_caller() if context is None else arguments.mapping("context", context)
    ks = _checked_ks(k)
    check_rule(choose)
    beside = {name: options.pop(name) for name in OF_ROWS if options.get(name) is not None}
    built = build(
        Request(formula, data, gate, family, groups, weights, offset, trials, random, shared, missing, beside), context
    )
    with arguments.outside_of_contexts(torch.empty(0, dtype=torch.float32, device="cpu")):
        fits = {one: _fitted(built, one, missing, options) for one in ks}
        rows = {one: criteria(result) for one, result in fits.items()}
    choice = chosen(fits, rows, choose)
    own = {"model": built.model, "dropped": built.dropped, "candidates": choice.table, "choice": choice.why}
    found = {one: FormulaResult.of_fit(result, cautions=built.cautions, **own) for one, result in fits.items()}
    result = found[choice.k].with_fits(found)
    for caution in result.cautions:
        warnings.warn(caution, RuntimeWarning, stacklevel=2)
    return result


def _variables_of_caller() -> dict[str, Any]:
    """Return the variables of the function that called ``fit_formula``, through a checker of types if there is one."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_between(frame):
        frame = frame.f_back
    return {**frame.f_globals, **frame.f_locals}


def _is_between(frame: FrameType) -> bool:
    """Return whether a frame is one of this file, or of a checker of types."""
    package = str(frame.f_globals.get("__name__", "")).split(".")[0]
    return frame.f_code.co_filename == __file__ or package in CHECKERS


def _fitted(built: Built, k: int, missing: str, options: Mapping[str, Any]) -> FitResult:
    """Return the fit with K components. Its cautions are in the result, and are warned of if it is chosen."""
    rows = built.rows
    given = {**options, "weights": built.weights, "groups": rows.groups, **built.beside}
    if missing == "ignore":
        given["missing"] = missing
    mixture = built.model.mixture(k)
    gate_x = rows.gate_x
    if gate_x is None and built.model.family is not None:
        gate_x = rows.x.iloc[:, :0]
    refuse_processes(None, "fit_formula")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return fit(mixture, rows.x, rows.y, gate_x=gate_x, **given)


def _checked_ks(k: int | Iterable[int]) -> list[int]:
    """Return the numbers of components, each once, in order."""
    if isinstance(k, Integral) and not isinstance(k, bool):
        return [arguments.size("k", int(k))]
    if isinstance(k, str) or not arguments.is_iterable(k):
        raise TypeError(f"`k` must be an integer, or several, such as range(1, 5); got {arguments.shown(k)}.")
    found = sorted({arguments.size("k", one) for one in k})  # type: ignore[union-attr]
    if not found:
        raise ValueError("`k` must have at least one number of components; got none.")
    return found


def _need_formulaic() -> None:
    """Raise if formulaic is not installed, with what to do."""
    try:
        imported("formulaic")
    except ImportError as error:
        raise ImportError("fit_formula needs formulaic: pip install 'mixpyro[formula]'.") from error
