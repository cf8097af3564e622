"""Parameters by name, with standard errors and intervals that include the uncertainty of the assignments."""

import math
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro import arguments
from mixpyro.fitting.fitted_rows import fitted_rows, groups_of_fit, refuse_processes_of
from mixpyro.fitting.reads_rows import reads_rows
from mixpyro.fitting.result import FitResult
from mixpyro.fitting.table import Table, checked_table
from mixpyro.groups import GroupIds
from mixpyro.intervals.linear_response import NoLinearResponse, linear_response
from mixpyro.intervals.names import checked_gate_names, checked_names, parameter_names
from mixpyro.intervals.responses.parts import full_quantity_names, has_posteriors, parts_with_response
from mixpyro.mixture import MixtureOfExperts
from mixpyro.mixture_tables import output_names
from mixpyro.numerics import nested
from mixpyro.numerics.information_matrix import SMALLEST, spectrum, standard_errors
from mixpyro.reports.coefficient_table import Coefficient, CoefficientTable, with_output_names
from mixpyro.reports.observed_information import derivatives, estimated
from mixpyro.shapes import AnyTable, GateInputs, Inputs, Targets

# What intervals can be by.
INTERVALS = ("linear response", "mean field")
# Negative information beyond this, relative to the diagonal, means that the point is not a maximum; less is rounding.
NEGATIVE_INFORMATION = 1e-6
# Nats. A point from which one Newton step would gain more is not a maximum.
MOST_GAIN = 1e-2


@reads_rows
@arguments.outside_contexts
@arguments.checked(probability=arguments.probability)
def coefficients(
    fitted: FitResult | MixtureOfExperts,
    x: Inputs | AnyTable = None,
    y: Targets | AnyTable = None,
    *,
    gate_x: GateInputs | AnyTable = None,
    weights: Float[Tensor, " N"] | AnyTable = None,
    groups: GroupIds | None = None,
    feature_names: Sequence[str] | None = None,
    gate_feature_names: Sequence[str] | None = None,
    intervals: str = "linear response",
    probability: float = 0.9,
) -> CoefficientTable:
    """Return every parameter of a fitted mixture by name, with its standard error and interval.

    Coefficients and means are for x and y as they are, noises are logarithms of precisions, and weights that all
    objects share are log ratios against the first, so that each is a real number without limits.

    Standard errors include the uncertainty of the assignments: they are those of :func:`~mixpyro.linear_response`, or
    where every parameter is estimated, of the inverse of :func:`~mixpyro.observed_information`. They belong to one
    maximum. Where components hardly differ, or an estimate is infinite, they mean little. Print the result, or
    take ``to_frame()`` of it, which has ``to_latex`` and the like.

    Args:
        fitted: result of :func:`~mixpyro.fit`, or its mixture; the result where components of rows were known.
        x: inputs [N, D] that were fitted; those that the result keeps by default, with y and gate_x.
        y: outputs [N, P] or [N] that were fitted.
        gate_x: the gate's inputs [N, G], if they were not x.
        weights: of the rows [N], at least 0; those of the fit by default.
        groups: an id of the group of each row [N]; those of the fit by default, and None for a mixture without groups.
        feature_names: D different names of the columns of x; x0, x1, … by default.
        gate_feature_names: G different names of the columns of ``gate_x``; x0, x1, … by default.
        intervals: "linear response", or "mean field": of each part by itself, as if the rest were known. These are too
            short, by half or more where components overlap. Where no parameter is estimated they need no rows, so that
            the result of a fit on many processes has them too.
        probability: that the intervals hold, above 0 and below 1.

    Raises:
        TypeError: if ``fitted`` is neither, or a name is not a string.
        ValueError: if the mixture has no parameters that all objects share, an argument does not fit, or the rows are
            not those of the result.

    Warns:
        RuntimeWarning: if the data do not determine a coefficient, whose standard error is then infinite, if the fit is
            not at a maximum, if much information is missing, or if standard errors had to be those of the mean field.

    References:
        Louis (1982), Finding the observed information matrix when using the EM algorithm; McLachlan, Peel (2000),
        Finite Mixture Models, chapter 2; Giordano, Broderick, Jordan (2018), Covariances, robustness, and variational
        Bayes, JMLR 19.

    Example:
        >>> import torch
        >>> from mixpyro import GLMExperts, SoftmaxGate, fit
        >>> from mixpyro.experts.families import Poisson
        >>> x, y = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([1.0, 2.0, 5.0])
        >>> result = fit(MixtureOfExperts(SoftmaxGate(1, 0), GLMExperts(1, 1, Poisson())), x, y, gate_x=x[:, :0])
        >>> table = coefficients(result, x, y, gate_x=x[:, :0], feature_names=["dose"])
        >>> [(name, round(row.estimate, 2), round(row.standard_error, 2)) for name, row in table.items()]
        [('experts: component 0, intercept', -0.07, 0.84), ('experts: component 0, dose', 0.83, 0.51)]
    """
    if not isinstance(fitted, FitResult | MixtureOfExperts):
        raise TypeError(f"`fitted` must be what `fit` returned, or its mixture; got {type(fitted).__name__}.")
    mixture = fitted.mixture if isinstance(fitted, FitResult) else fitted
    factor = _normal_quantile(probability)
    if intervals not in INTERVALS:
        raise ValueError(
            f"`intervals` must be one of {', '.join(map(repr, INTERVALS))}; got {arguments.shown(intervals)}."
        )
    is_shared = _is_shared(fitted, intervals)
    if is_shared:
        x, gate_x = _with_a_row(x), None if gate_x is None else _with_a_row(gate_x)
    features = checked_names("feature_names", feature_names, x)
    gate_features = checked_gate_names(gate_feature_names, features, x, gate_x)
    given: dict[str, Any] = {"gate_x": gate_x, "weights": weights, "groups": groups}
    found = None
    if intervals == INTERVALS[0] and has_posteriors(mixture):
        found = _by_response(fitted, x, y, given, {"feature_names": features, "gate_feature_names": gate_features})
    if found is None or not found.names:
        messages = () if found is None else found.messages
        table = None if is_shared else _table(fitted, mixture, x, y, **given)
        found = _by_parts(mixture, table, features, gate_features, messages)
    for message in found.messages:
        warnings.warn(message, RuntimeWarning, stacklevel=4)
    effects = _effects(mixture, features, gate_features)
    are_effects = [name in effects for name in found.names]
    rows = (_coefficient(*row, factor) for row in zip(found.estimates, found.errors, are_effects, strict=True))
    names = with_output_names(found.names, [*features, *gate_features], _output_names(mixture, y))
    return CoefficientTable(zip(names, rows, strict=True))


