"""Runs of a Pyro program at many draws: all at once in a plate of draws, or one after the other where that fails."""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import pyro
import torch
from pyro import poutine
from pyro.distributions import Unit
from torch import Tensor

from mixpyro.arguments.callers import level_of_caller
from mixpyro.arguments.signals import pass_on
from mixpyro.numerics.blocks import slices
from mixpyro.pyro_internals.plates import DRAWS_PLATE
from mixpyro.pyro_internals.traces import Site

# Tensors of S draws [S, …] by the name of their site, and a log density or more of each draw by other names.
Results = dict[str, Tensor]
Handler = Callable[[Callable[..., Any]], Callable[..., Any]]

# Name of the log density of a draw among its results; no site has it.
LOG_DENSITY = ""


class Layout(NamedTuple):
    """The shape of a site's value when the program is run once."""

    shape: torch.Size
    plates: tuple[str, ...]  # names of the plates of the batch axes, "" for an axis in none
    device: torch.device

    @classmethod
    def of(cls, site: Site) -> "Layout":
        """Return that of a site.

        Args:
            site: node of a trace of one run, without enumeration.
        """
        shape = torch.Size(site["fn"].shape())
        n_batch = len(shape) - site["fn"].event_dim
        names = {frame.dim: frame.name for frame in site["cond_indep_stack"] if frame.vectorized}
        return cls(
            shape,
            tuple(names.get(axis - n_batch, "") for axis in range(n_batch)),
            torch.as_tensor(site["value"]).device,
        )


class Program:
    """A model or guide with its arguments.

    Args:
        role: the caller's name for it, ``model`` or ``guide``.
        function: the program.
        arguments: of the program.
        keywords: keyword arguments of the program.
        max_plate_nesting: depth of nested plates at least; deeper ones are found in one run.

    Attributes:
        first: trace of one run, by which the program raises its own errors.
        layouts: of all sites that it samples or observes, by name.
        one_by_one: whether it is run for each draw alone, as it could not be run for all at once.
    """

    def __init__(
        self,
        role: str,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        keywords: Mapping[str, Any],
        max_plate_nesting: int,
    ) -> None:
        self.role, self.function = role, function
        self.arguments, self.keywords = arguments, dict(keywords)
        with poutine.block():
            self.first = self.alone()
        sites: dict[str, Site] = {name: site for name, site in self.first.nodes.items() if is_sampled(site)}
        self.layouts = {name: Layout.of(site) for name, site in sites.items() if not isinstance(site["fn"], Unit)}
        depths = [-frame.dim for site in sites.values() for frame in site["cond_indep_stack"] if frame.vectorized]
        self.max_plate_nesting = max([max_plate_nesting, *depths])
        self.one_by_one = False

    def alone(self, handler: Handler = lambda program: program) -> poutine.Trace:
        """Run the program once, and return its trace.

        Args:
            handler: puts handlers around the program.
        """
        return poutine.trace(handler(self.function)).get_trace(*self.arguments, **self.keywords)

    def together(self, n_draws: int, handler: Handler) -> poutine.Trace:
        """Run the program once for all draws, in a plate of draws to the left of its own plates.

        Args:
            n_draws: S.
            handler: puts handlers around the program.
        """

        def vectorised() -> None:
            with pyro.plate(DRAWS_PLATE, n_draws, dim=-1 - self.max_plate_nesting):
                handler(self.function)(*self.arguments, **self.keywords)

        return poutine.trace(vectorised).get_trace()

    def in_plate(self, name: str, values: Tensor) -> Tensor:
        """Return draws of a site with the axes that they have in the plate of draws.

        Args:
            name: of the site.
            values: [S, …], shaped as in one run.
        """
        ones = [1] * (self.max_plate_nesting - len(self.layouts[name].plates))
        return values.reshape(len(values), *ones, *values.shape[1:])

    def out_of_plate(self, name: str, values: Tensor, n_draws: int) -> Tensor:
        """Return draws [S, …] shaped as in one run.

        Args:
            name: of the site.
            values: as the program has them in the plate of draws.
            n_draws: S.

        Raises:
            ValueError: if they have not S times as many numbers as in one run.
        """
        shape = self.layouts[name].shape
        if values.shape[:1] != (n_draws,) or values.numel() != n_draws * math.prod(shape):
            raise ValueError(f"{name!r} has shape {list(values.shape)} in a plate of {n_draws} draws")
        return values.reshape(n_draws, *shape)

    def give_up_vectorising(self, n_draws: int, reason: Exception) -> None:
        """Run the program for each draw alone from now on, and warn of what it costs.

        Args:
            n_draws: S.
            reason: why.
        """
        self.one_by_one = True
        first_line = next(iter(str(reason).strip().splitlines()), "")
        warnings.warn(
            f"`{self.role}` is run for each of {n_draws} draws alone, which takes up to {n_draws} times as long: it "
            f"cannot be run for all at once ({type(reason).__name__}: {first_line.rstrip('.')}). To make it so, index "
            "with `Vindex(means)[..., z]` of pyro.ops.indexing in place of `means[z]`, count axes from the right, and "
            "branch with torch.where.",
            RuntimeWarning,
            stacklevel=level_of_caller(),
        )


