"""The observed information of a fitted mixture: minus the Hessian of its log likelihood."""

import copy
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor
from torch.nn import Parameter

from mixpyro import arguments
from mixpyro.fitting.known_labels import joint_of
from mixpyro.fitting.reads_rows import reads_rows
from mixpyro.fitting.table import Table, checked_table
from mixpyro.groups import GroupIds
from mixpyro.mixture import MixtureOfExperts
from mixpyro.numerics import nested
from mixpyro.shapes import AnyTable, GateInputs, Inputs, Targets


@reads_rows
@arguments.outside_contexts
def observed_information(
    mixture: MixtureOfExperts,
    x: Inputs | AnyTable,
    y: Targets | AnyTable,
    *,
    gate_x: GateInputs | AnyTable = None,
    weights: Float[Tensor, " N"] | AnyTable = None,
    observed: Integer[Tensor, " N"] | AnyTable = None,
    mask: Bool[Tensor, " N"] | AnyTable = None,
    groups: GroupIds | None = None,
) -> Float[Tensor, "Q Q"]:
    """Return minus the Hessian of the log likelihood in all Q estimated parameters, float64.

    The log likelihood is Σᵢ log Σₖ πₖ(xᵢ) p(yᵢ | xᵢ, k), the assignments summed out, plus the log density of a prior on
    the parameters. Where a gate or experts have a posterior, it is held fixed and the bound replaces the likelihood.
    The information is then conditional on that posterior, and too large: twofold or more where components overlap.
    Frozen parameters count as known.

    Args:
        mixture: a fitted mixture; it is not changed.
        x: inputs [N, D] that were fitted, all of them and in order if the gate keeps a posterior of each object.
        y: outputs [N, P] or [N] that were fitted.
        gate_x: the gate's inputs [N, G], if they were not x.
        weights: of the rows [N], at least 0; every row counts once by default.
        observed: the components that were known [N], as in :func:`~mixpyro.fit`.
        mask: in which rows they were known [N].
        groups: an id of the group of each row [N], as in :func:`~mixpyro.fit`.

    Returns:
        [Q, Q], in the order of ``mixture.parameters()``, each flattened.

    Raises:
        ValueError: if the mixture has no estimated parameters, an argument does not fit, or derivatives are not finite.
    """
    table = checked_table(mixture, x, y, gate_x, weights, observed=observed, mask=mask, groups=groups)
    return derivatives(mixture, table)[1]


def derivatives(mixture: MixtureOfExperts, table: Table) -> tuple[Float[Tensor, " Q"], Float[Tensor, "Q Q"]]:
    """Return the gradient of the log likelihood and minus its Hessian.

    Both are summed over blocks of rows.

    Args:
        mixture: as for :func:`observed_information`.
        table: the rows that were fitted, checked.

    Raises:
        ValueError: as :func:`observed_information`.
    """
    double = copy.deepcopy(mixture).double()
    table = table.in_float64().with_columns(double.experts)
    _refuse_other_objects(double, table.gate_x)
    parameters = estimated(double)
    with torch.enable_grad():
        gradient, hessian = _two_derivatives(-double.gate.kl_divergence() - double.experts.kl_divergence(), parameters)
        for rows in table.blocks(double.n_components):
            block = table.block(rows)
            log_joint, columns = joint_of(double, block.columns, block.labels)
            log_evidence = log_joint(block.gate_x, columns, objects=rows).logsumexp(-2)
            first, second = _two_derivatives(block.weighted(log_evidence).sum(), parameters)
            gradient, hessian = gradient + first, hessian + second
    _refuse_infinite(double, gradient, hessian)
    return gradient, -0.5 * (hessian + hessian.mT)


def estimated(mixture: MixtureOfExperts) -> list[Parameter]:
    """Return the parameters that a fit estimates.

    Args:
        mixture: any mixture.

    Raises:
        ValueError: if there are none.
    """
    parameters = [parameter for parameter in mixture.parameters() if parameter.requires_grad]
    if sum(parameter.numel() for parameter in parameters) == 0:
        raise ValueError(
            "`mixture` must have estimated parameters; got posteriors alone, which have their own standard deviations."
        )
    return parameters


@torch.no_grad()
def _refuse_other_objects(mixture: MixtureOfExperts, gate_x: Tensor) -> None:
    """Raise if the gate keeps a posterior of each object and the rows are not as many: blocks would not show it."""
    mixture.gate.weights(gate_x, objects=slice(None))


def _refuse_infinite(mixture: MixtureOfExperts, gradient: Tensor, hessian: Tensor) -> None:
    """Raise if a derivative is not finite, with the parameters that it belongs to."""
    finite = gradient.isfinite() & hessian.isfinite().all(-1)
    if bool(finite.all()):
        return
    free = [(name, parameter) for name, parameter in mixture.named_parameters() if parameter.requires_grad]
    parts = finite.split([parameter.numel() for _, parameter in free])
    found = [
        f"{name} (up to {float(parameter.detach().abs().max()):.3g})"
        for (name, parameter), part in zip(free, parts, strict=True)
        if not bool(part.all())
    ]
    raise ValueError(
        "`mixture` must be where its log likelihood has finite derivatives; those of "
        f"{', '.join(found)} are not. Estimates that are that large have no maximum: set `prior_scale`."
    )


def _two_derivatives(value: Tensor, parameters: list[Parameter]) -> tuple[Tensor, Tensor]:
    """Return gradient [Q] and Hessian [Q, Q] of a scalar, row by row: for any network, in little memory."""
    gradient = nested.flat(_gradients(value, parameters, create_graph=True))
    rows = [nested.flat(_gradients(entry, parameters)) for entry in gradient]
    return gradient.detach(), torch.stack(rows).detach()


def _gradients(value: Tensor, parameters: list[Parameter], *, create_graph: bool = False) -> Sequence[Tensor]:
    """Return gradients, zero for parameters that the value does not depend on, and keep its graph."""
    if not value.requires_grad:
        return [torch.zeros_like(parameter) for parameter in parameters]
    return torch.autograd.grad(
        value, parameters, retain_graph=True, create_graph=create_graph, allow_unused=True, materialize_grads=True
    )
