"""Adapters for EM loops written against ``mixturelib.hyper_models``: its names and signatures, over mixpyro's gates.

Change ``from mixturelib.hyper_models import …`` to ``from mixpyro.hyper_models import …``. X is [N, D], Y [N, P] and Z
[N, K], with rows q(zᵢ); ``HyperParameters`` is not read. Results have the floating dtype of Z and X, lie on ``device``
and are the caller's to change. A rejected call leaves the object as it was. While Pyro's validation is off, the values
of Z are used unchecked.
"""

from mixpyro.hyper_models.base import HyperModel
from mixpyro.hyper_models.dirichlet import HyperModelDirichlet, HyperModelGateSparsed
from mixpyro.hyper_models.neural import HyperExpertNN

__all__ = ["HyperExpertNN", "HyperModel", "HyperModelDirichlet", "HyperModelGateSparsed"]
