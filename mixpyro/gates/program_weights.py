"""The weights of a gate in one run of a Pyro program, and the assignments that are drawn from them."""

from collections.abc import Sequence
from typing import Any

import pyro
import torch
from pyro.distributions import Categorical, Delta
from pyro.distributions.util import broadcast_shape
from pyro.ops.indexing import Vindex
from torch import Tensor

from mixpyro import arguments
from mixpyro.distributions.unnormalised_categorical import UnnormalisedCategorical
from mixpyro.pyro_internals.evidence import Evidence
from mixpyro.pyro_internals.expected_weights import WeightsInProgram
from mixpyro.pyro_internals.given_sites import DrawnFromPrior, is_replaced, refuse_taken_name
from mixpyro.pyro_internals.plates import batch_shape, data_plates

ENUMERATED: Any = {"enumerate": "parallel"}


class ProgramWeights:
    """Log weights of a gate in one run of a program: drawn from their prior, or expected under their posterior.

    :meth:`assign` takes the place of ``pyro.sample(name, Categorical(weights))``, inside the plates of the objects.

    Args:
        log_weights: log π or E_q[log π] [*plates, *parents, K], with axes of length one at plates that share weights.
        n_parents: number of axes of parents.
        record: where evidence is collected, if the weights are integrated out.
        divergence: KL(q‖p) in nats of each object [*plates], where each object has a posterior of its own.
        is_normalised: whether drawn weights sum to one; if not, assignments are scored by the weights as they are.
    """

    def __init__(
        self,
        log_weights: Tensor,
        *,
        n_parents: int = 0,
        record: WeightsInProgram | None = None,
        divergence: Tensor | float = 0.0,
        is_normalised: bool = True,
    ) -> None:
        self.log_weights, self.n_parents, self.record, self.divergence = log_weights, n_parents, record, divergence
        self.kind: type[Categorical] = Categorical if is_normalised else UnnormalisedCategorical
        self.plates_of_parts = {frame.name for frame in data_plates()}

    @property
    def n_components(self) -> int:
        """K."""
        return int(self.log_weights.shape[-1])

    def assign(
        self,
        name: str,
        *,
        parent: Tensor | Sequence[Tensor] = (),
        observed: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Sample the components of the objects in the plates around the call, to be enumerated.

        An object without an outcome says nothing of its weights, unless its parent is enumerated: in a hidden Markov
        model put the mask of padding around the assignment too, and not around the outcome alone.

        Args:
            name: full name of the site.
            parent: which weights an object has, such as the last state in a hidden Markov model: integers from 0 up, a
                tensor for each axis of ``batch_shape`` that is not a plate around the gate's ``sample_weights``.
            observed: components that are known, integers from 0 to K − 1 of the shape of the plates.
            mask: for which objects they are known, truth values of the same shape; for all by default. Other values of
                ``observed`` are not read.

        Returns:
            The components, of the shape of the plates; under enumeration, [K, 1, …] as Pyro broadcasts them.

        Raises:
            TypeError: if a parent or ``observed`` does not hold integers, or ``mask`` truth values.
            ValueError: if their number, shape or values do not fit, or there is no plate around the call.
            RuntimeError: if the program has a site of this name already.
        """
        refuse_taken_name(name)
        parents = self._checked_parents(parent)
        log_weights = Vindex(self.log_weights)[(..., *parents, slice(None))] if parents else self.log_weights
        observed, known = checked_labels(observed, mask, self.n_components)
        if self.record is None:
            return _sample(name, log_weights, observed, known, self.kind)
        assert isinstance(self.record, WeightsInProgram)
        return self._sample_and_record(name, log_weights, parents, observed, known)

    def _checked_parents(self, parent: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the parents as a tuple of as many as there must be."""
        given = (parent,) if isinstance(parent, Tensor) else tuple(torch.as_tensor(one) for one in parent)
        parents = tuple(arguments.integers("parent", one) for one in given)
        if len(parents) != self.n_parents:
            raise ValueError(
                f"`parent` must have a value for each axis of `batch_shape` beyond the plates around the weights, "
                f"{self.n_parents}; got {len(parents)}. Sample the weights inside the plates of their parts, or say by "
                "`parent` which part an object has."
            )
        for one, size in zip(parents, self.log_weights.shape[-1 - self.n_parents : -1], strict=True):
            if arguments.checks_values() and ((one < 0) | (one >= size)).any():
                raise ValueError(
                    f"`parent` must be from 0 to {size - 1}; got {int(one.min())} to {int(one.max())}. Give an object "
                    "without a parent any number, and mask it."
                )
        return parents

    def _sample_and_record(
        self, name: str, log_weights: Tensor, parents: tuple[Tensor, ...], observed: Tensor | None, known: Tensor | bool
    ) -> Tensor:
        """Sample assignments, and record the terms of their log density that the bound is differentiated by."""
        plates = batch_shape(data_plates())
        if observed is not None and known is True:
            index = self._index(parents, observed)
            terms = self._terms(self.log_weights.flatten()[index], plates)
            self._collect(terms, index, None, plates, speaks=True)
            density = self._density(terms, self.log_weights.flatten()[index])
            site = pyro.sample(name, Delta(observed.expand(density.shape), log_density=density), obs=observed)
            return torch.as_tensor(site)
        logits, normaliser = _given(log_weights, observed, known)
        with DrawnFromPrior() as draw:
            z = torch.as_tensor(pyro.sample(name, Categorical(logits=logits), infer=ENUMERATED))
        values = self._values(z) if z.ndim > len(plates) else None
        axis = None if values is None else -z.ndim
        index = self._index(parents, z if values is None else values)
        # Categorical divides by the sum of exp(E log π), which is below one: multiply by it again.
        terms = self._terms(normaliser.expand(broadcast_shape(index.shape, normaliser.shape)), plates)
        density = self._density(terms, normaliser)
        # Of a value that `poutine.do` has replaced the data say nothing.
        pyro.factor(f"{name}.log_normaliser", 0.0 * density if is_replaced(name) else density)
        # What depends on the values of a parent has a likelihood for each of them. What comes now may be a likelihood.
        may_be_silent = self.n_components > 1 and all(one.ndim <= len(plates) for one in parents)
        self._collect(terms, index, axis, plates, speaks=known if may_be_silent else True, is_drawn=draw.is_drawn)
        return z

    def _values(self, z: Tensor) -> Tensor | None:
        """Return the values 0 to K − 1 [K, 1, …] that z takes along its first axis; None if it is one draw.

        ``config_enumerate(expand=True)`` repeats them for every object.
        """
        if z.numel() == self.n_components:
            return z
        values = torch.arange(self.n_components, device=z.device).reshape(-1, *[1] * (z.ndim - 1))
        return values if len(z) == self.n_components and torch.equal(z, values.expand_as(z)) else None

    def _terms(self, log_density: Tensor, plates: list[int]) -> Tensor:
        """Return a leaf for each value of z of each object: their log density, or zeros where that has a graph."""
        shape = broadcast_shape(log_density.shape, plates)
        if log_density.requires_grad or isinstance(self.divergence, Tensor):
            return log_density.new_zeros(shape).requires_grad_()
        return log_density.expand(shape).requires_grad_()

    def _density(self, terms: Tensor, log_density: Tensor) -> Tensor:
        """Return the log density, which depends on the leaf of :meth:`_terms`."""
        if log_density.requires_grad or isinstance(self.divergence, Tensor):
            return terms + (log_density - self.divergence)
        return terms

    def _collect(
        self,
        terms: Tensor,
        index: Tensor,
        axis: int | None,
        plates: list[int],
        *,
        speaks: Tensor | bool,
        is_drawn: bool = False,
    ) -> None:
        """Put the terms of one site into the record."""
        assert self.record is not None
        self.record.evidence.append(Evidence(terms, index, axis, len(plates), speaks, is_drawn))
        self.record.is_subsample |= any(
            frame.full_size != frame.size for frame in data_plates() if frame.name not in self.plates_of_parts
        )

    def _index(self, parents: tuple[Tensor, ...], z: Tensor) -> Tensor:
        """Return which of the log weights, flat, each value of z belongs to."""
        plates, parents_and_k = (
            self.log_weights.shape[: -1 - self.n_parents],
            self.log_weights.shape[-1 - self.n_parents :],
        )
        flat = torch.arange(plates.numel(), device=z.device).reshape(plates)
        for size, value in zip(parents_and_k, (*parents, z), strict=True):
            flat = flat * size + value
        return flat


def _sample(
    name: str, log_weights: Tensor, observed: Tensor | None, known: Tensor | bool, kind: type[Categorical]
) -> Tensor:
    """Sample assignments from log weights that have been drawn."""
    if observed is not None and known is True:
        return torch.as_tensor(pyro.sample(name, kind(logits=log_weights), obs=observed))
    if observed is not None:
        log_weights, scored = _given(log_weights, observed, known)
        pyro.factor(f"{name}.known", scored)
        kind = Categorical
    return torch.as_tensor(pyro.sample(name, kind(logits=log_weights), infer=ENUMERATED))


def _given(log_weights: Tensor, observed: Tensor | None, known: Tensor | bool) -> tuple[Tensor, Tensor]:
    """Return logits that are certain where the component is known, and the log weights that are scored besides."""
    normaliser = log_weights.logsumexp(-1)
    if observed is None:
        return log_weights, normaliser
    assert isinstance(known, Tensor)
    labels = observed.masked_fill(~known, 0).unsqueeze(-1)
    certain = torch.where(labels == torch.arange(log_weights.shape[-1], device=labels.device), 0.0, -torch.inf)
    logits = torch.where(known.unsqueeze(-1), certain.to(log_weights), log_weights)
    own = log_weights.expand(*broadcast_shape(log_weights.shape[:-1], known.shape), log_weights.shape[-1])
    at_label = own.gather(-1, labels.expand(*own.shape[:-1], 1)).squeeze(-1)
    return logits, torch.where(known, at_label, normaliser)


def checked_labels(
    observed: Tensor | None, mask: Tensor | None, n_components: int
) -> tuple[Tensor | None, Tensor | bool]:
    """Return components, int64, and which are known, in the plates around the call: True for all, False for none.

    Args:
        observed: components, integers of the shape of the plates; None for none.
        mask: which of them are known; all by default.
        n_components: K.

    Raises:
        TypeError: if ``observed`` does not hold integers.
        ValueError: if a shape or a value does not fit, or there is a mask alone.
    """
    if observed is None:
        if mask is not None:
            raise ValueError("`observed` must be given with `mask`; got a mask alone.")
        return None, False
    shape = torch.Size(batch_shape(data_plates()))
    labels = arguments.integers("observed", observed)
    if labels.shape != shape:
        raise ValueError(f"`observed` must have the shape of the plates, {list(shape)}; got {list(labels.shape)}.")
    if mask is not None:
        if arguments.a_tensor("mask", mask).dtype != torch.bool or mask.shape != shape:
            raise ValueError(f"`mask` must hold truth values {list(shape)}; got {mask.dtype} {list(mask.shape)}.")
    known = labels if mask is None else labels.masked_fill(~mask, 0)
    if arguments.checks_values() and ((known < 0) | (known >= n_components)).any():
        raise ValueError(
            f"`observed` must be from 0 to {n_components - 1}; got {int(known.min())} to {int(known.max())}."
        )
    return labels, True if mask is None else mask
