"""Which columns a mixture was fitted to, so that it refuses others."""

from typing import Any, NamedTuple

import torch
from pyro.nn import PyroModule
from torch import Tensor

from mixpyro.arguments import is_batched, is_dense
from mixpyro.tables.layout import Layouts

# In a state dict: the mixture was never fitted, and the gate had no inputs of its own.
UNKNOWN, NONE = -2, -1
# Integers of a state dict that are flags, after the two numbers of columns; the bytes of names follow.
N_FLAGS = 3


class FittedColumns(NamedTuple):
    """Numbers of the columns that a fit was given."""

    x: int
    gate_x: int | None  # None where the gate read x
    either: bool = False  # whether the gate's inputs equalled x, so that both are taken
    grouped: bool = False  # whether rows were in groups of one component
    missing: bool = False  # whether NaN in y was an output that was not observed
    layouts: Layouts = Layouts()  # names of columns and levels of categories, where frames were given

    @classmethod
    def of(
        cls,
        x: Tensor,
        gate_x: Tensor | None,
        *,
        grouped: bool = False,
        missing: bool = False,
        layouts: Layouts = Layouts(),  # noqa: B008 (an immutable value)
    ) -> "FittedColumns":
        """Return the numbers of columns of a fit's arguments, which have been checked.

        Inputs of the gate are x where they are the same tensor. Others may equal x in these rows by chance.

        Args:
            x: inputs [N, D].
            gate_x: what the gate reads [N, G], where that is not x.
            grouped: whether rows were in groups of one component.
            missing: whether NaN in y was an output that was not observed.
            layouts: names of columns, where frames were given.
        """
        if gate_x is None or gate_x is x:
            return cls(x.shape[1], None, grouped=grouped, missing=missing, layouts=layouts)
        return cls(x.shape[1], gate_x.shape[1], _is_same(gate_x, x), grouped, missing, layouts)

    def after(self, before: "FittedColumns | None") -> "FittedColumns":
        """Return what is known after a further batch: inputs that differed from x once are the gate's own.

        Args:
            before: what was known; None before the first batch.
        """
        if before is None:
            return self
        kept = self if before.either else before
        return kept._replace(missing=self.missing or before.missing, layouts=before.layouts)

    def check(self, x: object, gate_x: object) -> None:
        """Raise if other columns are given than the fit had.

        Args:
            x: inputs [N, D], or what will be refused elsewhere.
            gate_x: what the gate shall read [N, G]; None for x.

        Raises:
            ValueError: if the fit had gate inputs and these have none, the other way round, or D or G differs. Inputs
                of the gate that equal x are x; inside ``torch.func.vmap``, where values cannot be read, those of its
                shape.
        """
        if self.either and gate_x is None:
            gate_x = x
        if self.gate_x is None and isinstance(gate_x, Tensor) and isinstance(x, Tensor) and _is_same(gate_x, x):
            gate_x = None
        if self.gate_x is None and gate_x is not None:
            raise ValueError(
                f"`gate_x` must be None, as in the fit, whose gate read `x`; got {_described(gate_x)}. Leave it out, "
                "or fit again with it."
            )
        if self.gate_x is not None and gate_x is None:
            raise ValueError(
                f"`gate_x` must be given, as in the fit, with {self.gate_x} columns; got None. The gate would read `x`."
            )
        for name, value, wanted in (("x", x, self.x), ("gate_x", gate_x, self.gate_x)):
            if isinstance(value, Tensor) and value.ndim == 2 and value.shape[1] != wanted:
                raise ValueError(f"`{name}` must have {wanted} columns, as in the fit; got {value.shape[1]}.")


class RemembersColumns(PyroModule):
    """A module with a gate that knows which columns it was fitted to; copies, pickles and state dicts keep it.

    Attributes:
        fitted_columns: of the last fit; None for a module that no fit has seen, which refuses nothing.
    """

    fitted_columns: FittedColumns | None = None

    def gate_inputs(self, x: Tensor, gate_x: object, *, new_fit: bool = False) -> Tensor:
        """Return what the gate reads of these rows, if x and it have the columns of the fit.

        Args:
            x: inputs [N, D].
            gate_x: what the gate reads [N, G]; None for x.
            new_fit: whether the columns may be others than those of the last fit.

        Raises:
            TypeError: if ``gate_x`` is no floating tensor.
            ValueError: if it does not fit x or the gate, or the columns are not those of the fit.
        """
        if self.fitted_columns is not None and not new_fit:
            self.fitted_columns.check(x, gate_x)
        inputs: Tensor = self.gate.check_inputs(gate_x, x)
        return inputs

    def get_extra_state(self) -> Tensor:
        """Return :attr:`fitted_columns` as integers, for state dicts: five, then the bytes of the names if any."""
        known = self.fitted_columns
        if known is None:
            return torch.tensor((UNKNOWN, UNKNOWN, 0, 0, 0), device="cpu")
        gate_x = NONE if known.gate_x is None else known.gate_x
        flags = (known.either, known.grouped, known.missing)
        names = b"" if known.layouts == Layouts() else known.layouts.to_json().encode()
        return torch.tensor((known.x, gate_x, *map(int, flags), *names), device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        """Take over what :meth:`get_extra_state` returned.

        Args:
            state: integers; fewer than five before mixpyro had groups and missing outputs.

        Raises:
            ValueError: if the names are damaged.
        """
        x, gate_x, *rest = map(int, state.tolist())
        flags, names = rest[:N_FLAGS], rest[N_FLAGS:]
        layouts = Layouts.from_json(bytes(names).decode(errors="replace")) if names else Layouts()
        either, grouped, missing = (*map(bool, flags), False, False, False)[:N_FLAGS]
        known = FittedColumns(x, None if gate_x == NONE else gate_x, either, grouped, missing, layouts)
        self.fitted_columns = None if x == UNKNOWN else known

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *options: Any) -> None:  # noqa: ANN401
        """Load a state dict; those of mixpyro 0.1 do not say which columns were fitted."""
        # Not as an error of a missing key. Torch has copied the outer dict, so that the caller's is not changed.
        state_dict.setdefault(f"{prefix}_extra_state", torch.tensor((UNKNOWN, UNKNOWN, 0, 0, 0), device="cpu"))
        super()._load_from_state_dict(state_dict, prefix, *options)


def _is_same(gate_x: Tensor, x: Tensor) -> bool:
    """Return whether the gate's inputs are x."""
    if gate_x is x:
        return True
    if gate_x.shape != x.shape or gate_x.device != x.device or gate_x.dtype != x.dtype or gate_x.layout != x.layout:
        return False
    if not is_dense(gate_x):
        return False
    return is_batched(gate_x) or is_batched(x) or torch.equal(gate_x, x)


def _described(value: object) -> str:
    """Return a shape, or the type of what is no tensor."""
    return f"shape {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
