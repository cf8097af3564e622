"""Variational EM: restarts, streams, checkpoints."""
