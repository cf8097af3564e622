"""What a fit by formulas gives back: a result that reads tables of the columns that the formulas use."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from mixpyro import arguments
from mixpyro.experts.families import Categorical
from mixpyro.fitting.result import FitResult
from mixpyro.fitting.result_reports import Sample
from mixpyro.frontends.formula_data import as_pandas
from mixpyro.frontends.formula_model import FormulaModel, FormulaRows
from mixpyro.frontends.formula_summary import head_of
from mixpyro.mixture import Assignment
from mixpyro.reports.summary import Section, Summary, html_of, html_of_result, summary_of
from mixpyro.tables.returned import RowLabels

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False, eq=False)
class FormulaResult(FitResult):
    """A fitted mixture, the formulas that it is of, and the fits with other numbers of components.

    Methods that read rows take a table with the columns of the formulas, those of the fit by default. They return
    frames and Series with the labels of its rows.

    Attributes:
        model: the formulas, with the state of transforms and the levels of categories.
        dropped: labels of the rows of the table that were not used, for a value was missing.
        candidates: a row for each K that was fitted: bound, log likelihood, criteria, convergence, which was chosen.
        choice: why this K was chosen, in a sentence.
        fits: the results by K, where several were fitted.
    """

    model: FormulaModel | None = field(repr=False, default=None)
    dropped: "pd.Index | None" = field(repr=False, default=None)
    candidates: Any = field(repr=False, default=None)  # a DataFrame
    choice: str = field(repr=False, default="")
    fits: Mapping[int, "FormulaResult"] = field(repr=False, default_factory=dict)

    @classmethod
    def of_fit(cls, result: FitResult, *, cautions: Sequence[str], **own: Any) -> "FormulaResult":  # noqa: ANN401
        """Return a result with its formulas.

        Args:
            result: of ``fit``.
            cautions: of the formulas, put before those of the fit.
            **own: model, dropped, candidates and choice.
        """
        given = {one.name: getattr(result, one.name) for one in dataclasses.fields(result)}
        return cls(**{**given, "cautions": (*cautions, *result.cautions)}, **own)

    @arguments.declared
    def with_fits(self, fits: Mapping[int, "FormulaResult"]) -> "FormulaResult":
        """Return the result with the fits of other numbers of components beside it.

        Args:
            fits: by K.
        """
        return dataclasses.replace(self, fits=dict(fits))

    @arguments.declared
    def of(self, k: int) -> "FormulaResult":
        """Return the fit with another number of components.

        Args:
            k: K.

        Raises:
            ValueError: if it was not fitted.
        """
        if k == self.mixture.n_components:
            return self
        if k not in self.fits:
            raise ValueError(
                f"`k` must be one of the numbers that were fitted, {sorted(self.fits)}; got {arguments.shown(k)}."
            )
        return self.fits[k].with_fits(self.fits)

    def __repr__(self) -> str:
        """Say of which formula, how many components of how many objects, and how the fit ended."""
        formula = "" if self.model is None else f"{self.model.parts.experts}: "
        return super().__repr__().replace("FitResult(", f"FormulaResult({formula}", 1)

    @property
    def n_dropped(self) -> int:
        """How many rows of the table were not used, for a value was missing."""
        return 0 if self.dropped is None else len(self.dropped)

    @property
    def labels(self) -> Any:  # noqa: ANN401 (a Series)
        """The most probable component of each row, that of its group where rows have groups: a Series by row."""
        labels = self.shares.argmax(-1)
        labels = labels if self.groups is None else self.groups.spread(labels)
        return self._of_rows().series(labels, "component")

    @arguments.renamed(x="data")
    def predict(self, data: Any = None, *, gate_x: Any = None) -> Any:  # noqa: ANN401 (tables)
        """Return predictive means of the response: a Series, or a frame of several, or of the levels of a category.

        Args:
            data: a table with the columns of the formulas; the rows of the fit by default. Tensors are inputs as the
                mixture reads them.
            gate_x: what the gate reads, beside a tensor.

        Raises:
            ValueError: if a column or a value is missing, or a level was not in the fit.
        """
        x, gate_x = self._inputs(data, gate_x)
        found, response = super().predict(x, gate_x=gate_x), self._known_model().response
        # One probability for each level, where the response is one column.
        of_levels = isinstance(response.family, Categorical) and bool(response.levels)
        return found.set_axis(list(response.levels), axis=1) if of_levels and not isinstance(found, Tensor) else found

    @arguments.renamed(x="data")
    def quantile(self, probabilities: Any, data: Any = None, *, gate_x: Any = None) -> Any:  # noqa: ANN401
        """Return quantiles of the response, a column for each probability.

        Args:
            probabilities: one or several, above 0 and below 1.
            data: as for :meth:`predict`.
            gate_x: as for :meth:`predict`.
        """
        x, gate_x = self._inputs(data, gate_x)
        return super().quantile(probabilities, x, gate_x=gate_x)

    @arguments.renamed(x="data")
    def assign(
        self,
        data: Any = None,  # noqa: ANN401 (a table)
        y: Any = None,  # noqa: ANN401
        *,
        gate_x: Any = None,  # noqa: ANN401
        groups: Any = None,  # noqa: ANN401 (ids)
    ) -> Assignment:
        """Return responsibilities, a column for each component, and log evidences of rows with their response.

        Args:
            data: as for :meth:`predict`, with the response.
            y: outputs, beside a tensor.
            gate_x: as for :meth:`predict`.
            groups: an id for each row, where those of the fit were no columns.
        """
        if data is None or isinstance(data, Tensor):
            return super().assign(data, y, gate_x=gate_x, groups=groups)
        rows = self._rows(data, with_outcomes=True)
        groups = rows.groups if groups is None else groups
        return super().assign(rows.x, rows.y, gate_x=self._gate_x(rows), groups=groups)

    @arguments.renamed(x="data")
    def log_prob(self, data: Any = None, *, groups: Any = None) -> Any:  # noqa: ANN401 (tables)
        """Return the log density of the response of each row, or of each group, in nats: a Series.

        It is that of the left side of the formula: of log(y), not of y, where that is the response.

        Args:
            data: as for :meth:`predict`, with the response.
            groups: as for :meth:`assign`.
        """
        if data is None:
            own = self._own_rows()
            found = self.mixture.log_prob(own.x, own.y, gate_x=own.gate_x, groups=self.groups)
            return self._of_objects().series(found, "log_prob")
        rows = self._rows(data, with_outcomes=True)
        groups = rows.groups if groups is None else groups
        return self.mixture.log_prob(rows.x, rows.y, gate_x=self._gate_x(rows), groups=groups)

    @arguments.renamed(x="data")
    def gate_weights(self, data: Any = None) -> Any:  # noqa: ANN401 (tables)
        """Return the weights that the gate gives to the components in each row: a frame.

        Args:
            data: as for :meth:`predict`.
        """
        x, gate_x, labels = self._labelled_inputs(data, None)
        weights = self.mixture.predictive(x, gate_x=gate_x).mixture_distribution.probs
        return labels.frame(weights, range(self.mixture.n_components))

    @arguments.renamed(x="data")
    def sample(
        self,
        n_draws: int = 1,
        data: Any = None,  # noqa: ANN401 (a table)
        *,
        gate_x: Any = None,  # noqa: ANN401
        seed: int = 0,
    ) -> Sample:
        """Draw new responses, and the component that each is of.

        Args:
            n_draws: S, at least 1.
            data: as for :meth:`predict`.
            gate_x: as for :meth:`predict`.
            seed: of the draws, at least 0.

        Returns:
            Frames with a row for each row of the table: ``components`` with a column for each draw, and ``y`` too, or
            of several responses a column for each draw and response. Tensors of tensors.
        """
        if isinstance(data, Tensor):
            return super().sample(n_draws, data, gate_x=gate_x, seed=seed)
        x, gate_x, labels = self._labelled_inputs(data, gate_x)
        drawn = super().sample(n_draws, x, gate_x=gate_x, seed=seed)
        draws, names = range(len(drawn.y)), self._known_model().response.names
        columns = draws if len(names) == 1 else [(draw, name) for draw in draws for name in names]
        y = labels.frame(drawn.y.transpose(0, 1).flatten(1), columns)
        return Sample(y, labels.frame(drawn.components.mT, draws))

    def summary(self, *, probability: float = 0.9) -> Summary:
        """Return what a person should know of the fit: formulas, rows, the choice of K, then what every fit has.

        Args:
            probability: that the intervals hold, above 0 and below 1.
        """
        return Summary.of([*self._head(), *summary_of(self, probability=probability).sections])

    def _repr_html_(self) -> str:
        """Return tables for a notebook: formulas, rows, the choice of K, and the components."""
        return html_of(tuple(self._head())) + html_of_result(self)

    def _head(self) -> list[Section]:
        """Return the formulas, the rows and the choice of K."""
        n_rows = 0 if self.rows is None else len(self.rows.y)
        return head_of(self._known_model(), n_rows, self.n_dropped, self.choice, self.candidates)

    def _known_model(self) -> FormulaModel:
        """Return the formulas."""
        if self.model is None:
            raise ValueError("`model` must be that of a fit by formulas; got None. Use `fit_formula`.")
        return self.model

    def _rows(self, data: Any, *, with_outcomes: bool = False) -> FormulaRows:  # noqa: ANN401 (a table)
        """Return the rows of a table as the mixture reads them."""
        return self._known_model().rows(as_pandas(data), with_outcomes=with_outcomes)

    def _inputs(self, data: Any, gate_x: Any) -> tuple[Any, Any]:  # noqa: ANN401 (tables or tensors)
        """Return x and what the gate reads of a table; tensors and None as they are."""
        if data is None or isinstance(data, Tensor):
            return data, gate_x
        rows = self._rows(data)
        return rows.x, self._gate_x(rows)

    def _labelled_inputs(self, data: Any, gate_x: Any) -> tuple[Any, Any, RowLabels]:  # noqa: ANN401
        """Return x, what the gate reads, and the labels of the rows, those of the fit without a table."""
        if data is None:
            own = self._own_rows()
            return own.x, own.gate_x, self._of_rows()
        x, gate_x = self._inputs(data, gate_x)
        return x, gate_x, RowLabels("" if isinstance(x, Tensor) else "pandas", getattr(x, "index", None))

    def _gate_x(self, rows: FormulaRows) -> "pd.DataFrame | None":
        """Return what the gate reads: no column where an estimated gate is constant."""
        if rows.gate_x is not None or self._known_model().family is None:
            return rows.gate_x
        return rows.x.iloc[:, :0]

    def _of_rows(self) -> RowLabels:
        """Return the labels of the rows of the fit."""
        return RowLabels("pandas", self._own_rows().index)