def _output_names(mixture: MixtureOfExperts, y: Tensor) -> Sequence[str]:
    """Return the names of the columns of y, where the fit was given a frame; none otherwise."""
    known = mixture.fitted_columns
    return () if known is None or known.layouts.y is None else output_names(mixture, y.shape[1] if y.ndim > 1 else 1)


class _Found(NamedTuple):
    """Quantities, and cautions in words; without quantities, why they were not found."""

    messages: tuple[str, ...]
    names: tuple[str, ...] = ()
    estimates: Sequence[float] = ()
    errors: Sequence[float] = ()


def _by_response(
    fitted: FitResult | MixtureOfExperts, x: Tensor, y: Tensor, given: dict[str, Any], names: dict[str, Any]
) -> _Found:
    """Return what linear response says."""
    try:
        response = linear_response(fitted, x, y, **given, **names)
    except NoLinearResponse as error:
        return _Found((f"standard errors are those of the mean field, too small where components overlap: {error}",))
    return _Found(response.cautions, response.names, response.estimates.tolist(), response.standard_deviations.tolist())


def _table(
    fitted: FitResult | MixtureOfExperts,
    mixture: MixtureOfExperts,
    x: Tensor,
    y: Tensor,
    gate_x: Tensor | None,
    weights: Tensor | None,
    groups: GroupIds | None,
) -> Table:
    """Return the rows, those of the result if there is one."""
    if isinstance(fitted, FitResult):
        groups_of_fit(fitted, groups)
        return fitted_rows(fitted, x, y, gate_x, weights).observed()
    return checked_table(mixture, x, y, gate_x, weights, groups=groups).observed()


def _by_parts(
    mixture: MixtureOfExperts,
    table: Table | None,
    features: list[str],
    gate_features: list[str],
    messages: tuple[str, ...],
) -> _Found:
    """Return what each part says by itself, of estimated ones together; without rows there must be none of these."""
    names, estimates, errors = [], [], []
    for part in parts_with_response(mixture):
        response = part.response
        names += full_quantity_names(part, gate_features if part.name == "gate" else features)
        estimates += response.quantities.detach().tolist()
        errors += response.covariance.detach().diagonal().sqrt().tolist()
    if table is not None and not (names and _has_only_posteriors(mixture)):
        free = nested.flat(estimated(mixture)).tolist()
        gradient, information = derivatives(mixture, table)
        own = parameter_names(mixture, features, gate_features)
        own_errors = standard_errors(information).tolist()
        messages = (*messages, *_held_parts(mixture), *_cautions(gradient, information, own, own_errors))
        names, estimates, errors = names + own, estimates + free, errors + own_errors
    return _Found(messages, tuple(names), estimates, errors)


