"""What to do about errors that come from deep inside Pyro, added to their messages."""

from collections.abc import Iterator
from contextlib import contextmanager

from pyro.infer import TraceEnum_ELBO

from mixpyro.arguments.signals import pass_on

DTYPES = ("expected scalar type", "same dtype", "expected m1 and m2 to have the same dtype")
SHAPES = ("Shape mismatch", "invalid log_prob shape", "out of bounds", "must match the size", "not broadcastable")


@contextmanager
def explained(elbo: TraceEnum_ELBO) -> Iterator[None]:
    """Add to an error of the programs run inside what to change in them, where that is known.

    Args:
        elbo: whose programs they are.

    Raises:
        TypeError: where tensors of several dtypes meet, or log densities are complex.
        ValueError: where vectorised particles do not fit a program.
    """
    try:
        yield
    except (RuntimeError, ValueError, IndexError) as error:
        pass_on(error)
        message = str(error)
        if any(words in message for words in DTYPES):
            raise TypeError(
                "`x` of a gate must have the dtype of the program, for weights and log densities have the dtype of x. "
                f"Convert data, constants and parameters to one, such as `x.to(y.dtype)`. Pyro's message: {message}"
            ) from error
        if "complex" in message.lower():
            raise TypeError(
                "`model` must have log densities of real numbers; got complex ones. Convert the data and constants, "
                f"such as `y.real`. Pyro's message: {message}"
            ) from error
        if elbo.vectorize_particles and elbo.num_particles > 1 and any(words in message for words in SHAPES):
            raise ValueError(
                "`vectorize_particles` must have a program that takes an axis of particles; got one that does not. "
                "Index by assignments with `Vindex(means)[..., z]` of pyro.ops.indexing in place of `means[z]`, or let "
                f"particles run one by one. Pyro's message: {message}"
            ) from error
        raise
