"""Columns of numbers by a formula of formulaic, and the same columns of new rows."""

import copy
import dataclasses
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mixpyro.arguments import shown
from mixpyro.arguments.signals import pass_on
from mixpyro.frontends.formula_data import plain_columns
from mixpyro.frontends.formula_names import names_in, no_column

if TYPE_CHECKING:
    import pandas as pd
    from formulaic import ModelSpec

INTERCEPT = "Intercept"
# Rows of which columns are made again to see whether they depend on other rows.
N_REMADE = 50
# A difference of such a column relative to its values that is more than rounding.
MOST_ROUNDING = 1e-9
# Of a formula: formulaic takes three seconds for twice as many, and a hundred times as long for ten times as many.
MOST_CHARACTERS = 10_000
ANSI = re.compile(r"\x1b\[[0-9;]*m|[⧛⧚]")


@dataclass(frozen=True)
class Design:
    """What a formula makes of a table, with the state of its transforms and the levels of its categories.

    Attributes:
        argument: of the caller whose formula it is, for messages.
        spec: of formulaic.
        context: variables of the caller that the formula uses.
        data_columns: names of the columns of the table that the formula uses.
        scales: mean and spread of the columns that are counted from the mean in units of the spread, by name.
    """

    argument: str
    spec: "ModelSpec"
    context: Mapping[str, Any]
    data_columns: tuple[str, ...]
    scales: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        argument: str,
        formula: Any,  # noqa: ANN401 (a formula of formulaic, which is not imported here)
        data: "pd.DataFrame",
        context: Mapping[str, Any],
    ) -> tuple["Design", "pd.DataFrame"]:
        """Return the design of a table, and its columns.

        Args:
            argument: of the caller whose formula it is.
            formula: one side of a formula of formulaic.
            data: the rows, none with a missing value in a column that is used.
            context: variables of the caller that the formula uses.

        Raises:
            ValueError: if the formula cannot be evaluated.
        """
        refuse_dates(argument, formula, data)
        made = _made(argument, formula, data, context)
        design = cls(argument, made.model_spec, context, tuple(name for name in used_names(formula) if name in data))
        return design, design._numbers(made)

    @cached_property
    def has_intercept(self) -> bool:
        """Whether the formula has one."""
        return INTERCEPT in self.spec.column_names

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the columns, without the intercept; ``scale(x)`` of one in units of its spread."""
        return tuple(f"scale({name})" if name in self.scales else name for name in self.plain_names)

    @cached_property
    def plain_names(self) -> tuple[str, ...]:
        """Names of the columns as the formula has them, without the intercept."""
        return tuple(str(name) for name in self.spec.column_names if name != INTERCEPT)

    @cached_property
    def terms(self) -> dict[str, tuple[str, ...]]:
        """Names of the columns of each term, without the intercept."""
        names = self.spec.column_names
        found = {str(term): tuple(str(names[i]) for i in own) for term, own in self.spec.term_indices.items()}
        return {term: own for term, own in found.items() if own != (INTERCEPT,)}

    def columns(self, data: "pd.DataFrame", *, may_be_missing: bool = False) -> "pd.DataFrame":
        """Return the columns of other rows, by the state and the levels of the fit.

        Args:
            data: new rows, with the columns of the table that the formula uses.
            may_be_missing: whether a column may have missing values: NaN in what is made of it.

        Raises:
            ValueError: if a column is missing, a value is missing or not finite, or a level was not in the fit.
        """
        for name in self.data_columns:
            if name not in data.columns:
                raise no_column(self.argument, name, data.columns)
        own = plain_columns(data[list(self.data_columns)])
        missing = own.isna()
        if bool(missing.to_numpy().any()) and not may_be_missing:
            name = next(name for name in own.columns if bool(missing[name].any()))
            raise ValueError(
                f"`data` must have a value in every row of column {shown(name)}, which `{self.argument}` uses; got "
                f"{int(missing[name].sum())} missing. Drop these rows, as data.dropna(subset=[{shown(name)}])."
            )
        self._refuse_other_kinds(own)
        return self._numbers(_made(self.argument, self._own_spec(), own, self.context))

    def rows_that_depend(self, data: "pd.DataFrame", columns: "pd.DataFrame") -> list[str]:
        """Return names of columns whose values depend on which other rows there are.

        Args:
            data: the rows of the fit.
            columns: that they have.
        """
        complete = np.flatnonzero(data[list(self.data_columns)].notna().to_numpy().all(1))
        some = complete[1 :: max(2, len(complete) // N_REMADE)]
        if len(some) < 2:
            return []
        wanted = columns.iloc[some].to_numpy()
        remade = self._numbers(_made(self.argument, self._own_spec(), data.iloc[some], self.context)).to_numpy()
        if remade.shape != wanted.shape:
            return list(self.names)
        sizes = np.abs(columns.to_numpy())
        rounding = MOST_ROUNDING * np.where(np.isfinite(sizes), sizes, 0.0).max(0, initial=0.0)
        # Limits of a censored outcome may be infinite.
        same = np.isclose(remade, wanted, rtol=0.0, atol=rounding, equal_nan=True)
        differs = ~same.all(0)
        return [name for name, one in zip(self.names, differs, strict=True) if one]

    def scaled(self, columns: "pd.DataFrame") -> "pd.DataFrame":
        """Return columns in units of their spreads, where they have scales.

        Args:
            columns: as the formula makes them.
        """
        if not self.scales:
            return columns
        own = {name: (columns[name] - mean) / spread for name, (mean, spread) in self.scales.items()}
        return columns.assign(**own).set_axis(list(self.names), axis=1)

    def _own_spec(self) -> "ModelSpec":
        """Return a copy of the specification, for formulaic writes into the state of one that it makes columns by."""
        states = {name: copy.deepcopy(getattr(self.spec, name)) for name in ("transform_state", "encoder_state")}
        return dataclasses.replace(self.spec, **states)

    def _refuse_other_kinds(self, data: "pd.DataFrame") -> None:
        """Raise if a column of numbers has something else, or a category a level that it had not in the fit."""
        import pandas as pd

        for factor, (kind, state) in self.spec.encoder_state.items():
            name = str(factor)
            if kind.value == "numerical" and name in data.columns and not pd.api.types.is_numeric_dtype(data[name]):
                raise ValueError(
                    f"`data` must have numbers in column {shown(name)}, as in the fit; got {data[name].dtype}."
                )
            if "categories" not in state:
                continue
            inside = re.sub(r"^C\((.*)\)$", r"\1", name)
            column = next((own for own in (inside, inside.split(",")[0].strip(" `")) if own in data.columns), None)
            known = list(state["categories"])
            if column is None:
                continue
            other = [level for level in data[column].unique().tolist() if level not in known]
            if other:
                raise ValueError(
                    f"`data` must have the levels of the fit in column {shown(column)}, {known}; got "
                    f"{shown(other[0])}. Leave out its rows, or fit again with them."
                )

    def _numbers(self, made: "pd.DataFrame") -> "pd.DataFrame":
        """Return columns of float64 without the intercept."""
        import pandas as pd

        try:
            values = np.asarray(made.loc[:, list(self.plain_names)].to_numpy(), dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"`{self.argument}` must have terms of numbers or categories; got {error}.") from error
        return self.scaled(pd.DataFrame(values, index=made.index, columns=list(self.plain_names), copy=False))


def used_names(formula: Any) -> tuple[str, ...]:  # noqa: ANN401 (a formula of formulaic)
    """Return the names that one side of a formula uses, each once.

    Args:
        formula: terms of formulaic.
    """
    found: list[str] = []
    for term in formula:
        for factor in term.factors:
            kind = factor.eval_method.value
            found += [factor.expr] if kind == "lookup" else names_in(factor.expr) if kind == "python" else []
    return tuple(dict.fromkeys(found))


def refuse_dates(argument: str, formula: Any, data: "pd.DataFrame") -> None:  # noqa: ANN401 (of formulaic)
    """Raise if a term is a column of dates or complex numbers, or no column at all.

    Args:
        argument: whose formula it is.
        formula: terms of formulaic.
        data: the table.

    Raises:
        ValueError: if there is one.
    """
    for term in formula:
        for factor in term.factors:
            if factor.eval_method.value != "lookup":
                continue
            if factor.expr not in data.columns:
                raise no_column(argument, factor.expr, data.columns)
            kind = data[factor.expr].dtype
            if factor.expr == INTERCEPT:
                raise ValueError(f"`{argument}` must have no column of the name {INTERCEPT!r}; got one. Rename it.")
            if str(kind).startswith(("date", "time", "period")):
                use = "days" if str(kind).startswith("time") else "year"
                raise ValueError(
                    f"`{argument}` must have terms of numbers or categories; got column {shown(factor.expr)} of "
                    f"{kind}. Use a number, such as I({factor.expr}.dt.{use})."
                )
            if str(kind).startswith("complex"):
                raise ValueError(
                    f"`{argument}` must have terms of real numbers; got column {shown(factor.expr)} of {kind}."
                )


def parsed(argument: str, text: str) -> Any:  # noqa: ANN401 (a formula of formulaic)
    """Return a formula of formulaic.

    Args:
        argument: whose formula it is, for messages.
        text: of it.

    Raises:
        ValueError: if it is none.
    """
    from formulaic import Formula
    from formulaic.errors import FormulaicError

    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"`{argument}` must have at most {MOST_CHARACTERS} characters; got {len(text)}.")
    if re.search(r"(^|[\s~+:*(-])\.($|[\s+:*)-])", text):
        raise ValueError(f"`{argument}` must name its columns; got '.' in {shown(text)}. Name them, as in 'y ~ a + b'.")
    if "|" in text:
        raise ValueError(
            f"`{argument}` must have no '|'; got {shown(text)}. Pass groups='name' for rows that share a component, "
            "and random='~ 1' for effects of groups."
        )
    try:
        return Formula(text)
    except (FormulaicError, SyntaxError, UnicodeError) as error:
        words = " ".join(ANSI.sub("", str(error)).split())
        if "`.`" in words:
            words = "a dot stands for no columns here. Name them, as in 'y ~ a + b'"
        advice = "A name with blanks or signs stands between backquotes, as in 'y ~ `body mass`'."
        raise ValueError(f"`{argument}` must be a formula; got {shown(text)}: {words}. {advice}") from error


def _made(
    argument: str,
    formula: Any,  # noqa: ANN401 (a formula or a specification of formulaic)
    data: "pd.DataFrame",
    context: Mapping[str, Any],
) -> Any:  # noqa: ANN401 (a model matrix of formulaic)
    """Return the model matrix of rows."""
    from formulaic.errors import DataMismatchWarning, FormulaicError

    with warnings.catch_warnings():
        warnings.simplefilter("error", DataMismatchWarning)
        try:
            return formula.get_model_matrix(data, context=context, na_action="ignore")
        except DataMismatchWarning as error:
            raise ValueError(
                f"`data` must have the levels of the fit in the categories of `{argument}`; got others."
            ) from error
        except (FormulaicError, TypeError, ValueError, NameError, AttributeError) as error:
            pass_on(error)
            words = " ".join(ANSI.sub("", str(error)).split())
            raise ValueError(f"`{argument}` must be a formula of the columns of `data`; {words}") from error
