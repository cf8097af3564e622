"""Multivariate Normals that leave the filters of warnings as they are."""

from pyro.distributions import MultivariateNormal
from torch import Tensor

from mixpyro.arguments.late_imports import import_symbolic_shapes


def multivariate_normal(
    mean: Tensor, *, scale_tril: Tensor | None = None, precision_matrix: Tensor | None = None
) -> MultivariateNormal:
    """Return multivariate Normals with one of a factor and a precision.

    Args:
        mean: [..., P].
        scale_tril: lower triangular factor of the covariances [..., P, P].
        precision_matrix: [..., P, P], positive definite.
    """
    import_symbolic_shapes()
    if scale_tril is not None:
        return MultivariateNormal(mean, scale_tril=scale_tril)
    return MultivariateNormal(mean, precision_matrix=precision_matrix)
