"""Intervals that include the uncertainty of the assignments: linear response, draws from it, and refinement."""
