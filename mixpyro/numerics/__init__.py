"""Functions from tensors to tensors, which know neither mixtures nor Pyro programs."""
