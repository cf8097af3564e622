"""A mixture and the rows that draws of its parameters are evaluated on, in objects of one component each."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from mixpyro.fitting.fitted_rows import fitted_rows, groups_of_fit, refuse_known_labels, refuse_missing
from mixpyro.fitting.result import FitResult
from mixpyro.groups import Groups
from mixpyro.mixture import MixtureOfExperts
from mixpyro.numerics.blocks import rows_per_block, rows_per_program, slices
from mixpyro.numerics.segments import Segments


class Observations(NamedTuple):
    """A mixture and N objects that it is evaluated on: rows, or groups of rows, which are next to each other then."""

    mixture: MixtureOfExperts
    x: Tensor  # what the experts read [rows, D]
    y: Tensor  # [rows, P]
    gate_x: Tensor  # what the gate reads [N, G]
    segments: Segments | None = None  # the rows of each object; None where each has one
    order: Tensor | None = None  # number of each row in the caller's order [rows]; None where it is that

    @classmethod
    def checked(
        cls,
        fitted: FitResult | MixtureOfExperts,
        x: Tensor,
        y: Tensor,
        gate_x: Tensor | None,
        groups: object = None,
        *,
        all_rows: bool = True,
    ) -> "Observations":
        """Return the rows without gradients, if they fit the mixture, and for a result are those that were fitted.

        Args:
            fitted: the model, or the result of a fit.
            x: inputs [N, D].
            y: outputs [N, P] or [N].
            gate_x: what the gate reads [N, G]; None for x.
            groups: an id of the group of each row [N]; None for those of a fit, and for rows without groups.
            all_rows: whether the rows are all that a result was fitted to, rather than some of them.

        Raises:
            TypeError: if one is no floating tensor, or ids of groups are no sequence.
            ValueError: if a shape, device or value does not fit, the rows or groups are not those of the result, or
                it knew components of rows.
        """
        mixture = fitted.mixture if isinstance(fitted, FitResult) else fitted
        refuse_known_labels(fitted, "the likelihood of draws")
        refuse_missing(y, "the likelihood of draws")
        if isinstance(fitted, FitResult) and all_rows:
            groups = groups_of_fit(fitted, groups)
            fitted_rows(fitted, x, y, gate_x)
        x, y, gate_x = (part.detach() for part in mixture.check_data(x, y, gate_x))
        grouped = mixture.checked_groups(groups, x)
        if grouped is None:
            return cls(mixture, x, y, gate_x)
        gate_x = mixture.gate.inputs_of_groups(gate_x, grouped)
        return cls(mixture, grouped.sorted(x), grouped.sorted(y), gate_x, grouped.segments, grouped.order)

    @property
    def n_objects(self) -> int:
        """N."""
        return len(self.gate_x)

    @property
    def groups(self) -> Groups:
        """The objects as groups of the rows in x."""
        segments = self.segments
        if segments is None:
            segments = Segments(torch.ones(len(self.x), dtype=torch.long, device=self.x.device))
        return Groups(tuple(range(len(segments))), segments.index)

    def objects(self, objects: slice) -> "Observations":
        """Return some of the objects.

        Args:
            objects: which, with both ends given.
        """
        rows, segments = self._select(objects)
        order = None if self.order is None else self.order[rows]
        return Observations(self.mixture, self.x[rows], self.y[rows], self.gate_x[objects], segments, order)

    def rows_as_given(self, objects: slice) -> slice | Tensor:
        """Return the numbers of the rows of some objects, in the order in which the caller gave the rows.

        Args:
            objects: which, with both ends given.
        """
        rows, _ = self._select(objects)
        return rows if self.order is None else self.order[rows]

    def outcomes_as_given(self) -> Tensor:
        """Return y [rows, P] in the order in which the caller gave the rows."""
        return self.y if self.order is None else torch.empty_like(self.y).index_copy(0, self.order, self.y)

    def blocks(self, n_draws: int) -> Iterator[tuple[slice, slice]]:
        """Yield slices of the draws and of the objects, small enough for memory to stay constant.

        Args:
            n_draws: number of draws, S.
        """
        # What is computed at once for one draw and one row.
        width = self.mixture.n_components * self.y.shape[1] * (self.x.shape[1] + 1)
        for objects in self.slices(rows_per_block(width, self.x.device)):
            rows = self._select(objects)[0]
            size = rows_per_program((rows.stop - rows.start) * width, self.x.device)
            for draws in slices(n_draws, size):
                yield draws, objects

    def slices(self, n_rows: int) -> Iterator[slice]:
        """Return slices that cover all objects.

        Args:
            n_rows: of the rows of a slice, about.
        """
        return slices(len(self.x), n_rows) if self.segments is None else self.segments.blocks(n_rows)

    def _select(self, objects: slice) -> tuple[slice, Segments | None]:
        """Return the rows of some objects in x, and the objects by themselves."""
        if self.segments is None:
            return objects, None
        rows, segments = self.segments.select(objects)
        assert isinstance(rows, slice)
        return rows, segments
