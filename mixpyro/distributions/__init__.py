"""Pyro distributions that Pyro lacks."""
