"""Conversion of fitted mixtures and gates to ArviZ."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from mixpyro import arguments
from mixpyro.diagnostics.arviz_versions import ArvizData, Variable, container
from mixpyro.diagnostics.draws import (
    Draws,
    Observations,
    draw,
    draw_from_posterior,
    draw_from_prior,
    evaluate,
)
from mixpyro.diagnostics.names import Named, Table, coordinates, named, site_axes
from mixpyro.diagnostics.random_numbers import own_random_numbers
from mixpyro.experts.base import Experts
from mixpyro.fitting.result import FitResult
from mixpyro.gates.base import Gate
from mixpyro.mixture import MixtureOfExperts
from mixpyro.pyro_internals.plates import objects_plate
from mixpyro.shapes import GateInputs, Inputs, ObjectIndices, Targets

GROUPS = (
    "posterior",
    "posterior_predictive",
    "log_likelihood",
    "sample_stats",
    "prior",
    "observed_data",
    "constant_data",
)

Variables = dict[str, Variable]


@arguments.outside_contexts
def to_arviz(
    fitted: FitResult | MixtureOfExperts | Gate,
    x: Inputs | Table,
    y: Targets | Table | None = None,
    *,
    gate_x: GateInputs | Table | None = None,
    objects: ObjectIndices | None = None,
    samples: Mapping[str, Tensor] | None = None,
    n_draws: int = 1000,
    feature_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    weights_of_objects: bool = True,
    seed: int = 0,
) -> ArvizData:
    """Draw from the posterior and convert draws, likelihoods and predictions for ArviZ.

    The groups are ``posterior`` and ``prior`` (latent parameters), ``posterior_predictive``, ``log_likelihood`` (of
    each object, its assignment summed out), ``sample_stats`` (``lp``, log p(y, θ), and ``log_q``, the guide's log
    density), ``observed_data`` and ``constant_data`` (x, estimated parameters, and ``bound`` of every restart and
    iteration). ``data.to_netcdf(path)`` writes them to a file.

    Weights that a gate keeps for each object are summed out of likelihood and predictions, as the assignments are:
    both are those of new objects with the same x.

    Draws of a variational posterior are independent, so r-hat and effective sample sizes do not measure its quality.
    :func:`mixpyro.diagnostics.khat` does.

    Args:
        fitted: result of :func:`mixpyro.fit`, a mixture, or a gate alone.
        x: inputs [N, D], or a DataFrame of them, whose columns name the features.
        y: outputs [N, P] or [N], or a DataFrame or Series; None for a gate.
        gate_x: what the gate reads [N, G], where that is not x.
        objects: which objects of the last update the rows are, for a gate that keeps a posterior of each: indices [N],
            or ``slice(None)`` for all in order. It matters to the draws of such weights alone. By default the rows are
            all that were fitted for a fit's result, and new objects for a mixture or a gate. For new rows pass the
            result's mixture.
        samples: draws of the mixture's model by MCMC, ``mcmc.get_samples(group_by_chain=True)``: [chains, draws, …]
            each. By default there is one chain of draws from the analytic posterior.
        n_draws: number of draws of posterior and prior, at least 1.
        feature_names: D names of the columns of x.
        output_names: P names of the columns of y.
        weights_of_objects: whether to keep draws of weights of single objects, which take 8 ``n_draws`` N K bytes.
        seed: of the draws, at least 0. The global random state is neither used nor changed.

    Returns:
        An InferenceData in ArviZ 0.23, a DataTree in 1.x.

    Raises:
        TypeError: if ``fitted`` is none of these, or the data are neither tensors nor tables.
        ValueError: if the data do not fit the mixture or are not those of the result, or ``samples`` do not fit its
            model.

    Example:
        >>> from mixpyro import DirichletGate
        >>> data = to_arviz(DirichletGate(3), torch.zeros(5, 0).double(), n_draws=100)
        >>> data["posterior"]["gate.weights"].dims
        ('chain', 'draw', 'component')
    """
    n_draws = arguments.integer("n_draws", n_draws)
    x_named = named(x, feature_names, argument="feature_names", prefix="x")
    if isinstance(fitted, Gate):
        return _gate_to_arviz(fitted, x_named, objects, n_draws, seed)
    mixture = fitted.mixture if isinstance(fitted, FitResult) else fitted
    if not isinstance(mixture, MixtureOfExperts):
        raise TypeError(f"`fitted` must be a FitResult, a mixture or a gate; got {type(fitted).__name__}.")
    if y is None:
        raise ValueError("`y` must be given for a mixture; got None.")
    all_rows, objects = objects is None, slice(None) if objects is None and isinstance(fitted, FitResult) else objects
    y_named = named(y, output_names, argument="output_names", prefix="y")
    gate_named = x_named if gate_x is None else named(gate_x, None, argument="gate_x", prefix="g")
    own_gate_x = None if gate_x is None else gate_named.values
    data = Observations.checked(fitted, x_named.values, y_named.values, own_gate_x, all_rows=all_rows)
    with own_random_numbers(data.x.device, seed):
        if samples is None:
            drawn, n_chains = draw_from_posterior(data, n_draws, objects=objects, of_objects=weights_of_objects), 1
        else:
            drawn, n_chains = _draws_of_samples(samples, data)
        prior = draw_from_prior(data, n_draws)
        groups = _evaluated_groups(data, drawn, n_chains, fitted)
    labels = _labels(mixture, x_named, y_named, gate_named)
    groups["posterior"] = _sites(drawn, n_chains, (mixture.experts, mixture.gate), labels)
    groups["prior"] = _sites(prior, 1, (mixture.experts, mixture.gate), labels)
    groups["constant_data"] = _constants(x_named.values, own_gate_x, fitted)
    return container({name: groups[name] for name in GROUPS if groups[name]}, labels, _attributes(mixture))


def _labels(mixture: MixtureOfExperts, x: Named, y: Named, gate_x: Named) -> dict[str, np.ndarray]:
    """Return the labels along every axis of a mixture's arrays."""
    return coordinates(
        n_components=mixture.n_components,
        objects=x.rows,
        features=x.columns,
        n_regressors=mixture.experts.n_features,
        gate_features=gate_x.columns,
        outputs=y.columns,
    )


