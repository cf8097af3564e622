"""Gates: priors over assignments, one a file."""

from mixpyro.gates.base import Gate
from mixpyro.gates.bayesian_softmax import BayesianSoftmaxGate
from mixpyro.gates.dirichlet import DirichletGate
from mixpyro.gates.marginal_object_dirichlet import MarginalObjectDirichletGate
from mixpyro.gates.neural import NeuralGate
from mixpyro.gates.object_dirichlet import ObjectDirichletGate
from mixpyro.gates.softmax import SoftmaxGate
from mixpyro.gates.stick_breaking import StickBreakingGate
from mixpyro.gates.tree import TreeGate

__all__ = [
    "BayesianSoftmaxGate",
    "DirichletGate",
    "Gate",
    "MarginalObjectDirichletGate",
    "NeuralGate",
    "ObjectDirichletGate",
    "SoftmaxGate",
    "StickBreakingGate",
    "TreeGate",
]
