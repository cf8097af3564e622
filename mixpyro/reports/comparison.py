"""Several fits to the same y side by side, the best first."""

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias, TypeVar

import torch
from torch import Tensor

from mixpyro.arguments import shown
from mixpyro.arguments.signals import pass_on
from mixpyro.fitting.result import FitResult
from mixpyro.reports.criteria import Criteria, criteria
from mixpyro.reports.named_rows import NamedRows
from mixpyro.shapes import AnyTable, GateInputs, Inputs, Targets

Value = TypeVar("Value")
# One value for all fits, or one for each, by name or in order.
OfEach: TypeAlias = Value | Mapping[str, Value] | Sequence[Value]


class Ranking(NamedRows[Criteria]):
    """Criteria of several fits by name, the best first, and by which of them.

    Attributes:
        by: ``"log_evidence"`` or ``"bic"``.
        note: by which criterion the fits are ranked and why, in words.
    """

    def __init__(self, rows: Mapping[str, Criteria], *, by: str, note: str) -> None:
        super().__init__(rows)
        self.by, self.note = by, note


def compare(
    results: Mapping[str, FitResult] | Sequence[FitResult],
    x: Inputs | AnyTable | Mapping[str, AnyTable] | Sequence[AnyTable] = None,
    y: Targets | AnyTable = None,
    *,
    gate_x: GateInputs | AnyTable | Mapping[str, AnyTable] | Sequence[AnyTable] = None,
) -> Ranking:
    """Compute criteria of several fits to the same y, the best first.

    Fits whose parameters all have posteriors are ranked by their bounds on the log evidence, all labellings counted:
    ``log_evidence``, the largest first. Fits with estimated parameters are ranked by ``bic``, the smallest first. A
    table with fits of both kinds is ranked by ``bic`` too: it is the one criterion that all have on one scale, where a
    bound depends on the priors. The ``note`` of the result says so; ``print(ranking)`` shows the rows and the note, and
    ``ranking.to_frame()`` is a DataFrame. A fit whose criterion is not finite comes last, and the note names it. Fits
    whose rows are grouped otherwise compare by their bounds, which are of the same y, but not by ``bic``, which counts
    groups.

    Args:
        results: fits by name, or a list of them.
        x: inputs [N, D] that were fitted; where the models read different columns, a dict of them by the names of
            ``results``, or a list in their order. Without x and y the results' own rows are taken, of one y.
        y: outputs [N, P] or [N] that all were fitted to.
        gate_x: the gate's inputs [N, G], read by the fits that had gate inputs; or a dict or a list, as for x, of
            these and None.

    Raises:
        TypeError: if a result is none of a fit.
        ValueError: if there are no results, names differ, or x, y and ``gate_x`` are not what one of them was fitted
            to; or rows are grouped otherwise, or not at all, in one of them where they are ranked by ``bic``.

    Example:
        >>> import torch
        >>> from mixpyro import DirichletGate, LinearExperts, MixtureOfExperts, fit
        >>> x = torch.linspace(0, 1, 30).double().unsqueeze(1)
        >>> y = 1 - x + 0.1 * torch.sin(40 * x)
        >>> def fitted(k, columns):
        ...     experts = LinearExperts(k, columns.shape[1])
        ...     return fit(MixtureOfExperts(DirichletGate(k), experts), columns, y, n_restarts=2)
        >>> inputs = {"line": x, "constant": x[:, :0]}
        >>> ranking = compare({name: fitted(1, columns) for name, columns in inputs.items()}, inputs, y)
        >>> list(ranking), ranking.by
        (['line', 'constant'], 'log_evidence')
    """
    named = _named(results)
    if x is None and y is None:
        x, y, gate_x = _own_rows(named)
    inputs, gate_inputs = _of_each("x", x, list(named)), _of_each("gate_x", gate_x, list(named))
    if not isinstance(gate_x, Mapping | Sequence):
        gate_inputs = {name: gate_x if _reads_gate_x(result) else None for name, result in named.items()}
    _refuse_unequal_weights(named)
    _refuse_unequal_labels(named)
    rows = {}
    for name, result in named.items():
        try:
            rows[name] = criteria(result, inputs[name], y, gate_x=gate_inputs[name])
        except ValueError as error:
            pass_on(error)
            raise ValueError(f"`results` must be fits to these data; got {shown(name)}, for which {error}") from error
    ranking = _ranked(rows, named)
    if ranking.by == "bic":
        _refuse_unlike_groups(named)
    return ranking


def _own_rows(named: Mapping[str, FitResult]) -> tuple[dict[str, Tensor], Tensor, dict[str, Tensor | None]]:
    """Return x of each result, the y that all were fitted to, and what each gate read."""
    first = next(iter(named.values())).rows
    for name, result in named.items():
        if result.rows is None or first is None:
            raise ValueError(f"`x` and `y` must be given, for {shown(name)} does not keep its rows; got none.")
        if not torch.equal(result.rows.y, first.y.to(result.rows.y)):
            raise ValueError(f"`results` must be fits to the same y; got {shown(name)}, which was fitted to another.")
    rows = {name: result.rows for name, result in named.items() if result.rows is not None}
    assert first is not None
    gate_x = {name: own.gate_x for name, own in rows.items()}
    return {name: own.x for name, own in rows.items()}, first.y, gate_x


