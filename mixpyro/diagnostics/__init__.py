"""Draws for ArviZ, the quality of a posterior, labels of components, predictive checks and plots."""

from mixpyro.diagnostics.arviz_versions import from_netcdf
from mixpyro.diagnostics.assignments import Assignments, ResponsibilityDraws
from mixpyro.diagnostics.conversion import to_arviz
from mixpyro.diagnostics.exact_loo import exact_loo
from mixpyro.diagnostics.importance_sampling import khat, resample
from mixpyro.diagnostics.labels import Alignment, align, relabel
from mixpyro.diagnostics.loo_comparison import Comparison, compare_loo, loo_table
from mixpyro.diagnostics.power_scaling import psense_summary
from mixpyro.diagnostics.predictive_checks import Check, predictive_checks
from mixpyro.diagnostics.program import program_to_arviz
from mixpyro.diagnostics.program_assignments import ProgramResponsibilities
from mixpyro.diagnostics.psis_loo import Elpd, as_arviz, loo

__all__ = [
    "Alignment",
    "Assignments",
    "Check",
    "Comparison",
    "Elpd",
    "ProgramResponsibilities",
    "ResponsibilityDraws",
    "align",
    "as_arviz",
    "compare_loo",
    "exact_loo",
    "from_netcdf",
    "khat",
    "loo",
    "loo_table",
    "predictive_checks",
    "program_to_arviz",
    "psense_summary",
    "relabel",
    "resample",
    "to_arviz",
]
