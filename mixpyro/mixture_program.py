"""A mixture of experts as a Pyro model and guide."""

import functools
from typing import Any, NamedTuple

import pyro
import torch
from pyro.nn import pyro_method
from torch import Tensor

from mixpyro import arguments
from mixpyro.arguments.global_state import unchanged_if_refused
from mixpyro.groups import GroupIds, Groups
from mixpyro.labels import all_known, checked_labels, labels_of_groups, with_known
from mixpyro.missing import checked_incomplete
from mixpyro.mixture_rows import MixtureRows
from mixpyro.pyro_internals.compiled import refuse_compiled
from mixpyro.pyro_internals.names import site_name
from mixpyro.pyro_internals.plates import OBJECTS_PLATE, objects_plate
from mixpyro.shapes import GateInputs, Inputs, ObjectIndices, Outputs, Responsibilities, Targets, Value

# Plate over the rows of all groups, in a program that draws their y.
ROWS_PLATE = "rows"


class ProgramRows(NamedTuple):
    """The rows and objects of a program: those of which something was observed, where y may be missing."""

    x: Tensor  # what the experts read [rows, D]
    y: Tensor | None  # [rows, P], NaN in single outputs that were not observed
    gate_x: Tensor  # what the gate reads [N, G]
    groups: Groups | None  # of the rows; None where every row is an object
    labels: Tensor | None  # the known components [N], −1 where one is not known; None where none is
    objects: Tensor | None = None  # which objects of the caller's these are [N]; None for all

    def seen(self) -> "ProgramRows":
        """Return those of which some y was observed, or the component is known."""
        assert self.y is not None
        missing = self.y.isnan()
        rows, n_objects = ~missing.all(-1), len(self.gate_x)
        index = torch.arange(n_objects, device=rows.device) if self.groups is None else self.groups.index
        has_rows = torch.zeros(n_objects, dtype=torch.bool, device=rows.device).index_fill(0, index[rows], True)
        kept = has_rows if self.labels is None else has_rows | (self.labels >= 0)
        # Rows that are incomplete have no one distribution, and objects without rows none at all.
        groups = self.groups
        if groups is not None or bool(missing[rows].any()) or not torch.equal(kept, has_rows):
            ids = range(n_objects) if groups is None else groups.ids
            numbers = kept.nonzero().squeeze(-1)
            groups = Groups(tuple(ids[number] for number in numbers.tolist()), (kept.cumsum(0) - 1)[index[rows]])
        labels = None if self.labels is None else self.labels[kept]
        objects = kept.nonzero().squeeze(-1)
        return ProgramRows(self.x[rows], self.y[rows], self.gate_x[kept], groups, labels, objects)


