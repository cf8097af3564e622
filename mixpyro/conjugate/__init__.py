"""Posteriors as values: nested tuples of tensors, with their updates and divergences."""
