"""The guide of a whole program, with the posteriors of its gates in it."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from pyro import poutine
from pyro.poutine.runtime import get_plates
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from mixpyro.gates.base import Gate
from mixpyro.programs import stored_posteriors
from mixpyro.pyro_internals.handlers import outside_of_handlers
from mixpyro.pyro_internals.plates import PREDICTIVE_PLATE
from mixpyro.pyro_internals.posterior_weights import weights_from_posterior


class FullGuide:
    """A guide of all latent variables of a program but the assignments, which are summed out or drawn by the model.

    It runs the guide, then the model with the guide's values, in which the gates draw their weights from their
    posteriors. Plates are the model's, and a subsample that the model draws is drawn here.

    Args:
        model: a Pyro model.
        guide: guide of its latents other than the gates'.
        gates: whose ``model`` the program calls.
    """

    def __init__(self, model: Callable[..., Any], guide: Callable[..., Any], gates: Sequence[Gate]) -> None:
        self.model, self.guide, self.gates = model, guide, tuple(gates)
        # For gates whose weights stand outside of all plates, an empty tensor of the dtype and device of their site.
        self._outside: dict[str, Tensor] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:  # noqa: ANN401 (they are the model's)
        """Sample the guide's latents, and the gates' weights from their posteriors.

        Args:
            *args: arguments of the model and the guide.
            **kwargs: likewise.

        Returns:
            The values of all latent variables by the names of their sites.

        Raises:
            RuntimeError: if plain SVI would train a program with a gate that it never updates.
            ValueError: inside ``Predictive(parallel=True)``, if weights are in a plate of parts.
        """
        for gate in self.gates:
            stored_posteriors.take_over(gate)
            gate.refuse_untrained()
        if any(frame.name == PREDICTIVE_PLATE for frame in get_plates()):
            self._prepare_for_draws_at_once(*args, **kwargs)
        with poutine.trace() as guided:
            self.guide(*args, **kwargs)
        with poutine.trace() as of_gates, torch.no_grad():
            if self._outside is None or len(self._outside) < len(self._sites()):
                self._run_model(guided.trace, *args, **kwargs)
            else:
                for gate in self.gates:
                    if gate.weights_site is not None:
                        like = self._outside[gate.site(gate.weights_site)]
                        gate.weights_guide(like, plate=None, objects=None)
        if self._outside is None:
            self._outside = _outside_of_plates(of_gates.trace, self._sites())
        sites = {**guided.trace.nodes, **of_gates.trace.nodes}
        return {name: torch.as_tensor(site["value"]) for name, site in sites.items() if _is_latent(site)}

    def _prepare_for_draws_at_once(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Find out where the weights stand, without the plate of draws, whose dim the plates of the model need."""
        if self._outside is None:
            with outside_of_handlers():
                self(*args, **kwargs)
        if self._outside is None or len(self._outside) < len(self._sites()):
            raise ValueError(
                "`parallel` must be False in a Predictive of `full_guide` whose weights are in plates; got True. "
                "For draws of the model at once write\n"
                "    draws = Predictive(svi.full_guide, num_samples=S)(*args)\n"
                "    Predictive(model, posterior_samples=draws, parallel=True)(*args)"
            )

    def _sites(self) -> set[str]:
        """Return the names of the sites of the gates' weights."""
        return {name for gate in self.gates for name in gate.weights_sites}

    def _run_model(self, guided: poutine.Trace, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Run the model with the guide's values, of which only weights of gates and new subsamples are seen outside."""
        weights, drawn = self._sites(), set(guided.nodes)

        def is_hidden(site: Any) -> bool:  # noqa: ANN401
            if site["name"] in drawn or site["type"] != "sample":
                return True
            return not (site["name"] in weights or site_is_subsample(site))

        model = poutine.block(poutine.replay(self.model, trace=guided), hide_fn=is_hidden)
        with weights_from_posterior(*self.gates):
            model(*args, **kwargs)


def _outside_of_plates(trace: poutine.Trace, names: set[str]) -> dict[str, Tensor]:
    """Return empty tensors like the values of sites that are in no plate, by name."""
    sites = {name: site for name, site in trace.nodes.items() if name in names}
    outside = {name: site for name, site in sites.items() if not any(f.vectorized for f in site["cond_indep_stack"])}
    return {name: torch.as_tensor(site["value"]).new_empty(1, 0) for name, site in outside.items()}


def _is_latent(site: Any) -> bool:  # noqa: ANN401
    """Return whether a node of a trace is a latent variable."""
    return site["type"] == "sample" and not site["is_observed"] and not site_is_subsample(site)
