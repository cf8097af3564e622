"""A gate with weights of their own for every object: a Dirichlet each, around the population's weights."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import pyro
import torch
from jaxtyping import Float
from pyro.distributions import Categorical
from pyro.distributions import Dirichlet as DirichletDistribution
from pyro.nn import PyroParam
from torch import Tensor
from torch.distributions import constraints

from mixpyro import arguments
from mixpyro.conjugate.dirichlet import Counts, Dirichlet
from mixpyro.gates.base import categorical
from mixpyro.gates.per_object import ObjectGate
from mixpyro.numerics.blocks import in_blocks, repeated
from mixpyro.numerics.precision import at_least
from mixpyro.pyro_internals.expected_weights import BoundTerms
from mixpyro.pyro_internals.plates import refuse_outer_plates
from mixpyro.shapes import Inputs, ObjectIndices, Responsibilities, Value


class ObjectDirichletGate(ObjectGate):
    """πᵢ ~ Dirichlet(γμ), zᵢ ~ Categorical(πᵢ), with the mean field q(πᵢ) = Dirichlet(γμ + rᵢ).

    **Caveat.** Each object brings one pseudo-count to its own prior, so the mean-field E-step reinforces itself: the
    smaller γ, the more the largest responsibility is pushed to one. With log-likelihoods 0.3, 0, −0.1 and μ uniform the
    fixed point is r = .425/.303/.272 at γ = 10, .88/.07/.06 at γ = 1 and 1/0/0 at γ = 0.1. Integrating πᵢ out gives
    p(zᵢ = k) = μₖ for every γ, hence .415/.307/.278: that is :class:`MarginalObjectDirichletGate`, and it is also what
    SVI or MCMC find where they enumerate z. The two agree as γ → ∞.

    Objects are known by their number in the last update. Rows are new objects, which have the population's weights μ,
    unless ``objects`` says which fitted ones they are. In a Pyro program the caller's plate says it: its indices are
    the numbers of the objects if it has as many as the last update, and new objects otherwise.

    Args:
        n_components: K.
        concentration: γ, above zero: how close an object's weights are to the population's. It cannot be learnt: under
            the mean field the bound rises with γ → ∞.
        mean: μ, K numbers above zero, divided by their sum; uniform by default.
        learn_mean: learn μ by SVI on Σᵢ E_q[log p(πᵢ | γμ)], starting from ``mean``.
        name: prefix of the Pyro sites ``<name>.weights`` and ``<name>.assignment``.
        device: where the gate lives.
        dtype: of γ and μ; the objects' posteriors have the dtype of their responsibilities, results that of x.

    Attributes:
        concentration: γ, a scalar.
        mean: μ [K].
        posterior_concentration: parameters of the q(πᵢ) [N, K]; [0, K] before the first update.

    Example:
        >>> gate = ObjectDirichletGate(2, concentration=1.0)
        >>> x, responsibilities = torch.zeros(2, 0), torch.tensor([[1.0, 0.0], [0.5, 0.5]])
        >>> gate.update(gate.statistics(x, responsibilities))
        >>> gate.weights(x, objects=slice(None)).tolist()
        [[0.75, 0.25], [0.5, 0.5]]
        >>> gate.weights(x).tolist()
        [[0.5, 0.5], [0.5, 0.5]]
    """

    reads_inputs = False
    takes_row_weights = False
    site_axes: ClassVar[Mapping[str, tuple[str, ...]]] = {"weights": ("object", "component"), "mean": ("component",)}

    concentration: Tensor
    mean: Tensor
    posterior_concentration: Tensor

    def __init__(
        self,
        n_components: int,
        *,
        concentration: float = 1.0,
        mean: Sequence[float] | Tensor | None = None,
        learn_mean: bool = False,
        name: str = "gate",
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__(n_components, name=name)
        number = arguments.positive_number("concentration", concentration)
        gamma = arguments.positive_vector("concentration", number, 1)[0]
        mu = arguments.positive_vector("mean", 1.0 if mean is None else mean, self.n_components)
        like = torch.empty(0, self.n_components, device=arguments.device(device), dtype=arguments.dtype(dtype))
        self.register_buffer("concentration", gamma.to(like))
        self.learn_mean = arguments.flag("learn_mean", learn_mean)
        self._register((mu / mu.sum()).to(like), like)

    def _register(self, mean: Tensor, no_objects: Tensor) -> None:
        """Register μ, as a parameter if it is learnt, and the posterior of no object."""
        if self.learn_mean:
            self.mean = PyroParam(mean, constraints.simplex)  # type: ignore[assignment]
        else:
            self.register_buffer("mean", mean)
        self.register_posterior(Dirichlet(no_objects), like=no_objects)

    @property
    def prior_kinds(self) -> list[tuple[float, ...]]:
        """The population's weight of every component."""
        return [(weight,) for weight in self.mean.tolist()]

    @property
    def prior_concentration(self) -> Tensor:
        """γμ [K], the concentration of every object's prior."""
        return self.concentration * self.mean

    @property
    def prior(self) -> Dirichlet:
        """Dirichlet(γμ), the prior of every object's weights."""
        return Dirichlet(self.prior_concentration)

    @property
    def n_parameters(self) -> int:
        """K − 1 where μ is learnt, else none."""
        return int(self.n_components) - 1 if self.learn_mean else 0

    def statistics_of(self, x: Inputs, responsibilities: Tensor) -> Counts:
        """Return the responsibilities [..., N, K]: every object's posterior needs its own row.

        Args:
            x: gate inputs [N, D], not read.
            responsibilities: [..., N, K].
        """
        return Counts(responsibilities)

    def updated(self, statistics: Counts, before: Value) -> Value:
        """Return Dirichlet(γμ + rᵢ) of every object, in the dtype of the responsibilities.

        Args:
            statistics: the responsibilities [..., N, K].
            before: not read.
        """
        r = statistics.counts
        return Dirichlet(self.prior_concentration.detach().to(r.dtype) + r)

    @torch.no_grad()
    def update(self, statistics: Counts, step_size: float = 1.0) -> None:
        """Set q(πᵢ) = Dirichlet(γμ + rᵢ) for the objects of the statistics, who replace those of the last update.

        Args:
            statistics: the responsibilities [N, K], as :meth:`statistics` returns them.
            step_size: in (0, 1]. Below one the step starts from the posterior before, or from the prior where the
                number of objects changed.

        Raises:
            ValueError: if a shape does not fit, or the step size is not in (0, 1].
        """
        r = arguments.tensor("statistics.counts", statistics.counts, ("N", self.n_components))
        size = arguments.step_size(step_size)
        prior = self.prior_concentration.detach().to(r.dtype)
        old, optimum = self.posterior_concentration, prior + r
        old = old.to(r.dtype) if old.shape == r.shape else prior.expand_as(r)
        self._buffers["posterior_concentration"] = optimum if size == 1.0 else torch.lerp(old, optimum, size)

    def expected_log_weights(
        self,
        x: Inputs,
        *,
        objects: ObjectIndices | None = None,
        posterior: Value = None,
    ) -> Float[Tensor, "*R #N K"]:
        """Return ψ(mᵢₖ) − ψ(Σₖ mᵢₖ) of the objects' posteriors [..., N, K], or of the population's prior [1, K].

        Args:
            x: gate inputs [N, D]; N and the dtype are read.
            objects: which objects of the last update the rows are; new ones by default.
            posterior: q, with any leading axes of runs; the gate's own by default.
        """
        concentration = self._concentration_of(x, objects, posterior)
        if concentration.ndim > 2:
            return Dirichlet(at_least(concentration, x.dtype)).expected_log.to(x.dtype)
        return in_blocks(lambda m: Dirichlet(at_least(m, x.dtype)).expected_log, concentration, x.dtype)

    def weights(self, x: Inputs, *, objects: ObjectIndices | None = None) -> Responsibilities:
        """Return mᵢ / Σₖ mᵢₖ [N, K] of the objects' posteriors, μ for new objects.

        Args:
            x: gate inputs [N, D]; N and the dtype are read.
            objects: which objects of the last update the rows are; new ones by default.
        """
        concentration = self._concentration_of(x, objects)
        mean = in_blocks(lambda m: Dirichlet(at_least(m, x.dtype)).mean, concentration, x.dtype)
        return repeated(mean.detach(), len(x))

    def weights_distribution(self, posterior: Dirichlet, dtype: torch.dtype) -> DirichletDistribution:
        """Return Dirichlet(m) as a Pyro distribution.

        Args:
            posterior: with the concentration m [K], or [N, K].
            dtype: of its draws.
        """
        return DirichletDistribution(posterior.concentration.to(dtype))

    def kl(self, posterior: Value) -> Tensor:
        """Return Σᵢ KL(Dirichlet(mᵢ) ‖ Dirichlet(γμ)) over the objects of the last update in nats, float64.

        Args:
            posterior: q, with any leading axes of runs.
        """
        return Dirichlet(posterior.concentration.double()).kl(Dirichlet(self.prior_concentration.double())).sum(-1)

    def evidence(self, x: Inputs, responsibilities: Responsibilities, *, scale: float) -> DirichletDistribution | None:
        """Return Dirichlet(1 + rᵢ) of each object, inside the plate, which scales it.

        Args:
            x: gate inputs [B, D].
            responsibilities: [B, K].
            scale: not read.
        """
        return DirichletDistribution(1.0 + responsibilities.to(x.dtype))

    @torch.no_grad()
    def update_objects(
        self, x: Inputs, responsibilities: Responsibilities, *, objects: Tensor, n_objects: int, step_size: float
    ) -> None:
        """Set the posteriors of some of N objects to their optimum; those of all others stay.

        An object's posterior depends on its own row alone, so it takes the full step, whatever ``step_size``. What an
        object stands for makes no difference, and a row of zeros changes nothing. Where N changes, all start over.

        Args:
            x: gate inputs [B, D].
            responsibilities: [B, K], rows with any positive sum.
            objects: which of the N objects the rows are [B].
            n_objects: N.
            step_size: not read.
        """
        r = self.statistics(x, responsibilities).counts
        arguments.object_indices(arguments.a_tensor("objects", objects), n_objects)
        known, inverse = objects.to(r.device).unique(return_inverse=True)
        r = r.new_zeros(len(known), self.n_components).index_add_(0, inverse, r)
        counts = r.sum(-1, keepdim=True)
        known, r = known[counts[:, 0] > 0], (r / counts)[counts[:, 0] > 0]
        prior = self.prior_concentration.detach().to(r.dtype)
        if len(self.posterior_concentration) != n_objects:
            self.posterior_concentration = prior.repeat(n_objects, 1)
        self.posterior_concentration[known] = (prior + r).to(self.posterior_concentration)

    def bound_terms(self, x: Inputs, *, objects: Tensor, n_objects: int) -> BoundTerms:
        """Return E_q[log πᵢ] [B, K] and KL(q(πᵢ)‖p) [B] of some of N objects.

        Args:
            x: gate inputs [B, D].
            objects: which of the N objects the rows are [B].
            n_objects: N.
        """
        prior = self.prior_concentration.to(x.dtype)
        known = len(self.posterior_concentration) == n_objects
        m = self.posterior_concentration[objects].to(x.dtype) if known else prior.detach().expand(len(x), -1)
        divergence = Dirichlet(m.double()).kl(Dirichlet(prior.double()))
        return BoundTerms(Dirichlet(m).expected_log, divergence.to(x.dtype))

    def assignment_prior(self, x: Inputs, *, plate: pyro.plate | None) -> Categorical:
        """Sample ``<name>.weights`` [N, K] from their prior inside the plate.

        Args:
            x: gate inputs [N, D].
            plate: over the objects, not entered.
        """
        assert plate is not None
        with plate:
            return categorical(pyro.sample(self.site("weights"), self.weights_distribution(self.prior, x.dtype)))

    def weights_guide(self, x: Inputs, *, plate: pyro.plate | None, objects: ObjectIndices | None) -> None:
        """Sample ``<name>.weights`` [N, K] from the objects' posteriors, from the prior for new objects.

        Args:
            x: gate inputs [N, D].
            plate: over the objects, not entered.
            objects: which objects of the last update the rows are; None for new ones.
        """
        refuse_outer_plates(self.site("weights"))
        known = self.prior_concentration.detach()
        assert plate is not None
        if objects is not None:
            axes_to_the_right = [1] * (-1 - int(plate.dim or -1))
            known = self._concentration_of(x, objects).reshape(-1, *axes_to_the_right, self.n_components)
        with plate:
            pyro.sample(self.site("weights"), self.weights_distribution(Dirichlet(known), x.dtype))

    def _concentration_of(self, x: Inputs, objects: ObjectIndices | None, posterior: Value = None) -> Tensor:
        """Return the posterior [..., N, K] of rows that are known objects, else the prior [1, K]."""
        if objects is None:
            return self.prior_concentration.unsqueeze(0)
        if posterior is not None and not hasattr(posterior, "concentration"):
            raise TypeError(f"`posterior` must be what `posterior` of the part is; got {arguments.shown(posterior)}.")
        known: Tensor = self.posterior_concentration if posterior is None else posterior.concentration
        if not (isinstance(objects, slice) and objects == slice(None)):
            # A batched index, of a transform, cannot be read.
            objects = objects if arguments.in_transform() else arguments.object_indices(objects, known.shape[-2])
            known = known[..., objects, :]
        # shape[0], because len() of a tensor is a Python function.
        if known.shape[-2] != x.shape[0]:
            raise ValueError(
                f"`objects` must name one object of the last update a row, {x.shape[0]}; got {known.shape[-2]}."
            )
        return known
