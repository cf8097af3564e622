"""What a search has found of all objects that a process was given: those of weight zero had no part in it."""

from jaxtyping import Float
from torch import Tensor

from mixpyro.fitting import em
from mixpyro.fitting.pieces import in_pieces
from mixpyro.fitting.ranks import Ranks
from mixpyro.fitting.rows_of_all import with_objects
from mixpyro.fitting.table import Table
from mixpyro.gates.per_object import ObjectGate
from mixpyro.mixture import MixtureOfExperts, MixtureState
from mixpyro.shapes import Responsibilities


def shares_of_given(
    mixture: MixtureOfExperts, table: Table, held: Float[Tensor, "held K"], ranks: Ranks | None
) -> Responsibilities:
    """Return responsibilities [n, K] of all objects that this process was given.

    Args:
        mixture: at what was found.
        table: all objects that this process was given.
        held: responsibilities of the objects that it holds in the search, whose digits stay.
        ranks: how the objects lie on the ranks; None where one process has all.
    """
    found = held if ranks is None else ranks.given(held)
    if len(found) == table.size:
        return found
    rows = (in_pieces(table) if ranks is None else table).with_columns(mixture.experts)
    shares = em.responsibilities_of(mixture, mixture.state(), rows).clone()
    shares[table.counted()] = found
    return shares


def state_of_given(mixture: MixtureOfExperts, table: Table, state: MixtureState, ranks: Ranks | None) -> MixtureState:
    """Return a state with the posteriors of all objects that this process was given; others have the prior.

    Args:
        mixture: holds the state.
        table: all objects that this process was given.
        state: of a mixture, with the posteriors of the objects that this process holds in the search, if any.
        ranks: how the objects lie on the ranks; None where one process has all.
    """
    if not isinstance(mixture.gate, ObjectGate):
        return state
    held: Tensor = state.gate.posterior[-1]
    found = held if ranks is None else ranks.given(held)
    if len(found) < table.size:
        counted, prior = found, mixture.gate.prior.concentration.detach()
        found = prior.to(counted).expand(table.size, -1).clone()
        found[table.counted()] = counted
    return with_objects(state, found)
