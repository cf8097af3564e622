"""Permutations of the components that leave the posterior as it is, applied to draws of the free parameters."""

from collections.abc import Iterator
from itertools import permutations, product

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro.experts.banks import Banks
from mixpyro.experts.base import Experts
from mixpyro.experts.glm import GLMExperts
from mixpyro.experts.heterogeneous import HeterogeneousExperts
from mixpyro.gates.softmax import SoftmaxGate
from mixpyro.gates.tree import TreeGate
from mixpyro.intervals.free_parameters import LOG_RATIOS, FreeParameters, Site
from mixpyro.intervals.responses.parts import banks_of, members_of
from mixpyro.mixture import MixtureOfExperts
from mixpyro.numerics.soft_labels import with_reference
from mixpyro.numerics.tree_automorphisms import automorphisms, n_swaps
from mixpyro.part import Part

# Permutations that are gone through; with more components than that, labels stay as they are drawn.
MOST_PERMUTATIONS = 120


class Relabelling:
    """The permutations of components with the same prior, as maps of draws.

    Args:
        mixture: any whose parameters all objects share.
        known: whether each component has rows that are known to be of it [K].
    """

    def __init__(self, mixture: MixtureOfExperts, known: list[bool]) -> None:
        self.parameters = FreeParameters(mixture)
        # Of each path, the number of its first component, and how many it has.
        self._first = {"gate": (0, mixture.n_components)}
        for bank in banks_of(mixture):
            self._first[bank.name] = (bank.part.first_component, bank.part.n_components)
        self._names = {path: part.site("") for path, part in members_of(mixture)}
        self._gate = mixture.gate
        kinds = _kinds(mixture, known)
        self.orders = _orders_in(mixture.gate, kinds) if isinstance(mixture.gate, TreeGate) else orders_of(kinds)

    def images(self, theta: Float[Tensor, "S Q"]) -> Iterator[Float[Tensor, "S Q"]]:
        """Yield the draws under every permutation, the identity first.

        Args:
            theta: coordinates.
        """
        parts = self.parameters.split(theta)
        for order in self.orders:
            yield torch.cat([self._moved(site, parts[site.name], order) for site in self.parameters.sites], dim=-1)

    def _moved(self, site: Site, coordinates: Tensor, order: tuple[int, ...]) -> Tensor:
        """Return the coordinates of one site with the components in another order."""
        path = self._path(site)
        first, size = self._first[path]
        own = [number - first for number in order[first : first + size]]
        if isinstance(self._gate, TreeGate) and path == "gate":
            return self._gate.relabelled(coordinates.unflatten(-1, site.shape), own).flatten(1)
        if path == "gate" and site.shape and site.shape[0] == size - 1:
            values = coordinates.unflatten(-1, (size - 1, -1))
            whole = torch.cat([torch.zeros_like(values[:, :1]), values], dim=1)[:, own]
            return (whole[:, 1:] - whole[:, :1]).flatten(1)
        if not site.shape or site.shape[0] != size:
            return coordinates  # in common
        return coordinates.unflatten(-1, (size, -1))[:, own].flatten(1)

    def _path(self, site: Site) -> str:
        """Return which part a site is of."""
        if site.kind == LOG_RATIOS:
            return "gate"
        by = {path: f"{path}." for path in self._first} if site.is_estimated else self._names
        return max((path for path, prefix in by.items() if site.name.startswith(prefix)), key=len)


def orders_of(kinds: list[object]) -> list[tuple[int, ...]]:
    """Return the orders of components in which each place has one of its kind, the present order first.

    Args:
        kinds: a label of every component [K].
    """
    places: dict[object, list[int]] = {}
    for number, kind in enumerate(kinds):
        places.setdefault(kind, []).append(number)
    groups = list(places.values())
    total = 1
    for group in groups:
        for number in range(2, len(group) + 1):
            total *= number
    if total > MOST_PERMUTATIONS:
        return [tuple(range(len(kinds)))]
    found = []
    for chosen in product(*(permutations(group) for group in groups)):
        order = list(range(len(kinds)))
        for group, moved in zip(groups, chosen, strict=True):
            for place, number in zip(group, moved, strict=True):
                order[place] = number
        found.append(tuple(order))
    return found


def _orders_in(gate: TreeGate, kinds: list[object]) -> list[tuple[int, ...]]:
    """Return the orders in which each place has one of its kind, of those that map the gate's tree onto itself."""
    if 2 ** n_swaps(gate.tree, kinds) > MOST_PERMUTATIONS:
        return [tuple(range(len(kinds)))]
    return [one.order for one in automorphisms(gate.tree, kinds)]


def _kinds(mixture: MixtureOfExperts, known: list[bool]) -> list[object]:
    """Return a label of each component; those of one label can change places."""
    gate = _kinds_of(mixture.gate)
    experts = _kinds_of_experts(mixture.experts, "experts")
    fixed = [number if is_known else -1 for number, is_known in enumerate(known)]
    return list(zip(gate, experts, fixed, strict=True))


def _kinds_of_experts(experts: Experts, path: str) -> list[object]:
    """Return a label of each component of experts, of banks of banks from those of the members."""
    if not isinstance(experts, Banks):
        return [(path, kind) for kind in _kinds_of(experts)]
    of_members = [_kinds_of_experts(member, f"{path}.{j}") for j, member in enumerate(experts.members)]
    if isinstance(experts, HeterogeneousExperts):
        return [kind for kinds in of_members for kind in kinds]
    return list(zip(*of_members, strict=True))


def _kinds_of(part: Part) -> list[tuple[float, ...]]:
    """Return a label of each component of a part."""
    if isinstance(part, GLMExperts):
        own = [getattr(part, name) for name in part.component_tensors]
        frozen = [p for p in own if p.numel() and not p.requires_grad]
        sets = part.sharing.set_of
        return [(float(sets[k]), *(float(v) for p in frozen for v in p[k].flatten())) for k in range(part.n_components)]
    if isinstance(part, SoftmaxGate) and not part.coefficients_estimate.requires_grad:
        rows = with_reference(part.coefficients.mT).mT.tolist()
        return [tuple(row) for row in rows]
    if isinstance(part, SoftmaxGate):
        # A prior on the log odds against the first component changes when another one is the first.
        is_symmetric = part.prior_scale is None or part.n_components <= 2
        return [()] * part.n_components if is_symmetric else [(float(k > 0),) for k in range(part.n_components)]
    if isinstance(part, TreeGate):
        return [()] * part.n_components  # The tree says which may change places.
    return part.prior_kinds