def _refuse_unequal_weights(named: Mapping[str, FitResult]) -> None:
    """Raise if rows count more in one fit than in another."""
    first = next(iter(named.values()))
    for name, result in named.items():
        own, other = _weights_of(result), _weights_of(first)
        if len(own) == len(other) and not torch.allclose(own, other):
            raise ValueError(
                f"`results` must be fits with the same weights of the rows; got {shown(name)} with others."
            )


def _refuse_unlike_groups(named: Mapping[str, FitResult]) -> None:
    """Raise if rows are grouped otherwise in one fit than in another, so that their numbers of objects differ."""
    first, *others = named.items()
    for name, result in others:
        if not torch.equal(_object_of_rows(result), _object_of_rows(first[1])):
            raise ValueError(
                f"`results` must be fits with the same groups of the rows where they are ranked by bic, which counts "
                f"groups; got {shown(first[0])} and {shown(name)} with others. Fit all with the same `groups`; bounds "
                "compare where every parameter has a posterior."
            )


def _object_of_rows(result: FitResult) -> Tensor:
    """Return the number of the object that each row is of [rows]."""
    if result.groups is None:
        return torch.arange(len(result.shares), device="cpu")
    return result.groups.index.cpu()


def _refuse_unequal_labels(named: Mapping[str, FitResult]) -> None:
    """Raise if one fit knew components that another did not: they had other data."""
    first = next(iter(named.values())).observed
    for name, result in named.items():
        own = result.observed
        if (own is None) != (first is None) or not (own is None or first is None or torch.equal(own, first.to(own))):
            raise ValueError(f"`results` must be fits with the same known components; got {shown(name)} with others.")


def _weights_of(result: FitResult) -> Tensor:
    """Return how much each row counted [N], float64."""
    number = _object_of_rows(result)
    none = torch.ones(len(number), dtype=torch.float64, device="cpu")
    return none if result.weights is None else result.weights.detach().to(none)[number]


def _named(results: Mapping[str, FitResult] | Sequence[FitResult]) -> dict[str, FitResult]:
    """Return the results by name, those of a list by number and K."""
    if isinstance(results, FitResult) or not isinstance(results, Mapping | Sequence):
        raise TypeError(f"`results` must be fits by name, or a list of them; got {type(results).__name__}.")
    if not len(results):
        raise ValueError("`results` must have at least one fit; got none.")
    for value in results.values() if isinstance(results, Mapping) else results:
        if not isinstance(value, FitResult):
            raise TypeError(f"`results` must be results of fits; got a {type(value).__name__}.")
    if isinstance(results, Mapping):
        return dict(results)
    return {f"{i}: K = {value.mixture.n_components}": value for i, value in enumerate(results)}


def _of_each(argument: str, value: OfEach[Value], names: list[str]) -> dict[str, Value]:
    """Return one value a fit."""
    if isinstance(value, Mapping):
        if (argument == "x" and set(value) != set(names)) or set(value) - set(names):
            raise ValueError(f"`{argument}` must have the names of the results, {names}; got {list(value)}.")
        return {name: value.get(name) for name in names}  # type: ignore[misc]
    if isinstance(value, Sequence):
        if len(value) != len(names):
            raise ValueError(f"`{argument}` must have one entry a fit, {len(names)}; got {len(value)}.")
        return dict(zip(names, value, strict=True))
    return dict.fromkeys(names, value)


def _reads_gate_x(result: FitResult) -> bool:
    """Return whether the fit had gate inputs; assume it where that is not known."""
    return result.data is None or result.data.n_gate_features is not None


def _ranked(rows: dict[str, Criteria], results: dict[str, FitResult]) -> Ranking:
    """Return the rows in order, with the reason."""
    estimated = [name for name, result in results.items() if _is_estimated(result)]
    kinds = {result.mixture.experts.discrete_outputs for result in results.values()}
    scale = " Counts have probabilities, not densities: do not compare the two." if len(kinds) > 1 else ""
    by = "bic" if estimated else "log_evidence"
    sign = 1.0 if estimated else -1.0
    ranks = {name: sign * float(getattr(row, by)) for name, row in rows.items()}
    unranked = [name for name, rank in ranks.items() if not math.isfinite(rank)]
    order = sorted(rows, key=lambda name: (name in unranked, 0.0 if name in unranked else ranks[name]))
    note = _reason(estimated, len(rows)) + scale + _unranked_in_words(unranked, by)
    return Ranking({name: rows[name] for name in order}, by=by, note=note)


def _is_estimated(result: FitResult) -> bool:
    """Return whether parameters are estimated, so that there is no bound on the log evidence."""
    return bool(result.mixture.gate.is_estimated or result.mixture.experts.is_estimated)


def _reason(estimated: list[str], n_fits: int) -> str:
    """Return by which criterion fits are ranked and why, given which of them have estimated parameters."""
    if not estimated:
        return (
            "ranked by log_evidence, the bound with all labellings of the components counted: every parameter has a "
            "posterior."
        )
    if len(estimated) == n_fits:
        return "ranked by bic: parameters are estimated, so that the bound is none on the log evidence."
    return (
        f"ranked by bic, because {', '.join(estimated)} {'has' if len(estimated) == 1 else 'have'} estimated "
        "parameters, and a bound on the log evidence depends on the priors; between the others prefer log_evidence."
    )


def _unranked_in_words(unranked: list[str], by: str) -> str:
    """Return which fits have no place in the order, and why; empty if all have one."""
    if not unranked:
        return ""
    return (
        f" Last and not ranked: {', '.join(unranked)}, whose {by} is not finite. Rows have a log likelihood that is "
        "not finite there: look at the fit's `cautions`, and scale the columns to unit order."
    )
