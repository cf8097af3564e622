"""The Pyro model and guide of a gate."""

import pyro
from pyro.distributions import Categorical, Dirichlet
from pyro.infer.reparam import ConjugateReparam
from pyro.infer.reparam.reparam import Reparam
from pyro.nn import pyro_method
from torch import Tensor

from mixpyro import arguments
from mixpyro.conjugate_part import ConjugatePart
from mixpyro.part import Part
from mixpyro.pyro_internals.compiled import refuse_compiled
from mixpyro.pyro_internals.expected_weights import BoundTerms, ModelCalls, record_of
from mixpyro.pyro_internals.names import module_name
from mixpyro.pyro_internals.parameter_store import refuse_shared_parameters
from mixpyro.pyro_internals.plates import (
    OBJECTS_PLATE,
    checked_plate,
    refuse_given_value,
    refuse_inner_call,
    refuse_outer_plates,
    refuse_taken_name,
    rows_of,
)
from mixpyro.shapes import Inputs, ObjectIndices, Responsibilities


class GateProgram(Part):
    """Sample statements of a gate for anyone's model and guide.

    A subclass gives :meth:`assignment_prior` and :meth:`bound_terms`, and :meth:`weights_guide` where its weights are
    latent.
    """

    # Name of the site of the latent weights, without the prefix; None where there is no such site.
    weights_site: str | None = None

    @property
    def plate_name(self) -> str:
        """Name of the plate over objects where the caller gives none: ``objects`` for a gate named ``gate``.

        A gate of a mixture has the mixture's plate, ``<mixture>.objects`` where that has a name. A gate of any other
        name has ``<name>.objects``, so that several can be in one program.
        """
        name = module_name(self)
        owner, _, own = name.rpartition(".")
        prefix = owner if own == "gate" else name
        return f"{prefix}.{OBJECTS_PLATE}" if prefix else OBJECTS_PLATE

    def assignment_prior(self, x: Inputs, *, plate: pyro.plate) -> Categorical:
        """Sample the weights from their prior, outside or inside the plate, and return p(z | weights).

        Args:
            x: gate inputs [N, D].
            plate: over the objects, not entered.
        """
        raise NotImplementedError

    def weights_guide(self, x: Inputs, *, plate: pyro.plate, objects: ObjectIndices | None) -> None:
        """Sample the weights from their posterior. Nothing for a gate without latent weights.

        Args:
            x: gate inputs [N, D].
            plate: over the objects, not entered.
            objects: which objects of the last update the rows are; None for new ones.
        """

    def bound_terms(self, x: Inputs, *, objects: Tensor, n_objects: int) -> BoundTerms:
        """Return E_q[log π] of some of N objects, and KL(q‖p): of all, or [B] where each object has its own.

        Args:
            x: gate inputs [B, D].
            objects: which of the N objects the rows are [B].
            n_objects: N.
        """
        raise NotImplementedError

    @pyro_method
    def model(self, x: Inputs, *, plate: pyro.plate | None = None) -> Tensor:
        """Sample the weights and the assignments ``<name>.assignment`` from their prior, and return the assignments.

        NUTS samples this model with the assignments summed out, and ``Predictive(parallel=True)`` takes its draws.

        Args:
            x: gate inputs [N, D], or [B, D] of the plate's subsample.
            plate: the caller's plate over objects, of dim −1, not entered here; by default one of N, see
                :attr:`plate_name`.

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
        plate = checked_plate(plate, x, self.plate_name)
        calls = record_of(self)
        if calls is not None:
            return self._expected_model(x, plate, calls)
        prior = self.assignment_prior(x, plate=plate)
        with plate:
            return pyro.sample(self.site("assignment"), prior, infer={"enumerate": "parallel"})

    def _expected_model(self, x: Inputs, plate: pyro.plate, calls: ModelCalls) -> Tensor:
        """Run the model with the weights integrated out; see :func:`~mixpyro.expected_weights`."""
        refuse_outer_plates(self.site("assignment"))
        self._refuse_compiled()
        if self.weights_site is not None:
            refuse_given_value(self.site(self.weights_site))
        call = calls.record(x, rows_of(plate), int(plate.size), self.n_components)
        log_weights, divergence = self.bound_terms(x, objects=call.objects, n_objects=call.n_objects)
        log_weights = log_weights + call.log_weights
        own = divergence if divergence.ndim else 0.0
        of_all = call.divergence - (0.0 if divergence.ndim else divergence)
        # In x's dtype: vectorised particles meet in one product, which takes one dtype only.
        pyro.factor(self.site("minus_kl_divergence"), of_all.to(x.dtype))
        with plate:
            # Categorical divides by the sum of exp(E log π), which is below one: multiply by it again.
            pyro.factor(self.site("log_normaliser"), (log_weights.logsumexp(-1) - own).to(x.dtype))
            return pyro.sample(
                self.site("assignment"), Categorical(logits=log_weights), infer={"enumerate": "parallel"}
            )

    def _refuse_compiled(self) -> None:
        """Raise if a program that reads the posterior is being compiled."""
        if isinstance(self, ConjugatePart):
            refuse_compiled(module_name(self))

    @pyro_method
    def guide(
        self,
        x: Inputs,
        *,
        plate: pyro.plate | None = None,
        responsibilities: Responsibilities | None = None,
        objects: ObjectIndices | None = None,
    ) -> None:
        """Sample the weights from their posterior and, given responsibilities, the assignments from q(z).

        Its arguments are the gate's, not those of the program it is in: for an ``AutoGuideList`` over a model of other
        arguments use :class:`~mixpyro.AutoGate`. Inside :func:`~mixpyro.expected_weights` it samples no weights.

        Args:
            x: gate inputs [N, D], or [B, D] of the plate's subsample.
            plate: the caller's plate over objects, of dim −1, not entered here; by default one of N, see
                :attr:`plate_name`.
            responsibilities: q(z) [N, K], rows that sum to one. Without them z is left to the model, where
                TraceEnum_ELBO sums it out.
            objects: which objects of the last update the rows are, as for :meth:`expected_log_weights`; by default
                those that the caller's plate draws, and new ones without a plate.

        Raises:
            ValueError: as :meth:`model`, or if an outer plate would draw the weights more than once.
        """
        refuse_shared_parameters(self)
        given, plate = plate, checked_plate(plate, x, self.plate_name)
        if record_of(self) is None:
            self._refuse_compiled()
            if objects is None and given is not None and self.weights_site is not None:
                objects = self.objects_in(given)
            self.weights_guide(x, plate=plate, objects=objects)
        if responsibilities is not None:
            self.assignment_guide(x, responsibilities, plate=plate)

    def objects_in(self, plate: pyro.plate) -> ObjectIndices | None:
        """Return which objects of the last update a plate draws; None for a gate that keeps none.

        Args:
            plate: over the objects of a program.
        """
        return None

    @pyro_method
    def assignment_guide(
        self, x: Inputs, responsibilities: Responsibilities, *, plate: pyro.plate | None = None
    ) -> None:
        """Sample the assignments from q(z), to be enumerated.

        Args:
            x: gate inputs [N, D].
            responsibilities: q(z) [N, K], rows that sum to one.
            plate: as for :meth:`guide`.
        """
        refuse_inner_call()
        with checked_plate(plate, x, self.plate_name):
            # No tiny weight for a zero here: the object's y may be impossible there, and tiny · (−∞) is −∞.
            q = Categorical(logits=responsibilities.log())
            pyro.sample(self.site("assignment"), q, infer={"enumerate": "parallel"})

    def reparam(
        self, x: Inputs, responsibilities: Responsibilities, *, n_objects: int | None = None
    ) -> dict[str, Reparam]:
        """Return what ``poutine.reparam`` needs to sample the weights from their exact posterior given q(z).

        The reparameterised model samples the weights from their prior times the evidence of the responsibilities. Its
        guide is :meth:`assignment_guide` with the same responsibilities, in place of :meth:`guide`. One evaluation of
        TraceEnum_ELBO is then the bound at the best q(π), whatever weights it samples, with exact gradients for the
        parameters of the gate's prior.

        Args:
            x: gate inputs [N, D], or [B, D] of a subsample.
            responsibilities: q(z) [N, K], rows that sum to one.
            n_objects: N, where x is a subsample.

        Raises:
            ValueError: if a shape does not fit, or a value is negative or not finite.

        Example:
            >>> import torch
            >>> from pyro import poutine
            >>> from mixpyro import DirichletGate
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
        """Return the likelihood of the weights given responsibilities, as a density; None without latent weights.

        Args:
            x: gate inputs [B, D].
            responsibilities: [B, K].
            scale: how many objects each row stands for.
        """
        return None

    @property
    def latent_sites(self) -> list[str]:
        """Full names of the sites that :meth:`model` samples, to hide from an automatic guide for all the rest."""
        names = ("assignment",) if self.weights_site is None else (self.weights_site, "assignment")
        return [self.site(name) for name in names]
