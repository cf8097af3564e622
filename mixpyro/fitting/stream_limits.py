"""What a stream cannot do, in words."""

from torch import Tensor

from mixpyro.mixture import MixtureOfExperts


def refuse_kept_posteriors(mixture: MixtureOfExperts) -> None:
    """Raise if the gate keeps a posterior of each object, which a stream cannot store.

    Args:
        mixture: what shall be fitted to a stream.

    Raises:
        ValueError: if it does.
    """
    if not mixture.gate.takes_row_weights:
        raise ValueError(
            f"`mixture` must have a gate that forgets its objects; got {type(mixture.gate).__name__}, which keeps "
            "a posterior of each. MarginalObjectDirichletGate integrates it out."
        )


def no_moves(mixture: MixtureOfExperts) -> str:
    """Return that a stream does not find how many components there are, and what does.

    Args:
        mixture: by a gate that finds it in a fit.
    """
    return (
        f"in a stream {type(mixture.gate).__name__} merges, deletes and splits no components, so more may be left than "
        "the data ask for. Fit a sample of the rows with `mixpyro.fit`, and stream on from that mixture with "
        "`n_restarts=0`; or use `fit_minibatches`, which makes these moves on a sample."
    )


def empty_components(counts: Tensor) -> list[str]:
    """Return the components that hold less than one object, in words.

    Args:
        counts: objects of each component [K].
    """
    return [f"component {k} has {count:.2g} objects" for k, count in enumerate(counts.tolist()) if count < 1.0]
