"""Names of the columns and of the estimated parameters of a mixture."""

from collections.abc import Sequence

from torch import Tensor

from mixpyro import arguments
from mixpyro.mixture import MixtureOfExperts


def parameter_names(mixture: MixtureOfExperts, features: list[str], gate_features: list[str]) -> list[str]:
    """Return a name for every entry of every estimated parameter, in the order of ``mixture.parameters()``.

    Args:
        mixture: any mixture.
        features: D names of the columns that the experts read.
        gate_features: G names of the columns that the gate reads.
    """
    by_part = {
        "gate": mixture.gate.parameter_names(gate_features),
        "experts": mixture.experts.parameter_names(features),
    }
    names = []
    for full_name, parameter in mixture.named_parameters():
        if parameter.requires_grad:
            part, name = full_name.split(".", 1)
            names += [f"{part}: {entry}" for entry in by_part[part][name]]
    return names


def checked_names(argument: str, names: Sequence[str] | None, x: Tensor) -> list[str]:
    """Return one name for each column of x; x0, x1, … where none are given.

    Args:
        argument: the caller's name for ``names``, for the error.
        names: D different names, or None.
        x: inputs [N, D].

    Raises:
        TypeError: if a name is not a string.
        ValueError: if there is not one name a column, or two are equal.
    """
    n_columns = arguments.inputs(x).shape[1]
    if names is None:
        return [f"x{column}" for column in range(n_columns)]
    found = arguments.texts(argument, names)
    if len(found) != n_columns or len(set(found)) != n_columns:
        raise ValueError(f"`{argument}` must be {n_columns} different names, one a column; got {found}.")
    return found


def checked_gate_names(names: Sequence[str] | None, features: list[str], x: Tensor, gate_x: Tensor | None) -> list[str]:
    """Return one name for each column that the gate reads: those of x where it reads x and no others are given.

    Args:
        names: different names, or None.
        features: names of the columns of x.
        x: inputs [N, D].
        gate_x: the gate's inputs [N, G], if they are not x.

    Raises:
        TypeError: if a name is not a string.
        ValueError: if there is not one name a column, or two are equal.
    """
    if names is None and gate_x is None:
        return features
    return checked_names("gate_feature_names", names, x if gate_x is None else gate_x)
