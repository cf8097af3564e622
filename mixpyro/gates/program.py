"""The Pyro model and guide of a gate."""

from typing import Any

import pyro
import torch
from pyro.distributions import Categorical
from pyro.nn import pyro_method
from torch import Tensor

from mixpyro import arguments
from mixpyro.conjugate_part import ConjugatePart
from mixpyro.gates.finite_rows import OF_FINITE_ROWS, of_finite_rows
from mixpyro.gates.program_axes import axes_of_objects, rows_of_objects, with_axes
from mixpyro.gates.program_weights import ProgramWeights, checked_labels
from mixpyro.gates.reparameterisation import GateReparameterisation
from mixpyro.pyro_internals.compiled import refuse_compiled
from mixpyro.pyro_internals.expected_weights import BoundTerms, GateRecord, record_of
from mixpyro.pyro_internals.given_sites import refuse_given_value, refuse_taken_name
from mixpyro.pyro_internals.names import module_name
from mixpyro.pyro_internals.parameter_store import refuse_shared_parameters
from mixpyro.pyro_internals.plates import Plates, checked_plates, entered, refuse_outer_plates, rows_of_all
from mixpyro.pyro_internals.posterior_weights import draws_from_posterior
from mixpyro.shapes import Inputs, ObjectIndices, ProgramInputs


