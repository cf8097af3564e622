"""The groups of ArviZ that a mixture's draws and data become."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mixpyro.diagnostics.arrays import GROUP_NUMBER, OBJECTS, ROWS, are_counts, as_numpy, axes_of_outcome, with_chains
from mixpyro.diagnostics.arviz_versions import Variable
from mixpyro.diagnostics.draws import Draws
from mixpyro.diagnostics.estimates import attributes_of_estimates, estimated_without_draws, estimates, owner_of
from mixpyro.diagnostics.names import Named, coordinates, labels_of_ids, site_axes
from mixpyro.diagnostics.observations import Observations
from mixpyro.diagnostics.under_draws import UnderDraws, predictions_of
from mixpyro.experts.glm import GLMExperts
from mixpyro.experts.shared_linear import SharedLinearExperts
from mixpyro.fitting.result import FitResult
from mixpyro.gates.base import Gate
from mixpyro.gates.tree import TreeGate
from mixpyro.groups import Groups
from mixpyro.mixture import MixtureOfExperts
from mixpyro.numerics.trees import node_names

Variables = dict[str, Variable]


class Chains(NamedTuple):
    """Draws of a mixture's parameters, and where they are from."""

    drawn: Draws  # of all latent sites
    kept: Draws  # without those that are at their estimate in all draws
    n_chains: int
    log_likelihood: str  # name of the group of log likelihoods


class Outcome(NamedTuple):
    """The name of y, and those of its columns."""

    site: str
    columns: list[str]
    rows: str = OBJECTS  # name of the axis of rows

    @property
    def axes(self) -> tuple[str, ...]:
        """The names of its axes."""
        return axes_of_outcome(len(self.columns), self.rows)

    @property
    def attributes(self) -> dict[str, str]:
        """The name of the only column, which no axis has."""
        return {"long_name": self.columns[0]} if len(self.columns) == 1 else {}

    def variable(self, values: np.ndarray, n_chains: int) -> Variables:
        """Return draws of y.

        Args:
            values: [S, rows] or [S, rows, P].
            n_chains: number of chains.
        """
        axes, in_chains, *_ = with_chains(self.axes, values, n_chains)
        return {self.site: (axes, in_chains, self.attributes)}

    def observed(self, data: Observations) -> Variables:
        """Return y itself, whole numbers where it has probabilities.

        Args:
            data: the mixture and its rows.
        """
        values = as_numpy(data.outcomes_as_given())
        values = values[:, 0] if len(self.columns) == 1 else values
        if data.mixture.experts.is_discrete and are_counts(values):
            values = values.astype(np.int64)
        return {self.site: (self.axes, values, self.attributes)}


class Predicted(NamedTuple):
    """Draws of y from the prior, or why there are none."""

    values: np.ndarray | None
    why_not: str = ""


def prior_predictive(
    data: Observations, prior: Draws, without_prior: Sequence[str], *, leave_out: Collection[str], progress: bool
) -> Predicted:
    """Return draws of y from the prior, unless a parameter has none or y is too large for a number.

    Args:
        data: the mixture and its rows.
        prior: draws of the parameters.
        without_prior: names of the parameters that have no draws.
        leave_out: names of groups that are not computed.
        progress: whether to show a progress bar after two seconds.
    """
    if "prior_predictive" in leave_out:
        return Predicted(None, "by `leave_out`")
    if without_prior:
        return Predicted(None, f"no draws from a prior of {', '.join(without_prior)}")
    values = predictions_of(data, prior, progress=progress).array()
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        return Predicted(None, "the prior gives values of y that are too large for a number")
    return Predicted(values)


def groups_of_draws(found: UnderDraws, chains: Chains, outcome: Outcome) -> dict[str, Variables]:
    """Return the groups that follow from the data under every draw.

    Args:
        found: what follows.
        chains: the draws.
        outcome: y.
    """
    groups: dict[str, Variables] = {}
    if found.log_likelihood is not None:
        groups[chains.log_likelihood] = {outcome.site: with_chains((OBJECTS,), found.log_likelihood, chains.n_chains)}
    if found.predictions is not None:
        groups["posterior_predictive"] = outcome.variable(found.predictions.array(), chains.n_chains)
    densities = {"lp": found.lp, "log_q": as_numpy(chains.drawn.log_density)}
    groups["sample_stats"] = {
        name: with_chains((), values, chains.n_chains)
        for name, values in densities.items()
        if not np.isnan(values).all()
    }
    groups["log_prior"] = {
        name: with_chains((), values, chains.n_chains)
        for name, values in found.log_priors.items()
        if name in chains.kept.sites
    }
    return groups