def _gate_to_arviz(gate: Gate, x: Named, objects: ObjectIndices | None, n_draws: int, seed: int) -> ArvizData:
    """Convert draws of a gate's weights, and their means for every object."""
    inputs = arguments.inputs(x.values).detach()
    labels = coordinates(n_components=gate.n_components, objects=x.rows, features=x.columns)
    with own_random_numbers(inputs.device, seed):
        posterior = draw(lambda: gate.guide_of_rows(inputs, (objects_plate(inputs),), objects=objects), gate, n_draws)
        prior = draw(lambda: gate.assignment_prior(inputs, plate=objects_plate(inputs)), gate, n_draws)
    with torch.no_grad():
        weights = gate.weights(inputs, objects=objects)
    groups = {
        "posterior": _sites(posterior, 1, (gate,), labels),
        "prior": _sites(prior, 1, (gate,), labels),
        "constant_data": {
            "x": (("object", "feature"), as_numpy(inputs)),
            gate.site("mean_weights"): (("object", "component"), as_numpy(weights)),
            **_estimates(gate),
        },
    }
    return container({name: group for name, group in groups.items() if group}, labels, _attributes(gate))


def _draws_of_samples(samples: Mapping[str, Tensor], data: Observations) -> tuple[Draws, int]:
    """Return draws by MCMC, chains one after the other, and the number of chains."""
    wanted = draw_from_prior(data, 1).sites
    missing = ", ".join(name for name in wanted if name not in samples)
    if missing:
        raise ValueError(f"`samples` must hold every latent site of the mixture's model; {missing} is missing.")
    sites = {}
    for name, values in samples.items():
        shape = wanted[name].shape[1:] if name in wanted else values.shape[2:]
        if values.shape[2:] != shape:
            raise ValueError(
                f"`samples` must have [chains, draws, {', '.join(map(str, shape))}] for {name}; got "
                f"{list(values.shape)}. Use mcmc.get_samples(group_by_chain=True)."
            )
        sites[name] = values.flatten(0, 1).to(data.x.device)
    if not sites:
        raise ValueError("`samples` must hold at least one latent site; got none.")
    n_chains, n_draws = next(iter(samples.values())).shape[:2]
    return Draws(sites, torch.full((n_chains * n_draws,), torch.nan, dtype=torch.float64, device="cpu")), n_chains


