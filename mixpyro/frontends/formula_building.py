"""From formulas and a table to a model and its rows."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mixpyro.arguments import shown
from mixpyro.experts.families import Gaussian
from mixpyro.frontends.built_rows import Built, cautions_of, finite
from mixpyro.frontends.design import Design, parsed, used_names
from mixpyro.frontends.exposure import OFFSET, TRIALS, Exposure, check_exposure, one_column
from mixpyro.frontends.families_by_name import OF_TRIALS
from mixpyro.frontends.formula_data import IGNORE, UsedRows, as_pandas, check_rows, group_ids, rows_of, used_rows
from mixpyro.frontends.formula_model import INTERCEPT, SCALE, FormulaModel, FormulaRows, with_exposure
from mixpyro.frontends.formula_names import captured
from mixpyro.frontends.formula_parts import FormulaParts, formula_parts
from mixpyro.frontends.gate_scales import scales_of
from mixpyro.frontends.response import Response

if TYPE_CHECKING:
    import pandas as pd


class Request(NamedTuple):
    """What a caller of ``fit_formula`` asks for, but for the numbers of components."""

    formula: Any
    data: Any
    gate: str | None
    family: object
    groups: Any
    weights: Any
    offset: str | None
    trials: str | None
    random: str | None
    shared: Sequence[str]
    missing: str
    beside: Mapping[str, Any]  # other arguments of fit that have a value for each row, by name


class _Sides(NamedTuple):
    """Formulas of formulaic by what they are of."""

    response: Any
    experts: Any
    gate: Any | None
    beside: dict[str, Any]  # of weights, offset, trials and random effects


def build(request: Request, caller: Mapping[str, Any]) -> Built:
    """Return the model of formulas, and its rows of a table.

    Args:
        request: what was asked for.
        caller: variables of the caller, for functions and constants in formulas.

    Raises:
        TypeError: if an argument is of another type.
        ValueError: if a formula is not understood, or the table does not fit it.
    """
    parts, data = formula_parts(request.formula, request.gate), as_pandas(request.data)
    sides = _sides(parts, request, data)
    contexts = _contexts(sides, data, caller)
    used = _used_rows(request, data, sides)
    response, response_columns = Design.of("formula", sides.response, used.data, contexts["response"])
    experts, x = Design.of("formula", sides.experts, used.data, contexts["formula"])
    found, y = Response.of(response, response_columns, request.family)
    weights = _weights(request, used, contexts)
    gate, gate_x = _gate(sides.gate, used.data, contexts, found, weights)
    exposure = _exposure(request, used.data, contexts, found, y)
    x = x if exposure is None else with_exposure(x, *exposure)
    model = FormulaModel(
        parts,
        found,
        experts,
        None if gate is None or not gate.names else gate,
        None if exposure is None else exposure[0],
        request.groups if _are_names(request.groups) else None,
        request.missing == IGNORE,
        _random(request, sides, used.data, contexts, experts),
        _shared(request, experts, found, parts),
    )
    _check(model, gate)
    made = [("formula", experts, x), ("formula", response, response_columns), ("gate", gate, gate_x)]
    made += [] if exposure is None else [_of_exposure(exposure[0], used)]
    cautions = [words for name, design, columns in made for words in cautions_of(name, design, used.data, columns)]
    rows = FormulaRows(x, gate_x if model.gate is not None else None, y, _groups(request, used))
    built = Built(model, rows, weights, _beside(request, used), used.dropped, tuple(cautions))
    return finite(built, request.missing)


def _gate(
    formula: Any,  # noqa: ANN401 (a formula of formulaic)
    data: "pd.DataFrame",
    contexts: Mapping[str, Any],
    response: Response,
    weights: np.ndarray | None,
) -> tuple[Design | None, "pd.DataFrame | None"]:
    """Return what the gate reads, with its columns; None without. A gate with a prior reads some in units of spread."""
    if formula is None:
        return None, None
    gate, columns = Design.of("gate", formula, data, contexts["gate"])
    if response.family is not None:
        return gate, columns
    gate = dataclasses.replace(gate, scales=scales_of(columns, weights))
    return gate, gate.scaled(columns)


def _sides(parts: FormulaParts, request: Request, data: "pd.DataFrame") -> _Sides:
    """Return the formulas, parsed."""
    main = parsed("formula", parts.experts)
    if parts.gate is not None and "~" in parts.gate:
        raise ValueError(f"`gate` must have one side; got {shown(parts.gate)}.")
    beside = {}
    for name, text in ((OFFSET, request.offset), (TRIALS, request.trials)):
        if text is not None:
            if not isinstance(text, str):
                raise TypeError(f"`{name}` must be a column or an expression, as text; got {type(text).__name__}.")
            beside[name] = parsed(name, one_column(text, data.columns))
    if isinstance(request.weights, str):
        beside["weights"] = parsed("weights", one_column(request.weights, data.columns))
    if request.random is not None:
        if not isinstance(request.random, str):
            raise TypeError(f"`random` must be a text such as '~ 1 + t', or None; got {type(request.random).__name__}.")
        beside["random"] = parsed("random", request.random)
    return _Sides(main.lhs, main.rhs, None if parts.gate is None else parsed("gate", parts.gate), beside)


def _named(sides: _Sides) -> dict[str, Any]:
    """Return the formulas by the argument that they are of."""
    found = {"response": sides.response, "formula": sides.experts, **sides.beside}
    return found if sides.gate is None else {**found, "gate": sides.gate}


def _contexts(sides: _Sides, data: "pd.DataFrame", caller: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the variables of the caller that each formula uses, by the argument that it is of."""
    columns = list(map(str, data.columns))
    return {
        name: captured("formula" if name == "response" else name, used_names(side), columns, caller, len(data))
        for name, side in _named(sides).items()
    }


