"""The M-step by gradient, as Pyro's SVI."""
