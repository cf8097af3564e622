"""A gate's guide as one part of an ``AutoGuideList``."""

from collections.abc import Callable
from typing import Any

from pyro import poutine
from torch import Tensor

from mixpyro import arguments
from mixpyro.gates.base import Gate
from mixpyro.gates.conjugate import ConjugateGate
from mixpyro.gates.per_object import ObjectGate
from mixpyro.pyro_internals.auto_guides import PartialGuide
from mixpyro.pyro_internals.expected_weights import record_of
from mixpyro.pyro_internals.given_sites import is_trained_by_plain_svi, untrained
from mixpyro.pyro_internals.plates import entered


class AutoGate(PartialGuide):
    """The analytic posterior of a gate's weights, as a guide with the arguments of the whole model.

    It finds the plate of the objects in one run of the model, and uses the plates of the list that it is part of. The
    assignments are left to the model, where TraceEnum_ELBO sums them out. Where the model draws its own ``subsample``,
    pass ``create_plates`` to the ``AutoGuideList``, as for any guide with latent sites in a plate.

    A gate that keeps a posterior of each object knows them by their index in the plate. Plain SVI has no parameter of a
    posterior to train: train with :class:`~mixpyro.ConjugateSVI`, whose ``full_guide`` needs no AutoGate.

    Args:
        model: a Pyro model that calls ``gate.model``.
        gate: the gate, which does not become a part of the guide.
        create_plates: as for every AutoGuide; only where this guide is not part of a list.

    Raises:
        TypeError: if ``gate`` is no gate.

    Example:
        >>> import pyro
        >>> import torch
        >>> from mixpyro import DirichletGate
        >>> from pyro.infer.autoguide import AutoGuideList, AutoNormal
        >>> gate = DirichletGate(2)
        >>> def model(data):
        ...     means = pyro.sample("means", pyro.distributions.Normal(0.0, 5.0).expand([2]).to_event(1))
        ...     plate = pyro.plate("objects", len(data), dim=-1)
        ...     z = gate.model(data.unsqueeze(-1), plate=plate)
        ...     with plate:
        ...         pyro.sample("data", pyro.distributions.Normal(means[z], 1.0), obs=data)
        >>> guide = AutoGuideList(model)
        >>> guide.append(AutoNormal(poutine.block(model, hide=gate.latent_sites)))
        >>> guide.append(AutoGate(model, gate))
        >>> sorted(guide(torch.zeros(5)))
        ['gate.weights', 'means']
    """

    @arguments.declared
    def __init__(
        self, model: Callable[..., Any], gate: Gate, *, create_plates: Callable[..., Any] | None = None
    ) -> None:
        if not isinstance(gate, Gate):
            raise TypeError(f"`gate` must be a mixpyro Gate; got {type(gate).__name__}.")
        super().__init__(model, create_plates=create_plates)
        # In a tuple: as an attribute the gate would become a submodule of this guide, and take its name.
        self._gate = (gate,)

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:  # noqa: ANN401 (they are the model's)
        """Sample the weights from their posterior.

        Args:
            *args: arguments of the model.
            **kwargs: likewise.

        Returns:
            The weights by the name of their site; nothing for a gate without latent weights.

        Raises:
            RuntimeError: if the model does not call the gate's model, draws a subsample that the guide cannot know, or
                is trained by plain SVI, which would leave the gate's posterior where it is.
        """
        return {name: site["value"] for name, site in self._sites(*args, **kwargs)}

    def median(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:  # noqa: ANN401
        """Return the posterior means of the weights, because medians of a Dirichlet would not sum to one.

        Args:
            *args: arguments of the model.
            **kwargs: likewise.

        Returns:
            The means by the name of their site.
        """
        with poutine.block():
            return {name: site["fn"].mean for name, site in self._sites(*args, **kwargs)}

    def check_model(self) -> None:
        """Raise if the model draws a subsample of objects, each with a posterior of its own, without create_plates."""
        (gate,) = self._gate
        if not gate.takes_row_weights:
            self.refuse_own_subsample()

    def _sites(self, *args: Any, **kwargs: Any) -> list[tuple[str, Any]]:  # noqa: ANN401
        """Run the gate's guide, and return its latent sites."""
        (gate,) = self._gate
        if record_of(gate) is not None:
            return []
        if isinstance(gate, ConjugateGate) and gate.weights_site is not None and is_trained_by_plain_svi():
            raise RuntimeError(untrained(gate.site(gate.weights_site)))
        known = self.weights_of_parts(gate, *args, **kwargs)
        site = self.model_site(gate.site("assignment"), *args, **kwargs) if known is None else known
        if site is None:
            raise RuntimeError(f"`model` must call the gate's model; got no site {gate.site('assignment')!r}.")
        with poutine.trace() as captured:
            if known is None:
                plate, logits = self.innermost_plate(site, *args, **kwargs), site["fn"].logits
                gate.guide(logits.new_empty(plate.subsample_size, 0), plate=plate)
            else:
                plates = self._create_plates(*args, **kwargs)  # type: ignore[no-untyped-call]
                with entered(tuple(plates[frame.name] for frame in site["cond_indep_stack"] if frame.vectorized)):
                    gate.weights_guide(site["value"].new_empty(1, 0), plate=None, objects=None)
        nodes = captured.trace.nodes
        return [(name, nodes[name]) for name in gate.latent_sites if name in nodes]

    def weights_of_parts(self, gate: Gate, *args: Any, **kwargs: Any) -> Any | None:  # noqa: ANN401
        """Return the site of weights that objects share, which stands in the plates of the gate's parts.

        Args:
            gate: of the model.
            *args: arguments of the model.
            **kwargs: likewise.
        """
        if isinstance(gate, ConjugateGate) and not isinstance(gate, ObjectGate):
            return self.model_site(gate.site(str(gate.weights_site)), *args, **kwargs)
        return None
