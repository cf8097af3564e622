"""Estimated coefficients by name, with standard errors from the observed information of the whole mixture."""

import copy
import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Parameter

from mixpyro import arguments
from mixpyro.fitting.result import FitResult
from mixpyro.fitting.table import Table, checked_table
from mixpyro.mixture import MixtureOfExperts
from mixpyro.numerics import nested
from mixpyro.numerics.information_matrix import SMALLEST, spectrum, standard_errors
from mixpyro.shapes import GateInputs, Inputs, Targets

# Curvature the wrong way, relative to the information of a parameter, that is more than rounding.
WRONG_WAY = 1e-6
# Nats that may be left to gain before a point is called no maximum.
MOST_LEFT = 1e-2


class Coefficient(NamedTuple):
    """An estimate and how sure it is."""

    estimate: float
    standard_error: float
    z: float  # their ratio; NaN for what is no effect (a noise, a network's weight) or is shrunk by a prior
    p_value: float  # of a larger |z| if there were no effect, by the Normal distribution; NaN likewise


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
    """Every estimated parameter of a fitted mixture by name, with its standard error; print it with :func:`as_table`.

    A standard error is the square root of the diagonal of the inverse of :func:`observed_information`. It counts that
    the assignments are not known, which those of a single M-step do not. It speaks of one maximum of the likelihood;
    where the components hardly differ, or an estimate lies at infinity, no standard error means much.

    Args:
        fitted: what :func:`fit` gave back, or its mixture.
        x: inputs that it was fitted to [N, D].
        y: outputs [N, P] or [N].
        gate_x: what the gate saw, where that was not x.
        weights: of the rows [N]; those of the fit by default.
        feature_names: of the columns of x; x0, x1, … by default.
        gate_feature_names: of the columns of ``gate_x``.

    Raises:
        ValueError: if the mixture has no estimated parameters, or an argument does not fit.

    Warns:
        RuntimeWarning: if the data do not determine a coefficient, whose standard error is infinite then, if the
            likelihood is not at a maximum, or if a part of the mixture is held as if it were known.

    References:
        Louis (1982), Finding the observed information matrix when using the EM algorithm; McLachlan, Peel (2000),
        Finite Mixture Models, chapter 2; Grün, Leisch (2008), FlexMix version 2.

    Example:
        >>> from mixpyro import GLMExperts, SoftmaxGate, fit
        >>> from mixpyro.experts.families import Poisson
        >>> x, y = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([1.0, 2.0, 5.0])
        >>> result = fit(MixtureOfExperts(SoftmaxGate(1, 0), GLMExperts(1, 1, Poisson())), x, y, gate_x=x[:, :0])
        >>> table = coefficients(result, x, y, gate_x=x[:, :0], feature_names=["dose"])
        >>> [(name, round(row.estimate, 2), round(row.standard_error, 2)) for name, row in table.items()]
        [('experts: component 0, intercept', -0.07, 0.84), ('experts: component 0, dose', 0.83, 0.51)]
    """
    mixture = fitted.mixture if isinstance(fitted, FitResult) else fitted
    if weights is None and isinstance(fitted, FitResult):
        weights = fitted.weights
    features = checked_names("feature_names", feature_names, x)
    gate_features = features if gate_x is None else checked_names("gate_feature_names", gate_feature_names, gate_x)
    gradient, information = _derivatives(mixture, checked_table(mixture, x, y, gate_x, weights))
    names = parameter_names(mixture, features, gate_features)
    errors = standard_errors(information).tolist()
    for said in (*_held(mixture), *_warnings(gradient, information, names, errors)):
        warnings.warn(said, RuntimeWarning, stacklevel=2)
    estimates = _flat(estimated(mixture)).tolist()
    rows = map(_coefficient, estimates, errors, _are_effects(mixture))
    return dict(zip(names, rows, strict=True))


def observed_information(
    mixture: MixtureOfExperts,
    x: Inputs,
    y: Targets,
    *,
    gate_x: GateInputs | None = None,
    weights: Float[Tensor, " N"] | None = None,
) -> Float[Tensor, "Q Q"]:
    """Minus the Hessian of the log likelihood in all Q estimated parameters together, float64.

    Of Σᵢ log Σₖ πₖ(xᵢ) p(yᵢ | xᵢ, k), the assignments summed out, plus the log density of a prior on the parameters.
    Where a gate or experts have a posterior, it is held as it is and the bound takes the place of the likelihood: the
    information is then conditional on that posterior, and too large, twofold or more where components overlap.
    Parameters that are frozen count as known.

    Args:
        mixture: a fitted one; it is not changed.
        x: inputs [N, D].
        y: outputs [N, P] or [N].
        gate_x: what the gate sees, where that is not x.
        weights: of the rows [N].

    Returns:
        [Q, Q], in the order of ``mixture.parameters()``, each flattened.
    """
    return _derivatives(mixture, checked_table(mixture, x, y, gate_x, weights))[1]


