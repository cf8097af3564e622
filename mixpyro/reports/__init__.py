"""Reports on a fitted mixture: coefficients with standard errors, criteria for model choice, and text tables."""
