"""Offsets and numbers of trials: the last column of x of generalised linear models."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mixpyro.arguments import shown
from mixpyro.experts.families import Family
from mixpyro.frontends.design import Design, parsed
from mixpyro.frontends.families_by_name import OF_EXPOSURE, OF_TRIALS

if TYPE_CHECKING:
    import pandas as pd

OFFSET, TRIALS = "offset", "trials"


@dataclass(frozen=True)
class Exposure:
    """What a rate is multiplied by, or a number of trials, by an expression of columns.

    Attributes:
        argument: "offset" or "trials".
        text: as the caller gave it.
        design: of one column.
        is_log: whether the column is the logarithm of the exposure.
    """

    argument: str
    text: str
    design: Design
    is_log: bool

    @classmethod
    def of(
        cls, argument: str, text: str, data: "pd.DataFrame", context: Mapping[str, Any]
    ) -> tuple["Exposure", np.ndarray]:
        """Return an exposure, and its values in the rows of a fit [N].

        Args:
            argument: "offset", which is added to the linear predictor, or "trials".
            text: an expression of columns. Of an offset log(t), the exposure is t to the last digit.
            data: the rows.
            context: variables of the caller that it uses.

        Raises:
            ValueError: if it is no expression of numbers above zero.
        """
        is_column = text in data.columns
        inside, is_log = _logarithm(text) if argument == OFFSET and not is_column else (text, argument == OFFSET)
        formula = parsed(argument, one_column(inside, data.columns))
        design, columns = Design.of(argument, formula, data, context)
        if len(design.names) != 1:
            raise ValueError(f"`{argument}` must be one column of numbers; got {shown(text)}.")
        exposure = cls(argument, text, design, is_log)
        return exposure, exposure._checked(columns)

    def values(self, data: "pd.DataFrame") -> np.ndarray:
        """Return the exposure of other rows [N].

        Args:
            data: new rows.

        Raises:
            ValueError: if a column or a value is missing, or one is not above zero.
        """
        return self._checked(self.design.columns(data))

    def _checked(self, columns: "pd.DataFrame") -> np.ndarray:
        """Return exposures if all are above zero and finite."""
        values = columns.to_numpy()[:, 0]
        exposure = np.exp(values) if self.is_log else values
        bad = ~((exposure > 0) & np.isfinite(exposure))
        if bool(bad.any()):
            wanted = "finite" if self.is_log else "finite and above zero"
            what = "whose exposure must be" if self.argument == OFFSET and not self.is_log else "which must be"
            raise ValueError(
                f"`{self.argument}` is {shown(self.text)}, {what} {wanted}; got {values[bad][0]:g} in row "
                f"{shown(columns.index[bad][0])}."
            )
        return exposure


def check_exposure(argument: str, family: Family | None) -> None:
    """Raise unless a family has an exposure of this kind.

    Args:
        argument: "offset" or "trials".
        family: of the outcomes; None for the conjugate Gaussian.

    Raises:
        ValueError: if it has none.
    """
    kinds = OF_EXPOSURE if argument == OFFSET else OF_TRIALS
    if isinstance(family, kinds):
        return
    allowed = ", ".join(kind.__name__ for kind in kinds)
    own = "gaussian" if family is None else type(family).__name__
    advice = " Subtract it on the left: 'I(y - z) ~ x'." if argument == OFFSET and not family else ""
    raise ValueError(f"`{argument}` must be None but for the families {allowed}; got family {own}.{advice}")


def one_column(text: str, columns: Any) -> str:  # noqa: ANN401 (an index of names)
    """Return a formula of one column, without an intercept.

    Args:
        text: the name of a column, or an expression.
        columns: names of all columns.
    """
    return f"0 + `{text}`" if text in columns else f"0 + {{{text}}}"


def _logarithm(text: str) -> tuple[str, bool]:
    """Return t and False of log(t), and the text and True of anything else."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        return text, True
    if isinstance(tree, ast.Call) and len(tree.args) == 1 and not tree.keywords:
        if ast.unparse(tree.func) in ("log", "np.log", "numpy.log"):
            return ast.unparse(tree.args[0]), False
    return text, True
