"""Adapters for EM loops written against ``mixturelib.hyper_models``: its names and signatures, over mixpyro's gates.

Change ``from mixturelib.hyper_models import …`` to ``from mixpyro.hyper_models import …``. X is [N, D], Y is [N, P],
Z is [N, K] with rows q(zᵢ), and ``HyperParameters`` is not read. Results have the floating dtype of Z and X, lie on
``device``, and may be changed in place. Numbers that are written into an attribute, such as ``m[0] = 5``, are assigned
to it: they are checked at the next call, and used. A call that raises leaves the object unchanged. While Pyro's
validation is off, the values of Z are used unchecked.
"""

from mixpyro.hyper_models.base import HyperModel
from mixpyro.hyper_models.dirichlet import HyperModelDirichlet
from mixpyro.hyper_models.gate_sparsed import HyperModelGateSparsed
from mixpyro.hyper_models.neural import HyperExpertNN

__all__ = ["HyperExpertNN", "HyperModel", "HyperModelDirichlet", "HyperModelGateSparsed"]