@functools.partial(arguments.guarded, predictions=(), others=("model", "guide"))
class MixtureProgram(MixtureRows):
    """The Pyro program of a gate and experts. Objects are rows, or groups of rows that share a component."""

    @pyro_method
    @unchanged_if_refused
    def model(
        self,
        x: Inputs,
        y: Targets | None = None,
        *,
        gate_x: GateInputs | None = None,
        objects: ObjectIndices | None = None,
        groups: GroupIds | None = None,
        observed: Tensor | None = None,
        mask: Tensor | None = None,
        missing: str | None = None,
    ) -> Tensor:
        """Sample parameters, assignments and, where it is not given, y [N, P]: the joint Pyro model. Return y.

        The rows of a group enter as one factor ``experts.log_likelihood`` of the group.

        Args:
            x: inputs [N, D].
            y: outputs [N, P] or [N].
            gate_x: what the gate reads [N, G], where that is not x.
            objects: not read; for the guide.
            groups: an id of the group of each row [N], whose rows share one component.
            observed: components of rows that are known, integers [N] from 0 to K − 1; that of a row is its group's.
            mask: which of them are known, truth values [N]; all by default.
            missing: as for :meth:`assign`. Objects without any y are left out: given the parameters, nothing depends on
                them. Rows with some outputs enter by the density of those, as a factor ``experts.log_likelihood``.
        """
        experts_x, y, gate_x, grouped, labels, _ = self._program_rows(x, y, gate_x, groups, observed, mask, missing)
        plate = objects_plate(gate_x, site_name(self, OBJECTS_PLATE))
        parameters = self.experts.model(experts_x)
        observed, mask = (None, None) if labels is None else (labels.clamp_min(0), labels >= 0)
        if all_known(labels):
            mask = None
        assignment = self.gate.model(gate_x, plate=plate, observed=observed, mask=mask)
        if grouped is not None:
            return self._rows_of_groups(experts_x, y, grouped, parameters, assignment, plate)
        with plate:
            likelihood = self.experts.likelihood(experts_x, parameters, assignment)
            return pyro.sample(self.experts.site("y"), likelihood, obs=y)

    def _rows_of_groups(
        self,
        x: Inputs,
        y: Outputs | None,
        groups: Groups,
        parameters: Value,
        assignment: Tensor,
        plate: pyro.plate,
    ) -> Tensor:
        """Score the rows of each group together, or draw them; return y."""
        if y is None:
            return self.experts.sample_rows_of_groups(
                x, groups, parameters, assignment, pyro.plate(site_name(self, ROWS_PLATE), len(x), dim=-1)
            )
        with plate:
            found = self.experts.log_likelihood_of_groups(x, y, groups, parameters, assignment)
            pyro.factor(self.experts.site("log_likelihood"), arguments.are_numbers(found, axis=-1))
        return y

    def _gate_x(self, x: Inputs, gate_x: object, groups: Groups | None) -> GateInputs:
        """Return what the gate reads of the objects."""
        of_rows = self.gate_inputs(x, gate_x)
        return of_rows if groups is None else self.gate.inputs_of_groups(of_rows, groups)

    @pyro_method
    @unchanged_if_refused
    def guide(
        self,
        x: Inputs,
        y: Targets | None = None,
        *,
        gate_x: GateInputs | None = None,
        objects: ObjectIndices | None = None,
        groups: GroupIds | None = None,
        observed: Tensor | None = None,
        mask: Tensor | None = None,
        missing: str | None = None,
    ) -> None:
        """Sample parameters from their posteriors and, given y, assignments from q(z): the joint Pyro guide.

        TraceEnum_ELBO enumerates the assignments; it is then :meth:`bound`, without noise right after an update.
        Arguments are as for :meth:`assign` and :meth:`model`.
        """
        refuse_compiled(site_name(self, "gate"))
        given = {"gate_x": gate_x, "objects": objects, "groups": groups, "missing": missing}
        experts_x, y_seen, gate_x, _, labels, kept = self._program_rows(x, y, gate_x, groups, observed, mask, missing)
        with torch.no_grad():
            # What is known of all the model observes.
            shares = None if y_seen is None or all_known(labels) else self.assign(x, y, **given).responsibilities
        if shares is not None and kept is not None:
            shares = shares[kept]
        q = None if shares is None else _possible(with_known(shares, labels))
        if kept is not None and objects is not None:
            objects = kept if isinstance(objects, slice) else objects[kept]
        self.experts.guide(experts_x)
        plate = objects_plate(gate_x, site_name(self, OBJECTS_PLATE))
        self.gate.guide_of_rows(gate_x, (plate,), responsibilities=q, objects=objects)

    def _program_rows(
        self, x: Inputs, y: object, gate_x: object, groups: object, observed: object, mask: object, missing: object
    ) -> ProgramRows:
        """Return the rows and objects of the program, checked."""
        ignores = y is not None and self.takes_missing(missing)
        if y is None:
            experts_x, checked_y = self.experts.check_inputs(x), None
        else:
            experts_x, checked_y = checked_incomplete(self.experts, x, y) if ignores else self.experts.check_data(x, y)
        grouped = self.checked_groups(groups, x)
        labels = self._labels(x, observed, mask, grouped)
        rows = ProgramRows(experts_x, checked_y, self._gate_x(x, gate_x, grouped), grouped, labels)
        return rows.seen() if ignores else rows

    def _labels(self, x: Inputs, observed: object, mask: object, groups: Groups | None) -> Tensor | None:
        """Return the known components of the objects [N], −1 where one is not known; None where none is."""
        labels = checked_labels(observed, mask, n_components=self.gate.n_components, like=x)
        return labels if labels is None or groups is None else labels_of_groups(labels, groups)

    def assign(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Return responsibilities and log evidences; see :class:`~mixpyro.MixtureOfExperts`."""
        raise NotImplementedError


def _possible(responsibilities: Responsibilities) -> Responsibilities:
    """Return q(z) if every object has a component, which is to be known before anything is sampled."""
    if arguments.checks_values() and not arguments.in_transform():
        impossible = ~(responsibilities.sum(-1) > 0)
        if bool(impossible.any()):
            raise ValueError(
                f"`y` must be possible in a component; got {int(impossible.sum())} of {len(impossible)} objects that "
                "are so far from all that their densities are zero. Leave them out, or scale the columns."
            )
    return responsibilities