def _evaluated_groups(
    data: Observations, drawn: Draws, n_chains: int, fitted: FitResult | MixtureOfExperts
) -> dict[str, Variables]:
    """Return the groups that follow from the data under every draw, and the data themselves."""
    n_draws, n_objects, site = drawn.n_draws, len(data.x), data.mixture.experts.site("y")
    log_likelihood = np.empty((n_draws, n_objects))
    replicated = np.empty((n_draws, *data.y.shape))
    log_prior = np.empty(n_draws)
    for draws, rows in data.blocks(n_draws):
        sites = {name: values[draws] for name, values in drawn.sites.items()}
        evaluation = evaluate(data.rows(rows), sites, draws.stop - draws.start, replicate=True)
        log_likelihood[draws, rows] = as_numpy(evaluation.log_likelihood)
        replicated[draws, rows] = as_numpy(evaluation.replicated)
        log_prior[draws] = as_numpy(evaluation.log_prior)
    row_weights = fitted.weights if isinstance(fitted, FitResult) else None
    weighted = log_likelihood if row_weights is None else log_likelihood * as_numpy(row_weights)
    densities = {"lp": weighted.sum(1) + log_prior, "log_q": as_numpy(drawn.log_density)}
    return {
        "posterior_predictive": {site: _with_chains(("object", "output"), replicated, n_chains)},
        "log_likelihood": {site: _with_chains(("object",), log_likelihood, n_chains)},
        "sample_stats": {
            name: _with_chains((), values, n_chains) for name, values in densities.items() if not np.isnan(values).all()
        },
        "observed_data": {site: (("object", "output"), as_numpy(data.y))},
    }


def _sites(drawn: Draws, n_chains: int, parts: Sequence[Gate | Experts], labels: Mapping[str, np.ndarray]) -> Variables:
    """Return the latent parameters, with the names of the axes that their gate or experts give."""
    variables = {}
    for name, values in drawn.sites.items():
        part = next((part for part in parts if name.startswith(part.site(""))), parts[0])
        axes = site_axes(name, values.shape[1:], part.site_axes, labels)
        variables[name] = _with_chains(axes, as_numpy(values), n_chains)
    return variables


def _with_chains(axes: tuple[str, ...], values: np.ndarray, n_chains: int) -> Variable:
    """Split the first axis of an array into chains and draws."""
    return ("chain", "draw", *axes), values.reshape(n_chains, -1, *values.shape[1:])


def _constants(x: Tensor, gate_x: Tensor | None, fitted: FitResult | MixtureOfExperts) -> Variables:
    """Return the inputs, the estimated parameters, the rows' weights and the bounds of the restarts."""
    variables: Variables = {"x": (("object", "feature"), as_numpy(x))}
    if gate_x is not None:
        variables["gate_x"] = (("object", "gate_feature"), as_numpy(gate_x))
    if not isinstance(fitted, FitResult):
        return variables | _estimates(fitted)
    variables |= _estimates(fitted.mixture)
    variables["bound"] = ("restart", "iteration"), _bounds(fitted)
    if fitted.weights is not None:
        variables["weights"] = ("object",), as_numpy(fitted.weights)
    return variables


def _bounds(result: FitResult) -> np.ndarray:
    """Return the bound of every restart and iteration in nats, NaN after the end of a run."""
    longest = max(len(run.trace) for run in result.runs)
    bounds = np.full((len(result.runs), longest), np.nan)
    for row, run in zip(bounds, result.runs, strict=True):
        row[: len(run.trace)] = run.trace
    return bounds


def _estimates(module: torch.nn.Module) -> Variables:
    """Return the parameters that have no posterior; those of a learnt prior are unconstrained, as Pyro keeps them."""
    return {
        name: (tuple(f"{name}_dim_{axis}" for axis in range(values.ndim)), as_numpy(values))
        for name, values in module.named_parameters()
    }


def _attributes(module: torch.nn.Module) -> dict[str, str | int]:
    """Return the library's name and the number of estimated parameters, which are the same in all draws."""
    n_estimated = sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
    return {"inference_library": "mixpyro", "n_estimated_parameters": n_estimated}


def as_numpy(values: Tensor | None) -> np.ndarray:
    """Return a tensor's values as an array.

    Args:
        values: of any shape, on any device; not None.
    """
    assert values is not None
    return values.detach().cpu().numpy()