class GateProgram(GateReparameterisation):
    """Sample statements of a gate for anyone's model and guide.

    A subclass gives :meth:`assignment_prior` and :meth:`bound_terms`, and :meth:`weights_guide` where its weights are
    latent.
    """

    def __init_subclass__(cls, **options: Any) -> None:  # noqa: ANN401
        # Before the checks of every part, which hand over a tensor.
        arguments.guard(cls, OF_FINITE_ROWS, of_finite_rows)
        super().__init_subclass__(**options)

    def assignment_prior(self, x: Inputs, *, plate: pyro.plate | None) -> Categorical:
        """Sample the weights from their prior, outside or inside the plate, and return p(z | weights).

        Args:
            x: gate inputs [N, D].
            plate: over the objects, not entered.
        """
        raise NotImplementedError

    def weights_guide(self, x: Inputs, *, plate: pyro.plate | None, objects: ObjectIndices | None) -> None:
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
    def model(
        self,
        x: ProgramInputs,
        *,
        plate: Plates | None = None,
        observed: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Sample the weights and the assignments ``<name>.assignment`` from their prior, and return the assignments.

        NUTS samples this model with the assignments summed out, and ``Predictive(parallel=True)`` takes its draws.

        Args:
            x: gate inputs [N, D], or [B, D] of the plate's subsample; [*objects, D] in several plates.
            plate: the plate over the objects, or several, not entered here. It must be given: the data belong into the
                same plate.
            observed: components of the objects that are known, integers [N] from 0 to K − 1; [*objects].
            mask: which of them are known, truth values [N]; all by default. The rest of ``observed`` is not read.

        Returns:
            The assignments [N]; under enumeration, [K, 1, …] as Pyro broadcasts them.

        Raises:
            TypeError: if x is no floating tensor, or another argument has another type.
            ValueError: if there is no ``plate``, its dim is taken, x has not a row for each of its objects or is not
                finite for a gate that reads it, or known components do not fit.
            RuntimeError: if the program has a site of this name already, or another module has registered parameters
                under it.
        """
        refuse_shared_parameters(self)
        refuse_taken_name(self.site("assignment"))
        x = arguments.program_inputs(x)
        x = arguments.finite("x", x) if self.reads_inputs else x
        plates = checked_plates(plate, x)
        if observed is not None or mask is not None:
            with entered(plates):  # before anything is sampled
                checked_labels(observed, mask, self.n_components)
        weights = self.program_weights(x, plates)
        with entered(plates):
            return weights.assign(self.site("assignment"), observed=observed, mask=mask)

    def program_weights(self, x: Tensor, plates: tuple[pyro.plate, ...]) -> ProgramWeights:
        """Return the weights of the objects in this run of a program.

        Args:
            x: gate inputs [*objects, D].
            plates: over the objects, the outermost first, not entered.
        """
        rows, view = rows_of_objects(plates, x), axes_of_objects(plates, x)
        record = record_of(self)
        if record is not None:
            return self._expected_weights(rows, plates, record, view)
        if draws_from_posterior(self):
            with torch.no_grad():
                objects = self.objects_in(plates[0])
                self.weights_guide(rows, plate=plates[0], objects=objects)
                log_weights = self.weights(rows, objects=objects).log()
        else:
            log_weights = self.assignment_prior(rows, plate=plates[0]).logits
        return ProgramWeights(with_axes(log_weights, view))

    def _expected_weights(
        self, x: Tensor, plates: tuple[pyro.plate, ...], record: GateRecord, view: list[int]
    ) -> ProgramWeights:
        """Return the weights integrated out; see :func:`~mixpyro.expected_weights`."""
        refuse_outer_plates(self.site("assignment"))
        self._refuse_compiled()
        if self.weights_site is not None:
            refuse_given_value(self.site(self.weights_site))
        objects, n_objects = rows_of_all(plates)
        terms = self.bound_terms(x, objects=objects, n_objects=n_objects)
        own = terms.divergence.ndim == 1
        log_weights = with_axes(terms.log_weights.expand(len(x), -1), view)
        run = record.begin(
            BoundTerms(log_weights, terms.divergence),
            x=x.detach(),
            objects=objects,
            n_objects=n_objects,
        )
        of_all = run.divergence if own else run.divergence - terms.divergence
        # In x's dtype: vectorised particles meet in one product, which takes one dtype only.
        pyro.factor(self.site("minus_kl_divergence"), of_all.to(x.dtype))
        divergence = terms.divergence.to(x.dtype).reshape(view) if own else 0.0
        return ProgramWeights(log_weights, record=run, divergence=divergence)

    def _refuse_compiled(self) -> None:
        """Raise if a program that reads the posterior is being compiled."""
        if isinstance(self, ConjugatePart):
            refuse_compiled(module_name(self))

    @pyro_method
    def guide(
        self,
        x: ProgramInputs,
        *,
        plate: Plates | None = None,
        responsibilities: Tensor | None = None,
        objects: ObjectIndices | None = None,
    ) -> None:
        """Sample the weights from their posterior and, given responsibilities, the assignments from q(z).

        Its arguments are the gate's, not those of the program it is in: for an ``AutoGuideList`` over a model of other
        arguments use :class:`~mixpyro.AutoGate`. Inside :func:`~mixpyro.expected_weights` it samples no weights.

        Args:
            x: gate inputs, as for :meth:`model`.
            plate: as for :meth:`model`.
            responsibilities: q(z) [N, K], rows that sum to one. Without them z is left to the model, where
                TraceEnum_ELBO sums it out.
            objects: which objects of the last update the rows are, as for :meth:`expected_log_weights`; by default
                those that the plate draws.

        Raises:
            TypeError: as :meth:`model`.
            ValueError: as :meth:`model`, or if an outer plate would draw the weights more than once.
            RuntimeError: if plain SVI would train a program with a gate that it never updates.
        """
        plates = checked_plates(plate, arguments.program_inputs(x))
        if responsibilities is not None:  # before anything is sampled
            arguments.assignment_probabilities(responsibilities, (*x.shape[: len(plates)], self.n_components))
        if objects is None and self.weights_site is not None and record_of(self) is None:
            objects = self.objects_in(plates[0])
        self.guide_of_rows(x, plates, responsibilities=responsibilities, objects=objects)

    def guide_of_rows(
        self,
        x: ProgramInputs,
        plates: tuple[pyro.plate, ...],
        *,
        responsibilities: Tensor | None = None,
        objects: ObjectIndices | None = None,
    ) -> None:
        """Sample as :meth:`guide`, for rows that are new objects unless ``objects`` says which they are.

        Args:
            x: gate inputs [*objects, D].
            plates: over the objects, the outermost first, not entered.
            responsibilities: q(z) [*objects, K].
            objects: which objects of the last update the rows are.
        """
        refuse_shared_parameters(self)
        if record_of(self) is None:
            self._refuse_compiled()
            self.refuse_untrained()
            self.weights_guide(rows_of_objects(plates, x), plate=plates[0], objects=objects)
        if responsibilities is not None:
            self.assignment_guide(x, responsibilities, plate=plates)

    def refuse_untrained(self) -> None:
        """Raise if a step of plain SVI would leave this gate where it is; nothing by default."""

    def objects_in(self, plate: pyro.plate) -> ObjectIndices | None:
        """Return which objects of the last update a plate draws; None for a gate that keeps none.

        Args:
            plate: over the objects of a program.
        """
        return None

    @pyro_method
    def assignment_guide(self, x: ProgramInputs, responsibilities: Tensor, *, plate: Plates | None = None) -> None:
        """Sample the assignments from q(z), to be enumerated.

        Args:
            x: gate inputs, as for :meth:`model`.
            responsibilities: q(z) [N, K], rows that sum to one; [*objects, K] in several plates.
            plate: as for :meth:`model`.

        Raises:
            TypeError: as :meth:`model`, or if the responsibilities are no tensor of floats.
            ValueError: as :meth:`model`, or if the responsibilities have another shape, a negative value or a row of
                zeros.
        """
        x = arguments.program_inputs(x)
        plates = checked_plates(plate, x)
        shape = (*x.shape[: len(plates)], self.n_components)
        checked = arguments.assignment_probabilities(responsibilities, shape)
        # No tiny weight for a zero here: the object's y may be impossible there, and tiny · (−∞) is −∞.
        q = Categorical(logits=with_axes(checked.flatten(0, len(plates) - 1).log(), axes_of_objects(plates, x)))
        with entered(plates):
            pyro.sample(self.site("assignment"), q, infer={"enumerate": "parallel"})

    @property
    def weights_sites(self) -> list[str]:
        """Full names of the latent sites that weights follow from; none for a gate without."""
        return [] if self.weights_site is None else [self.site(self.weights_site)]

    @property
    def latent_sites(self) -> list[str]:
        """Full names of the sites that :meth:`model` samples, to hide from an automatic guide for all the rest."""
        return [*self.weights_sites, self.site("assignment")]
