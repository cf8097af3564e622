"""Automatic guides of some sites of a model, on their own or as parts of an ``AutoGuideList``."""

from collections.abc import Callable
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoGuide
from pyro.poutine.util import site_is_subsample


class PartialGuide(AutoGuide):
    """An automatic guide that finds the plates of its model in one run of the model.

    As a part of an ``AutoGuideList`` it uses the plates of the list.

    Args:
        model: a Pyro model.
        create_plates: as for every AutoGuide; only where this guide is not part of a list.
    """

    def __init__(self, model: Callable[..., Any], *, create_plates: Callable[..., Any] | None = None) -> None:
        super().__init__(model, create_plates=create_plates)  # type: ignore[no-untyped-call]

    def check_model(self) -> None:
        """Raise if the model is not one that this guide can be used with; called after the first run of the model."""

    def model_site(self, name: str, *args: Any, **kwargs: Any) -> Any | None:  # noqa: ANN401
        """Return a site of the first run of the model, or None where it has no such site.

        Args:
            name: full name of the site.
            *args: arguments of the model, which is run if it has not been.
            **kwargs: likewise.
        """
        if self.prototype_trace is None:
            self._setup_prototype(*args, **kwargs)
        assert self.prototype_trace is not None
        return self.prototype_trace.nodes[name] if name in self.prototype_trace.nodes else None

    def innermost_plate(self, site: Any, *args: Any, **kwargs: Any) -> pyro.plate:  # noqa: ANN401
        """Return the plate of dim −1 that a site is in.

        Args:
            site: as :meth:`model_site` returns it.
            *args: arguments of the model.
            **kwargs: likewise.
        """
        frame = next(frame for frame in site["cond_indep_stack"] if frame.dim == -1)
        return self._create_plates(*args, **kwargs)[frame.name]  # type: ignore[no-untyped-call]

    def refuse_own_subsample(self) -> None:
        """Raise if the model draws a subsample that this guide cannot know.

        A guide without ``create_plates`` would draw objects itself; the model would then read rows of other objects.

        Raises:
            RuntimeError: if a plate of the model has a ``subsample``, and ``create_plates`` was not given.
        """
        root = self if self.master is None else self.master()
        if root.create_plates is not None:
            return
        sites: dict[str, Any] = {} if self.prototype_trace is None else dict(self.prototype_trace.nodes)
        for name, site in sites.items():
            if site_is_subsample(site) and site["fn"].subsample_size is None and len(site["value"]) < site["fn"].size:
                raise RuntimeError(
                    f"`create_plates` must be given where the model has a `subsample` of its own, in {name!r}; got "
                    "None. Pass the guide (the AutoGuideList, if there is one) a function of the model's arguments "
                    "that returns the same plate."
                )

    def _setup_prototype(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        if self.master is None:
            super()._setup_prototype(*args, **kwargs)  # type: ignore[no-untyped-call]
        # Not compared with the list's own prototype, which may have been made with the weights integrated out.
        # Without graphs and parameters: a guide that holds them can be neither copied nor pickled.
        model = poutine.block(self.model, hide_types=["param"])
        with torch.no_grad():
            self.prototype_trace = poutine.block(poutine.trace(model).get_trace)(*args, **kwargs)
        self.check_model()
        # A copy of a list asks its parts for their plates, and so does the original from then on.
        sites: list[tuple[str, Any]] = list(self.prototype_trace.iter_stochastic_nodes())
        self._prototype_frames = {f.name: f for _, site in sites for f in site["cond_indep_stack"] if f.vectorized}
