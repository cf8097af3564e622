"""A mixture of experts as a Pyro model and guide."""

import functools
from typing import Any

import pyro
import torch
from pyro.nn import pyro_method
from torch import Tensor

from mixpyro import arguments
from mixpyro.groups import GroupIds, Groups
from mixpyro.labels import all_known, checked_labels, labels_of_groups, with_known
from mixpyro.mixture_rows import MixtureRows
from mixpyro.pyro_internals.compiled import refuse_compiled
from mixpyro.pyro_internals.names import site_name
from mixpyro.pyro_internals.plates import OBJECTS_PLATE, objects_plate
from mixpyro.shapes import GateInputs, Inputs, ObjectIndices, Outputs, Targets, Value

# Plate over the rows of all groups, in a program that draws their y.
ROWS_PLATE = "rows"


@functools.partial(arguments.guarded, predictions=(), others=("model", "guide"))
class MixtureProgram(MixtureRows):
    """The Pyro program of a gate and experts. Objects are rows, or groups of rows that share a component."""

    @pyro_method
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
        """
        experts_x, y = (self.experts.check_inputs(x), None) if y is None else self.experts.check_data(x, y)
        grouped = self.checked_groups(groups, x)
        gate_x = self._gate_x(x, gate_x, grouped)
        plate = objects_plate(gate_x, site_name(self, OBJECTS_PLATE))
        parameters = self.experts.model(experts_x)
        labels = self._labels(x, observed, mask, grouped)
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
            pyro.factor(self.experts.site("log_likelihood"), found)
        return y

    def _gate_x(self, x: Inputs, gate_x: GateInputs | None, groups: Groups | None) -> GateInputs:
        """Return what the gate reads of the objects."""
        of_rows = self.gate_inputs(x, gate_x)
        return of_rows if groups is None else self.gate.inputs_of_groups(of_rows, groups)

    @pyro_method
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
    ) -> None:
        """Sample parameters from their posteriors and, given y, assignments from q(z): the joint Pyro guide.

        TraceEnum_ELBO enumerates the assignments; it is then :meth:`bound`, without noise right after an update.
        Arguments are as for :meth:`assign` and :meth:`model`.
        """
        refuse_compiled(site_name(self, "gate"))
        rows = {"gate_x": gate_x, "objects": objects, "groups": groups}
        grouped = self.checked_groups(groups, x)
        labels = self._labels(x, observed, mask, grouped)
        with torch.no_grad():
            # What is known of all the model observes.
            shares = None if y is None or all_known(labels) else self.assign(x, y, **rows).responsibilities
        q = None if shares is None else with_known(shares, labels)
        self.experts.guide(self.experts.check_inputs(x))
        gate_x = self._gate_x(x, gate_x, grouped)
        plate = objects_plate(gate_x, site_name(self, OBJECTS_PLATE))
        self.gate.guide_of_rows(gate_x, (plate,), responsibilities=q, objects=objects)

    def _labels(self, x: Inputs, observed: object, mask: object, groups: Groups | None) -> Tensor | None:
        """Return the known components of the objects [N], −1 where one is not known; None where none is."""
        labels = checked_labels(observed, mask, n_components=self.gate.n_components, like=x)
        return labels if labels is None or groups is None else labels_of_groups(labels, groups)

    def assign(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Return responsibilities and log evidences; see :class:`~mixpyro.MixtureOfExperts`."""
        raise NotImplementedError
