"""The formulas that a fit reads of experts: of rows, and of objects that are groups of rows."""

from collections.abc import Iterable, Sequence
from typing import ClassVar

import pyro
from jaxtyping import Float
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from mixpyro.distributions.marginals import log_prob_of_seen
from mixpyro.fitted_part import State
from mixpyro.groups import Groups
from mixpyro.numerics import nested
from mixpyro.numerics.incomplete import Incomplete
from mixpyro.numerics.segments import Grouped, Segments
from mixpyro.part import Part
from mixpyro.shapes import Inputs, Outputs, Value


class ExpertFormulas(Part):
    """Densities of y given x under K components, sums over rows, and both for groups of rows of one component."""

    # Whether rows of a group depend on each other given its component, so that columns are of groups.
    reads_groups: ClassVar[bool] = False
    # Whether single outputs of a row may be missing: `log_likelihood_without` and `sums_without` are written then.
    takes_incomplete_rows: ClassVar[bool] = False

    def columns(self, x: Inputs, y: Outputs) -> Value:
        """Return what the formulas read of the rows: a nest of tensors, rows along the last axis.

        A fit computes it once. Arguments are as :meth:`check_data` returns them.

        Args:
            x: inputs [N, D].
            y: outputs [N, P].
        """
        raise NotImplementedError

    def log_likelihoods(self, columns: Value, state: State | None = None) -> Float[Tensor, "*R K N"]:
        """Return E_q[log p(yᵢ | xᵢ, k)] in nats, [R, K, N], or [K, N] under these experts' own posterior.

        Args:
            columns: of N rows, as :meth:`columns` returns them.
            state: of R runs; the experts' own without an axis of runs by default, with its gradient.
        """
        raise NotImplementedError

    def sums(self, columns: Value, responsibilities: Float[Tensor, "*R K N"], state: State | None = None) -> Value:
        """Return the statistics of R runs, sums over the rows; an empty tuple for experts without.

        Args:
            columns: of N rows, as :meth:`columns` returns them.
            responsibilities: [R, K, N], or [K, N] for statistics without an axis of runs.
            state: of R runs, for sums that depend on it; the experts' own by default.
        """
        return ()

    def columns_of_objects(self, x: Inputs, y: Outputs, segments: Segments | None) -> Value:
        """Return what the formulas of objects read, each object a row or a group of rows.

        Args:
            x: inputs [rows, D].
            y: outputs [rows, P].
            segments: rows of each group; None where every row is an object.
        """
        columns = self.columns(x, y)
        return columns if segments is None else Grouped(columns, segments)

    def columns_of_incomplete(self, x: Inputs, y: Outputs, segments: Segments | None) -> Value:
        """Return the same of rows of which some outputs may be missing.

        Args:
            x: inputs [rows, D].
            y: outputs [rows, P], NaN where they are missing.
            segments: rows of each group; None where every row is an object.
        """
        missing = y.isnan()
        if not self.takes_incomplete_rows or not bool(missing.any()):
            return self.columns_of_objects(x, y, segments)
        columns = Incomplete.of(self.columns(x, y), missing)
        return columns if segments is None else Grouped(columns, segments)

    def log_likelihood_without(
        self, missing: tuple[int, ...], columns: Value, state: State | None
    ) -> Float[Tensor, "*R K N"]:
        """Return E_q[log p(y | x, k)] of the outputs that were observed in nats, the others under a q of their own.

        Args:
            missing: numbers of the outputs that were not, the same ones in all rows.
            columns: of N rows, as :meth:`columns` returns them, but zero where an output is missing.
            state: as for :meth:`log_likelihoods`.
        """
        raise NotImplementedError

    def sums_without(
        self, missing: tuple[int, ...], columns: Value, responsibilities: Float[Tensor, "*R K N"], state: State | None
    ) -> Value:
        """Return the statistics of rows of which outputs are missing, these under their q.

        Args:
            missing: as for :meth:`log_likelihood_without`.
            columns: likewise.
            responsibilities: [R, K, N].
            state: as for :meth:`sums`.
        """
        raise NotImplementedError

    def _log_likelihoods_of_rows(self, columns: Value, state: State | None) -> Float[Tensor, "*R K N"]:
        """Return log likelihoods of rows, some of them incomplete perhaps."""
        if not isinstance(columns, Incomplete):
            return self.log_likelihoods(columns, state)
        return columns.gathered(
            [
                self.log_likelihood_without(part.missing, own, state)
                if part.missing
                else self.log_likelihoods(own, state)
                for part, own in columns.each()
            ]
        )

    def _sums_of_rows(self, columns: Value, responsibilities: Float[Tensor, "*R K N"], state: State | None) -> Value:
        """Return statistics of rows, some of them incomplete perhaps."""
        if not isinstance(columns, Incomplete):
            return self.sums(columns, responsibilities, state)
        total: Value = None
        for part, own in columns.each():
            r = responsibilities[..., part.rows]
            found = self.sums_without(part.missing, own, r, state) if part.missing else self.sums(own, r, state)
            total = found if total is None else nested.add(total, found)
        return total

    def log_likelihoods_of_objects(self, columns: Value, state: State | None = None) -> Float[Tensor, "*R K N"]:
        """Return Σ E_q[log p(y | x, k)] over the rows of each object in nats, [R, K, N].

        Args:
            columns: as :meth:`columns_of_objects` returns them.
            state: as for :meth:`log_likelihoods`.
        """
        if isinstance(columns, Grouped):
            return columns.segments.sum(self._log_likelihoods_of_rows(columns.columns, state))
        return self._log_likelihoods_of_rows(columns, state)

    def sums_of_objects(
        self, columns: Value, responsibilities: Float[Tensor, "*R K N"], state: State | None = None
    ) -> Value:
        """Return the statistics of R runs, given the responsibilities of objects.

        Args:
            columns: as :meth:`columns_of_objects` returns them.
            responsibilities: [R, K, N].
            state: as for :meth:`sums`.
        """
        if isinstance(columns, Grouped):
            return self._sums_of_rows(columns.columns, columns.segments.spread(responsibilities), state)
        return self._sums_of_rows(columns, responsibilities, state)

    def with_noise_of_nearest(self, state: State, blocks: Iterable[Value], wanted: Sequence[bool]) -> State:
        """Return starts with the noise that objects have about the nearest component; the state itself by default.

        A component that was fitted to as few rows as it has coefficients has hardly any noise about them.

        Args:
            state: of R runs, fitted to a few rows each.
            blocks: columns of all objects, as :meth:`columns_of_objects` returns them, block by block.
            wanted: of which runs; the others are left as they are.
        """
        return state

    def log_prob_of_objects(self, x: Inputs, y: Outputs, segments: Segments | None) -> Float[Tensor, "K objects"]:
        """Return the log predictive density of each object under each component in nats [K, N].

        Rows of a group are taken as independent given the component.

        Args:
            x: inputs [rows, D].
            y: outputs [rows, P].
            segments: rows of each group; None where every row is an object.
        """
        log_prob = log_prob_of_seen(self.predictive(x), y.unsqueeze(1)).mT
        return log_prob if segments is None else segments.sum(log_prob)

    def predictive(self, x: Inputs) -> TorchDistributionMixin:
        """Return the predictive distribution of every expert's y, batch shape [N, K] and event shape [P].

        Args:
            x: inputs [N, D].
        """
        raise NotImplementedError

    def likelihood(self, x: Inputs, parameters: Value, assignment: Tensor) -> TorchDistributionMixin:
        """Return p(y | x, z, parameters), batch shape [N] and event shape [P].

        Args:
            x: inputs [N, D].
            parameters: what :meth:`model` or :meth:`guide` returned.
            assignment: z [N]. Under enumeration it is [K, 1, …], and so is the batch shape.
        """
        raise NotImplementedError

    def sample_rows_of_groups(
        self, x: Inputs, groups: Groups, parameters: Value, assignment: Tensor, plate: pyro.plate
    ) -> Float[Tensor, "*S N P"]:
        """Draw y of all rows [N, P] in a Pyro program, given their groups' components.

        Args:
            x: inputs [N, D].
            groups: of the rows.
            parameters: what the model returned.
            assignment: z of the groups [groups].
            plate: over the rows.
        """
        with plate:
            likelihood = self.likelihood(x, parameters, assignment[..., groups.index])
            drawn: Tensor = pyro.sample(self.site("y"), likelihood)
        return drawn

    def log_likelihood_of_groups(
        self, x: Inputs, y: Outputs, groups: Groups, parameters: Value, assignment: Tensor
    ) -> Tensor:
        """Return log p(y_g | x_g, z_g, parameters) of each group in a Pyro program, [groups], in nats.

        Args:
            x: inputs [N, D].
            y: outputs [N, P].
            groups: of the rows.
            parameters: what :meth:`model` or :meth:`guide` returned.
            assignment: z of the groups [groups]. Under enumeration it is [K, 1, …].
        """
        of_rows = assignment if assignment.shape[-1] == 1 else assignment[..., groups.index]
        log_prob = log_prob_of_seen(self.likelihood(x, parameters, of_rows), y)
        return groups.sum(log_prob.expand(*log_prob.shape[:-1], len(x)))
