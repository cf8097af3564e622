"""The left side of a formula: columns of y, and the levels of an outcome that is a category."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mixpyro.arguments import shown
from mixpyro.experts.families import Binomial, Categorical, CensoredGaussian, Family, Multinomial
from mixpyro.frontends.design import Design
from mixpyro.frontends.families_by_name import family_name, family_of

if TYPE_CHECKING:
    import pandas as pd

# Levels that a message lists; more are rather numbers that were read as text.
N_SHOWN = 12


@dataclass(frozen=True)
class Response:
    """What a formula makes of outcomes.

    Attributes:
        design: of the left side.
        family: of the outcomes; None for the conjugate experts of Gaussian noise.
        levels: of an outcome that is a category, in order; empty for numbers.
    """

    design: Design
    family: Family | None
    levels: tuple[Any, ...] = ()

    @classmethod
    def of(cls, design: Design, columns: "pd.DataFrame", family: object) -> tuple["Response", "pd.DataFrame"]:
        """Return the response of the rows of a fit, and y.

        Args:
            design: of the left side.
            columns: that it has in these rows.
            family: a name or a Family.

        Raises:
            TypeError: if the family is something else.
            ValueError: if the columns do not fit the family.
        """
        name = family_name(family).lower()
        levels = _levels(design)
        n_categories = len(levels) or (columns.shape[1] if name == "multinomial" else 0)
        if name == "categorical" and not levels:
            n_categories = 1 + int(columns.to_numpy().max(initial=0.0))
        if name in ("categorical", "multinomial") and n_categories < 2:
            raise ValueError(f"`formula` must have a response of two categories or more; got {n_categories}.")
        response = cls(design, family_of(family, n_categories), levels)
        response._check(columns.shape[1])
        return response, response.outcomes(columns)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns of y."""
        if self.levels and not isinstance(self.family, Multinomial):
            return (next(iter(self.design.terms)),)
        return self.design.names

    def outcomes(self, columns: "pd.DataFrame") -> "pd.DataFrame":
        """Return y of rows: numbers, whether the second of two levels, or the number of the level.

        Args:
            columns: of the design.
        """
        import pandas as pd

        if not self.levels or isinstance(self.family, Multinomial):
            return columns
        indicators = columns.to_numpy()
        numbers = np.where(indicators.any(1), indicators.argmax(1), np.nan)
        return pd.DataFrame({self.names[0]: numbers}, index=columns.index)

    def _check(self, n_columns: int) -> None:
        """Raise unless the columns fit the family."""
        text = str(self.design.spec.formula)
        if self.levels:
            if isinstance(self.family, Binomial) and len(self.levels) == 2:
                return
            if not isinstance(self.family, Categorical | Multinomial):
                raise ValueError(
                    f"`formula` must have a response of numbers for this family; got {shown(text)} with "
                    f"{self._levels_in_words()}."
                )
            return
        wanted = 2 if isinstance(self.family, CensoredGaussian) else 1
        many = self.family is None or isinstance(self.family, Multinomial)
        if not many and n_columns != wanted:
            advice = " Write 'lower + upper ~ …', the limits of the outcome." if wanted == 2 else ""
            raise ValueError(
                f"`formula` must have {wanted} column{'s' * (wanted > 1)} on the left for "
                f"{type(self.family).__name__}; got {n_columns} of {shown(text)}.{advice}"
            )

    def _levels_in_words(self) -> str:
        """Return the first levels, and what to do with an outcome that has them."""
        levels = ", ".join(repr(level) for level in self.levels[:N_SHOWN])
        if len(self.levels) > N_SHOWN:
            name = next(iter(self.design.terms))
            return f"{len(self.levels)} levels, {levels}, …. Make it numbers by pandas.to_numeric(data[{shown(name)}])"
        return f"the levels [{levels}]. Use family={'categorical' if len(self.levels) != 2 else 'binomial'!r}"


def _levels(design: Design) -> tuple[Any, ...]:
    """Return the levels of the one term that is a category; none for numbers."""
    if design.has_intercept or not design.names:
        raise ValueError(
            f"`formula` must have columns on the left, as in 'y ~ x'; got {shown(str(design.spec.formula))}. Write "
            "I(y + 1) for a sum."
        )
    states = [state for _, state in design.spec.encoder_state.values() if "categories" in state]
    if not states:
        return ()
    if len(design.terms) > 1:
        raise ValueError(
            f"`formula` must have one category, or numbers, on the left; got {shown(str(design.spec.formula))}."
        )
    return tuple(states[0]["categories"])
