"""The Pyro model and guide of a gate with Normal coefficients of its inputs."""

from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn

import pyro
import torch
from jaxtyping import Float
from pyro.distributions import Categorical
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from mixpyro.conjugate.normal import NormalCoefficients
from mixpyro.gates.base import categorical, categorical_of_rows
from mixpyro.gates.designs import GateWithDesign
from mixpyro.gates.natural_steps import improved
from mixpyro.gates.program import GateProgram
from mixpyro.gates.program_axes import axes_of_objects, rows_of_objects, with_axes
from mixpyro.gates.program_weights import ProgramWeights
from mixpyro.numerics import nested
from mixpyro.pyro_internals.expected_weights import GateRecord, record_of
from mixpyro.pyro_internals.plates import sample_parameter
from mixpyro.pyro_internals.posterior_weights import draws_from_posterior
from mixpyro.shapes import Inputs, ObjectIndices, ProgramInputs, Responsibilities


class CoefficientsProgram(GateWithDesign):
    """Sample statements of a gate whose site ``<name>.coefficients`` has a Normal prior and posterior."""

    site_axes: ClassVar[Mapping[str, tuple[str, ...]]] = {"coefficients": ("gate_component", "gate_regressor")}
    weights_site = "coefficients"

    def log_weights_at(self, x: Inputs, coefficients: Float[Tensor, "*S M E"]) -> Float[Tensor, "*S N K"]:
        """Return log π of given coefficients, float64.

        Args:
            x: gate inputs [N, D].
            coefficients: one draw, or several.
        """
        raise NotImplementedError

    def predictive_assignment(self, x: Inputs) -> Categorical:
        """Return Categorical(E_q[π]).

        Args:
            x: gate inputs [N, D].
        """
        return categorical(self.weights(x))

    def program_weights(self, x: Tensor, plates: tuple[pyro.plate, ...]) -> ProgramWeights:
        """Return the weights of the objects in this run of a program.

        Args:
            x: gate inputs [*objects, D].
            plates: over the objects, not entered.
        """
        if record_of(self) is None and draws_from_posterior(self):
            rows = rows_of_objects(plates, x)
            log_weights = self._log_weights_drawn(rows, self.posterior)
            return ProgramWeights(with_axes(log_weights, axes_of_objects(plates, x)))
        return GateProgram.program_weights(self, x, plates)

    def assignment_prior(self, x: Inputs, *, plate: pyro.plate | None) -> Categorical:
        """Sample ``<name>.coefficients`` from the prior outside the plate.

        Args:
            x: gate inputs [N, D].
            plate: over the objects, not entered.
        """
        return categorical_of_rows(self._log_weights_of(x, self.prior_distribution(x.dtype)))

    def _log_weights_drawn(self, x: Inputs, value: NormalCoefficients) -> Tensor:
        """Sample the coefficients from a prior or posterior, and return log π in x's dtype."""
        return self._log_weights_of(x, self.weights_distribution(value, x.dtype))

    def prior_distribution(self, dtype: torch.dtype) -> TorchDistributionMixin:
        """Return the prior of the coefficients as a distribution.

        Args:
            dtype: of its draws.
        """
        return self.weights_distribution(self.prior, dtype)

    def _log_weights_of(self, x: Inputs, distribution: TorchDistributionMixin) -> Tensor:
        """Sample the coefficients, and return log π in x's dtype."""
        coefficients = sample_parameter(self.site("coefficients"), distribution)
        # Draws of Predictive have an axis of one for the plate of the objects.
        draws = coefficients if coefficients.ndim == 2 else coefficients.squeeze(-3)
        return self.log_weights_at(x, draws).to(x.dtype)

    def weights_guide(self, x: Inputs, *, plate: pyro.plate | None, objects: ObjectIndices | None) -> None:
        """Sample ``<name>.coefficients`` from the posterior.

        Args:
            x: gate inputs [N, D].
            plate: over the objects, not entered.
            objects: not read: a row's weights depend on x alone.
        """
        sample_parameter(self.site("coefficients"), self.weights_distribution(self.posterior, x.dtype))

    def sample_weights(self, x: ProgramInputs) -> NoReturn:
        """Raise: the weights of this gate depend on the inputs, and :meth:`model` takes these.

        Args:
            x: not read.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            f"`sample_weights` must be called on a gate whose weights all objects share; got a {type(self).__name__}, "
            "whose weights depend on x. Call `gate.model(x, plate=plate)`."
        )

    def reparam(self, x: Inputs, responsibilities: Responsibilities, *, n_objects: int | None = None) -> dict[str, Any]:
        """Raise: there is no exact posterior of the coefficients to sample them from.

        Args:
            x: not read.
            responsibilities: not read.
            n_objects: not read.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            f"`reparam` must be called on a gate with an exact posterior given the assignments; got a "
            f"{type(self).__name__}. Use `expected_weights(gate)` or `gate.guide`."
        )

    @torch.no_grad()
    def update_seen(self, record: GateRecord, step_size: float) -> None:
        """Go part of the way to the optimum given what a program has said, a step of the natural gradient.

        Args:
            record: of the program, after the bound has been differentiated.
            step_size: in (0, 1].
        """
        seen = record.seen_objects()
        sums = self.statistics_of(seen.x, seen.responsibilities)
        if step_size < 1.0:
            self.update(sums, step_size)
            return
        # All objects, so that a fall of the bound is one: a whole step goes too far where curvature is not that ahead.
        r = seen.responsibilities.mT.double().unsqueeze(0)
        after = improved(self, seen.x, r, nested.stack([self.posterior]), nested.stack([sums]))
        self.hold_posterior(nested.select(after, 0))