class Stage:
    """What is computed of every draw."""

    def together(self, draws: slice) -> Results:
        """Return the results of some draws [S, …] from one run.

        Args:
            draws: which, with both ends given.
        """
        raise NotImplementedError

    def alone(self, draw: int) -> Results:
        """Return the results of a single draw, without the axis of draws.

        Args:
            draw: which.
        """
        raise NotImplementedError

    def again(self, draw: int, found: Results) -> Results:
        """Return from a run alone what must be equal in a run together.

        Args:
            draw: which.
            found: its results, without the axis of draws.
        """
        raise NotImplementedError


def blocks_of(program: Program, stage: Stage, n_draws: int, n_together: int) -> Iterator[Results]:
    """Yield the results of some draws after the other.

    A run of many draws at once may succeed and be wrong, where an axis of draws is taken for another one. So the first
    and the last draw of every such run are run alone, too.

    Args:
        program: that the stage runs.
        stage: what is computed.
        n_draws: S.
        n_together: how many draws at most to run at once.
    """
    for draws in slices(n_draws, n_together):
        if not program.one_by_one:
            try:
                block = _block(stage, draws)
            except Exception as error:
                pass_on(error)
                program.give_up_vectorising(n_draws, error)
            else:
                yield block
                continue
        yield joined([stage.alone(draw) for draw in range(draws.start, draws.stop)], torch.stack)


def results_of(program: Program, stage: Stage, n_draws: int, n_together: int) -> Results:
    """Return the results of all draws; see :func:`blocks_of`.

    Args:
        program: that the stage runs.
        stage: what is computed.
        n_draws: S.
        n_together: how many draws at most to run at once.

    Raises:
        ValueError: if the sites of the program depend on the draw.
    """
    return joined(list(blocks_of(program, stage, n_draws, n_together)), torch.cat)


def _block(stage: Stage, draws: slice) -> Results:
    """Return the results of some draws from one run, after a comparison with two runs alone."""
    results = stage.together(draws)
    precisions = [torch.finfo(values.dtype).eps for values in results.values() if values.is_floating_point()]
    # Half the digits of the least precise numbers: sums are in another order, and a mistake of axes is larger.
    tolerance = max(precisions) ** 0.5
    for number in sorted({0, draws.stop - draws.start - 1}):
        found = {name: values[number] for name, values in results.items()}
        for name, values in stage.again(draws.start + number, found).items():
            together = found[name].to(values.dtype)
            if values.shape != together.shape or not torch.allclose(
                values, together, rtol=tolerance, atol=tolerance, equal_nan=True
            ):
                what = repr(name) if name else "the log density"
                raise ValueError(f"{what} of a draw is another one when it is run alone")
    return results


def joined(parts: list[Results], join: Callable[[list[Tensor]], Tensor]) -> Results:
    """Join the results of several runs.

    Args:
        parts: results with the same names.
        join: ``torch.cat`` or ``torch.stack``.

    Raises:
        ValueError: if the names differ.
    """
    for part in parts:
        if other := set(part) ^ set(parts[0]):
            raise ValueError(
                f"`model` must have the same sites in every draw; got {', '.join(sorted(other))} in some only."
            )
    return {name: join([part[name] for part in parts]) for name in parts[0]}


def is_sampled(site: Site) -> bool:
    """Whether a node of a trace is a sample statement, observed or not, other than a plate's.

    Args:
        site: the node.
    """
    return site["type"] == "sample" and not poutine.util.site_is_subsample(site)


def is_latent(site: Site) -> bool:
    """Whether a node of a trace is a latent variable that is not summed out.

    Args:
        site: the node.
    """
    return is_sampled(site) and not site["is_observed"] and not is_enumerable(site)


def is_enumerable(site: Site) -> bool:
    """Whether a sample statement is one of a discrete variable whose values can be summed over.

    Args:
        site: node of a trace.
    """
    return bool(getattr(site["fn"], "has_enumerate_support", False))
