"""Plots of a fit, one a file. Each draws on a given ``ax`` and returns it; none changes global settings."""

from mixpyro.diagnostics.plots.bound_traces import plot_bound_traces
from mixpyro.diagnostics.plots.component_densities import plot_component_densities
from mixpyro.diagnostics.plots.expert_lines import plot_expert_lines
from mixpyro.diagnostics.plots.gate_curve import plot_gate_curve
from mixpyro.diagnostics.plots.gate_map import plot_gate_map
from mixpyro.diagnostics.plots.information_lost import plot_information_lost
from mixpyro.diagnostics.plots.khat_by_object import plot_khat
from mixpyro.diagnostics.plots.optima import plot_optima
from mixpyro.diagnostics.plots.overview import plot_overview
from mixpyro.diagnostics.plots.responsibilities import plot_responsibilities
from mixpyro.diagnostics.plots.ternary import plot_ternary
from mixpyro.diagnostics.plots.weights_forest import plot_weights_forest

__all__ = [
    "plot_bound_traces",
    "plot_component_densities",
    "plot_expert_lines",
    "plot_gate_curve",
    "plot_gate_map",
    "plot_information_lost",
    "plot_khat",
    "plot_optima",
    "plot_overview",
    "plot_responsibilities",
    "plot_ternary",
    "plot_weights_forest",
]
