"""Distributions that Pyro lacks, and quantiles of mixtures."""