def _derivatives(mixture: MixtureOfExperts, table: Table) -> tuple[Tensor, Tensor]:
    """Gradient [Q] and minus the Hessian [Q, Q] of the log likelihood, a block of rows at a time."""
    twin = copy.deepcopy(mixture).double()
    table = nested.apply(Tensor.double, table).with_columns(twin.experts)
    parameters = estimated(twin)
    with torch.enable_grad():
        gradient, hessian = _two_derivatives(-twin.gate.kl_divergence() - twin.experts.kl_divergence(), parameters)
        for rows in table.blocks(twin.n_components):
            block = table.block(rows)
            log_joint = twin.log_joint(block.gate_x, block.columns, objects=rows)
            first, second = _two_derivatives(block.weighted(log_joint.logsumexp(-2)).sum(), parameters)
            gradient, hessian = gradient + first, hessian + second
    return gradient, -0.5 * (hessian + hessian.mT)


def estimated(mixture: MixtureOfExperts) -> list[Parameter]:
    """The parameters that a fit estimates."""
    parameters = [parameter for parameter in mixture.parameters() if parameter.requires_grad]
    if sum(parameter.numel() for parameter in parameters) == 0:
        raise ValueError(
            "`mixture` must have estimated parameters; got posteriors alone, which say how sure they are themselves."
        )
    return parameters


def parameter_names(mixture: MixtureOfExperts, features: list[str], gate_features: list[str]) -> list[str]:
    """A name for every entry of :func:`estimated`, in its order."""
    parts = {
        "gate": mixture.gate.parameter_names(gate_features),
        "experts": mixture.experts.parameter_names(features),
    }
    found = []
    for full_name, parameter in mixture.named_parameters():
        if parameter.requires_grad:
            part, name = full_name.split(".", 1)
            found += [f"{part}: {entry}" for entry in parts[part][name]]
    return found


def checked_names(argument: str, names: Sequence[str] | None, x: Tensor) -> list[str]:
    """Return one name for each column of x, all different."""
    n_columns = arguments.inputs(x).shape[1]
    if names is None:
        return [f"x{column}" for column in range(n_columns)]
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"`{argument}` must be strings; got {names!r}.")
    if len(names) != n_columns or len(set(names)) != n_columns:
        raise ValueError(f"`{argument}` must be {n_columns} different names, one a column; got {list(names)}.")
    return list(names)


def _two_derivatives(value: Tensor, parameters: list[Parameter]) -> tuple[Tensor, Tensor]:
    """Gradient [Q] and Hessian [Q, Q] of a number, a row at a time: whatever a network is made of, in little memory."""
    gradient = _flat(_gradients(value, parameters, create_graph=True))
    rows = [_flat(_gradients(entry, parameters)) for entry in gradient]
    return gradient.detach(), torch.stack(rows).detach()


def _gradients(value: Tensor, parameters: list[Parameter], *, create_graph: bool = False) -> Sequence[Tensor]:
    """Gradients, zero in what the number does not depend on; its graph is kept."""
    if not value.requires_grad:
        return [torch.zeros_like(parameter) for parameter in parameters]
    return torch.autograd.grad(
        value, parameters, retain_graph=True, create_graph=create_graph, allow_unused=True, materialize_grads=True
    )


def _flat(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.flatten() for part in parts])


def _are_effects(mixture: MixtureOfExperts) -> list[bool]:
    """Whether each entry of :func:`estimated` is an effect that may be tested against none."""
    effects = {f"gate.{name}" for name in mixture.gate.effects} | {
        f"experts.{name}" for name in mixture.experts.effects
    }
    free = [(name, parameter) for name, parameter in mixture.named_parameters() if parameter.requires_grad]
    return [name in effects for name, parameter in free for _ in range(parameter.numel())]


def _coefficient(estimate: float, error: float, is_effect: bool) -> Coefficient:
    z = estimate / error if error > 0 and is_effect else math.nan
    return Coefficient(estimate, error, z, math.erfc(abs(z) / math.sqrt(2.0)))


def _held(mixture: MixtureOfExperts) -> list[str]:
    """Parts with parameters of which some have no place among the estimated ones."""
    found = []
    for name, part in (("gate", mixture.gate), ("experts", mixture.experts)):
        if mixture.n_components > 1 and part.n_parameters > sum(parameter.numel() for parameter in part.parameters()):
            found.append(
                f"the {name} part, a {type(part).__name__}, is held as if it were known: standard errors are too "
                "small, by half or more where components overlap. SoftmaxGate(K, 0) and GLMExperts are judged together."
            )
    return found


def _warnings(gradient: Tensor, information: Tensor, names: list[str], errors: list[float]) -> list[str]:
    """What a user must know before trusting the standard errors."""
    values, directions = spectrum(information)
    if float(values.min()) < -WRONG_WAY:
        return ["the likelihood is not at a maximum, and standard errors mean nothing; fit to a smaller `tolerance`."]
    known = values > SMALLEST * values.amax()
    left = 0.5 * float(((directions.mT @ gradient).square() / values)[known].sum())
    if left > MOST_LEFT:
        return [
            f"the estimates are not a maximum for these data, {left:.3g} nats are left to gain: had the fit weights, "
            "or other rows? If not, fit to a smaller `tolerance`."
        ]
    unknown = [name for name, error in zip(names, errors, strict=True) if math.isinf(error)]
    if not unknown:
        return []
    listed = "; ".join(unknown[:4]) + ("; …" if len(unknown) > 4 else "")
    return [
        f"the data do not determine {len(unknown)} of {len(names)} coefficients ({listed}); their standard errors are "
        "infinite. Leave out collinear columns, or set `prior_scale`."
    ]