def _used_rows(request: Request, data: "pd.DataFrame", sides: _Sides) -> UsedRows:
    """Return the rows without missing values in the columns that are used."""
    own = set(map(str, data.columns))
    names = [name for side in _named(sides).values() for name in used_names(side) if name in own]
    of_response = [name for name in used_names(sides.response) if name in own]
    others = [name for name, side in _named(sides).items() if name != "response" for name in used_names(side)]
    beside = dict(request.beside)
    if _are_names(request.groups):
        group_ids(data, request.groups)
        names += [request.groups] if isinstance(request.groups, str) else list(request.groups)
    elif request.groups is not None:
        beside["groups"] = request.groups
    if request.weights is not None and not isinstance(request.weights, str):
        beside["weights"] = request.weights
    exempt = [name for name in of_response if name not in others]
    for name in ("observed", "mask"):
        # A component that is not known is no reason to drop a row.
        if name in beside:
            check_rows(name, beside.pop(name), data.index)
    return used_rows(data, list(dict.fromkeys(names)), request.missing, may_be_missing=exempt, beside=beside)


def _are_names(groups: object) -> bool:
    """Return whether groups are given by names of columns."""
    if isinstance(groups, str):
        return True
    return isinstance(groups, list | tuple) and 0 < len(groups) <= 4 and all(isinstance(one, str) for one in groups)


def _exposure(
    request: Request, data: "pd.DataFrame", contexts: Mapping[str, Any], response: Response, y: "pd.DataFrame"
) -> tuple[Exposure, np.ndarray] | None:
    """Return the offset or the number of trials, with its values; None without."""
    if request.offset is not None and request.trials is not None:
        raise ValueError("`offset` and `trials` must not be given both; got both.")
    for name, text in ((OFFSET, request.offset), (TRIALS, request.trials)):
        if text is not None:
            check_exposure(name, response.family)
            return Exposure.of(name, text, data, contexts[name])
    most = float(y.sum(axis=1).max())
    if isinstance(response.family, OF_TRIALS) and most > 1.0:
        total = " + ".join(y.columns) if len(y.columns) > 1 else "n"
        raise ValueError(
            f"`trials` must be given where a row counts more than one outcome, as trials={total!r}; got None, and "
            f"{most:g} outcomes."
        )
    return None


def _of_exposure(exposure: Exposure, used: UsedRows) -> tuple[str, Design, "pd.DataFrame"]:
    """Return whose formula an exposure is, with its design and columns."""
    return exposure.argument, exposure.design, exposure.design.columns(used.data)


