"""Fitting: variational EM, its M-steps by SVI, and its restarts."""
