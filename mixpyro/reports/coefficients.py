"""Estimated coefficients by name, with standard errors from the observed information of the whole mixture."""

import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from mixpyro import arguments
from mixpyro.fitting.fitted_rows import fitted_rows
from mixpyro.fitting.result import FitResult
from mixpyro.fitting.table import checked_table
from mixpyro.intervals.names import checked_names, parameter_names
from mixpyro.mixture import MixtureOfExperts
from mixpyro.numerics.information_matrix import SMALLEST, spectrum, standard_errors
from mixpyro.reports.observed_information import derivatives, estimated, flat
from mixpyro.shapes import GateInputs, Inputs, Targets

# Negative information beyond this, relative to the diagonal, means that the point is not a maximum; less is rounding.
NEGATIVE_INFORMATION = 1e-6
# Nats. A point from which one Newton step would gain more is not a maximum.
MOST_GAIN = 1e-2


class Coefficient(NamedTuple):
    """An estimated parameter and its standard error."""

    estimate: float
    standard_error: float  # infinite where the data do not determine the parameter
    z: float  # estimate / standard_error; NaN for a noise, for a network's weight, and under a prior
    p_value: float  # probability of a larger |z| under a Normal distribution if the effect were zero; NaN where z is


@arguments.outside_contexts
def coefficients(
    fitted: FitResult | MixtureOfExperts,
    x: Inputs,
    y: Targets,
    *,
    gate_x: GateInputs | None = None,
    weights: Float[Tensor, " N"] | None = None,
    feature_names: Sequence[str] | None = None,
    gate_feature_names: Sequence[str] | None = None,
) -> dict[str, Coefficient]:
    """Return every estimated parameter of a fitted mixture by name, with its standard error.

    A standard error is the square root of the diagonal of the inverse of :func:`~mixpyro.observed_information`. It
    includes the uncertainty of the assignments, which standard errors of a single M-step do not. It belongs to one
    maximum of the likelihood. Where components hardly differ, or an estimate is infinite, it means little. Print the
    result with :func:`~mixpyro.as_table`.

    Args:
        fitted: result of :func:`~mixpyro.fit`, or its mixture; the result where components of rows were known.
        x: inputs [N, D] that were fitted.
        y: outputs [N, P] or [N] that were fitted.
        gate_x: the gate's inputs [N, G], if they were not x.
        weights: of the rows [N], at least 0; those of the fit by default.
        feature_names: D different names of the columns of x; x0, x1, … by default.
        gate_feature_names: G different names of the columns of ``gate_x``; x0, x1, … by default.

    Raises:
        ValueError: if the mixture has no estimated parameters, an argument does not fit, or the rows are not those of
            the result.

    Warns:
        RuntimeWarning: if the data do not determine a coefficient, whose standard error is then infinite, if the
            likelihood is not at a maximum, or if a part of the mixture is held as if it were known.

    References:
        Louis (1982), Finding the observed information matrix when using the EM algorithm; McLachlan, Peel (2000),
        Finite Mixture Models, chapter 2; Grün, Leisch (2008), FlexMix version 2.

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
    mixture = fitted.mixture if isinstance(fitted, FitResult) else fitted
    features = checked_names("feature_names", feature_names, x)
    gate_features = features if gate_x is None else checked_names("gate_feature_names", gate_feature_names, gate_x)
    estimated(mixture)
    if isinstance(fitted, FitResult):
        table = fitted_rows(fitted, x, y, gate_x, weights)
    else:
        table = checked_table(mixture, x, y, gate_x, weights)
    gradient, information = derivatives(mixture, table)
    names = parameter_names(mixture, features, gate_features)
    errors = standard_errors(information).tolist()
    for message in (*_held_parts(mixture), *_cautions(gradient, information, names, errors)):
        warnings.warn(message, RuntimeWarning, stacklevel=3)
    estimates = flat(estimated(mixture)).tolist()
    rows = map(_coefficient, estimates, errors, _are_effects(mixture))
    return dict(zip(names, rows, strict=True))


def _are_effects(mixture: MixtureOfExperts) -> list[bool]:
    """Return whether each entry of the estimated parameters is an effect that may be tested against zero."""
    effects = {f"gate.{name}" for name in mixture.gate.effects} | {
        f"experts.{name}" for name in mixture.experts.effects
    }
    free = [(name, parameter) for name, parameter in mixture.named_parameters() if parameter.requires_grad]
    return [name in effects for name, parameter in free for _ in range(parameter.numel())]


def _coefficient(estimate: float, error: float, is_effect: bool) -> Coefficient:
    """Return an estimate with its test statistic."""
    z = estimate / error if error > 0 and is_effect else math.nan
    return Coefficient(estimate, error, z, math.erfc(abs(z) / math.sqrt(2.0)))


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
