"""A gate with weights of their own for every object: a Dirichlet each, around the population's weights."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import pyro
import torch
from pyro.distributions import Categorical, Dirichlet
from pyro.nn import PyroParam
from torch import Tensor
from torch.distributions import constraints, kl_divergence

from mixpyro import arguments
from mixpyro.gates.base import Gate, categorical, natural_step
from mixpyro.numerics.blocks import in_blocks, repeated
from mixpyro.numerics.digamma import digamma
from mixpyro.pyro_internals.expected_weights import BoundTerms
from mixpyro.pyro_internals.plates import refuse_outer_plates, rows_of
from mixpyro.shapes import Inputs, ObjectIndices, Responsibilities, Scalar, Weights


class ObjectDirichletStatistics(NamedTuple):
    """Responsibilities [N, K] of the objects: every object's posterior needs its own row."""

    responsibilities: Tensor


class ObjectDirichletGate(Gate):
    """πᵢ ~ Dirichlet(γμ), zᵢ ~ Categorical(πᵢ), with the mean field q(πᵢ) = Dirichlet(γμ + rᵢ).

    **Caveat.** Each object brings one pseudo-count to its own prior, so the mean-field E-step reinforces itself: the
    smaller γ, the more the largest responsibility is pushed to one. With log-likelihoods 0.3, 0, −0.1 and μ uniform the
    fixed point is r = .425/.303/.272 at γ = 10, .88/.07/.06 at γ = 1 and 1/0/0 at γ = 0.1. Integrating πᵢ out gives
    p(zᵢ = k) = μₖ for every γ, hence .415/.307/.278: that is :class:`MarginalObjectDirichletGate`, and it is also what
    SVI or MCMC find where they enumerate z. The two agree as γ → ∞.

    An object that was not in the last update has the population's weights μ.

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
        >>> gate.weights(x).tolist()
        [[0.75, 0.25], [0.5, 0.5]]
        >>> gate.weights(torch.zeros(3, 0))[0].tolist()
        [0.5, 0.5]
    """

    takes_row_weights = False
    statistics_are_sums = False
    site_axes: ClassVar[Mapping[str, tuple[str, ...]]] = {"weights": ("object", "component")}
    weights_site: str | None = "weights"

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
        gamma = arguments.positive_vector(
            "concentration", arguments.positive_number("concentration", concentration), 1
        )[0]
        mu = arguments.positive_vector("mean", 1.0 if mean is None else mean, self.n_components)
        place = torch.empty(0, device=arguments.device(device), dtype=dtype)
        self.register_buffer("concentration", gamma.to(place))
        self.learn_mean = learn_mean
        self._register_mean((mu / mu.sum()).to(place))
        self.register_buffer("posterior_concentration", place.new_empty(0, self.n_components))

    def _register_mean(self, mean: Tensor) -> None:
        if self.learn_mean:
            self.mean = PyroParam(mean, constraints.simplex)  # type: ignore[assignment]
        else:
            self.register_buffer("mean", mean)

    def expected_log_weights(self, x: Inputs, *, objects: ObjectIndices | None = None) -> Weights:
        """ψ(mᵢₖ) − ψ(Σₖ mᵢₖ) of the objects' posteriors, or of the population's prior for unseen rows.

        Without ``objects``, as many rows as the last update had are taken to be its objects, any other number unseen.
        """
        return in_blocks(_expected_logarithms, self._concentration_of(x, objects), x.dtype)

    def weights(self, x: Inputs, *, objects: ObjectIndices | None = None) -> Responsibilities:
        """mᵢ / Σₖ mᵢₖ [N, K] of the objects' posteriors, μ for unseen rows; ``objects`` as above."""
        return repeated(in_blocks(_means, self._concentration_of(x, objects), x.dtype), len(x))

    def unseen_weights(self, x: Inputs) -> Responsibilities:
        """μ, the population's weights [N, K]."""
        return repeated(self.mean.detach().to(x.dtype, copy=True).unsqueeze(0), len(x))

    @property
    def n_parameters(self) -> int:
        """K − 1 where μ is learnt, else none."""
        return int(self.n_components) - 1 if self.learn_mean else 0

    def statistics(self, x: Inputs, responsibilities: Responsibilities) -> ObjectDirichletStatistics:
        """The responsibilities; see :meth:`Gate.statistics`."""
        checked = arguments.responsibilities(responsibilities, self.n_components, len(x))
        return ObjectDirichletStatistics(checked)

    @torch.no_grad()
    def update(self, statistics: ObjectDirichletStatistics, step_size: float = 1.0) -> None:
        """q(πᵢ) = Dirichlet(γμ + rᵢ) for the objects of ``statistics``, who replace those of the last update.

        A ``step_size`` below one starts from the posterior before, or from the prior where the number of objects
        changed.
        """
        r = arguments.tensor("statistics.responsibilities", statistics.responsibilities, ("N", self.n_components))
        prior = self.prior_concentration.detach().to(r.dtype)
        old = self.posterior_concentration
        old = old.to(r.dtype) if old.shape == r.shape else prior
        # Not as an attribute: finding out that it is a buffer takes a module longer than the sum of a hundred rows.
        self._buffers["posterior_concentration"] = natural_step(old, prior + r, step_size)

    def evidence(self, x: Inputs, responsibilities: Responsibilities, *, scale: float) -> Dirichlet | None:
        """Dirichlet(1 + rᵢ) of each object, inside the plate, which scales it."""
        return Dirichlet(1.0 + responsibilities.to(x.dtype))

    @property
    def prior_concentration(self) -> Tensor:
        """γμ [K], the concentration of every object's prior."""
        return self.concentration * self.mean

    def kl_divergence(self) -> Scalar:
        """Σᵢ KL(Dirichlet(mᵢ) ‖ Dirichlet(γμ)) over the objects of the last update, a float64 scalar."""
        if len(self.posterior_concentration) == 0:
            return torch.zeros((), dtype=torch.float64, device=self.mean.device)
        return _divergences(self.posterior_concentration, self.prior_concentration).sum()

    @torch.no_grad()
    def update_objects(
        self, x: Inputs, responsibilities: Responsibilities, *, objects: Tensor, n_objects: int, step_size: float
    ) -> None:
        """Set the posteriors of these objects to their optimum; those of all others stay.

        An object's posterior depends on its own row alone, so it takes the full step, whatever ``step_size``; what an
        object stands for makes no difference, and a row of zeros none at all. Where N changes, all start over.
        """
        r = self.statistics(x, responsibilities).responsibilities
        known, place = objects.to(r.device).unique(return_inverse=True)
        r = r.new_zeros(len(known), self.n_components).index_add_(0, place, r)
        counts = r.sum(-1, keepdim=True)
        known, r = known[counts[:, 0] > 0], (r / counts)[counts[:, 0] > 0]
        prior = self.prior_concentration.detach().to(r.dtype)
        if len(self.posterior_concentration) != n_objects:
            self.posterior_concentration = prior.repeat(n_objects, 1)
        self.posterior_concentration[known] = (prior + r).to(self.posterior_concentration)

    def bound_terms(self, x: Inputs, *, objects: Tensor, n_objects: int) -> BoundTerms:
        """E_q[log πᵢ] [B, K] and KL(q(πᵢ)‖p) [B] of the objects; see :meth:`Gate.bound_terms`."""
        prior = self.prior_concentration.to(x.dtype)
        known = len(self.posterior_concentration) == n_objects
        m = self.posterior_concentration[objects].to(x.dtype) if known else prior.detach().expand(len(x), -1)
        return BoundTerms(_expected_logarithms(m), _divergences(m, prior).to(x.dtype))

    def assignment_prior(self, x: Inputs, *, plate: pyro.plate) -> Categorical:
        """Sample ``<name>.weights`` [N, K] inside the plate."""
        with plate:
            return categorical(pyro.sample(self.site("weights"), Dirichlet(self.prior_concentration.to(x.dtype))))

    def weights_guide(self, x: Inputs, *, plate: pyro.plate) -> None:
        """Sample ``<name>.weights`` from the posteriors of the plate's objects, or from the prior before an update."""
        refuse_outer_plates(self.site("weights"))
        m = self._concentration_in(plate)
        with plate:
            pyro.sample(self.site("weights"), Dirichlet(m.to(x.dtype)))

    def _concentration_in(self, plate: pyro.plate) -> Tensor:
        """Posterior [B, K] of the plate's objects; the prior [K] where the plate holds others than the last update."""
        n_known = len(self.posterior_concentration)
        if n_known == plate.size:
            return self.posterior_concentration[rows_of(plate)]
        if n_known and plate.subsample_size < plate.size:
            raise ValueError(
                f"`plate` must have the objects of the last update, {n_known}, to draw a subsample of them; "
                f"got a plate of {plate.size}."
            )
        return self.prior_concentration.detach()

    def _concentration_of(self, x: Inputs, objects: ObjectIndices | None) -> Tensor:
        """Posterior [N, K] of the rows that are known objects, else the prior [1, K]."""
        if objects is not None:
            known = self.posterior_concentration[objects]
            if len(known) != len(x):
                raise ValueError(
                    f"`objects` must name one object of the last update a row, {len(x)}; got {len(known)}."
                )
            return known
        posterior = self.posterior_concentration
        if len(x) == len(posterior):
            return posterior
        return self.prior_concentration.unsqueeze(0)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:  # noqa: ANN401
        saved = state_dict.get(f"{prefix}posterior_concentration")
        if saved is not None and saved.shape[-1:] == (self.n_components,):
            # The number of objects is part of the state: load_state_dict copies into a buffer of the saved shape.
            self.posterior_concentration = torch.empty_like(saved, device=self.mean.device)
        super()._load_from_state_dict(state_dict, prefix, *args)


def _expected_logarithms(concentration: Tensor) -> Tensor:
    """E[log π] [N, K] of Dirichlet(m) for each row m."""
    return digamma(concentration).sub_(digamma(concentration.sum(-1, keepdim=True)))


def _means(concentration: Tensor) -> Tensor:
    """E[π] [N, K] of Dirichlet(m) for each row m."""
    return concentration / concentration.sum(-1, keepdim=True)


def _divergences(concentration: Tensor, prior: Tensor) -> Tensor:
    """KL(Dirichlet(m) ‖ Dirichlet(prior)) [N] of each row m, float64; unchecked, for on a GPU the checks would wait."""
    q, p = (Dirichlet(m.double(), validate_args=False) for m in (concentration, prior))
    return kl_divergence(q, p)
