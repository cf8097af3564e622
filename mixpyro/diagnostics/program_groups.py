"""The groups of ArviZ that a Pyro program's draws and data become."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from pyro.distributions import MaskedDistribution
from torch import Tensor

from mixpyro.arguments import shown
from mixpyro.diagnostics.arrays import are_counts, as_numpy, with_chains
from mixpyro.diagnostics.arviz_versions import Variable
from mixpyro.diagnostics.program_likelihood import Outcome
from mixpyro.diagnostics.program_runs import Layout, Program
from mixpyro.pyro_internals.traces import Site

# Plates of these names are over the components.
COMPONENTS = ("component", "components")


class Names:
    """Names of the axes of a program's variables.

    Args:
        given: the caller's names for the axes of a site's value, by its name, or for a plate, by its name.
        weights: names of the sites of gates' weights.

    Attributes:
        not_given: names of axes that the caller has not named, other than ``component``.
    """

    def __init__(self, given: Mapping[str, tuple[str, ...]], weights: Iterable[str]) -> None:
        self.given = given
        self._weights = tuple(weights)
        self._lengths: dict[str, int] = {}
        self.not_given: set[str] = set()

    def of(self, site: str, layout: Layout) -> tuple[str, ...]:
        """Return the names of the plates and then of the own axes of a latent variable.

        Args:
            site: its name.
            layout: its shape; batch axes in no plate are left out.
        """
        n_batch = len(layout.plates)
        event_shape = layout.shape[n_batch:]
        own = self.given.get(site, self._default(site))
        own = own if len(own) == len(event_shape) else ("",) * len(event_shape)
        plates = [(self._of_plate(plate), size) for plate, size in zip(layout.plates, layout.shape, strict=False)]
        axes = [(axis, size) for (axis, size), plate in zip(plates, layout.plates, strict=True) if plate]
        names: list[str] = []
        for axis, size in [*axes, *zip(own, event_shape, strict=True)]:
            fits = axis and axis not in names and self._lengths.setdefault(axis, size) == size
            names.append(axis if fits else f"{site}_dim_{len(names) - len(axes)}")
        chosen = {axis for axes_given in self.given.values() for axis in axes_given} | {"component"}
        self.not_given |= set(names) - chosen
        return tuple(names)

    def _of_plate(self, plate: str) -> str:
        """Return the name of the axis of a plate."""
        return self.given.get(plate, ("component" if plate in COMPONENTS else plate,))[0]

    def _default(self, site: str) -> tuple[str, ...]:
        """Return the names of the own axes of a gate's weights; none for other sites."""
        if site not in self._weights:
            return ()
        return ("component",) if len(self._weights) == 1 else (f"{site.removesuffix('.weights')}.component",)


def checked_axes(axes: Mapping[str, tuple[str, ...]], layouts: Mapping[str, Layout]) -> dict[str, tuple[str, ...]]:
    """Return the caller's names of axes, if there are such axes.

    Args:
        axes: names by the name of a site or a plate.
        layouts: of the latent sites, by name.

    Raises:
        TypeError: if names are not in a tuple.
        ValueError: if there is no such site or plate, or it has another number of axes.
    """
    plates = {plate for layout in layouts.values() for plate in layout.plates if plate}
    for name, given in axes.items():
        if not isinstance(given, tuple | list):
            raise TypeError(
                f"`axes` must have tuples of names; got {shown(given)} for {name!r}. Write ({shown(given)},)."
            )
        if name not in plates and name not in layouts:
            known = ", ".join([*layouts, *sorted(plates)]) or "none"
            raise ValueError(f"`axes` must be of latent sites, or of plates around them: {known}; got {name!r}.")
        layout = layouts.get(name)
        n_axes = 1 if layout is None else len(layout.shape) - len(layout.plates)
        if len(given) != n_axes and name not in plates:
            raise ValueError(f"`axes` must have {n_axes} names for the value of {name!r}; got {len(given)}.")
    return {name: tuple(given) for name, given in axes.items()}


def latent_variable(values: Tensor, layout: Layout, names: tuple[str, ...], n_chains: int) -> Variable:
    """Return a latent variable without the batch axes that are in no plate.

    Args:
        values: draws [S, …], shaped as in one run.
        layout: of the site.
        names: of its axes.
        n_chains: number of chains, one after the other in the draws.
    """
    n_batch = len(layout.plates)
    kept = [size for size, plate in zip(layout.shape, layout.plates, strict=False) if plate]
    shaped = as_numpy(values).reshape(len(values), *kept, *layout.shape[n_batch:])
    return with_chains(names, shaped, n_chains)


