"""A gate's guide as one part of an ``AutoGuideList``."""

from collections.abc import Callable
from typing import Any

import torch
from pyro import poutine
from pyro.infer.autoguide import AutoGuide
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from mixpyro.gates.base import Gate
from mixpyro.pyro_internals.expected_weights import record_of


class AutoGate(AutoGuide):
    """The analytic posterior of a gate's weights, as a guide that takes the arguments of the whole model.

    It learns from one run of the model which plate the objects are in, and shares the plates of the list that it is
    part of. The assignments are left to the model, where TraceEnum_ELBO sums them out. Where the model draws its own
    ``subsample``, pass ``create_plates`` to the ``AutoGuideList``, as for any guide with latent sites in a plate.

    Args:
        model: a Pyro model that calls ``gate.model``.
        gate: the gate; it stays a part of whatever it is part of.
        create_plates: as for every AutoGuide; only where this is not part of a list.

    Example:
        >>> import pyro
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

    def __init__(
        self, model: Callable[..., Any], gate: Gate, *, create_plates: Callable[..., Any] | None = None
    ) -> None:
        if not isinstance(gate, Gate):
            raise TypeError(f"`gate` must be a mixpyro Gate; got {type(gate).__name__}.")
        super().__init__(model, create_plates=create_plates)  # type: ignore[no-untyped-call]
        # In a tuple: as an attribute the gate would become a part of this guide, and take its name.
        self._gate = (gate,)

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:  # noqa: ANN401 (they are the model's)
        """Sample the weights; gives them by the name of their site."""
        return {name: site["value"] for name, site in self._sites(*args, **kwargs)}

    def median(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:  # noqa: ANN401
        """Posterior means of the weights: medians of the components of a Dirichlet would not sum to one."""
        with poutine.block():
            return {name: site["fn"].mean for name, site in self._sites(*args, **kwargs)}

    def _sites(self, *args: Any, **kwargs: Any) -> list[tuple[str, Any]]:  # noqa: ANN401
        (gate,) = self._gate
        if record_of(gate) is not None:
            return []
        if self.prototype_trace is None:
            self._setup_prototype(*args, **kwargs)
        assert self.prototype_trace is not None
        if gate.site("assignment") not in self.prototype_trace.nodes:
            raise RuntimeError(f"`model` must call the gate's model; got no site {gate.site('assignment')!r}.")
        assignment = self.prototype_trace.nodes[gate.site("assignment")]
        frame = next(frame for frame in assignment["cond_indep_stack"] if frame.dim == -1)
        plate = self._create_plates(*args, **kwargs)[frame.name]  # type: ignore[no-untyped-call]
        x = torch.empty(plate.subsample_size, 0, dtype=assignment["fn"].logits.dtype)
        with poutine.trace() as captured:
            gate.guide(x.to(assignment["fn"].logits.device), plate=plate)
        nodes = captured.trace.nodes
        return [(name, nodes[name]) for name in gate.latent_sites if name in nodes]

    def _setup_prototype(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        if self.master is None:
            super()._setup_prototype(*args, **kwargs)  # type: ignore[no-untyped-call]
        # The list's own prototype may have been taken with the weights integrated out: do not compare with it.
        # Without graphs and parameters: a guide that kept them could be neither copied nor pickled.
        model = poutine.block(self.model, hide_types=["param"])
        with torch.no_grad():
            self.prototype_trace = poutine.block(poutine.trace(model).get_trace)(*args, **kwargs)
        self._refuse_another_subsample(self.prototype_trace)
        # A copy of a list asks its parts for the plates, and so does the original from then on.
        sites: list[tuple[str, Any]] = list(self.prototype_trace.iter_stochastic_nodes())
        self._prototype_frames = {f.name: f for _, site in sites for f in site["cond_indep_stack"] if f.vectorized}

    def _refuse_another_subsample(self, prototype: poutine.Trace) -> None:
        """A guide's own draw of objects would replace the model's, and meet rows of data that are not theirs."""
        (gate,) = self._gate
        root = self if self.master is None else self.master()
        if gate.takes_row_weights or root.create_plates is not None:
            return
        sites: dict[str, Any] = dict(prototype.nodes)
        for name, site in sites.items():
            if site_is_subsample(site) and site["fn"].subsample_size is None and len(site["value"]) < site["fn"].size:
                raise RuntimeError(
                    f"`create_plates` must be given where the model has a `subsample` of its own, in {name!r}; got "
                    "None. Pass the guide (the AutoGuideList, if there is one) a function of the model's arguments "
                    "that returns the same plate."
                )
