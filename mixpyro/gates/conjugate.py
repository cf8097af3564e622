"""Gates whose weights have an analytic posterior."""

from collections.abc import Mapping
from typing import Any, ClassVar

import pyro
import torch
from jaxtyping import Float
from pyro.distributions import Categorical
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from mixpyro import arguments
from mixpyro.conjugate_part import ConjugatePart
from mixpyro.gates.base import Gate, categorical
from mixpyro.part import Gradient, State
from mixpyro.pyro_internals.plates import refuse_outer_plates, rows_of, sample_parameter
from mixpyro.shapes import Inputs, ObjectIndices, Responsibilities, Value


class ConjugateGate(ConjugatePart, Gate):
    """A gate with latent weights that all objects share, updated from sums over the rows.

    To write, five members: ``prior``, :meth:`statistics_of`, :meth:`expected_log_weights`, :meth:`weights` and
    :meth:`weights_distribution`.
    """

    site_axes: ClassVar[Mapping[str, tuple[str, ...]]] = {"weights": ("component",)}
    weights_site: str | None = "weights"

    def statistics_of(self, x: Inputs, responsibilities: Float[Tensor, "*R N K"]) -> Value:
        """Return the sums over rows that the update needs, a NamedTuple of float64 tensors.

        Args:
            x: gate inputs [N, D].
            responsibilities: [..., N, K], with any leading axes of runs.
        """
        raise NotImplementedError

    def expected_log_weights(
        self,
        x: Inputs,
        *,
        objects: ObjectIndices | None = None,
        posterior: Value = None,
    ) -> Float[Tensor, "*R #N K"]:
        """Return E_q[log π] in x's dtype, [..., 1, K] where all objects share it, else [..., N, K].

        Args:
            x: gate inputs [N, D].
            objects: as for :meth:`Gate.expected_log_weights`.
            posterior: q, with any leading axes of runs; the gate's own by default.
        """
        raise NotImplementedError

    def weights_distribution(self, posterior: Value, dtype: torch.dtype) -> TorchDistributionMixin:
        """Return the distribution over weights that a prior or posterior is, event shape [K].

        Args:
            posterior: a value such as ``prior`` and ``posterior``, without leading axes of runs.
            dtype: of its draws.
        """
        raise NotImplementedError

    @property
    def n_parameters(self) -> int:
        """K − 1 free weights."""
        return int(self.n_components) - 1

    def log_weights(self, x: Inputs, state: State | None = None, *, objects: ObjectIndices | None = None) -> Tensor:
        """Return E_q[log π] for all runs at once.

        Args:
            x: gate inputs [N, D].
            state: of R runs; by default the gate's own, with its gradient.
            objects: as for :meth:`expected_log_weights`.
        """
        posterior = None if state is None else state.posterior
        return self.expected_log_weights(x, objects=objects, posterior=posterior).mT

    def sums(self, x: Inputs, responsibilities: Float[Tensor, "R K N"]) -> Value:
        """Return the statistics of R runs.

        Args:
            x: gate inputs [N, D].
            responsibilities: [R, K, N].
        """
        return self.statistics_of(x, responsibilities.mT)

    def statistics(self, x: Inputs, responsibilities: Responsibilities) -> Value:
        """Return what :meth:`update` needs to know of the rows, float64 sums that may be added.

        Args:
            x: gate inputs [N, D].
            responsibilities: [N, K], non-negative; a row that does not sum to one carries a weight.

        Raises:
            ValueError: if a shape does not fit, or a value is negative or not finite.
        """
        checked = arguments.responsibilities(responsibilities, self.n_components, x.shape[0])
        return self.statistics_of(x, checked)

    def assignment_prior(self, x: Inputs, *, plate: pyro.plate) -> Categorical:
        """Sample ``<name>.weights`` from the prior outside the plate.

        Args:
            x: gate inputs [N, D]; only its dtype is read.
            plate: not entered.
        """
        prior = self.weights_distribution(self.prior, x.dtype)
        return categorical(sample_parameter(self.site("weights"), prior))

    def weights_guide(self, x: Inputs, *, plate: pyro.plate, objects: ObjectIndices | None) -> None:
        """Sample ``<name>.weights`` from the posterior.

        Args:
            x: gate inputs [N, D].
            plate: not entered.
            objects: not read.
        """
        refuse_outer_plates(self.site("weights"))
        pyro.sample(self.site("weights"), self.weights_distribution(self.posterior, x.dtype))

    def update_objects(
        self, x: Inputs, responsibilities: Responsibilities, *, objects: Tensor, n_objects: int, step_size: float
    ) -> None:
        """Go part of the way to the optimum given some objects.

        Args:
            x: gate inputs [B, D].
            responsibilities: [B, K], each row times what its object stands for, N / B where B of N were drawn.
            objects: which of the N objects the rows are [B].
            n_objects: N.
            step_size: in (0, 1].
        """
        self.update(self.statistics(x, responsibilities), step_size)


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

    def sums(self, x: Inputs, responsibilities: Float[Tensor, "R K N"]) -> tuple[Tensor, ...]:
        """Return an empty tuple: there are no sums that would do.

        Args:
            x: gate inputs [N, D].
            responsibilities: [R, K, N].
        """
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
