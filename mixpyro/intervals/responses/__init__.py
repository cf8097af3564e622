"""Matrices of linear response: in closed form for conjugate parts, by automatic differentiation for any."""
