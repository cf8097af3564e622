"""Draws of a fit's parameters for the bands of plots, and the model on rows at each of them."""

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from mixpyro.diagnostics.arviz_versions import ArvizData, datasets_of
from mixpyro.diagnostics.assignments import posterior_sites
from mixpyro.diagnostics.conditioning import Conditioned, conditioned_in_turn
from mixpyro.diagnostics.draws import draw_from_posterior
from mixpyro.diagnostics.observations import Observations
from mixpyro.diagnostics.point_masses import estimates_of_mixture, without_point_estimates
from mixpyro.diagnostics.response_draws import Rows, draws_by_response
from mixpyro.fitting.result import FitResult
from mixpyro.mixture import MixtureOfExperts
from mixpyro.numerics.random_numbers import own_random_numbers

# Draws that bands are quantiles of: the standard error of an end of a 90 % band is 4 % of its width.
N_DRAWS = 300


class ParameterDraws(NamedTuple):
    """S draws of the parameters of a mixture."""

    mixture: MixtureOfExperts  # that they are evaluated in
    sites: Mapping[str, Tensor]  # [S, …] each, by name
    n_draws: int
    varying: Collection[str]  # names of the sites that have draws, rather than one value
    remark: str  # what to know of bands from them; empty for nothing
    were_given: bool  # whether they are the caller's
    n_gate_inputs: int  # columns that the gate of this mixture reads, the first ones

    def of_gate(self) -> bool:
        """Whether parameters of the gate have draws."""
        return self._any(self.mixture.gate.site(""))

    def of_experts(self) -> bool:
        """Whether parameters of the experts have draws."""
        return self._any(self.mixture.experts.site(""))

    def _any(self, prefix: str) -> bool:
        return any(name.startswith(prefix) for name in self.varying)

    def models(self, x: Tensor, gate_x: Tensor, most: int = N_DRAWS) -> Iterator[tuple[Conditioned, int]]:
        """Yield the model on rows at some of the draws, evenly spaced, and how many.

        Args:
            x: what the experts read [N, D], checked.
            gate_x: what the gate reads [M, G]; M may be another number.
            most: twice this number are used at most, at least 1.
        """
        step, gate_x = max(1, self.n_draws // most), gate_x[:, : self.n_gate_inputs]
        some = {name: values[::step] for name, values in self.sites.items()}
        yield from conditioned_in_turn(self.mixture, x, gate_x, some, len(range(0, self.n_draws, step)))


def drawn_there(data: ArvizData, mixture: MixtureOfExperts, x: Tensor, gate_x: Tensor) -> ParameterDraws:
    """Return the draws of ArviZ data.

    Args:
        data: result of :func:`mixpyro.to_arviz`.
        mixture: that they are of.
        x: inputs of the rows [N, D].
        gate_x: what the gate reads [N, G].
    """
    rows = Observations(mixture, mixture.experts.check_inputs(x[:1]), x[:1], gate_x[:1])
    sites, n_draws = posterior_sites(data, rows)
    varying = [str(name) for name in datasets_of(data).get("posterior", {})]
    return ParameterDraws(mixture, sites, n_draws, varying, "", True, gate_x.shape[1])


def drawn_here(
    fitted: FitResult | MixtureOfExperts, x: Tensor, y: Tensor, gate_x: Tensor | None, n_draws: int = N_DRAWS
) -> ParameterDraws:
    """Draw a fit's parameters: by linear response where there is one, else from the analytic posterior.

    Args:
        fitted: a result, or a mixture.
        x: inputs [N, D].
        y: outputs [N, P].
        gate_x: what the gate reads [N, G]; None for x.
        n_draws: S.
    """
    mixture = fitted.mixture if isinstance(fitted, FitResult) else fitted
    groups = fitted.groups if isinstance(fitted, FitResult) else None
    own = x if gate_x is None else gate_x
    own = own if groups is None else mixture.gate.inputs_of_groups(own, groups)
    data = Observations(mixture, mixture.experts.check_inputs(x), y, own)
    with torch.no_grad(), own_random_numbers(0):
        if isinstance(fitted, FitResult):
            found = draws_by_response(fitted, Rows(x, y, gate_x, groups), data, n_draws, by_default=True)
            if found.draws is not None:
                # Weights of single objects are integrated out there, and the gate reads nothing then.
                settled, sites = found.data, found.draws.sites
                n_columns = settled.gate_x.shape[1]
                return ParameterDraws(settled.mixture, sites, n_draws, list(sites), "", False, n_columns)
        drawn = draw_from_posterior(data, n_draws, objects=None, of_objects=False)
        kept = without_point_estimates(drawn, estimates_of_mixture(data)).sites
    remark = "bands by mean field: too narrow where components overlap" if kept else ""
    return ParameterDraws(mixture, drawn.sites, n_draws, list(kept), remark, False, own.shape[1])
