"""Gates that keep a posterior of each object of the last update."""

from typing import Any

import pyro
import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro.fitted_part import Gradient, State
from mixpyro.gates.conjugate import ConjugateGate
from mixpyro.gates.program import GateProgram
from mixpyro.gates.program_weights import ProgramWeights
from mixpyro.pyro_internals.expected_weights import GateRecord
from mixpyro.pyro_internals.plates import rows_of
from mixpyro.shapes import Inputs, Value


class ObjectGate(ConjugateGate):
    """A gate that keeps a posterior of each object of the last update.

    Its statistics are the responsibilities themselves, a row an object, so those of several sets of rows cannot be
    added. The last field of its posterior has an axis of objects first.
    """

    @property
    def n_objects(self) -> int:
        """Number of objects of the last update, 0 before the first."""
        return len(self.posterior[-1])

    @property
    def reads_rows(self) -> bool:
        """True: every object's posterior needs its own row."""
        return True

    def sums(
        self, x: Inputs, responsibilities: Float[Tensor, "R K N"], state: State | None = None
    ) -> tuple[Tensor, ...]:
        """Return an empty tuple: there are no sums that would do; arguments as :meth:`Gate.sums`."""
        return ()

    @property
    def posterior(self) -> Value:
        """Dirichlet(γμ + rᵢ) of every object of the last update, in the dtype of its responsibilities."""
        return self.posterior_kind._make([self._buffers[name] for name in self.posterior_names])

    def hold_posterior(self, posterior: Value) -> None:
        """Put the objects' posteriors into the buffer, in their own dtype and as many as they are.

        Args:
            posterior: Dirichlet of concentration [N, K].
        """
        for name, value in zip(self.posterior_names, posterior, strict=True):
            self._buffers[name] = value

    def advanced(
        self,
        state: State,
        statistics: Value,
        rows: tuple[Tensor, ...],
        responsibilities: Tensor | None,
        by_gradient: Gradient,
    ) -> State:
        """Return the state of every run after its update.

        Args:
            state: of R runs.
            statistics: sums over the rows of R runs.
            rows: what the part reads of N objects.
            responsibilities: [R, K, N], times the rows' weights; None if no part of the mixture :attr:`reads_rows`.
            by_gradient: as for :meth:`maximise`.
        """
        assert responsibilities is not None
        return super().advanced(
            state, self.statistics_of(rows[0], responsibilities.mT), rows, responsibilities, by_gradient
        )

    def sample_weights(self, x: Inputs) -> ProgramWeights:
        """Raise: weights of single objects are sampled in the plate of the objects."""
        raise ValueError(f"{self.site('weights')!r} must be sampled in the objects' plate: call `gate.model`.")

    def program_weights(self, x: Tensor, plates: tuple[pyro.plate, ...]) -> ProgramWeights:
        """Return the weights of the objects in this run of a program; arguments as :meth:`Gate.program_weights`."""
        if len(plates) > 1:
            raise ValueError(f"`plate` must be one plate for a gate with weights of each object; got {len(plates)}.")
        return GateProgram.program_weights(self, x, plates)

    @property
    def is_new(self) -> bool:
        """Whether no object is known."""
        return self.n_objects == 0

    def forget(self) -> None:
        """Forget all objects."""
        self._buffers[self.posterior_names[-1]] = self.posterior[-1][:0]

    @torch.no_grad()
    def update_seen(self, record: GateRecord, step_size: float) -> None:
        """Set the posteriors of the objects that a program has seen; arguments as :meth:`ConjugateGate.update_seen`."""
        seen = record.seen_objects()
        self.update_objects(
            seen.x, seen.responsibilities, objects=seen.objects, n_objects=seen.n_objects, step_size=step_size
        )

    def objects_in(self, plate: pyro.plate) -> Tensor | None:
        """Return which objects a plate draws, if it holds as many as the last update; None for other objects.

        Args:
            plate: over the objects of a program.

        Raises:
            ValueError: if the plate draws a subsample of another number of objects.
        """
        n_known = self.n_objects
        if n_known == plate.size:
            return rows_of(plate)
        if n_known and plate.subsample_size < plate.size:
            raise ValueError(
                f"`plate` must have the objects of the last update, {n_known}, to draw a subsample of them; "
                f"got a plate of {plate.size}."
            )
        return None

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:  # noqa: ANN401
        name = self.posterior_names[-1]
        saved, own = state_dict.get(f"{prefix}{name}"), self.posterior[-1]
        if saved is not None and saved.shape[1:] == own.shape[1:]:
            # The number of objects is part of the state: load_state_dict copies into a buffer of the saved shape.
            self._buffers[name] = torch.empty_like(saved, device=own.device)
        super()._load_from_state_dict(state_dict, prefix, *args)
