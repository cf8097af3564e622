"""Fitted mixtures and gates as ArviZ has them."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from mixpyro import arguments
from mixpyro.diagnostics.arviz_versions import ArvizData, Variable, container
from mixpyro.diagnostics.draws import (
    Data,
    Draws,
    draw,
    draw_from_posterior,
    draw_from_prior,
    evaluate,
    own_random_numbers,
)
from mixpyro.diagnostics.names import Named, Table, coordinates, named, site_axes
from mixpyro.experts.base import Experts
from mixpyro.fitting.result import FitResult
from mixpyro.gates.base import Gate
from mixpyro.mixture import MixtureOfExperts
from mixpyro.pyro_internals.plates import objects_plate
from mixpyro.shapes import GateInputs, Inputs, Targets

Variables = dict[str, Variable]


def to_arviz(
    fitted: FitResult | MixtureOfExperts | Gate,
    x: Inputs | Table,
    y: Targets | Table | None = None,
    *,
    gate_x: GateInputs | Table | None = None,
    samples: Mapping[str, Tensor] | None = None,
    n_draws: int = 1000,
    feature_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    weights_of_objects: bool = True,
    seed: int = 0,
) -> ArvizData:
    """Draws from the posterior and what they say of the data, for ArviZ: an InferenceData (0.23) or DataTree (1.x).

    Groups: ``posterior`` and ``prior`` (latent parameters), ``posterior_predictive``, ``log_likelihood`` (of each
    object, its assignment summed out), ``sample_stats`` (``lp``, log p(y, θ), and ``log_q``, the guide's density),
    ``observed_data`` and ``constant_data`` (x, what was estimated and not drawn, ``bound`` of every restart and
    iteration). Weights that a gate gives each object for itself are summed out of likelihood and predictions like the
    assignments: these are for new objects with the same x. ``data.to_netcdf(path)`` writes it.

    Draws of a variational posterior are independent: r-hat and effective sample sizes say nothing of its quality.
    :func:`mixpyro.diagnostics.khat` does.

    Args:
        fitted: what :func:`mixpyro.fit` returned, a mixture, or a gate alone.
        x: inputs [N, D], or a DataFrame of them, whose columns then name the features.
        y: outputs [N, P] or [N], or a DataFrame; None for a gate.
        gate_x: what the gate sees [N, G], where that is not x.
        samples: draws of the mixture's model by MCMC, ``mcmc.get_samples(group_by_chain=True)``: [chains, draws, …]
            each. By default the draws are from the analytic posterior, one chain.
        n_draws: how many draws of posterior and prior.
        feature_names: names of the columns of x.
        output_names: names of the columns of y.
        weights_of_objects: whether to keep draws of weights that each object has of its own, 8 ``n_draws`` N K bytes.
        seed: of the draws, at least 0; the global random state is neither used nor changed.

    Raises:
        ValueError: if the data do not fit the mixture, or ``samples`` not its model.

    Example:
        >>> from mixpyro import DirichletGate
        >>> data = to_arviz(DirichletGate(3), torch.zeros(5, 0).double(), n_draws=100)
        >>> data["posterior"]["gate.weights"].dims
        ('chain', 'draw', 'component')
    """
    n_draws = arguments.integer("n_draws", n_draws)
    x_named = named(x, feature_names, argument="feature_names", prefix="x")
    if isinstance(fitted, Gate):
        return _gate_to_arviz(fitted, x_named, n_draws, seed)
    mixture = fitted.mixture if isinstance(fitted, FitResult) else fitted
    if not isinstance(mixture, MixtureOfExperts):
        raise TypeError(f"`fitted` must be a FitResult, a mixture or a gate; got {type(fitted).__name__}.")
    if y is None:
        raise ValueError("`y` must be given for a mixture; got None.")
    y_named = named(y, output_names, argument="output_names", prefix="y")
    gate_named = x_named if gate_x is None else named(gate_x, None, argument="gate_x", prefix="g")
    data = Data.checked(mixture, x_named.values, y_named.values, None if gate_x is None else gate_named.values)
    with own_random_numbers(data.x.device, seed):
        if samples is None:
            drawn, n_chains = draw_from_posterior(data, n_draws, of_objects=weights_of_objects), 1
        else:
            drawn, n_chains = _given(samples, data)
        prior = draw_from_prior(data, n_draws)
        groups = _said_of_data(data, drawn, n_chains, fitted)
    axes = coordinates(
        n_components=mixture.n_components,
        objects=x_named.rows,
        features=x_named.columns,
        n_regressors=mixture.experts.n_features,
        gate_features=gate_named.columns,
        outputs=y_named.columns,
    )
    groups["posterior"] = _sites(drawn, n_chains, (mixture.experts, mixture.gate), axes)
    groups["prior"] = _sites(prior, 1, (mixture.experts, mixture.gate), axes)
    groups["constant_data"] = _constants(x_named.values, None if gate_x is None else gate_named.values, fitted)
    return container({name: groups[name] for name in GROUPS if groups[name]}, axes, _attributes(mixture))


def _gate_to_arviz(gate: Gate, x: Named, n_draws: int, seed: int) -> ArvizData:
    """Draws of a gate's weights, and their means for every object."""
    inputs = arguments.inputs(x.values).detach()
    axes = coordinates(n_components=gate.n_components, objects=x.rows, features=x.columns)
    with own_random_numbers(inputs.device, seed):
        posterior = draw(lambda: gate.guide(inputs), gate, n_draws)
        prior = draw(lambda: gate.assignment_prior(inputs, plate=objects_plate(inputs)), gate, n_draws)
    with torch.no_grad():
        weights = gate.weights(inputs)
    groups = {
        "posterior": _sites(posterior, 1, (gate,), axes),
        "prior": _sites(prior, 1, (gate,), axes),
        "constant_data": {
            "x": (("object", "feature"), as_numpy(inputs)),
            gate.site("mean_weights"): (("object", "component"), as_numpy(weights)),
            **_estimates(gate),
        },
    }
    return container({name: group for name, group in groups.items() if group}, axes, _attributes(gate))


def _given(samples: Mapping[str, Tensor], data: Data) -> tuple[Draws, int]:
    """Draws by MCMC, their chains one after the other, and how many chains there were."""
    wanted = draw_from_prior(data, 1).sites
    missing = ", ".join(name for name in wanted if name not in samples)
    if missing:
        raise ValueError(f"`samples` must hold every latent site of the mixture's model; {missing} got lost.")
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
    return Draws(sites, torch.full((n_chains * n_draws,), torch.nan, dtype=torch.float64)), n_chains


def _said_of_data(
    data: Data, drawn: Draws, n_chains: int, fitted: FitResult | MixtureOfExperts
) -> dict[str, Variables]:
    """The groups with an axis of draws beside the parameters themselves, and the data."""
    n_draws, n_objects, site = drawn.n_draws, len(data.x), data.mixture.experts.site("y")
    log_likelihood = np.empty((n_draws, n_objects))
    replicated = np.empty((n_draws, *data.y.shape))
    log_prior = np.empty(n_draws)
    of_all = {name: values for name, values in drawn.sites.items() if values.ndim > 0}
    for draws, rows in data.blocks(n_draws):
        said = evaluate(data.rows(rows), _block(of_all, draws), draws.stop - draws.start, replicate=True)
        log_likelihood[draws, rows] = as_numpy(said.log_likelihood)
        replicated[draws, rows] = as_numpy(said.replicated)
        log_prior[draws] = as_numpy(said.log_prior)
    row_weights = fitted.weights if isinstance(fitted, FitResult) else None
    counted = log_likelihood if row_weights is None else log_likelihood * as_numpy(row_weights)
    densities = {"lp": counted.sum(1) + log_prior, "log_q": as_numpy(drawn.log_density)}
    return {
        "posterior_predictive": {site: _with_chains(("object", "output"), replicated, n_chains)},
        "log_likelihood": {site: _with_chains(("object",), log_likelihood, n_chains)},
        "sample_stats": {
            name: _with_chains((), values, n_chains) for name, values in densities.items() if not np.isnan(values).all()
        },
        "observed_data": {site: (("object", "output"), as_numpy(data.y))},
    }


def _block(sites: Mapping[str, Tensor], draws: slice) -> dict[str, Tensor]:
    return {name: values[draws] for name, values in sites.items()}


def _sites(drawn: Draws, n_chains: int, parts: Sequence[Gate | Experts], axes: Mapping[str, np.ndarray]) -> Variables:
    """The latent parameters, their axes named as the parts that have them say."""
    found = {}
    for name, values in drawn.sites.items():
        part = next((part for part in parts if name.startswith(part.site(""))), parts[0])
        names = site_axes(name, values.shape[1:], part.site_axes, axes)
        found[name] = _with_chains(names, as_numpy(values), n_chains)
    return found


def _with_chains(names: tuple[str, ...], values: np.ndarray, n_chains: int) -> Variable:
    return ("chain", "draw", *names), values.reshape(n_chains, -1, *values.shape[1:])


def _constants(x: Tensor, gate_x: Tensor | None, fitted: FitResult | MixtureOfExperts) -> Variables:
    """The inputs, the estimates, and how the fit went."""
    found: Variables = {"x": (("object", "feature"), as_numpy(x))}
    if gate_x is not None:
        found["gate_x"] = (("object", "gate_feature"), as_numpy(gate_x))
    found |= _estimates(fitted.mixture if isinstance(fitted, FitResult) else fitted)
    if isinstance(fitted, FitResult):
        longest = max(len(run.trace) for run in fitted.runs)
        bounds = np.full((len(fitted.runs), longest), np.nan)
        for row, run in zip(bounds, fitted.runs, strict=True):
            row[: len(run.trace)] = run.trace
        found["bound"] = ("restart", "iteration"), bounds
        if fitted.weights is not None:
            found["weights"] = ("object",), as_numpy(fitted.weights)
    return found


def _estimates(module: torch.nn.Module) -> Variables:
    """Parameters that have no posterior; a learnt prior's are unconstrained, as Pyro keeps them."""
    return {
        name: (tuple(f"{name}_dim_{axis}" for axis in range(values.ndim)), as_numpy(values))
        for name, values in module.named_parameters()
    }


def _attributes(module: torch.nn.Module) -> dict[str, str | int]:
    """Who made this, and how many parameters were estimated and hence are the same in all draws."""
    n_estimated = sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
    return {"inference_library": "mixpyro", "n_estimated_parameters": n_estimated}


def as_numpy(values: Tensor | None) -> np.ndarray:
    """A tensor's values."""
    assert values is not None
    return values.detach().cpu().numpy()


GROUPS = (
    "posterior",
    "posterior_predictive",
    "log_likelihood",
    "sample_stats",
    "prior",
    "observed_data",
    "constant_data",
)
