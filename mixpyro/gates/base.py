"""What every gate is: a prior over which component each object belongs to."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pyro
import torch
from pyro.distributions import Categorical
from pyro.nn import PyroModule, pyro_method
from torch import Tensor

from mixpyro import validation
from mixpyro.parameters import numbered_entries, refuse_shared_parameters
from mixpyro.typing import Inputs, ObjectIndices, Responsibilities, Scalar, Weights


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

    def __init__(self, n_components: int, *, name: str) -> None:
        super().__init__(name)
        self.n_components = validation.integer("n_components", n_components)

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

    def maximise(self, x: Inputs, responsibilities: Responsibilities) -> bool:
        """Set the gate's parameters to the maximum of :meth:`partial_bound`, where there is a better way than SVI.

        Returns:
            Whether there is. If not, nothing has happened, and ``mixpyro.inference.m_step`` does it by gradient.
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

    @pyro_method
    def model(self, x: Inputs, *, plate: pyro.plate | None = None) -> Tensor:
        """Pyro model of the assignments: samples ``<name>.assignment`` and the gate's latent weights.

        Args:
            x: gate inputs [N, D].
            plate: the caller's plate over objects, of dim −1, not yet entered; by default a plate ``objects`` of N.

        Returns:
            The assignments [N]; under enumeration, [K, 1, …] as Pyro broadcasts them.

        Raises:
            RuntimeError: if another module has registered parameters under this gate's name.
        """
        refuse_shared_parameters(self)
        plate = innermost(objects_plate(x) if plate is None else plate)
        prior = self.assignment_prior(x, plate=plate)
        with plate:
            return pyro.sample(self.site("assignment"), prior, infer={"enumerate": "parallel"})

    @pyro_method
    def guide(
        self, x: Inputs, *, plate: pyro.plate | None = None, responsibilities: Responsibilities | None = None
    ) -> None:
        """Pyro guide: the analytic posterior of the weights and, given responsibilities, q(z) to be enumerated.

        Args:
            x: gate inputs [N, D].
            plate: the caller's plate over objects, of dim −1, not yet entered; by default a plate ``objects`` of N.
            responsibilities: q(z) [N, K], rows that sum to one. Without them z is left to the model, where
                TraceEnum_ELBO sums it out.
        """
        plate = innermost(objects_plate(x) if plate is None else plate)
        self.weights_guide(x, plate=plate)
        if responsibilities is not None:
            with plate:
                # No tiny weight for a zero here: the object's y may be impossible there, and tiny · (−∞) is −∞.
                q = Categorical(logits=responsibilities.log())
                pyro.sample(self.site("assignment"), q, infer={"enumerate": "parallel"})

    def partial_bound(self, x: Inputs, responsibilities: Responsibilities) -> Scalar:
        """The gate's part of the bound in nats, Σ r E_q[log π] − KL(q‖p), for the objects of the last update."""
        expected = self.expected_log_weights(x, objects=slice(None))
        return (responsibilities * expected).sum() - self.kl_divergence()

    @pyro_method
    def objective(self, x: Inputs, responsibilities: Responsibilities) -> None:
        """Pyro model of the M-step: a factor ``<name>.objective``, the gate's part of the bound."""
        refuse_shared_parameters(self)
        pyro.factor(self.site("objective"), self.partial_bound(x, responsibilities))

    def parameter_names(self, feature_names: Sequence[str]) -> dict[str, list[str]]:
        """A name for every entry of every parameter, in the parameter's order; numbers by default.

        Args:
            feature_names: of the columns of x.
        """
        return numbered_entries(self)

    def site(self, name: str) -> str:
        """Full name of the gate's site ``name``, such as ``gate.weights``."""
        return f"{self._pyro_name}.{name}" if self._pyro_name else name


def objects_plate(x: Inputs) -> pyro.plate:
    """The plate over the rows of x, ``objects``, innermost."""
    return pyro.plate("objects", len(x), dim=-1)


def innermost(plate: pyro.plate) -> pyro.plate:
    """Return ``plate`` if the objects are its last axis, as the weights and assignments have them."""
    if plate.dim not in (-1, None):
        raise ValueError(f"`plate` must have dim -1, the objects innermost; got dim {plate.dim}.")
    return plate


def natural_step(old: Tensor, optimum: Tensor, step_size: float) -> Tensor:
    """Point on the way from one natural parameter to another; Hoffman et al. (2013), section 2.4."""
    size = validation.step_size(step_size)
    return optimum if size == 1.0 else torch.lerp(old, optimum, size)


def categorical(weights: Tensor) -> Categorical:
    """Categorical over weights, by logarithms: Categorical(probs) raises the tiny weights of a sparse Dirichlet."""
    return Categorical(logits=weights.clamp_min(torch.finfo(weights.dtype).tiny).log())
