"""Parameters without a posterior: their values, the names of their axes, and what cannot be known of them."""

import warnings
from collections.abc import Container, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from mixpyro.arguments.callers import level_of_caller
from mixpyro.diagnostics.arrays import as_numpy
from mixpyro.diagnostics.arviz_versions import ArvizData, Variable, datasets_of
from mixpyro.diagnostics.names import site_axes
from mixpyro.part import Part

# How the parameter of a site that is estimated is called, and one that Pyro keeps without its constraint.
SUFFIXES = ("_estimate",)


def estimates(module: torch.nn.Module, labels: Mapping[str, np.ndarray]) -> dict[str, Variable]:
    """Return the parameters that have no posterior; those of a learnt prior are unconstrained, as Pyro keeps them.

    Args:
        module: a mixture or a gate.
        labels: result of :func:`~mixpyro.diagnostics.names.coordinates`.
    """
    return {
        name: (_axes(name, site, values.shape, part, labels), as_numpy(values))
        for name, site, values, part in _parameters(module)
        if values.numel()
    }


def estimated_without_draws(module: torch.nn.Module, drawn: Container[str]) -> dict[str, int]:
    """Return how many numbers each trainable parameter has, by its name, of those that have no draws.

    Args:
        module: a mixture or a gate.
        drawn: names of the sites that have draws.
    """
    return {
        name: values.numel()
        for name, site, values, _ in _parameters(module)
        if values.requires_grad and values.numel() and site not in drawn
    }


def sites_of_estimates(module: torch.nn.Module) -> dict[str, str]:
    """Return the name of each trainable parameter's site, whether or not the model samples it, by the parameter's name.

    Args:
        module: a mixture or a gate.
    """
    return {name: site for name, site, values, _ in _parameters(module) if values.requires_grad and values.numel()}


def attributes_of_estimates(n_values: Mapping[str, int]) -> dict[str, str | int]:
    """Return what is written with every group about parameters without draws.

    Args:
        n_values: how many numbers each has, by its name.
    """
    names = {"point_estimates": ",".join(n_values)} if n_values else {}
    return {"n_estimated_parameters": sum(n_values.values()), **names}


def n_estimated(data: ArvizData) -> int:
    """Return the number of parameters that have an estimate and no draws.

    Args:
        data: result of :func:`mixpyro.to_arviz` or :func:`~mixpyro.diagnostics.program_to_arviz`.
    """
    return max((int(one.attrs.get("n_estimated_parameters", 0)) for one in datasets_of(data).values()), default=0)


def names_of_estimates(data: ArvizData) -> list[str]:
    """Return the names of the parameters that have an estimate and no draws.

    Args:
        data: result of :func:`mixpyro.to_arviz` or :func:`~mixpyro.diagnostics.program_to_arviz`.
    """
    named = {str(one.attrs.get("point_estimates", "")) for one in datasets_of(data).values()}
    return sorted({name for names in named for name in names.split(",") if name})


def warn_of_estimates(data: ArvizData, what: str) -> None:
    """Warn that some parameters are point estimates, whose uncertainty a diagnostic does not see.

    Args:
        data: result of :func:`mixpyro.to_arviz` or :func:`~mixpyro.diagnostics.program_to_arviz`.
        what: the diagnostic.
    """
    count, names = n_estimated(data), names_of_estimates(data)
    if count:
        listed = f" ({', '.join(names[:4])}{', …' if len(names) > 4 else ''})" if names else ""
        subject = "1 parameter is a point estimate" if count == 1 else f"{count} parameters are point estimates"
        warnings.warn(
            f"{subject}{listed}: {what} takes them as known. Widths are not those of a posterior.",
            RuntimeWarning,
            stacklevel=level_of_caller(),
        )


def owner_of(module: torch.nn.Module, name: str) -> Part | None:
    """Return the gate or bank of experts that a site is of, the innermost one.

    Args:
        module: a mixture or a gate.
        name: of the site, with its prefix.
    """
    parts = [part for part in module.modules() if isinstance(part, Part) and name.startswith(part.site(""))]
    return max(parts, key=lambda part: len(part.site("")), default=None)


def _parameters(module: torch.nn.Module) -> Iterator[tuple[str, str, Tensor, Part | None]]:
    """Yield the name of every parameter, that of its site, its value, and its gate or experts."""
    parts = {prefix: part for prefix, part in module.named_modules() if isinstance(part, Part)}
    for name, values in module.named_parameters():
        owners = [prefix for prefix in parts if not prefix or name.startswith(f"{prefix}.")]
        if not owners:
            yield name, name, values, None
            continue
        prefix = max(owners, key=len)
        own = name.removeprefix(f"{prefix}.") if prefix else name
        for suffix in SUFFIXES:
            own = own.removesuffix(suffix)
        yield name, parts[prefix].site(own), values, parts[prefix]


def _axes(
    name: str, site: str, shape: Sequence[int], part: Part | None, labels: Mapping[str, np.ndarray]
) -> tuple[str, ...]:
    """Return the names of the axes of a parameter: those of its site, numbers for others such as networks'."""
    known = {} if part is None else {part.site(own): axes for own, axes in part.site_axes.items()}
    if site not in known:
        return tuple(f"{name}_dim_{number}" for number in range(len(shape)))
    # The axes are looked up by the last part of the name.
    return site_axes(name, shape, {name.rsplit(".", 1)[-1]: known[site]}, labels)
