"""The rows of a mixture of experts: checked, and gathered into the objects that have one component each."""

from torch import Tensor

from mixpyro import arguments
from mixpyro.distributed.rows import any_of
from mixpyro.experts.base import Experts
from mixpyro.fitted_columns import RemembersColumns
from mixpyro.gates.base import Gate
from mixpyro.groups import ROWS_ALONE, Groups, groups_of
from mixpyro.missing import checked_incomplete, ignores_missing, rows_with_outputs
from mixpyro.shapes import GateInputs, Value


class MixtureRows(RemembersColumns):
    """A gate and experts, and what they read of rows. Objects are rows, or groups of rows of one component."""

    gate: Gate
    experts: Experts

    def check_data(
        self, x: object, y: object, gate_x: object = None, *, new_fit: bool = False, missing: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return x [N, D], y [N, P] and the gate's inputs, x without any of their own, if they fit and are finite.

        Args:
            x: inputs [N, D].
            y: outputs [N, P] or [N].
            gate_x: what the gate reads [N, G], where that is not x.
            new_fit: whether the columns may be others than those of the last fit.
            missing: whether NaN in y is an output that was not observed.

        Raises:
            TypeError: if one is not a floating tensor.
            ValueError: if a shape does not fit, a value is not finite, or the device is another one.
        """
        with arguments.finite_once():
            if missing and isinstance(y, Tensor) and any_of(bool(y.isnan().any())):
                checked_x, checked_y = checked_incomplete(self.experts, x, y)
            else:
                checked_x, checked_y = self.experts.check_data(x, y)
            checked_gate_x = self.gate_inputs(arguments.inputs(x), gate_x, new_fit=new_fit)
        for device in {tensor.device: None for tensor in (*self.parameters(), *self.buffers())}:
            for name, value in (("x", checked_x), ("y", checked_y), ("gate_x", checked_gate_x)):
                arguments.same_device(name, value, device)
        return checked_x, checked_y, checked_gate_x

    def checked_groups(self, groups: object, x: Tensor, *, new_fit: bool = False) -> Groups | None:
        """Return the groups of rows; None where every row is an object.

        Args:
            groups: an id of each row [N], or None.
            x: inputs [N, D], checked.
            new_fit: whether rows may be grouped otherwise than in the last fit.

        Raises:
            TypeError: if ids are no sequence of hashable values.
            ValueError: if there is not one for each row, or none at all where the fit or the experts have groups.
        """
        if groups is not None:
            return groups_of(groups, like=x)
        if self.experts.reads_groups:
            raise ValueError(
                f"`groups` must be given for {type(self.experts).__name__}, whose rows of a group depend on each "
                "other; got None. Pass an id of the group of each row [N]."
            )
        if self.fitted_columns is not None and self.fitted_columns.grouped and not new_fit:
            raise ValueError(
                "`groups` must be given, as in the fit, where the rows of a group share a component; got None. If "
                f"every row is a group of its own, pass groups={ROWS_ALONE}."
            )
        return None

    def takes_missing(self, missing: object, *, new_fit: bool = False) -> bool:
        """Return whether NaN in y is an output that was not observed.

        Args:
            missing: "error" or "ignore"; None for what the last fit had, which is "error" for a new one.
            new_fit: whether it may be another than in the last fit.

        Raises:
            ValueError: if it is something else.
        """
        if missing is None:
            return not new_fit and self.fitted_columns is not None and self.fitted_columns.missing
        return ignores_missing(missing)

    def objects_of(
        self, x: object, y: object, gate_x: object, groups: object, missing: object = None
    ) -> tuple[GateInputs, Value, Tensor | None]:
        """Return what the gate and the experts read of objects, which are rows or groups, and which of them have y.

        Args:
            x: inputs [N, D].
            y: outputs [N, P] or [N].
            gate_x: what the gate reads [N, G], where that is not x.
            groups: an id of the group of each row [N]; None where every row is an object.
            missing: as for :meth:`takes_missing`.

        Returns:
            What the gate reads, the columns of the experts, and whether an object has y that was observed [N]; None
            for whether where each has.
        """
        ignores = self.takes_missing(missing)
        x, y, gate_x = self.check_data(x, y, gate_x, missing=ignores)
        grouped = self.checked_groups(groups, x)
        segments = None
        if grouped is not None:
            x, y, segments = grouped.sorted(x), grouped.sorted(y), grouped.segments
            gate_x = self.gate.inputs_of_groups(gate_x, grouped)
        if not ignores:
            return gate_x, self.experts.columns_of_objects(x, y, segments), None
        x, y, segments, seen = rows_with_outputs(x, y, segments)
        return gate_x, self.experts.columns_of_incomplete(x, y, segments), seen