def why_left_out(mixture: MixtureOfExperts, chains: Chains, predicted: Predicted) -> dict[str, str]:
    """Return in words what is not in the groups ``log_prior`` and ``prior_predictive``, nothing of those in full.

    Args:
        mixture: that the draws are of.
        chains: the draws.
        predicted: draws of y from the prior.
    """
    missing = estimated_without_draws(mixture, chains.kept.sites)
    reasons = {
        "log_prior_left_out": f"point estimates: {', '.join(missing)}" if missing else "",
        "prior_predictive_left_out": predicted.why_not,
    }
    return {name: reason for name, reason in reasons.items() if reason}


def labels_of(
    mixture: MixtureOfExperts, x: Named, y: Named, gate_x: Named, groups: Groups | None
) -> dict[str, np.ndarray]:
    """Return the labels along every axis of a mixture's arrays.

    Args:
        mixture: of K components.
        x: inputs.
        y: outputs.
        gate_x: what the gate reads.
        groups: of the rows; None where every row is an object.
    """
    experts = mixture.experts
    is_glm = isinstance(experts, GLMExperts)
    of_sharing = experts.axis_labels(x.columns) if isinstance(experts, GLMExperts | SharedLinearExperts) else {}
    return coordinates(
        n_components=mixture.n_components,
        objects=x.rows if groups is None else labels_of_ids(groups.ids),
        rows=None if groups is None else x.rows,
        features=x.columns,
        n_regressors=experts.n_features,
        gate_features=gate_x.columns,
        gate_nodes=_nodes_of(mixture.gate),
        outputs=y.columns,
        n_predictors=experts.family.n_predictors if is_glm else 1,
    ) | {axis: np.array(labels, dtype=np.str_) for axis, labels in of_sharing.items()}


def labels_of_gate(gate: Gate, x: Named) -> dict[str, np.ndarray]:
    """Return the labels along every axis of the arrays of a gate alone.

    Args:
        gate: of K components.
        x: what it reads.
    """
    return coordinates(
        n_components=gate.n_components,
        objects=x.rows,
        features=x.columns,
        gate_features=x.columns,
        gate_nodes=_nodes_of(gate),
    )


def _nodes_of(gate: Gate) -> list[str]:
    """Return the names of the nodes of a gate that is a tree."""
    return node_names(gate.tree) if isinstance(gate, TreeGate) else []


def latent_variables(
    drawn: Draws, n_chains: int, module: MixtureOfExperts | Gate, labels: Mapping[str, np.ndarray]
) -> Variables:
    """Return the latent parameters and what a gate derives from them, with the names of the axes that parts give.

    Args:
        drawn: of the parameters.
        n_chains: number of chains.
        module: a mixture or a gate.
        labels: along the axes.
    """
    variables, gates = {}, [part for part in module.modules() if isinstance(part, Gate)]
    derived = {name: values for gate in gates for name, values in gate.derived(drawn.sites).items()}
    for name, values in (drawn.sites | derived).items():
        part = owner_of(module, name)
        axes = site_axes(name, values.shape[1:], {} if part is None else part.site_axes, labels)
        variables[name] = with_chains(axes, as_numpy(values), n_chains)
    return variables


def constants(
    x: Tensor,
    gate_x: Tensor | None,
    fitted: FitResult | MixtureOfExperts,
    labels: Mapping[str, np.ndarray],
    groups: Groups | None,
) -> Variables:
    """Return the inputs, the estimated parameters, the objects' weights and the bounds of the restarts.

    Args:
        x: inputs [N, D].
        gate_x: what the gate reads [N, G]; None for x.
        fitted: a result, or the mixture.
        labels: along the axes.
        groups: of the rows; None where every row is an object.
    """
    rows = OBJECTS if groups is None else ROWS
    variables: Variables = {"x": ((rows, "feature"), as_numpy(x))}
    if groups is not None:
        variables[GROUP_NUMBER] = (ROWS,), as_numpy(groups.index)
    if gate_x is not None:
        variables["gate_x"] = ((rows, "gate_feature"), as_numpy(gate_x))
    if not isinstance(fitted, FitResult):
        return variables | estimates(fitted, labels)
    variables |= estimates(fitted.mixture, labels)
    variables["bound"] = ("restart", "iteration"), _bounds(fitted)
    if fitted.weights is not None:
        variables["weights"] = (OBJECTS,), as_numpy(fitted.weights)
    return variables


def _bounds(result: FitResult) -> np.ndarray:
    """Return the bound of every restart and iteration in nats, NaN after the end of a run."""
    longest = max(len(run.trace) for run in result.runs)
    bounds = np.full((len(result.runs), longest), np.nan)
    for row, run in zip(bounds, result.runs, strict=True):
        row[: len(run.trace)] = run.trace
    return bounds


def attributes_of(module: torch.nn.Module, drawn: Collection[str]) -> dict[str, str | int]:
    """Return the library's name and the estimated parameters, which are the same in all draws.

    Args:
        module: a mixture or a gate.
        drawn: names of the sites that have draws.
    """
    return {"inference_library": "mixpyro"} | attributes_of_estimates(estimated_without_draws(module, drawn))
