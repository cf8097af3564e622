"""Which coefficients of K regressions are common to several components."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro import arguments

INTERCEPT, SCALE = "intercept", "scale"
# A column of x by its number, or one of the two names above.
Shared = Sequence[int | str]


class Sharing:
    """Columns of u = [1, x] whose coefficients components share, within sets of components.

    Args:
        shared: numbers of columns of x, "intercept", and "scale" for the noise.
        within: sets of components, each component in one of them; one set of all by default.
        n_components: K.
        n_features: D.
        has_scale: whether there is a noise to share.
        intercept: whether u has its column of ones.

    Raises:
        TypeError: if an argument is no sequence.
        ValueError: if a column or component is unknown, or nothing is left to differ or to share.
    """

    def __init__(
        self,
        shared: Shared,
        within: Sequence[Sequence[int]] | None,
        *,
        n_components: int,
        n_features: int,
        has_scale: bool,
        intercept: bool = True,
    ) -> None:
        self.shared = _checked_columns(shared, n_features, has_scale)
        self.sets = _checked_sets(within, n_components, any_shared=bool(self.shared))
        self.n_components = n_components
        self.has_scale = SCALE in self.shared
        columns = [0 if name == INTERCEPT else int(name) + 1 for name in self.shared if name != SCALE]
        self.columns = sorted(columns)
        self.own_columns = [c for c in range(0 if intercept else 1, n_features + 1) if c not in columns]
        if not self.own_columns:
            raise ValueError(
                "`shared` must leave each component a coefficient of its own; got the intercept and every column. "
                "Leave one out, or fit one component."
            )

    @property
    def within(self) -> tuple[tuple[int, ...], ...] | None:
        """The sets; None for one set of all components."""
        return None if len(self.sets) == 1 else self.sets

    @property
    def set_of(self) -> list[int]:
        """Number of the set of every component [K]."""
        return [next(j for j, one in enumerate(self.sets) if k in one) for k in range(self.n_components)]

    @property
    def firsts(self) -> list[int]:
        """The first component of every set."""
        return [one[0] for one in self.sets]

    def joined(self, own: Float[Tensor, "*S K C Eo"], common: Float[Tensor, "*S J C Es"]) -> Float[Tensor, "*S K C E"]:
        """Return the coefficients of every component in the order of [1, x].

        Args:
            own: of the columns that are not shared.
            common: of those that are, for each of J sets.
        """
        both = torch.cat([own, common[..., self.set_of, :, :]], dim=-1)
        order = [*self.own_columns, *self.columns]
        return both[..., sorted(range(len(order)), key=order.__getitem__)]

    def parted(
        self, coefficients: Float[Tensor, "*S K C E"]
    ) -> tuple[Float[Tensor, "*S K C Eo"], Float[Tensor, "*S J C Es"]]:
        """Return own and common coefficients; inverse of :meth:`joined`.

        Args:
            coefficients: of every component, equal where they are shared.
        """
        if not self.columns:
            return coefficients, coefficients[..., : len(self.sets), :, :0]
        return coefficients[..., self.own_columns], coefficients[..., self.firsts, :, :][..., self.columns]

    def selection(self, *, own: bool, common: bool, like: Tensor) -> Float[Tensor, "K E F"]:
        """Return which coefficient of a component is which of the numbers to estimate: own ones first, then common.

        Args:
            own: whether own coefficients are estimated.
            common: whether common ones are.
            like: a tensor on the device of the result, which is float64.
        """
        entries = [(k, column, (k, column)) for k in range(self.n_components) for column in self.own_columns if own]
        set_of = self.set_of
        shared = [(k, column, (-1 - set_of[k], column)) for column in self.columns for k in range(self.n_components)]
        entries += shared if common else []
        numbers = {key: number for number, key in enumerate(dict.fromkeys(key for *_, key in entries))}
        shape = self.n_components, len(self.columns) + len(self.own_columns), len(numbers)
        selection = torch.zeros(shape, dtype=torch.float64, device=like.device)
        for k, column, key in entries:
            selection[k, column, numbers[key]] = 1.0
        return selection

    def of_components(self, kept: Sequence[int]) -> "Sharing":
        """Return what some of the components share, by their new numbers, with the sets in order.

        Args:
            kept: numbers of the components, in the order wanted.
        """
        found = (tuple(new for new, old in enumerate(kept) if old in one) for one in self.sets)
        within = [one for one in found if one]
        return Sharing(
            self.shared,
            within if self.shared else None,
            n_components=len(kept),
            n_features=len(self.columns) + len(self.own_columns) - 1,
            has_scale=self.has_scale,
        )

    def used_sets(self, kept: Sequence[int]) -> list[int]:
        """Return the numbers of the sets that have any of some components.

        Args:
            kept: numbers of the components.
        """
        return [j for j, one in enumerate(self.sets) if set(one) & set(kept)]


def _checked_columns(shared: Shared, n_features: int, has_scale: bool) -> tuple[int | str, ...]:
    """Return the columns, each once."""
    if isinstance(shared, str) or not isinstance(shared, Sequence):
        kind = "a list of columns of x, 'intercept' and 'scale'"
        raise TypeError(f"`shared` must be {kind}; got {arguments.shown(shared)}.")
    allowed = f"a number below {n_features}, the columns of x, or 'intercept'{', or ' + repr(SCALE) * has_scale}"
    allowed = allowed.removesuffix(", or ")
    for one in shared:
        is_column = isinstance(one, int) and not isinstance(one, bool) and 0 <= one < n_features
        is_word = isinstance(one, str) and (one == INTERCEPT or (one == SCALE and has_scale))
        if not (is_column or is_word):
            raise ValueError(f"`shared` must have as each entry {allowed}; got {arguments.shown(one)}.")
    return tuple(dict.fromkeys(shared))


def _checked_sets(
    within: Sequence[Sequence[int]] | None, n_components: int, *, any_shared: bool
) -> tuple[tuple[int, ...], ...]:
    """Return the sets, a partition of the components."""
    if within is None:
        return (tuple(range(n_components)),)
    if not (isinstance(within, list | tuple) and all(isinstance(one, Sequence) for one in within)):
        raise TypeError(f"`shared_within` must be lists of components; got {arguments.shown(within)}.")
    sets = tuple(tuple(arguments.integer("shared_within", k, least=0) for k in one) for one in within)
    if sorted(k for one in sets for k in one) != list(range(n_components)):
        raise ValueError(
            f"`shared_within` must have each of the components 0 to {n_components - 1} in one set; got {list(within)}."
        )
    if not any_shared:
        raise ValueError("`shared` must name what the sets of `shared_within` have in common; got nothing.")
    return sets
