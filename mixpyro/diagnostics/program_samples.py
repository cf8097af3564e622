"""Draws of the sites that a Pyro program samples."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from pyro import poutine
from pyro.distributions import Unit
from torch import Tensor

from mixpyro.arguments.callers import level_of_caller
from mixpyro.diagnostics.point_masses import is_point_mass
from mixpyro.diagnostics.program_runs import (
    LOG_DENSITY,
    Handler,
    Program,
    Results,
    Stage,
    is_enumerable,
    is_sampled,
)
from mixpyro.pyro_internals.handlers import Replicated
from mixpyro.pyro_internals.traces import Site


class SampledSites(Stage):
    """The values of all sites that a program samples, and their log density.

    Args:
        program: to run.
        given: draws [S, …] of sites that are not sampled, by name.
        replicate: whether to sample what the program observes, too.
    """

    def __init__(self, program: Program, given: Mapping[str, Tensor], *, replicate: bool = False) -> None:
        self.program, self.given, self.replicate = program, given, replicate

    def together(self, draws: slice) -> Results:
        """Return the values of some draws from one run.

        Args:
            draws: which.
        """
        n_draws = draws.stop - draws.start
        data = {name: self.program.in_plate(name, values[draws]) for name, values in self.given.items()}
        trace = self.program.together(n_draws, self._handler(data))
        found = self._values(trace)
        results = {name: self.program.out_of_plate(name, values, n_draws) for name, values in found.items()}
        return results | {LOG_DENSITY: _log_density(trace, list(found), n_draws)}

    def alone(self, draw: int) -> Results:
        """Return the values of one draw.

        Args:
            draw: which.
        """
        return self._alone({name: values[draw] for name, values in self.given.items()})

    def again(self, draw: int, found: Results) -> Results:
        """Return the log density of one draw, and the values that are functions of others.

        Args:
            draw: which.
            found: all values.
        """
        deltas = {
            name for name, site in self.program.first.nodes.items() if is_sampled(site) and is_point_mass(site["fn"])
        }
        own = {name: values for name, values in found.items() if name != LOG_DENSITY and name not in deltas}
        results = self._alone({name: values[draw] for name, values in self.given.items()}, own)
        return {name: values for name, values in results.items() if name not in own}

    def _alone(self, data: Mapping[str, Tensor], sampled: Mapping[str, Tensor] | None = None) -> Results:
        """Return the values of one run, in which some sites have given values."""
        trace = self.program.alone(self._handler(data, sampled))
        found = self._values(trace)
        return found | {LOG_DENSITY: _log_density(trace, list(found), 1)[0]}

    def _handler(self, data: Mapping[str, Tensor], sampled: Mapping[str, Tensor] | None = None) -> Handler:
        """Return what gives sites their values. Those that were sampled are replayed, which counts as sampling them."""

        def handled(program: Callable[..., Any]) -> Callable[..., Any]:
            inner = Replicated()(program) if self.replicate else program
            inner = poutine.condition(inner, data=dict(data)) if data else inner
            return inner if sampled is None else poutine.replay(inner, trace=_trace_of(sampled))

        return handled

    def _values(self, trace: poutine.Trace) -> Results:
        """Return the values of what was sampled in a run, by name."""
        sites: dict[str, Site] = dict(trace.nodes)
        return {
            name: site["value"]
            for name, site in sites.items()
            if is_sampled(site) and not site["is_observed"] and not isinstance(site["fn"], Unit)
        }


def point_estimates(values: Mapping[str, Tensor], guide: Program, model: Program) -> list[str]:
    """Return the names of the sites of which a guide has one value, as AutoDelta has, and warn of them.

    Args:
        values: draws of the model's latent sites [S, …], by name. Of a single draw nothing is known.
        guide: that has drawn them.
        model: the program.
    """
    found = [
        name
        for name, drawn in values.items()
        if len(drawn) > 1
        and is_point_mass(guide.first.nodes[name]["fn"])
        and not is_point_mass(model.first.nodes[name]["fn"])
        and bool((drawn == drawn[:1]).all())
    ]
    if found:
        warnings.warn(
            f"`guide` has one value for {', '.join(found)}, an estimate without a posterior, as AutoDelta and "
            "AutoLaplaceApproximation have: khat and loo take it as known. Use another guide, such as AutoNormal.",
            RuntimeWarning,
            stacklevel=level_of_caller(),
        )
    return found


def _trace_of(values: Mapping[str, Tensor]) -> poutine.Trace:
    """Return a trace with some values, to be replayed."""
    trace = poutine.Trace()
    for name, value in values.items():
        trace.add_node(name, name=name, type="sample", value=value, is_observed=False, infer={})
    return trace


def _log_density(trace: poutine.Trace, names: list[str], n_draws: int) -> Tensor:
    """Return the log density [S] in nats of those sites that are not summed out elsewhere, float64."""
    chosen = [name for name in names if not is_enumerable(trace.nodes[name])]
    trace.compute_log_prob(lambda name, site: name in chosen)
    parts = [trace.nodes[name]["log_prob"].double().reshape(n_draws, -1).sum(1) for name in chosen]
    return torch.stack(parts).sum(0) if parts else torch.zeros(n_draws, dtype=torch.float64, device="cpu")
