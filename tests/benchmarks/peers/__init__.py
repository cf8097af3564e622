"""Seconds to the same likelihood, bound or posterior, beside the programs that people use otherwise."""
