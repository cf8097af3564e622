"""Gates whose weights have an analytic posterior."""

from collections.abc import Mapping
from typing import ClassVar

import pyro
import torch
from jaxtyping import Float
from pyro.distributions import Categorical
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.poutine.runtime import get_mask
from torch import Tensor

from mixpyro import arguments
from mixpyro.conjugate_part import ConjugatePart
from mixpyro.fitted_part import State
from mixpyro.gates.base import Gate, categorical
from mixpyro.gates.parts import Parts, parts_around
from mixpyro.gates.program_weights import ProgramWeights
from mixpyro.numerics import nested
from mixpyro.pyro_internals.expected_weights import BoundTerms, GateRecord, record_of
from mixpyro.pyro_internals.given_sites import (
    is_trained_by_plain_svi,
    refuse_given_value,
    refuse_taken_name,
    untrained,
)
from mixpyro.pyro_internals.parameter_store import refuse_shared_parameters
from mixpyro.pyro_internals.plates import sample_parameter
from mixpyro.pyro_internals.posterior_weights import draws_from_posterior
from mixpyro.shapes import Inputs, ObjectIndices, ProgramInputs, Responsibilities, Value


class ConjugateGate(ConjugatePart, Gate):
    """A gate with latent weights that all objects share, updated from sums over the rows.

    To write, five members: ``prior``, :meth:`statistics_of`, :meth:`expected_log_weights`, :meth:`weights` and
    :meth:`weights_distribution`.
    """

    site_axes: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "weights": ("component",),
        "prior_concentration": ("component",),
    }
    weights_site: str | None = "weights"
    # Whether weights sum to one; if not, the rest is the weight of what no object is in.
    is_normalised: ClassVar[bool] = True
    # Axes of parts with weights of their own, before that of the components.
    batch_shape: tuple[int, ...] = ()

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

    def posterior_or_own(self, posterior: Value) -> Value:
        """Return a posterior that was given, or else the gate's own.

        Args:
            posterior: with any leading axes of runs, or None.
        """
        return self.posterior if posterior is None else posterior

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

    def sums(self, x: Inputs, responsibilities: Float[Tensor, "R K N"], state: State | None = None) -> Value:
        """Return the statistics of R runs.

        Args:
            x: gate inputs [N, D].
            responsibilities: [R, K, N].
            state: not read: the statistics are those of any state.
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

    def sample_weights(self, x: ProgramInputs) -> ProgramWeights:
        """Sample ``<name>.weights`` once in a run of a program, for assignments under names of your own.

        Call this outside of the plates of the objects, and :meth:`ProgramWeights.assign` of what it returns inside of
        them. Call a gate with a ``batch_shape`` inside the plates of its parts; axes without a plate are chosen by the
        ``parent`` of an assignment. The guide of :class:`~mixpyro.ConjugateSVI` needs neither. :meth:`model` does both
        in one call.

        Args:
            x: any floating tensor of the program, whose dtype and device the weights have; ``torch.empty(0)`` where the
                data are integers.

        Returns:
            The weights of this run.

        Raises:
            TypeError: if x is no floating tensor.
            ValueError: if the plates around the call are not those of ``batch_shape``, or a mask of single objects is
                around it.
            RuntimeError: if the program has called the gate already, or another module has registered parameters under
                its name.

        Example:
            >>> import pyro, pyro.distributions as dist
            >>> from mixpyro import DirichletGate
            >>> rows = DirichletGate(2, batch_shape=(2,), name="rows")
            >>> def model(y):
            ...     weights = rows.sample_weights(y)
            ...     with pyro.plate("sequences", len(y), dim=-1):
            ...         z = 0
            ...         for t in pyro.markov(range(y.shape[1])):
            ...             z = weights.assign(f"z_{t}", parent=torch.as_tensor(z))
            ...             pyro.sample(f"y_{t}", dist.Normal(z.double(), 1.0), obs=y[:, t])
        """
        x = arguments.program_inputs(x).new_empty(1, 0)
        refuse_shared_parameters(self)
        parts = self._parts(x)
        n_parents = len(self.batch_shape) - parts.n_plates
        record = record_of(self)
        refuse_taken_name(self._weights_name if record is None else self.site("minus_kl_divergence"))
        if record is not None:
            terms = self._expected(x, parts)
            if record.is_collapsed:
                terms = terms._replace(log_weights=self.weights(x).log()[0])
            run = record.begin(terms, parts=parts.numbers)
            pyro.factor(self.site("minus_kl_divergence"), (run.divergence - terms.divergence).to(x.dtype))
            return ProgramWeights(terms.log_weights, n_parents=n_parents, record=run)
        if draws_from_posterior(self):
            log_weights = self.sample_log_weights(x, parts, is_prior=False)
        else:
            log_weights = self.assignment_prior(x, plate=None).logits
        return ProgramWeights(log_weights, n_parents=n_parents, is_normalised=self.is_normalised)

    def program_weights(self, x: Tensor, plates: tuple[pyro.plate, ...]) -> ProgramWeights:
        """Return the weights of this run of a program.

        Args:
            x: gate inputs [*objects, D].
            plates: over the objects, not entered.
        """
        if getattr(get_mask(), "ndim", 0):
            raise ValueError(
                "`poutine.mask` must not be around a call of the gate's model, for it masks objects and not their "
                "weights; got one. Mask the likelihood alone, or take `weights = gate.sample_weights(x)` outside of it "
                "and `weights.assign(name)` inside, in the plates."
            )
        return self.sample_weights(x)

    def _parts(self, x: Tensor) -> Parts:
        """Return the parts that the plates around the call draw."""
        return parts_around(self.batch_shape, self._weights_name, x.device)

    def _expected(self, x: Tensor, parts: Parts) -> BoundTerms:
        """Return E_q[log π] [*view, *parents, K], and KL(q‖p) [*view] or a scalar."""
        self._refuse_compiled()
        refuse_given_value(self._weights_name)
        q = parts.of(self.posterior)
        log_weights = self.expected_log_weights(x, posterior=q).squeeze(-2)
        divergence = q.kl(parts.of(self.prior)) if self.batch_shape else self.kl(q)
        n_parents = len(self.batch_shape) - parts.n_plates
        return BoundTerms(log_weights, divergence.sum(tuple(range(-n_parents, 0))) if n_parents else divergence)

    @property
    def _weights_name(self) -> str:
        """Full name of the site of the latent weights."""
        return self.site(str(self.weights_site))

    def sample_log_weights(self, x: Tensor, parts: Parts, *, is_prior: bool) -> Tensor:
        """Sample ``<name>.weights`` [*view, *parents, K], and return their logarithms.

        Args:
            x: gate inputs, of which the dtype is read.
            parts: which the program visits.
            is_prior: whether from the prior, rather than the posterior.
        """
        value = self.prior if is_prior else self.posterior
        distribution = self.weights_distribution(parts.of(value), x.dtype)
        n_parents = len(self.batch_shape) - parts.n_plates
        distribution = distribution.to_event(n_parents) if n_parents else distribution
        return categorical(sample_parameter(self._weights_name, distribution)).logits

    def assignments(self, log_weights: Tensor) -> Categorical:
        """Return p(z | π).

        Args:
            log_weights: log π [..., K].
        """
        return Categorical(logits=log_weights)

    def assignment_prior(self, x: Inputs, *, plate: pyro.plate | None) -> Categorical:
        """Sample ``<name>.weights`` from the prior outside the plate.

        Args:
            x: gate inputs [N, D]; only its dtype is read.
            plate: not entered.
        """
        return self.assignments(self.sample_log_weights(x, self._parts(x), is_prior=True))

    def weights_guide(self, x: Inputs, *, plate: pyro.plate | None, objects: ObjectIndices | None) -> None:
        """Sample ``<name>.weights`` from the posterior.

        Args:
            x: gate inputs [N, D].
            plate: not entered.
            objects: not read.
        """
        self.sample_log_weights(x, self._parts(x), is_prior=False)

    @property
    def is_new(self) -> bool:
        """Whether nothing has changed the posterior, or it has been forgotten."""
        return nested.equal(self.posterior, self.prior)

    def refuse_untrained(self) -> None:
        """Raise if this gate is new in a step of plain SVI, which would leave it so."""
        if self.weights_site is not None and is_trained_by_plain_svi() and self.is_new:
            raise RuntimeError(untrained(self._weights_name))

    @torch.no_grad()
    def update_seen(self, record: GateRecord, step_size: float) -> None:
        """Go part of the way to the optimum given what a program has said of the objects.

        Args:
            record: of the program, after the bound has been differentiated.
            step_size: in (0, 1].
        """
        counts = record.seen_counts().counts  # [1, K]: as one row with the responsibilities of all.
        self.update(self.statistics_of(counts.new_empty(1, 0), counts), step_size)
