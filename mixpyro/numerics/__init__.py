"""Tensors in, tensors out: nothing here knows of mixtures or of Pyro programs."""
