"""Moves from one optimum to another: merge, delete and split components, and take what the bound says is better."""
