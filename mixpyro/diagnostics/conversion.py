"""Conversion of fitted mixtures and gates to ArviZ."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from mixpyro import arguments
from mixpyro.diagnostics.arrays import OBJECTS, ROWS
from mixpyro.diagnostics.arviz_versions import ArvizData, container
from mixpyro.diagnostics.chosen_draws import chosen_draws
from mixpyro.diagnostics.draws import draw_from_prior
from mixpyro.diagnostics.estimates import estimated_without_draws
from mixpyro.diagnostics.gate_conversion import gate_to_arviz
from mixpyro.diagnostics.log_likelihoods import OF_GUIDE, OF_POSTERIOR
from mixpyro.diagnostics.mixture_groups import (
    Chains,
    Outcome,
    Variables,
    attributes_of,
    constants,
    groups_of_draws,
    labels_of,
    latent_variables,
    prior_predictive,
    why_left_out,
)
from mixpyro.diagnostics.names import named, named_rows
from mixpyro.diagnostics.observations import Observations
from mixpyro.diagnostics.response_draws import Rows
from mixpyro.diagnostics.under_draws import UnderDraws, warn_of_size
from mixpyro.fitting.fitted_rows import groups_of_fit
from mixpyro.fitting.result import FitResult
from mixpyro.gates.base import Gate
from mixpyro.groups import GroupIds, groups_of
from mixpyro.mixture import MixtureOfExperts
from mixpyro.numerics.random_numbers import own_random_numbers
from mixpyro.shapes import AnyTable, GateInputs, Inputs, ObjectIndices, Targets

GROUPS = (
    "posterior",
    "posterior_predictive",
    OF_POSTERIOR,
    OF_GUIDE,
    "log_prior",
    "sample_stats",
    "prior",
    "prior_predictive",
    "observed_data",
    "constant_data",
)
# Groups of all objects under all draws, which may be left out.
OPTIONAL = ("log_likelihood", "posterior_predictive", "prior_predictive")


def _checked_groups(name: str, value: object) -> frozenset[str]:
    """Return names of groups if they may be left out."""
    given = frozenset(arguments.texts(name, [value] if isinstance(value, str) else value))
    if given - set(OPTIONAL):
        raise ValueError(f"`{name}` must be of {', '.join(OPTIONAL)}; got {', '.join(sorted(given))}.")
    return given


@arguments.with_default_errors
@arguments.outside_contexts
@arguments.checked(samples=arguments.tensors, n_draws=arguments.size, leave_out=_checked_groups, seed=arguments.seed)
def to_arviz(
    fitted: FitResult | MixtureOfExperts | Gate,
    x: Inputs | AnyTable = None,
    y: Targets | AnyTable = None,
    *,
    gate_x: GateInputs | AnyTable = None,
    objects: ObjectIndices | None = None,
    groups: GroupIds | None = None,
    samples: Mapping[str, Any] | None = None,
    n_draws: int = 1000,
    intervals: str | None = None,
    feature_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    weights_of_objects: bool = False,
    leave_out: Collection[str] = (),
    seed: int = 0,
    progress: bool = True,
) -> ArvizData:
    """Draw from the posterior and convert draws, likelihoods and predictions for ArviZ.

    The groups are ``posterior`` and ``prior`` (latent parameters), ``posterior_predictive`` and ``prior_predictive``
    (y of new objects with the same x), ``log_likelihood_of_guide`` (of each object, its assignment summed out),
    ``log_prior`` (of each latent parameter), ``sample_stats`` (``lp``, log p(y, θ), and ``log_q``, the guide's log
    density), ``observed_data`` and ``constant_data`` (x, estimated parameters, and ``bound`` of every restart and
    iteration). ``data.to_netcdf(path)`` writes them to a file. y of one output has the axis ``object`` alone, of
    several ``output`` too; counts are whole numbers. Where objects are groups of rows, ``object`` is the axis of their
    ids and ``row`` that of x and y, and ``group_number`` in ``constant_data`` is the group of each row. Its rows have
    one assignment in likelihoods and predictions, so that ``loo`` leaves groups out.

    Draws of a variational posterior are independent, so r-hat and effective sample sizes do not measure its quality:
    print ``az.summary(data, kind="stats")``, and :func:`mixpyro.diagnostics.khat`. Nor are they draws of the exact
    posterior, as ``az.loo``, ``az.waic``, ``az.compare`` and ``az.psense_summary`` take any ``log_likelihood`` to be.
    So the group of that name is there for draws by MCMC alone. For a guide use :func:`mixpyro.diagnostics.loo` and
    :func:`~mixpyro.diagnostics.compare_loo`, which correct for it, or give ArviZ ``resample(data)`` of
    :func:`mixpyro.diagnostics.resample`, which has it.

    A parameter with an estimate and no posterior, as by maximum likelihood or a MAP estimate, has draws by linear
    response too, about its estimate. Without, it is in ``constant_data`` alone, not in ``posterior``. The attributes
    ``n_estimated_parameters`` and ``point_estimates`` say which. Without a prior a parameter is not in ``log_prior``,
    and there is no ``prior_predictive``: ``log_prior_left_out`` and ``prior_predictive_left_out`` say why.

    Weights that a gate keeps for each object are summed out of likelihood and predictions, as the assignments are:
    both are those of new objects with the same x.

    Memory is 8 ``n_draws`` N bytes for each of ``log_likelihood_of_guide``, ``posterior_predictive`` and
    ``prior_predictive`` (P times as many for predictions of P outputs).

    Args:
        fitted: result of :func:`mixpyro.fit`, a mixture, or a gate alone.
        x: inputs [N, D], or a DataFrame of them, whose columns name the features; by default the rows that a result
            keeps, with y and ``gate_x``.
        y: outputs [N, P] or [N], or a DataFrame or Series; None for a gate.
        gate_x: what the gate reads [N, G], where that is not x.
        objects: which objects of the last update the rows are, for a gate that keeps a posterior of each: indices [N],
            or ``slice(None)`` for all in order. It matters to the draws of such weights alone. By default the rows are
            all that were fitted for a fit's result, and new objects for a mixture or a gate. For new rows pass the
            result's mixture.
        groups: an id of the group of each row [N], whose rows share one component; those of a fit by default.
        samples: draws of the mixture's model by MCMC, ``mcmc.get_samples(group_by_chain=True)``: [chains, draws, …]
            each, or ``samples`` of :func:`mixpyro.refine`. By default there is one chain of ``n_draws``.
        n_draws: number of draws of posterior and prior, at least 1.
        intervals: "linear response", the default for all rows of a fit: draws are from a multivariate t distribution
            whose covariance includes the uncertainty of the assignments (:func:`mixpyro.linear_response`), estimated
            parameters among them, and ``log_q`` is its density. "mean field", the default otherwise: draws are from the
            analytic posterior, whose intervals are too short where components overlap. The attribute ``intervals`` says
            which it is, ``no_linear_response`` why not the first, and ``cautions`` what to look at.
        feature_names: D names of the columns of x.
        output_names: P names of the columns of y. That of one output is the attribute ``long_name`` of y.
        weights_of_objects: whether to keep draws of weights of single objects too, which take 8 ``n_draws`` N K bytes
            and as many rows of every summary as there are. A gate alone keeps them in any case.
        leave_out: groups to leave out: ``log_likelihood``, ``posterior_predictive``, ``prior_predictive``.
        seed: of the draws, at least 0. The global random state is neither used nor changed.
        progress: whether to show a progress bar after two seconds.

    Returns:
        An InferenceData in ArviZ 0.23, a DataTree in 1.x.

    Raises:
        TypeError: if ``fitted`` is none of these, or the data are neither tensors nor tables.
        ValueError: if the data do not fit the mixture or are not those of the result, ``samples`` do not fit its
            model, or ``leave_out`` names another group.

    Warns:
        RuntimeWarning: if the groups take more than 4 GiB.

    Example:
        >>> import torch
        >>> from mixpyro import DirichletGate
        >>> data = to_arviz(DirichletGate(3), torch.zeros(5, 0).double(), n_draws=100)
        >>> data["posterior"]["gate.weights"].dims
        ('chain', 'draw', 'component')
    """
    if isinstance(fitted, Gate) and groups is not None:
        raise ValueError("`groups` must be None for a gate, which reads a row of each group; got ids.")
    if isinstance(fitted, Gate):
        x_named = named(x, feature_names, argument="feature_names", prefix="x")
        return gate_to_arviz(fitted, x_named, objects, n_draws, seed)
    if not isinstance(fitted, FitResult | MixtureOfExperts):
        raise TypeError(f"`fitted` must be a FitResult, a mixture or a gate; got {type(fitted).__name__}.")
    x_named, y_named, own_gate = named_rows(
        fitted, x, y, gate_x, feature_names=feature_names, output_names=output_names
    )
    all_rows, objects = objects is None, slice(None) if objects is None and isinstance(fitted, FitResult) else objects
    own = groups_of_fit(fitted, groups) if all_rows and isinstance(fitted, FitResult) else groups
    grouped = None if own is None else groups_of(own, like=arguments.inputs(x_named.values))
    gate_named = x_named if own_gate is None else own_gate
    rows = Rows(x_named.values, y_named.values, None if own_gate is None else gate_named.values, grouped)
    data = Observations.checked(fitted, *rows, all_rows=all_rows)
    with own_random_numbers(seed):
        chosen: dict[str, Any] = {"intervals": intervals, "samples": samples, "all_rows": all_rows, "objects": objects}
        chains, data, about = chosen_draws(fitted, rows, data, n_draws, **chosen, of_objects=weights_of_objects)
        labels = labels_of(data.mixture, x_named, y_named, gate_named, grouped)
        outcome = Outcome(data.mixture.experts.site("y"), y_named.columns, OBJECTS if grouped is None else ROWS)
        found, why = _groups(fitted, data, chains, n_draws, labels, outcome, frozenset(leave_out), progress)
    found["constant_data"] = constants(rows.x, rows.gate_x, fitted, labels, grouped)
    attributes = attributes_of(data.mixture, chains.kept.sites) | about | why
    return container({name: found[name] for name in GROUPS if found.get(name)}, labels, attributes)


def _groups(
    fitted: FitResult | MixtureOfExperts,
    data: Observations,
    chains: Chains,
    n_draws: int,
    labels: Mapping[str, np.ndarray],
    outcome: Outcome,
    leave_out: frozenset[str],
    progress: bool,
) -> tuple[dict[str, Variables], dict[str, str]]:
    """Return the groups of draws and data, and in words what is not in them."""
    mixture = data.mixture
    prior = draw_from_prior(data, n_draws)
    missing = list(estimated_without_draws(mixture, prior.sites))
    _warn_of_size(data, chains, n_draws, {*leave_out, "prior_predictive"} if missing else leave_out)
    weights = fitted.weights if isinstance(fitted, FitResult) else None
    found = UnderDraws(data, chains.drawn, weights=weights, leave_out=leave_out, progress=progress)
    predicted = prior_predictive(data, prior, missing, leave_out=leave_out, progress=progress)
    groups = groups_of_draws(found, chains, outcome) | {
        "posterior": latent_variables(chains.kept, chains.n_chains, mixture, labels),
        "prior": latent_variables(prior, 1, mixture, labels),
        "prior_predictive": {} if predicted.values is None else outcome.variable(predicted.values, 1),
        "observed_data": outcome.observed(data),
    }
    return groups, why_left_out(mixture, chains, predicted)


def _warn_of_size(data: Observations, chains: Chains, n_draws: int, leave_out: Collection[str]) -> None:
    """Warn where the groups of all objects under all draws take several gigabytes."""
    n_objects, n_numbers = data.n_objects, data.y.numel()
    sizes = {
        "log_likelihood": chains.drawn.n_draws * n_objects,
        "posterior_predictive": chains.drawn.n_draws * n_numbers,
        "prior_predictive": n_draws * n_numbers,
    }
    latent = sum(values.numel() for values in chains.drawn.sites.values())
    warn_of_size(latent + sum(size for name, size in sizes.items() if name not in leave_out), leave_out)
