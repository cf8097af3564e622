"""Covariances of a fit's parameters that include the uncertainty of the assignments."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro import arguments
from mixpyro.arguments.signals import pass_on
from mixpyro.fitting.fitted_rows import fitted_rows, groups_of_fit, refuse_processes_of
from mixpyro.fitting.reads_rows import reads_rows
from mixpyro.fitting.result import FitResult
from mixpyro.fitting.table import Table, checked_table
from mixpyro.groups import GroupIds, groups_of
from mixpyro.intervals.cautions import cautions_of
from mixpyro.intervals.names import checked_gate_names, checked_names, parameter_names
from mixpyro.intervals.responses.autograd import ByAutograd
from mixpyro.intervals.responses.closed_form import ClosedForm
from mixpyro.intervals.responses.matrices import Matrices
from mixpyro.intervals.responses.parts import full_quantity_names, posterior_parts
from mixpyro.intervals.shared_weights import integrate_weights, settle
from mixpyro.mixture import MixtureOfExperts
from mixpyro.numerics import nested
from mixpyro.shapes import AnyTable, GateInputs, Inputs, Targets


class NoLinearResponse(ValueError):
    """A mixture has parts without a linear response, or is not at a strict maximum of its bound."""


# Standard error of a logarithm beyond which a scale is not determined: within two of them it is 10⁻¹⁷ or 10¹⁷ times as
# large.
MOST_DEVIATION = 20.0


@dataclass(frozen=True)
class LinearResponse:
    """Means and covariances of a fit's parameters, from how its means respond to a tilt of the posterior.

    Quantities are real numbers without limits: coefficients and means for x and y as they are, log precisions, log
    ratios of weights, and estimated parameters as they are.

    Attributes:
        names: of the Q quantities.
        estimates: their posterior means at the optimum of the bound, or estimates [Q], float64.
        covariance: by linear response [Q, Q].
        mean_field: were the assignments independent of the parameters, as the fit's own posterior has it [Q, Q]; of
            estimated parameters, were the responsibilities known.
        missing_information: largest share of the information of any combination of parameters that is missing because
            the assignments are unknown, from 0 to 1. It is the rate at which EM converges.
        prior_sensitivity: change of the estimates [Q] if the density of a part's prior were raised to the power 1 + δ,
            per δ, by the part's name; only parts with a prior.
        cautions: what to look at before trusting it, in words.
        matrices: what it was computed from, for more of the same.
        mixture: in float64, at the optimum, the weights of single objects integrated out.
        table: the rows that were fitted, which this object keeps in memory.
    """

    names: tuple[str, ...]
    estimates: Float[Tensor, " Q"] = field(repr=False)
    covariance: Float[Tensor, "Q Q"] = field(repr=False)
    mean_field: Float[Tensor, "Q Q"] = field(repr=False)
    missing_information: float
    prior_sensitivity: dict[str, Tensor] = field(repr=False)
    cautions: tuple[str, ...]
    matrices: Matrices = field(repr=False)
    mixture: MixtureOfExperts = field(repr=False)
    table: Table = field(repr=False)

    @property
    def standard_deviations(self) -> Float[Tensor, " Q"]:
        """Square roots of the diagonal of the covariance [Q]."""
        return self.covariance.diagonal().sqrt()

    @torch.no_grad()
    def influence(self) -> Float[Tensor, "N Q"]:
        """Return how each object moves each estimate: each row, or each group in the order of their first rows.

        Returns:
            Derivatives of the estimates in the logarithm of each object's weight [N, Q], float64. Without the object,
            an estimate would be lower by about as much.
        """
        found = self.covariance.new_empty(self.table.size, len(self.names))
        for objects, scores in self.matrices.scores():
            found[objects] = scores @ self.matrices.response
        return found

    @torch.no_grad()
    @arguments.declared
    def sandwich(self, groups: GroupIds | None = None) -> Float[Tensor, "Q Q"]:
        """Return a covariance that holds where the model is wrong, or rows of a group depend on each other.

        Σ [Σᵢ (sᵢ − s̄)(sᵢ − s̄)'] Σ with the scores sᵢ of objects, or their sums over groups, without a correction for
        few groups. It estimates the covariance of the estimates over data sets, not of a posterior.

        Args:
            groups: an id of the group of each row [N]. By default the groups of the fit, which a group may hold several
                of, and without them every row is a group.

        Raises:
            TypeError: if the groups are a tensor of no integers, or no sequence.
            ValueError: if there is not one for each row, all rows are of one group, or rows of a group of the fit are
                in several.
        """
        number, n_groups = self._numbered(groups)
        sums = self.covariance.new_zeros(n_groups, len(self.names))
        for objects, scores in self.matrices.scores():
            sums.index_add_(0, number[objects], scores @ self.matrices.response)
        deviations = sums - sums.mean(0)
        return deviations.mT @ deviations

    def _numbered(self, groups: GroupIds | None) -> tuple[Tensor, int]:
        """Return the group of each object as numbers from 0, and how many there are."""
        device = self.covariance.device
        if groups is None:
            return torch.arange(self.table.size, device=device), self.table.size
        if isinstance(groups, Tensor) and (groups.is_floating_point() or groups.is_complex()):
            raise TypeError(f"`groups` must be a tensor of integers; got {groups.dtype}. Use torch.as_tensor(groups).")
        found = groups_of(groups, like=self.table.x)
        if len(found) < 2:
            raise ValueError("`groups` must be at least two groups; got one.")
        of_fit, number = self.table.groups, found.index.to(device)
        return number if of_fit is None else of_fit.shared("groups", number), len(found)


@reads_rows
@arguments.outside_contexts
def linear_response(
    result: FitResult | MixtureOfExperts,
    x: Inputs | AnyTable = None,
    y: Targets | AnyTable = None,
    *,
    gate_x: GateInputs | AnyTable = None,
    weights: Float[Tensor, " N"] | AnyTable = None,
    groups: GroupIds | None = None,
    feature_names: Sequence[str] | None = None,
    gate_feature_names: Sequence[str] | None = None,
) -> LinearResponse:
    """Return the covariance of a fit's parameters by linear response.

    Mean field takes parameters and assignments as independent, so its intervals are too short where components overlap.
    Linear response is the derivative of the posterior means when the posterior is tilted, with the assignments
    following. Posteriors and estimated parameters enter together, the latter as point masses; where all are estimated
    it is the inverse of :func:`~mixpyro.observed_information`. With one component, or components far apart, it is the
    posterior's own covariance. It speaks of one optimum, and sees no second one.

    Weights of single objects are integrated out, exactly; a population mean that is learnt is an estimated parameter.
    The bound is first brought to its maximum near the fit, by Newton steps on a copy; the result is not changed.

    Args:
        result: of :func:`~mixpyro.fit`, or its mixture; all parameters must be shared by all objects.
        x: inputs [N, D] that were fitted; those that the result keeps by default, with y and gate_x.
        y: outputs [N, P] or [N] that were fitted.
        gate_x: the gate's inputs [N, G], if they were not x.
        weights: of the rows [N], at least 0; those of the fit by default.
        groups: an id of the group of each row [N]; those of the fit by default, and None for a mixture without groups.
        feature_names: D different names of the columns of x; x0, x1, … by default.
        gate_feature_names: G different names of the columns of ``gate_x``; x0, x1, … by default.

    Raises:
        TypeError: if ``result`` is neither.
        ValueError: if an argument does not fit, the rows are not those of the result, a part has no linear response,
            there are more than 10,000 coordinates (2,000 where a part has no closed form), or the fit is not near a
            strict maximum; of its subclass ``NoLinearResponse`` where not an argument is at fault.

    References:
        Giordano, Broderick, Jordan (2018), Covariances, robustness, and variational Bayes, JMLR 19, definition 4;
        Louis (1982), Finding the observed information matrix when using the EM algorithm, eq. 3.1.

    Example:
        >>> from mixpyro import DirichletGate, LinearExperts, fit
        >>> x = torch.linspace(-1, 1, 40).double().unsqueeze(1)
        >>> y = torch.where(torch.arange(40) % 2 == 0, 1 + x[:, 0], 1 - x[:, 0]) + 0.2 * torch.sin(50 * x[:, 0])
        >>> result = fit(MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1)), x, y, seed=0)
        >>> response = linear_response(result, x, y)
        >>> len(response.names), response.missing_information < 0.95
        (7, True)
        >>> bool((response.covariance.diagonal() >= response.mean_field.diagonal()).all())
        True
    """
    if not isinstance(result, FitResult | MixtureOfExperts):
        raise TypeError(f"`result` must be what `fit` returned, or its mixture; got {type(result).__name__}.")
    fitted = result.mixture if isinstance(result, FitResult) else result
    if isinstance(result, FitResult):
        refuse_processes_of(result)
    features = checked_names("feature_names", feature_names, x)
    gate_features = checked_gate_names(gate_feature_names, features, x, gate_x)
    if isinstance(result, FitResult):
        groups_of_fit(result, groups)
        table = fitted_rows(result, x, y, gate_x, weights)
    else:
        table = checked_table(fitted, x, y, gate_x, weights, groups=groups).with_columns(fitted.experts)
    table = _complete(table)
    mixture = copy.deepcopy(fitted).double()
    has_integrated = integrate_weights(mixture)
    if has_integrated:
        table = table._replace(gate_x=table.gate_x[:, :0])
        settle(mixture, table)
    try:
        names, n_estimated = _names(mixture, features, gate_features)
        at_optimum = copy.deepcopy(mixture)
        matrices = _matrices(mixture, table, names[len(names) - n_estimated :])
        at_optimum.hold(nested.apply(torch.detach, mixture.state()))
        _refuse_lost_scales(matrices, names, mixture)
        return _reported(matrices, tuple(names), at_optimum, table, has_integrated)
    except ValueError as error:
        pass_on(error)
        raise NoLinearResponse(str(error)) from error


def _complete(table: Table) -> Table:
    """Return the rows with outputs.

    Raises:
        NoLinearResponse: if a row has some of its outputs and not all.
    """
    table = table.observed()
    if bool(table.y.isnan().any()):
        raise NoLinearResponse(
            "`y` must have all outputs of a row or none for a linear response; got rows with NaN in some. The "
            "posterior of the experts is the mean field's, which takes what is missing for seen, so that its spreads "
            "are too small."
        )
    return table


def _matrices(mixture: MixtureOfExperts, table: Table, estimated: list[str]) -> Matrices:
    """Move a mixture to the optimum nearby, and return its matrices there."""
    solver = ClosedForm(mixture, table) if ClosedForm.suits(mixture) else ByAutograd(mixture, table, estimated)
    if not solver.n_coordinates:
        raise ValueError("`result` must be of a mixture with parameters; got one without any.")
    if solver.n_coordinates > solver.most_coordinates:
        raise ValueError(
            f"`result` must be of a mixture with at most {solver.most_coordinates:,} coordinates, for the matrices to "
            f"fit; got {solver.n_coordinates:,}. Fit fewer components, or fewer columns."
        )
    return solver.matrices()


def _refuse_lost_scales(matrices: Matrices, names: Sequence[str], mixture: MixtureOfExperts) -> None:
    """Raise if a scale is not determined, as one at its limit: draws of it would be zero or infinite."""
    free = [(name, parameter.numel()) for name, parameter in mixture.named_parameters() if parameter.requires_grad]
    is_scale = [name.endswith("log_scale") for name, size in free for _ in range(size)]
    deviations = matrices.covariance.diagonal().sqrt()[len(names) - len(is_scale) :]
    lost = [
        f"{name} (standard error {float(deviation):.2g})"
        for name, deviation, one in zip(names[len(names) - len(is_scale) :], deviations, is_scale, strict=True)
        if one and not float(deviation) < MOST_DEVIATION
    ]
    if lost:
        raise ValueError(
            f"`result` must be where the data determine every scale; got {', '.join(lost)}. Fit the family without it: "
            "Poisson() for NegativeBinomial(), Gaussian() for StudentT()."
        )


def _reported(
    matrices: Matrices, names: tuple[str, ...], mixture: MixtureOfExperts, table: Table, has_integrated: bool
) -> LinearResponse:
    """Return what the matrices say."""
    share = min(1.0, max(0.0, matrices.missing_information))
    return LinearResponse(
        names=names,
        estimates=matrices.estimates,
        covariance=matrices.covariance,
        mean_field=matrices.mean_field,
        missing_information=share,
        prior_sensitivity={name: matrices.response.mT @ prior for name, prior in matrices.priors.items()},
        cautions=tuple(cautions_of(matrices, share, names, has_integrated)),
        matrices=matrices,
        mixture=mixture,
        table=table,
    )


def _names(mixture: MixtureOfExperts, features: list[str], gate_features: list[str]) -> tuple[list[str], int]:
    """Return the names of all quantities, and how many of them, the last ones, are of estimated parameters."""
    of_posteriors = [
        name
        for part in posterior_parts(mixture)
        for name in full_quantity_names(part, gate_features if part.name == "gate" else features)
    ]
    estimated = parameter_names(mixture, features, gate_features)
    return of_posteriors + estimated, len(estimated)
