"""Log densities of the sites of a program whose discrete sites are enumerated, summed over the values of these sites.

Pyro's own contraction subtracts the largest value of each factor alone, so that objects far from every component
underflow. Here factors are added before anything is exponentiated.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.poutine.util import site_is_subsample
from torch import Tensor


class Term(NamedTuple):
    """A function of discrete variables, one for each part of some plates.

    Attributes:
        values: logarithms, with an axis for each of ``axes``.
        axes: names of discrete sites and plates. An axis of length one has no name here.
        plates: the plates that the function is in, by name.
    """

    values: Tensor
    axes: tuple[str, ...]
    plates: frozenset[str]


class Factors:
    """The log densities of a program's sites, as functions of its discrete variables.

    Args:
        trace: of the program, with log densities computed. It is packed, so pass it once.
        outermost: name of a plate around the whole program, of which every function is one part; None without.

    Attributes:
        variables: the plates of each enumerated site, by its name.
        sizes: of all plates, by name.
        order: names of all plates by their dim, the leftmost first.
        terms: log density of each site, by its name, with masks.
        scales: what ``poutine.scale`` multiplies each of them by. A density without variables is scaled already.
    """

    def __init__(self, trace: poutine.Trace, *, outermost: str | None = None) -> None:
        trace.pack_tensors()
        sites: dict[str, Any] = {
            name: site
            for name, site in trace.nodes.items()
            if site["type"] == "sample" and not site_is_subsample(site) and not is_deterministic(site)
        }
        frames = {frame.name: frame for site in sites.values() for frame in vectorised_plates(site)}
        self.sizes = {name: int(frame.size) for name, frame in frames.items() if name != outermost}
        self.order = tuple(sorted(self.sizes, key=lambda name: frames[name].dim))
        self.variables: dict[str, frozenset[str]] = {}
        names: dict[str, str] = {}
        for name, site in sites.items():
            symbols, dim = site["infer"]["_dim_to_symbol"], site["infer"].get("_enumerate_dim")
            names |= {symbols[frame.dim]: frame.name for frame in vectorised_plates(site)}
            if dim is not None:
                names[symbols[dim]] = name
                self.variables[name] = self._plates(site)
        self.terms: dict[str, Term] = {}
        self.scales: dict[str, Any] = {}
        for name, site in sites.items():
            axes = tuple(names[symbol] for symbol in site["packed"]["log_prob"]._pyro_dims)
            if name in self.variables or any(axis in self.variables for axis in axes):
                self.terms[name], self.scales[name] = self._unscaled(site, names), site["scale"]
            else:
                self.terms[name], self.scales[name] = Term(site["packed"]["log_prob"], axes, self._plates(site)), 1.0

    def _plates(self, site: Any) -> frozenset[str]:  # noqa: ANN401 (a node of a trace)
        """Return the plates of a site."""
        return frozenset(frame.name for frame in vectorised_plates(site) if frame.name in self.sizes)

    def _unscaled(self, site: Any, names: Mapping[str, str]) -> Term:  # noqa: ANN401
        """Return the log density of a site, zero where it is masked; that of a variable sums to one all the same."""
        values, mask = site["packed"]["unscaled_log_prob"], site["packed"]["mask"]
        mask = None if site["name"] in self.variables else mask
        symbols = list(values._pyro_dims)
        if isinstance(mask, Tensor):
            of_mask: Any = mask
            wanted = [*symbols, *(symbol for symbol in of_mask._pyro_dims if symbol not in symbols)]
            values, mask = _aligned(values, symbols, wanted), _aligned(mask, of_mask._pyro_dims, wanted)
            symbols = wanted
        values = scale_and_mask(values, 1.0, mask)
        return Term(values, tuple(names[symbol] for symbol in symbols), self._plates(site))

    def variables_of(self, site: str) -> set[str]:
        """Return the discrete variables that the log density of a site depends on, itself included.

        Args:
            site: its name.
        """
        own = {site} if site in self.variables else set()
        return own | {axis for axis in self.terms[site].axes if axis in self.variables}

    def connected(self) -> list[tuple[str, ...]]:
        """Return the sites in sets that have no discrete variable in common, each in the program's order.

        The two halves of a site with an ``obs_mask``, or of assignments of which some are known, are in one set.
        """
        groups: list[tuple[set[str], set[str]]] = []
        for site in self.terms:
            names, touched = {site}, self.variables_of(site) | _other_half(site, self.terms)
            for group in [group for group in groups if group[1] & touched]:
                groups.remove(group)
                names, touched = names | group[0], touched | group[1]
            groups.append((names, touched))
        return [tuple(site for site in self.terms if site in names) for names, _ in groups]

    def summed_out(self, sites: Iterable[str], *, plates: frozenset[str] | None = None, scaled: bool = True) -> Term:
        """Return the log of the product of densities, summed over all values of the discrete variables.

        Args:
            sites: names of sites that share variables with no others, at least one.
            plates: of the result; by default as many as it can be split into.
            scaled: whether to multiply it by its ``poutine.scale``.

        Raises:
            ValueError: if the sites have different scales, or variables of crossed plates depend on each other.
        """
        names = list(sites)
        dependent = [name for name in names if self.variables_of(name)]
        scale = self._common_scale(dependent) if scaled else 1.0
        terms = _eliminated([self.terms[name] for name in dependent], self.variables, self.sizes)
        terms = [term._replace(values=term.values * scale) for term in terms]
        terms += [self.terms[name] for name in names if name not in dependent]
        common = frozenset.intersection(*(term.plates for term in terms)) if plates is None else plates
        return _product([_onto(term, common, self.sizes) for term in terms], common)

    def _common_scale(self, sites: list[str]) -> float:
        """Return what a sum over variables is scaled by, which must be one number."""
        scales = [torch.as_tensor(self.scales[site]) for site in sites]
        if any(scale.dim() for scale in scales) or len({float(scale) for scale in scales}) > 1:
            raise ValueError(
                f"`model` must scale {', '.join(sites)} by one number, for their discrete sites are summed out; "
                "got several. Put all of them inside the same poutine.scale."
            )
        return float(scales[0]) if scales else 1.0

    def marginal(self, variable: str, sites: Iterable[str]) -> Term:
        """Return p(z = k | all the rest) of a discrete variable, as the derivative of the log sum.

        Args:
            variable: name of its site.
            sites: those that it is connected with, itself included.
        """
        term = self.terms[variable]
        zeros = torch.zeros_like(term.values, requires_grad=True)
        with torch.enable_grad():
            self.terms[variable] = term._replace(values=term.values.detach() + zeros)
            try:
                total = self.summed_out(sites, scaled=False).values.sum()
            finally:
                self.terms[variable] = term
            (gradient,) = torch.autograd.grad(total, zeros)
        others = [axis for axis in term.axes if axis in self.variables and axis != variable]
        wanted = tuple(axis for axis in term.axes if axis not in others)
        # Of a parent's values, too, where the prior of the variable depends on another.
        values = gradient.sum([term.axes.index(axis) for axis in others]) if others else gradient
        return Term(values, wanted, term.plates)


def vectorised_plates(site: Any) -> list[Any]:  # noqa: ANN401 (a node of a trace and its frames)
    """Return the frames of a site's plates that have an axis.

    Args:
        site: node of a trace.
    """
    return [frame for frame in site["cond_indep_stack"] if frame.vectorized]


def is_deterministic(site: Any) -> bool:  # noqa: ANN401 (a node of a trace)
    """Whether a site is one of ``pyro.deterministic``.

    Args:
        site: node of a trace.
    """
    return bool(site["infer"].get("_deterministic"))


def aligned(term: Term, axes: Iterable[str]) -> Tensor:
    """Return the values of a term with its axes in another order, of length one where it has none of a name.

    Args:
        term: whose axes are among ``axes``.
        axes: wanted.
    """
    return _aligned(term.values, term.axes, list(axes))


def _aligned(values: Tensor, axes: Iterable[str], wanted: list[str]) -> Tensor:
    """Put the axes of a tensor in order, with ones for those that it lacks."""
    own = list(axes)
    ordered = values.permute([own.index(axis) for axis in wanted if axis in own])
    sizes = iter(ordered.shape)
    return ordered.reshape([next(sizes) if axis in own else 1 for axis in wanted])


def _other_half(site: str, sites: Iterable[str]) -> set[str]:
    """Return the names of both halves of a site that is split in two, if it is one.

    ``obs_mask`` splits sites, and a gate with known components scores these as ``<assignment>.known``.
    """
    assignment = site.removesuffix(".known")
    if assignment != site and assignment in sites:
        return {assignment, site}
    for half in ("_observed", "_unobserved"):
        name = site.removesuffix(half)
        if name != site and {f"{name}_observed", f"{name}_unobserved"} <= set(sites):
            return {f"{name}_observed", f"{name}_unobserved"}
    return set()


def _product(terms: list[Term], plates: frozenset[str]) -> Term:
    """Return the product of terms of the same plates."""
    axes = list(dict.fromkeys(axis for term in terms for axis in term.axes))
    values = [aligned(term, axes) for term in terms]
    return Term(sum(values[1:], values[0]), tuple(axes), plates)


def _onto(term: Term, plates: frozenset[str], sizes: Mapping[str, int]) -> Term:
    """Return the product of a term over the parts of all plates but those given."""
    values, axes = term.values, list(term.axes)
    for plate in term.plates - plates:
        if plate in axes:
            values = values.sum(axes.index(plate))
            axes.remove(plate)
        else:
            values = values * sizes[plate]
    return Term(values, tuple(axes), plates)


def _eliminated(terms: list[Term], variables: Mapping[str, frozenset[str]], sizes: Mapping[str, int]) -> list[Term]:
    """Sum over all variables, those of the innermost plates first."""
    while True:
        rest = [term for term in terms if any(axis in variables for axis in term.axes)]
        if not rest:
            return terms
        plates = max((term.plates for term in rest), key=len)
        here = [term for term in rest if term.plates == plates]
        own = sorted({axis for term in here for axis in term.axes if variables.get(axis) == plates})
        if own:
            variable = min(own, key=lambda axis: _size_with(here, axis))
            used = [term for term in here if variable in term.axes]
            product = _product(used, plates)
            position = product.axes.index(variable)
            axes = product.axes[:position] + product.axes[position + 1 :]
            new = Term(product.values.logsumexp(position), axes, plates)
        else:
            used = here[:1]
            new = _onto(used[0], _outer_plates(used[0], variables), sizes)
        terms = [*(term for term in terms if not any(term is one for one in used)), new]


def _size_with(terms: list[Term], variable: str) -> int:
    """Return the number of values of the product of all terms of a variable."""
    lengths = {axis: n for t in terms if variable in t.axes for axis, n in zip(t.axes, t.values.shape, strict=True)}
    return math.prod(lengths.values())


def _outer_plates(term: Term, variables: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """Return the plates of the variables of a term, which are some of its own but not all."""
    names = [axis for axis in term.axes if axis in variables]
    plates: frozenset[str] = frozenset().union(*(variables[name] for name in names))
    if not plates < term.plates:
        raise ValueError(
            f"`model` must have its discrete sites in nested plates, and their data in the same plates or inner ones; "
            f"got {', '.join(names)} in {', '.join(sorted(plates)) or 'none'}."
        )
    return plates