def _random(
    request: Request, sides: _Sides, data: "pd.DataFrame", contexts: Mapping[str, Any], experts: Design
) -> tuple[str, ...] | None:
    """Return the columns of x with random effects; None without."""
    if request.random is None:
        return None
    if request.groups is None:
        raise ValueError("`groups` must be given with `random`, which has effects of groups; got None.")
    design, _ = Design.of("random", sides.beside["random"], data, contexts["random"])
    absent = [name for name in design.names if name not in experts.names]
    if absent:
        raise ValueError(
            "`random` must have terms of `formula`, whose coefficients are the means of the effects; got "
            f"{shown(absent[0])} beside {list(experts.names)}."
        )
    found = (*([INTERCEPT] if design.has_intercept else []), *design.names)
    if not found:
        raise ValueError(f"`random` must have a term, as '~ 1'; got {shown(request.random)}.")
    return found


def _shared(request: Request, experts: Design, response: Response, parts: FormulaParts) -> tuple[str, ...]:
    """Return the columns of x that components share, and "intercept" and "scale"."""
    is_list = isinstance(request.shared, Sequence) and not isinstance(request.shared, str)
    if not is_list or not all(isinstance(one, str) for one in request.shared):
        raise TypeError(f"`shared` must be a list of terms, such as ['x']; got {shown(request.shared)}.")
    found: list[str] = []
    for one in request.shared:
        columns = (one,) if one in (INTERCEPT, SCALE, *experts.names) else experts.terms.get(one)
        if columns is None:
            raise ValueError(f"`shared` must be terms of `formula`, {list(experts.terms)}; got {shown(one)}.")
        if one in (INTERCEPT, SCALE) and response.family is None:
            raise ValueError(
                f"`shared` must be terms for the conjugate family 'gaussian', whose shared experts have one noise; got "
                f"{shown(one)}. Use family=mixpyro.experts.families.Gaussian()."
            )
        found += columns
    if parts.shares_scale and response.family is not None and response.family.scale_names:
        if not isinstance(response.family, Gaussian):
            raise ValueError(
                f"`formula` must be 'y ~ mixture(mu, {'sigma' if response.family.has_scale else 'alpha'})' for "
                f"{type(response.family).__name__}, whose components have scales of their own; got 'mixture(mu)'."
            )
        found.append(SCALE)
    return tuple(dict.fromkeys(found))


def _check(model: FormulaModel, gate: Design | None) -> None:
    """Raise where there are no experts of this kind."""
    conjugate = model.family is None
    if gate is not None and not gate.has_intercept:
        raise ValueError(f"`gate` must keep its intercept, which a softmax gate has; got {shown(model.parts.gate)}.")
    if not model.experts.has_intercept and (not conjugate or model.random is not None or not model.experts.names):
        what = "RandomEffectsExperts" if conjugate else "GLMExperts"
        raise ValueError(f"`formula` must keep its intercept, which {what} have; got {shown(model.parts.experts)}.")
    if model.random is None:
        return
    if not conjugate or model.shared or len(model.response.names) > 1:
        raise ValueError(
            "`random` must be None but for family 'gaussian', one response and no `shared`; got "
            f"{', '.join(model.random)}."
        )


def _groups(request: Request, used: UsedRows) -> Any:  # noqa: ANN401 (ids of groups)
    """Return an id of the group of each row that is used; None without groups."""
    if request.groups is None:
        return None
    if _are_names(request.groups):
        return group_ids(used.data, request.groups)
    return rows_of("groups", request.groups, used.kept)


def _weights(request: Request, used: UsedRows, contexts: Mapping[str, Any]) -> np.ndarray | None:
    """Return the weights of the rows that are used."""
    if request.weights is None:
        return None
    if isinstance(request.weights, str):
        formula = parsed("weights", one_column(request.weights, used.data.columns))
        _, columns = Design.of("weights", formula, used.data, contexts["weights"])
        if columns.shape[1] != 1:
            raise ValueError(f"`weights` must be one column of numbers; got {shown(request.weights)}.")
        return columns.to_numpy()[:, 0]
    return np.array(rows_of("weights", request.weights, used.kept), dtype=np.float64)


def _beside(request: Request, used: UsedRows) -> dict[str, Any]:
    """Return the other arguments of fit for the rows that are used."""
    return {
        name: np.asarray(rows_of(name, values, used.kept)) for name, values in request.beside.items() if len(used.kept)
    }