def _has_only_posteriors(mixture: MixtureOfExperts) -> bool:
    """Return whether no parameter of a mixture is estimated."""
    return has_posteriors(mixture) and not any(one.requires_grad and one.numel() for one in mixture.parameters())


def _is_shared(fitted: FitResult | MixtureOfExperts, intervals: str) -> bool:
    """Return whether a fit was one of many processes; raise if its intervals need rows."""
    if not isinstance(fitted, FitResult) or fitted.n_processes == 1:
        return False
    if not _has_only_posteriors(fitted.mixture):
        refuse_processes_of(fitted)
    if intervals != INTERVALS[1]:
        refuse_processes_of(fitted, f"Or take `intervals={INTERVALS[1]!r}`, which needs no rows.")
    return True


def _with_a_row(rows: Tensor) -> Tensor:
    """Return rows of which the columns alone are read; one of zeros for a process without any."""
    return rows if len(rows) else rows.new_zeros(1, *rows.shape[1:])


def _normal_quantile(probability: object) -> float:
    """Return how many standard deviations each way hold so much of a Normal distribution."""
    level = arguments.positive_number("probability", probability)
    if level >= 1.0:
        raise ValueError(f"`probability` must be below 1; got {level}.")
    return math.sqrt(2.0) * float(torch.erfinv(torch.tensor(level, dtype=torch.float64, device="cpu")))


def _effects(mixture: MixtureOfExperts, features: list[str], gate_features: list[str]) -> set[str]:
    """Return the names of the entries of estimated parameters that are effects, which may be tested against zero."""
    effects = {f"gate.{name}" for name in mixture.gate.effects} | {
        f"experts.{name}" for name in mixture.experts.effects
    }
    free = [(name, parameter) for name, parameter in mixture.named_parameters() if parameter.requires_grad]
    flags = [name in effects for name, parameter in free for _ in range(parameter.numel())]
    names = parameter_names(mixture, features, gate_features)
    return {name for name, flag in zip(names, flags, strict=True) if flag}


def _coefficient(estimate: float, error: float, is_effect: bool, factor: float) -> Coefficient:
    """Return an estimate with its test statistic and its interval of so many standard errors each way."""
    z = estimate / error if error > 0 and is_effect else math.nan
    p_value = math.erfc(abs(z) / math.sqrt(2.0))
    return Coefficient(estimate, error, z, p_value, estimate - factor * error, estimate + factor * error)


def _held_parts(mixture: MixtureOfExperts) -> list[str]:
    """Return a warning for gate and experts if they have parameters that are not among the estimated ones."""
    messages = []
    for name, part in (("gate", mixture.gate), ("experts", mixture.experts)):
        if mixture.n_components > 1 and part.n_parameters > sum(parameter.numel() for parameter in part.parameters()):
            messages.append(
                f"the {name} part, a {type(part).__name__}, is held as if it were known: standard errors are too "
                "small, by half or more where components overlap. All parameters of SoftmaxGate(K, 0) and GLMExperts "
                "are estimated."
            )
    return messages


def _cautions(gradient: Tensor, information: Tensor, names: list[str], errors: list[float]) -> list[str]:
    """Return a warning if the point is not a maximum, or the data do not determine a coefficient."""
    values, directions = spectrum(information)
    if float(values.min()) < -NEGATIVE_INFORMATION:
        return ["the likelihood is not at a maximum, and standard errors mean nothing; fit to a smaller `tolerance`."]
    known = values > SMALLEST * values.amax()
    gain = 0.5 * float(((directions.mT @ gradient).square() / values)[known].sum())
    if gain > MOST_GAIN:
        return [
            f"the estimates are not a maximum for these data, {gain:.3g} nats are left to gain: had the fit weights, "
            "known components, or other rows? If not, fit to a smaller `tolerance`."
        ]
    unknown = [name for name, error in zip(names, errors, strict=True) if math.isinf(error)]
    if not unknown:
        return []
    listed = "; ".join(unknown[:4]) + ("; …" if len(unknown) > 4 else "")
    return [
        f"the data do not determine {len(unknown)} of {len(names)} coefficients ({listed}); their standard errors are "
        "infinite. Leave out collinear columns, or set `prior_scale`."
    ]
