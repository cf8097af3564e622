"""What a result offers to those who read it: labels, predictions, tables and pictures of the rows of the fit."""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mixpyro import arguments
from mixpyro.fitting.later_layers import later
from mixpyro.groups import GroupIds, Groups
from mixpyro.mixture import Assignment, MixtureOfExperts
from mixpyro.mixture_tables import framed_means, framed_quantiles
from mixpyro.numerics.random_numbers import own_random_numbers
from mixpyro.saving.model_file import save
from mixpyro.shapes import AnyTable, GateInputs, Inputs, Targets
from mixpyro.tables.frames import is_frame
from mixpyro.tables.given import GivenRows, Names, given_rows
from mixpyro.tables.returned import RowLabels


class Sample(NamedTuple):
    """Draws from the predictive distribution of N rows."""

    y: Tensor  # [S, N, P]
    components: Tensor  # component that each y is of [S, N], integers


class ResultReports:
    """Methods of a fit's result that take its own rows where no others are given.

    Where the fit was given frames, they return frames with the same row labels; where objects are groups of rows, what
    is said of objects is labelled by the ids of the groups.
    """

    mixture: MixtureOfExperts
    shares: Tensor
    groups: Groups | None
    rows: GivenRows | None

    @property
    def responsibilities(self) -> AnyTable:
        """q(z) [N, K]: :attr:`shares`, as a frame with a column for each component where the fit was given frames."""
        return self._of_objects().frame(self.shares, range(self.mixture.n_components))

    @property
    def labels(self) -> AnyTable:
        """The most probable component of each object [N], integers; a Series where the fit was given frames."""
        return self._of_objects().series(self.shares.argmax(-1), "component")

    @property
    def names(self) -> Names:
        """Names of the columns of x, y and what the gate reads: those of the frames, or numbered ones.

        Raises:
            ValueError: if the result does not have the rows, as that of a stream.
        """
        return self._own_rows().names

    def predict(self, x: Inputs | AnyTable = None, *, gate_x: GateInputs | AnyTable = None) -> AnyTable:
        """Return the predictive mean of y [N, P], a Series or a frame where x is one.

        Args:
            x: inputs [N, D] of new rows; those of the fit by default. A frame may have all columns, in any order.
            gate_x: what the gate reads [N, G], where that is not x; taken from x by name if that is a frame with them.
        """
        if x is None:
            own = self._own_rows()
            return framed_means(self.mixture, self.mixture.predict(own.x, gate_x=own.gate_x), own.labels)
        return self.mixture.predict(x, gate_x=gate_x)

    def quantile(
        self,
        probabilities: float | Sequence[float] | AnyTable,
        x: Inputs | AnyTable = None,
        *,
        gate_x: GateInputs | AnyTable = None,
    ) -> AnyTable:
        """Return quantiles of new y given x, each output by itself [Q, N, P], a frame where x is one.

        Args:
            probabilities: one or several, above 0 and below 1.
            x: as for :meth:`predict`.
            gate_x: as for :meth:`predict`.
        """
        levels = given_rows({"probabilities": probabilities}).tensors["probabilities"]
        if x is None:
            own = self._own_rows()
            found = self.mixture.quantile(own.x, levels, gate_x=own.gate_x)
            return framed_quantiles(self.mixture, found, levels, own.labels)
        return self.mixture.quantile(x, levels, gate_x=gate_x)

    def assign(
        self,
        x: Inputs | AnyTable = None,
        y: Targets | AnyTable = None,
        *,
        gate_x: GateInputs | AnyTable = None,
        groups: GroupIds | None = None,
    ) -> Assignment:
        """Return responsibilities and log evidences of new rows; of the fit's rows by default.

        Args:
            x: inputs [N, D] of new rows, or a frame with the columns of x and y.
            y: outputs [N, P] or [N]; taken from x by name if that is a frame with them.
            gate_x: as for :meth:`predict`.
            groups: an id of the group of each row [N], where the fit had groups.
        """
        if x is None:
            own = self._own_rows()
            found = self.mixture.assign(own.x, own.y, gate_x=own.gate_x, objects=slice(None), groups=self.groups)
            labels = self._of_objects()
            shares = labels.frame(found.responsibilities, range(self.mixture.n_components))
            return Assignment(shares, labels.series(found.log_evidence, "log_evidence"))
        if y is None:
            y = self._outputs_of(x)
        return self.mixture.assign(x, y, gate_x=gate_x, groups=groups)

    @torch.no_grad()
    @arguments.declared
    def sample(
        self,
        n_draws: int = 1,
        x: Inputs | AnyTable = None,
        *,
        gate_x: GateInputs | AnyTable = None,
        seed: int = 0,
    ) -> Sample:
        """Draw new y given x, and the component that each is of.

        Args:
            n_draws: S, at least 1.
            x: as for :meth:`predict`.
            gate_x: as for :meth:`predict`.
            seed: of the draws, at least 0. The global random state is neither used nor changed.

        Returns:
            Tensors y [S, N, P] and components [S, N].
        """
        if x is None:
            own = self._own_rows()
            x, gate_x = own.x, own.gate_x
        shape = (arguments.size("n_draws", n_draws),)
        predictive = self.mixture.predictive(x, gate_x=gate_x)
        with own_random_numbers(seed):
            components = predictive.mixture_distribution.sample(shape)
            y = predictive.component_distribution.sample(shape)
        index = components[..., None, None].expand(*components.shape, 1, y.shape[-1])
        return Sample(y.gather(-2, index).squeeze(-2), components)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the mixture to a file without code, which :func:`mixpyro.load` reads; see :func:`mixpyro.save`.

        The file has the model and the names of its columns. Pickle the result to keep the rows, the restarts and the
        optima too.

        Args:
            path: of the file. An existing file is replaced in one step.
        """
        save(self.mixture, path)

    def coefficients(self, **options: Any) -> Any:  # noqa: ANN401 (a pandas DataFrame)
        """Return every parameter with its standard error and interval as a DataFrame.

        Args:
            **options: of :func:`mixpyro.coefficients`, such as ``probability`` and ``intervals``.

        Returns:
            A row for each parameter, by part, component and name.
        """
        return later("coefficients")(self, **options).to_frame()

    def criteria(self) -> Any:  # noqa: ANN401 (of a later layer)
        """Return the criteria of :func:`mixpyro.criteria` on the rows of the fit."""
        return later("criteria")(self)

    def optima_frame(self) -> Any:  # noqa: ANN401 (a pandas DataFrame)
        """Return the distinct optima as a DataFrame, a row for each, that of the best run first."""
        return later("optima_frame")(self)

    @arguments.declared
    def summary(self, *, probability: float = 0.9) -> str:
        """Return what a person should know of the fit, as text that a notebook shows as tables.

        How the fit ended, components and their shares, parameters with standard errors and intervals, criteria, optima,
        priors and cautions.

        Args:
            probability: that the intervals hold, above 0 and below 1.

        Example:
            >>> import torch
            >>> from mixpyro import DirichletGate, LinearExperts, MixtureOfExperts, fit
            >>> x = torch.linspace(0, 1, 20).double().unsqueeze(1)
            >>> y = 1 - x + 0.1 * torch.sin(50 * x)
            >>> lines = fit(MixtureOfExperts(DirichletGate(1), LinearExperts(1, 1)), x, y).summary().splitlines()
            >>> print(lines[0])
            1 component of LinearExperts, weights by DirichletGate: 20 rows, y on x0
        """
        return later("summary_of")(self, probability=probability)

    def plot(self) -> Any:  # noqa: ANN401 (a matplotlib Figure)
        """Draw experts, weights, responsibilities and restarts in one figure, and return it."""
        return later("plot_overview")(self)

    def _repr_html_(self) -> str:
        """Return tables for a notebook."""
        return later("html_of_result")(self)

    def _own_rows(self) -> GivenRows:
        """Return the rows of the fit."""
        if self.rows is None:
            raise ValueError("`x` must be given, for this result does not keep the rows that were fitted; got None.")
        return self.rows

    def _of_objects(self) -> RowLabels:
        """Return the labels of the objects: of rows, or the ids of groups."""
        if self.rows is None or not self.rows.package:
            return RowLabels("")
        return RowLabels(self.rows.package, self.rows.index if self.groups is None else list(self.groups.ids))

    def _outputs_of(self, x: Any) -> Any:  # noqa: ANN401 (a frame)
        """Return the columns of y of a frame that has all."""
        known = self.mixture.fitted_columns
        names = () if known is None or known.layouts.y is None else known.layouts.y.names
        if not names or not is_frame(x) or not set(names) <= {str(name) for name in x.columns}:
            raise ValueError("`y` must be given, or be columns of the frame `x`, by the names of the fit; got None.")
        return x[[name for name in x.columns if str(name) in names]]
