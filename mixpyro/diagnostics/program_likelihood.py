"""Log likelihood of each object under draws of a Pyro program, with its discrete sites summed out."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from pyro import poutine
from pyro.distributions import Unit
from pyro.infer import config_enumerate
from torch import Tensor

from mixpyro.diagnostics.program_runs import LOG_DENSITY, Handler, Program, Results, Stage, is_latent
from mixpyro.numerics.blocks import rows_per_program
from mixpyro.pyro_internals.factors import Factors, Term, aligned
from mixpyro.pyro_internals.plates import DRAWS_PLATE

# Longest name of a variable of several sites; netCDF has 256 characters.
LONGEST_NAME = 200
# Before the name of a latent site among the results: its log density, summed over its plates [S]. No site has it.
LOG_PRIOR = "log prior of "


class Outcome(NamedTuple):
    """Observed sites whose joint density is one number for each object."""

    name: str  # of the site, or the names of several with a plus between
    sites: tuple[str, ...]  # that have values, without pyro.factor
    plates: tuple[str, ...]  # over the objects, the leftmost first
    sizes: tuple[int, ...]  # of the plates


class Likelihood(Stage):
    """The log likelihood of every object, and the log density of everything.

    Args:
        model: the program.
        drawn: draws [S, …] of its continuous latent sites, by name.

    Attributes:
        outcomes: its observed sites, in groups that have no discrete variable in common.
        n_together: how many draws to run at once, so that memory stays constant.

    Raises:
        ValueError: if no observed site is in a plate, or a discrete variable is not in the plate of its data.
    """

    def __init__(self, model: Program, drawn: Mapping[str, Tensor]) -> None:
        self.model, self.drawn = model, drawn
        trace = self.trace_alone(0)
        factors = Factors(trace)
        self.outcomes: list[Outcome] = []
        for sites in factors.connected():
            data = self._data(trace, factors, sites)
            if data:
                plates = _plates_of_objects(factors, sites)
                sizes = tuple(factors.sizes[plate] for plate in plates)
                self.outcomes.append(Outcome(_joint_name(data), _with_values(trace, data), plates, sizes))
        if not self.outcomes:
            raise ValueError("`model` must have an observed site inside a plate; got none.")
        largest = max((term.values for term in factors.terms.values()), key=Tensor.numel)
        self.n_together = rows_per_program(largest.numel(), largest.device)

    def together(self, draws: slice) -> Results:
        """Return the log likelihoods [S, N] by the outcomes' names, and the log density [S].

        Args:
            draws: which.
        """
        n_draws = draws.stop - draws.start
        data = {name: self.model.in_plate(name, values[draws]) for name, values in self.drawn.items()}
        trace = self.model.together(n_draws, enumerated(data, self.model.max_plate_nesting + 1))
        return self._results(self._scored(trace), n_draws)

    def alone(self, draw: int) -> Results:
        """Return the log likelihoods [N] and the log density of one draw.

        Args:
            draw: which.
        """
        return {name: values[0] for name, values in self._results(self.trace_alone(draw), None).items()}

    def again(self, draw: int, found: Results) -> Results:
        """Return the same as alone.

        Args:
            draw: which.
            found: not read.
        """
        return self.alone(draw)

    def trace_alone(self, draw: int) -> poutine.Trace:
        """Return the trace of the model at one draw, with its discrete sites at all their values.

        Args:
            draw: which.
        """
        data = {name: values[draw] for name, values in self.drawn.items()}
        return self._scored(self.model.alone(enumerated(data, self.model.max_plate_nesting)))

    def _scored(self, trace: poutine.Trace) -> poutine.Trace:
        """Compute the log densities of a trace that has the latent sites of the draws, no more and no less."""
        missing = [name for name in self.drawn if name not in trace.nodes]
        other = [name for name, site in trace.nodes.items() if is_latent(site) and name not in self.drawn]
        if missing or other:
            raise ValueError(
                "`model` must sample the same continuous sites in every draw; got "
                f"{', '.join(missing or other)} in some draws only."
            )
        trace.compute_log_prob()
        return trace

    def _results(self, trace: poutine.Trace, n_draws: int | None) -> Results:
        """Return log likelihoods [S, N] and log density [S], where None is a run without a plate of draws."""
        factors = Factors(trace, outermost=DRAWS_PLATE)
        results: Results = {}
        parts = []
        for sites in factors.connected():
            joint = factors.summed_out(sites)
            parts.append(_flat(joint, factors, n_draws).double().sum(1))
            if data := self._data(trace, factors, sites):
                given = self._given_latents(factors, sites, trace, joint)
                results[_joint_name(data)] = _flat(given, factors, n_draws)
        return results | self._log_priors(factors, n_draws) | {LOG_DENSITY: torch.stack(parts).sum(0)}

    def _log_priors(self, factors: Factors, n_draws: int | None) -> Results:
        """Return the log density [S] of each latent site that depends on no discrete variable."""
        return {
            LOG_PRIOR + name: _flat(term, factors, n_draws).double().sum(1)
            for name in self.drawn
            if set((term := factors.terms[name]).axes) <= {DRAWS_PLATE, *term.plates}
        }

    def _given_latents(self, factors: Factors, sites: tuple[str, ...], trace: poutine.Trace, joint: Term) -> Term:
        """Return log p(data | latents) from their joint density, where latents depend on the same variables."""
        if not any(name in self.drawn for name in sites):
            return joint
        prior = [name for name in sites if name in self.drawn or not trace.nodes[name]["is_observed"]]
        term = factors.summed_out(prior, plates=joint.plates)
        axes = list(dict.fromkeys([*joint.axes, *term.axes]))
        return Term(aligned(joint, axes) - aligned(term, axes), tuple(axes), joint.plates)

    def _data(self, trace: poutine.Trace, factors: Factors, sites: tuple[str, ...]) -> tuple[str, ...]:
        """Return those of some sites that are data of objects: observed, in a plate, and no factors beside others."""
        data = tuple(
            name
            for name in sites
            if trace.nodes[name]["is_observed"] and name not in self.drawn and factors.terms[name].plates
        )
        return _with_values(trace, data) or data


def enumerated(data: Mapping[str, Tensor], n_dims: int) -> Handler:
    """Return what gives latent sites their values, and discrete sites all of theirs.

    Args:
        data: values by the name of the site.
        n_dims: number of axes, from the right, that are of plates.
    """

    def handled(program: Callable[..., Any]) -> Callable[..., Any]:
        conditioned = poutine.condition(program, data=dict(data)) if data else program
        return poutine.enum(config_enumerate(conditioned, default="parallel"), first_available_dim=-1 - n_dims)

    return handled


def _with_values(trace: poutine.Trace, sites: tuple[str, ...]) -> tuple[str, ...]:
    """Return the sites that are none of ``pyro.factor``, which have no value."""
    return tuple(name for name in sites if not isinstance(trace.nodes[name]["fn"], Unit))


def _plates_of_objects(factors: Factors, sites: tuple[str, ...]) -> tuple[str, ...]:
    """Return the plates that a log likelihood of some sites can be split into."""
    plates = factors.summed_out(sites).plates
    if not plates:
        outside = next(name for name in sites if factors.variables.get(name) == frozenset())
        raise ValueError(f"`model` must have its discrete sites in the plate of its data; {outside!r} is not.")
    return tuple(plate for plate in factors.order if plate in plates)


def _flat(term: Term, factors: Factors, n_draws: int | None) -> Tensor:
    """Return the values of a term [S, N], the parts of its plates one after the other."""
    plates = [plate for plate in factors.order if plate in term.plates]
    values = aligned(term, [DRAWS_PLATE, *plates])
    return values.expand(n_draws or 1, *(factors.sizes[plate] for plate in plates)).reshape(n_draws or 1, -1)


def _joint_name(sites: tuple[str, ...]) -> str:
    """Return one name for several sites."""
    names = list(dict.fromkeys(site.removesuffix("_observed") for site in sites)) if len(sites) > 1 else list(sites)
    joint = "+".join(names)
    return joint if len(joint) <= LONGEST_NAME else f"{names[0]}+...+{names[-1]}"
