"""What every gate is: a prior over which component each object belongs to."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pyro
import torch
from pyro.distributions import Categorical, Dirichlet
from pyro.infer.reparam import ConjugateReparam
from pyro.infer.reparam.reparam import Reparam
from pyro.nn import PyroModule, pyro_method
from torch import Tensor

from mixpyro import arguments
from mixpyro.pyro_internals.expected_weights import BoundTerms, Evidence, evidence_of
from mixpyro.pyro_internals.parameter_store import numbered_entries, refuse_shared_parameters
from mixpyro.pyro_internals.plates import (
    checked_plate,
    refuse_given_value,
    refuse_inner_call,
    refuse_outer_plates,
    refuse_taken_name,
    rows_of,
)
from mixpyro.shapes import Inputs, ObjectIndices, Responsibilities, Scalar, Weights


class Gate(PyroModule):
    """Prior over the assignments z of N objects to K components, with an analytic posterior over its own latents.

    A subclass gives the methods that raise ``NotImplementedError`` here; the Pyro model and guide, and the
    objective of the gradient M-step, follow from them. Posteriors and fixed priors are buffers, what SVI learns is a
    parameter.

    A class says whether a row of weight three is three rows to it, and whether its statistics are sums over objects, so
    that those of batches may be added.

    Args:
        n_components: K, at least one.
        name: prefix of the Pyro sites, as in ``gate.assignment``. A gate that is an attribute of a PyroModule takes the
            name of that attribute instead.
    """

    takes_row_weights: ClassVar[bool] = True
    statistics_are_sums: ClassVar[bool] = True
    # What the axes of a draw of each latent site are, for output with names.
    site_axes: ClassVar[Mapping[str, tuple[str, ...]]] = {"weights": ("component",)}
    weights_site: str | None = None
    # State of a gate all of whose formulas take an axis of runs in front of it, so that many fits go on in one pass. A
    # subclass says so again, or its fits go on by themselves.
    stacked_buffers: ClassVar[tuple[str, ...]] = ()

    def __init__(self, n_components: int, *, name: str) -> None:
        super().__init__(name)
        self.n_components = arguments.integer("n_components", n_components)

    def expected_log_weights(self, x: Inputs, *, objects: ObjectIndices | None = None) -> Weights:
        """E_q[log π], [N, K] or [1, K] where all objects share it, in x's dtype.

        Args:
            x: gate inputs [N, D]; a gate without inputs reads N, dtype and device off them.
            objects: which objects of the last update the rows are, for a gate that keeps a posterior an object.
        """
        raise NotImplementedError

    def weights(self, x: Inputs, *, objects: ObjectIndices | None = None) -> Responsibilities:
        """E_q[π] [N, K], the predictive weights of any rows, seen or not; arguments as ``expected_log_weights``."""
        raise NotImplementedError

    def unseen_weights(self, x: Inputs) -> Responsibilities:
        """Predictive weights of new objects [N, K], however many; :meth:`weights` but for a gate that knows objects."""
        return self.weights(x)

    @property
    def can_be_stacked(self) -> bool:
        """Whether :func:`~mixpyro.merging.merged` takes such gates, with an axis of them in front."""
        return bool(self.stacked_buffers)

    @property
    def n_parameters(self) -> int:
        """How many free parameters the gate's weights of new objects have."""
        raise NotImplementedError

    def statistics(self, x: Inputs, responsibilities: Responsibilities) -> tuple[Tensor, ...]:
        """What the conjugate update needs to know of the data; sums over objects where the gate allows it.

        Args:
            x: gate inputs [N, D].
            responsibilities: [N, K], non-negative; a row that does not sum to one carries a weight.

        Raises:
            ValueError: if a shape does not fit, or a value is negative or not finite.
        """
        raise NotImplementedError

    def update(self, statistics: Any, step_size: float = 1.0) -> None:  # noqa: ANN401 (each gate has its own)
        """Set the posterior to its optimum given ``statistics``; ``step_size`` below 1 goes part of the way."""
        raise NotImplementedError

    def maximise(self, x: Inputs, responsibilities: Responsibilities, *, n_steps: int = 25) -> bool:
        """Set the gate's parameters to the maximum of :meth:`partial_bound`, where there is a better way than SVI.

        Frozen parameters stay. At most ``n_steps`` steps are taken where steps lead there.

        Returns:
            Whether there is. If not, nothing has happened, and ``mixpyro.fitting.gradient.m_step`` does it by gradient.
        """
        return False

    def degeneracies(self, x: Inputs, responsibilities: Responsibilities) -> list[str]:
        """What makes the gate's maximum of the likelihood worthless, in words; nothing where posteriors forbid it."""
        return []

    def kl_divergence(self) -> Scalar:
        """KL(q‖p) of the gate's own latents in nats, float64; minus the log density of a prior on parameters."""
        raise NotImplementedError

    def assignment_prior(self, x: Inputs, *, plate: pyro.plate) -> Categorical:
        """Sample the weights from their prior, outside or inside ``plate``, and return p(z | weights)."""
        raise NotImplementedError

    def weights_guide(self, x: Inputs, *, plate: pyro.plate) -> None:
        """Sample the weights from q. Nothing to do for a gate without latent weights."""

    def update_objects(
        self, x: Inputs, responsibilities: Responsibilities, *, objects: Tensor, n_objects: int, step_size: float
    ) -> None:
        """Go ``step_size`` of the way to the optimum that some of N objects speak for, and they alone.

        Args:
            x: gate inputs [B, D].
            responsibilities: [B, K], each row times what its object stands for, N / B where B of N were drawn.
            objects: which of the N objects the rows are [B].
            n_objects: N.
            step_size: in (0, 1].
        """
        self.update(self.statistics(x, responsibilities), step_size)

    def bound_terms(self, x: Inputs, *, objects: Tensor, n_objects: int) -> BoundTerms:
        """E_q[log π] of some of N objects, and KL(q‖p): of all, or [B] of these where each has its own posterior."""
        return BoundTerms(self.expected_log_weights(x), self.kl_divergence())

    @pyro_method
    def model(self, x: Inputs, *, plate: pyro.plate | None = None) -> Tensor:
        """Pyro model of the assignments: samples ``<name>.assignment`` and the gate's latent weights.

        Args:
            x: gate inputs [N, D], or [B, D] of the plate's subsample.
            plate: the caller's plate over objects, of dim −1, not entered here; by default a plate ``objects`` of N.

        Returns:
            The assignments [N]; under enumeration, [K, 1, …] as Pyro broadcasts them.

        Raises:
            ValueError: if dim −1 is taken, or x has not a row for each of the plate's objects.
            RuntimeError: if the program has a site of this name already, or another module has registered parameters
                under it.
        """
        refuse_shared_parameters(self)
        refuse_taken_name(self.site("assignment"))
        refuse_inner_call()
        plate = checked_plate(plate, x)
        evidence = evidence_of(self)
        if evidence is not None:
            return self._expected_model(x, plate, evidence)
        prior = self.assignment_prior(x, plate=plate)
        with plate:
            return pyro.sample(self.site("assignment"), prior, infer={"enumerate": "parallel"})

    def _expected_model(self, x: Inputs, plate: pyro.plate, evidence: Evidence) -> Tensor:
        """The model with the weights integrated out; see :func:`~mixpyro.expected_weights`."""
        refuse_outer_plates(self.site("assignment"))
        if self.weights_site is not None:
            refuse_given_value(self.site(self.weights_site))
        visit = evidence.visit(x, rows_of(plate), int(plate.size), self.n_components)
        log_weights, divergence = self.bound_terms(x, objects=visit.objects, n_objects=visit.n_objects)
        log_weights = log_weights + visit.log_weights
        own = divergence if divergence.ndim else 0.0
        of_all = visit.divergence - (0.0 if divergence.ndim else divergence)
        # In x's dtype: particles that are vectorised meet in one product, which takes but one.
        pyro.factor(self.site("minus_kl_divergence"), of_all.to(x.dtype))
        with plate:
            # Categorical divides by the sum of exp(E log π), which is below one: put it back.
            pyro.factor(self.site("log_normaliser"), (log_weights.logsumexp(-1) - own).to(x.dtype))
            return pyro.sample(
                self.site("assignment"), Categorical(logits=log_weights), infer={"enumerate": "parallel"}
            )

    @pyro_method
    def guide(
        self, x: Inputs, *, plate: pyro.plate | None = None, responsibilities: Responsibilities | None = None
    ) -> None:
        """Pyro guide: the analytic posterior of the weights and, given responsibilities, q(z) to be enumerated.

        Its arguments are the gate's, not those of the program it is in: for an ``AutoGuideList`` over a model of other
        arguments take :class:`~mixpyro.AutoGate`. Inside :func:`~mixpyro.expected_weights` it samples no weights.

        Args:
            x: gate inputs [N, D], or [B, D] of the plate's subsample.
            plate: the caller's plate over objects, of dim −1, not entered here; by default a plate ``objects`` of N.
            responsibilities: q(z) [N, K], rows that sum to one. Without them z is left to the model, where
                TraceEnum_ELBO sums it out.

        Raises:
            ValueError: as :meth:`model`, or if an outer plate would draw the weights more than once.
        """
        refuse_shared_parameters(self)
        plate = checked_plate(plate, x)
        if evidence_of(self) is None:
            self.weights_guide(x, plate=plate)
        if responsibilities is not None:
            self.assignment_guide(x, responsibilities, plate=plate)

    @pyro_method
    def assignment_guide(
        self, x: Inputs, responsibilities: Responsibilities, *, plate: pyro.plate | None = None
    ) -> None:
        """Pyro guide of the assignments alone, q(z) to be enumerated; arguments as :meth:`guide`."""
        refuse_inner_call()
        with checked_plate(plate, x):
            # No tiny weight for a zero here: the object's y may be impossible there, and tiny · (−∞) is −∞.
            q = Categorical(logits=responsibilities.log())
            pyro.sample(self.site("assignment"), q, infer={"enumerate": "parallel"})

    def reparam(
        self, x: Inputs, responsibilities: Responsibilities, *, n_objects: int | None = None
    ) -> dict[str, Reparam]:
        """What ``poutine.reparam`` needs to put the weights at their exact posterior given q(z), in an SVI of your own.

        The program's model, so reparameterised, samples the weights from their prior times this evidence, and its guide
        is :meth:`assignment_guide` with the same responsibilities in place of :meth:`guide`. One evaluation of
        TraceEnum_ELBO is then the bound at the best q(π), whatever weights it samples, with exact gradients for the
        parameters of the gate's prior.

        Args:
            x: gate inputs [N, D], or [B, D] of a subsample.
            responsibilities: q(z) [N, K], rows that sum to one.
            n_objects: N, where x is a subsample.

        Raises:
            ValueError: if a shape does not fit, or a value is negative or not finite.

        Example:
            >>> from mixpyro import DirichletGate
            >>> from pyro import poutine
            >>> gate, x, r = DirichletGate(2), torch.zeros(3, 0), torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.5, 0.5]])
            >>> model = poutine.reparam(gate.model, gate.reparam(x, r))
            >>> elbo = pyro.infer.TraceEnum_ELBO(max_plate_nesting=1)
            >>> [round(elbo.loss(model, lambda x: gate.assignment_guide(x, r), x), 3) for _ in range(2)]
            [1.405, 1.405]
        """
        checked = arguments.responsibilities(responsibilities, self.n_components, len(x))
        n_objects = len(x) if n_objects is None else arguments.integer("n_objects", n_objects, least=len(x))
        evidence = self.evidence(x, checked, scale=n_objects / len(x))
        return {} if evidence is None else {self.site(str(self.weights_site)): ConjugateReparam(evidence)}

    def evidence(self, x: Inputs, responsibilities: Responsibilities, *, scale: float) -> Dirichlet | None:
        """What responsibilities say of the weights, in the form of a likelihood; None where there are none to update.

        Args:
            x: gate inputs [B, D].
            responsibilities: [B, K].
            scale: how many objects each row stands for.
        """
        return None

    def partial_bound(self, x: Inputs, responsibilities: Responsibilities) -> Scalar:
        """The gate's part of the bound in nats, Σ r E_q[log π] − KL(q‖p), for the objects of the last update."""
        expected = self.expected_log_weights(x, objects=slice(None))
        return (responsibilities * expected).sum() - self.kl_divergence()

    @pyro_method
    def objective(self, x: Inputs, responsibilities: Responsibilities) -> None:
        """Pyro model of the M-step: a factor ``<name>.objective``, the gate's part of the bound."""
        refuse_shared_parameters(self)
        pyro.factor(self.site("objective"), self.partial_bound(x, responsibilities))

    @property
    def effects(self) -> set[str]:
        """Parameters whose entries are effects, each of which may be tested against none."""
        return set()

    def parameter_names(self, feature_names: Sequence[str]) -> dict[str, list[str]]:
        """A name for every entry of every parameter, in the parameter's order; numbers by default.

        Args:
            feature_names: of the columns of x.
        """
        return numbered_entries(self)

    @property
    def latent_sites(self) -> list[str]:
        """Full names of the sites that :meth:`model` samples, to hide from an automatic guide for all the rest."""
        names = ("assignment",) if self.weights_site is None else (self.weights_site, "assignment")
        return [self.site(name) for name in names]

    def site(self, name: str) -> str:
        """Full name of the gate's site ``name``, such as ``gate.weights``."""
        return f"{self._pyro_name}.{name}" if self._pyro_name else name


def natural_step(old: Tensor, optimum: Tensor, step_size: float) -> Tensor:
    """Point on the way from one natural parameter to another; Hoffman et al. (2013), section 2.4."""
    # The common case first: to check a number takes as long as to add a few.
    size = 1.0 if step_size.__class__ is float and step_size == 1.0 else arguments.step_size(step_size)
    return optimum if size == 1.0 else torch.lerp(old, optimum, size)


def categorical(weights: Tensor) -> Categorical:
    """Categorical over weights, by logarithms: Categorical(probs) raises the tiny weights of a sparse Dirichlet."""
    return Categorical(logits=weights.clamp_min(torch.finfo(weights.dtype).tiny).log())
