"""Fits on many processes."""