class Rows:
    """The objects of an outcome that anything is observed of.

    A masked row says nothing, so it is no object to be left out or predicted.

    Args:
        model: the program.
        outcome: its observed sites.

    Attributes:
        kept: numbers of the objects with data [n].
        observed: what is observed [N, …], by site, with an axis for each further plate.
    """

    def __init__(self, model: Program, outcome: Outcome) -> None:
        self.model, self.outcome = model, outcome
        masks = {name: _mask(model.first.nodes[name], model.layouts[name]) for name in outcome.sites}
        self.observed = {name: self.objects_first(name, mask.unsqueeze(0))[0] for name, mask in masks.items()}
        n_objects = int(np.prod(outcome.sizes))
        seen = [mask.reshape(n_objects, -1).any(1) for mask in self.observed.values()]
        self.kept = np.flatnonzero(np.any([as_numpy(one) for one in seen], 0)) if seen else np.arange(n_objects)

    def objects_first(self, site: str, values: Tensor) -> Tensor:
        """Return values [S, N, …] with the plates of the objects in one axis.

        Args:
            site: name of an observed site.
            values: [S, …], shaped as in one run.
        """
        plates = self.model.layouts[site].plates
        first = [1 + plates.index(plate) for plate in self.outcome.plates]
        rest = [axis for axis in range(1, values.ndim) if axis not in first]
        rest = [axis for axis in rest if axis > len(plates) or plates[axis - 1]]
        sizes = [values.shape[axis] for axis in rest]
        return values.movedim(first, list(range(1, 1 + len(first)))).reshape(len(values), -1, *sizes)

    def names(self, site: str) -> tuple[str, ...]:
        """Return the names of the axes of an observed site after that of the objects.

        Args:
            site: its name.
        """
        layout = self.model.layouts[site]
        plates = [plate for plate in layout.plates if plate and plate not in self.outcome.plates]
        return (*plates, *(f"{site}_dim_{axis}" for axis in range(len(self._own_shape(site)))))

    def _own_shape(self, site: str) -> tuple[int, ...]:
        """Return the shape of a value of an observed site; a vector of one number has no axis."""
        layout = self.model.layouts[site]
        own = tuple(layout.shape[len(layout.plates) :])
        return own if int(np.prod(own)) != 1 else ()

    def _as_named(self, site: str, values: np.ndarray) -> np.ndarray:
        """Return values [..., *own] with the axes that have names, whole numbers where the site has probabilities."""
        layout = self.model.layouts[site]
        n_own = len(layout.shape) - len(layout.plates)
        shape = values.shape[: values.ndim - n_own]
        values = values.reshape(*shape, *self._own_shape(site))
        fn: Any = self.model.first.nodes[site]["fn"]
        is_count = bool(getattr(fn.support, "is_discrete", False))
        return values.astype(np.int64) if is_count and are_counts(values) else values

    def replicates(self, site: str, values: Tensor) -> np.ndarray:
        """Return replicated values [S, n, …] of the rows with data.

        Args:
            site: name of an observed site.
            values: [S, …], shaped as in one run.
        """
        return self._as_named(site, as_numpy(self.objects_first(site, values))[:, self.kept])

    def values(self, site: str) -> np.ndarray:
        """Return the observed values [n, …]; NaN where one is masked in a row that has others.

        Args:
            site: name of an observed site.
        """
        layout = self.model.layouts[site]
        value = torch.as_tensor(self.model.first.nodes[site]["value"]).expand(layout.shape).unsqueeze(0)
        values = as_numpy(self.objects_first(site, value))[0, self.kept]
        mask = as_numpy(self.observed[site])[self.kept]
        own = (1,) * (values.ndim - mask.ndim)
        seen = values if mask.all() else np.where(mask.reshape(*mask.shape, *own), values, np.nan)
        return self._as_named(site, seen)


def axes_of_objects(rows: Mapping[str, Rows]) -> dict[str, str]:
    """Return the name of the axis of objects of each outcome: ``object`` where all have the same.

    Args:
        rows: of the outcomes, by name.
    """
    first = next(iter(rows.values()))
    if all(r.outcome.plates == first.outcome.plates and np.array_equal(r.kept, first.kept) for r in rows.values()):
        return dict.fromkeys(rows, "object")
    plates = {name: "_".join(r.outcome.plates) for name, r in rows.items()}
    return {
        name: plates[name] if len(r.kept) == np.prod(r.outcome.sizes) else f"{name}_{plates[name]}"
        for name, r in rows.items()
    }


def _mask(site: Site, layout: Layout) -> Tensor:
    """Return which values of a site count [*batch]."""
    shape = layout.shape[: len(layout.plates)]
    seen = torch.ones(shape, dtype=torch.bool, device=layout.device)
    masks = [site["mask"], site["fn"]._mask if isinstance(site["fn"], MaskedDistribution) else None]
    for mask in masks:
        if mask is not None:
            seen = seen & torch.as_tensor(mask, device=layout.device)
    return seen.expand(shape)
