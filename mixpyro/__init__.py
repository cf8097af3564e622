"""Bayesian gates for mixtures of experts, as Pyro models with exact updates."""

import importlib.util
from typing import TYPE_CHECKING, Any

import mixpyro.numerics.forks  # noqa: F401 (renews locks in the child of a fork)
from mixpyro.diagnostics.conversion import to_arviz
from mixpyro.experts import (
    GaussianExperts,
    GLMExperts,
    HeterogeneousExperts,
    HeterogeneousOutputs,
    LinearExperts,
    NeuralExperts,
    PointMassExperts,
    RandomEffectsExperts,
    RelevanceLinearExperts,
    SharedLinearExperts,
)
from mixpyro.fitting.batches import fit_batches
from mixpyro.fitting.fit import fit
from mixpyro.fitting.minibatches import fit_minibatches
from mixpyro.fitting.outcomes import Optimum, Run
from mixpyro.fitting.polish import polish
from mixpyro.fitting.provenance import FittedData
from mixpyro.fitting.result import FitResult
from mixpyro.fitting.streaming import StreamingFit
from mixpyro.gates import (
    BayesianSoftmaxGate,
    DirichletGate,
    MarginalObjectDirichletGate,
    NeuralGate,
    ObjectDirichletGate,
    SoftmaxGate,
    StickBreakingGate,
    TreeGate,
)
from mixpyro.groups import Groups
from mixpyro.intervals.linear_response import LinearResponse, linear_response
from mixpyro.mixture import MixtureOfExperts
from mixpyro.numerics.step_sizes import RobbinsMonro
from mixpyro.programs.auto_gate import AutoGate
from mixpyro.programs.conjugate_svi import ConjugateSVI
from mixpyro.pyro_internals.expected_weights import expected_weights
from mixpyro.refinement.refine import refine
from mixpyro.refinement.refined import Refined
from mixpyro.reports.coefficient_table import Coefficient, CoefficientTable
from mixpyro.reports.coefficients import coefficients
from mixpyro.reports.comparison import Ranking, compare
from mixpyro.reports.criteria import Criteria, criteria
from mixpyro.reports.observed_information import observed_information
from mixpyro.reports.tables import as_table
from mixpyro.reports.variance_components import VarianceComponent, variance_components
from mixpyro.saving.model_file import load, save
from mixpyro.tree_search.growth import GrownTree, grow_tree
from mixpyro.tree_search.rearrangement import rearrange_tree

if TYPE_CHECKING:
    from mixpyro.frontends.bayesian_mixture import BayesianMixture as BayesianMixture
    from mixpyro.frontends.classifier import MixtureOfExpertsClassifier as MixtureOfExpertsClassifier
    from mixpyro.frontends.formula import fit_formula as fit_formula
    from mixpyro.frontends.formula_result import FormulaResult as FormulaResult
    from mixpyro.frontends.regressor import MixtureOfExpertsRegressor as MixtureOfExpertsRegressor

__version__ = "0.1.0"

__all__ = [
    "AutoGate",
    "BayesianSoftmaxGate",
    "Coefficient",
    "CoefficientTable",
    "ConjugateSVI",
    "Criteria",
    "DirichletGate",
    "FitResult",
    "FittedData",
    "GLMExperts",
    "GaussianExperts",
    "Groups",
    "GrownTree",
    "HeterogeneousExperts",
    "HeterogeneousOutputs",
    "LinearExperts",
    "LinearResponse",
    "MarginalObjectDirichletGate",
    "MixtureOfExperts",
    "NeuralExperts",
    "NeuralGate",
    "ObjectDirichletGate",
    "Optimum",
    "PointMassExperts",
    "RandomEffectsExperts",
    "Ranking",
    "Refined",
    "RelevanceLinearExperts",
    "RobbinsMonro",
    "Run",
    "SharedLinearExperts",
    "SoftmaxGate",
    "StickBreakingGate",
    "StreamingFit",
    "TreeGate",
    "VarianceComponent",
    "as_table",
    "coefficients",
    "compare",
    "criteria",
    "expected_weights",
    "fit",
    "fit_batches",
    "fit_minibatches",
    "grow_tree",
    "linear_response",
    "load",
    "observed_information",
    "polish",
    "rearrange_tree",
    "refine",
    "save",
    "to_arviz",
    "variance_components",
]

# Names whose modules need an extra, and are imported when they are first used: module, extra.
ON_DEMAND = {
    "FormulaResult": ("mixpyro.frontends.formula_result", "formula"),
    "fit_formula": ("mixpyro.frontends.formula", "formula"),
    "BayesianMixture": ("mixpyro.frontends.bayesian_mixture", "sklearn"),
    "MixtureOfExpertsClassifier": ("mixpyro.frontends.classifier", "sklearn"),
    "MixtureOfExpertsRegressor": ("mixpyro.frontends.regressor", "sklearn"),
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:  # noqa: ANN401 (of any class)
        """Import a name of an extra."""
        if name not in ON_DEMAND:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module, extra = ON_DEMAND[name]
        try:
            return getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("mixpyro"):
                raise
            raise ImportError(f"`{name}` needs {error.name}: pip install 'mixpyro[{extra}]'.") from error

    def __dir__() -> list[str]:
        """Return the names of the package, and those of extras that can be imported: ``help`` asks for each."""
        has_estimators = importlib.util.find_spec("sklearn") is not None
        found = {name for name, (_, extra) in ON_DEMAND.items() if extra != "sklearn" or has_estimators}
        return sorted({*globals(), *found})
