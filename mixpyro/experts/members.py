"""Checks of the banks that other experts are made of."""

from collections.abc import Sequence

from mixpyro.experts.base import Experts


def checked_members(members: object) -> list[Experts]:
    """Return the members if they are different banks of one number of outputs, all or none of them discrete.

    Args:
        members: what a user passes.

    Raises:
        TypeError: if they are no list of experts.
        ValueError: if one stands there twice, or they do not go together.
    """
    members = _checked_list(members)
    n_outputs = [member.n_outputs for member in members]
    if len(set(n_outputs)) != 1:
        raise ValueError(f"`members` must agree in `n_outputs`; got {n_outputs}.")
    discrete = [member.discrete_outputs for member in members]
    if len(set(discrete)) != 1:
        kinds = [type(member).__name__ for member in members]
        raise ValueError(
            "`members` must all be densities, or all probabilities of counts and categories, which no unit of y makes "
            f"comparable; got {kinds}."
        )
    return members


def checked_outputs(members: object) -> list[Experts]:
    """Return the members if they are different banks of one number of components.

    Args:
        members: what a user passes.

    Raises:
        TypeError: if they are no list of experts.
        ValueError: if one stands there twice, or they differ in K.
    """
    members = _checked_list(members)
    n_components = [member.n_components for member in members]
    if len(set(n_components)) != 1:
        raise ValueError(
            f"`members` must agree in `n_components`, for they share the assignments; got {n_components}. Banks of "
            "different components of one outcome are HeterogeneousExperts."
        )
    return members


def _checked_list(members: object) -> list[Experts]:
    """Return the members if they are different banks, at least one."""
    if not isinstance(members, Sequence):
        raise TypeError(f"`members` must be a list of mixpyro Experts; got {type(members).__name__}.")
    if not all(isinstance(member, Experts) for member in members):
        kinds = [type(member).__name__ for member in members]
        raise TypeError(f"`members` must be a list of mixpyro Experts; got {kinds}.")
    if not members or len(set(map(id, members))) != len(members):
        raise ValueError(f"`members` must be one bank or more, none of them twice; got {len(members)}.")
    dependent = [type(member).__name__ for member in members if member.reads_groups]
    if dependent:
        raise ValueError(
            f"`members` must have rows that are independent given their component; got {dependent}. Use them alone."
        )
    return list(members)
