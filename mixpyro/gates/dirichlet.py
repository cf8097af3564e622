"""A gate that is the same for every object: one Dirichlet over the weights."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import pyro
import torch
from jaxtyping import Float
from pyro.distributions import Categorical, Dirichlet
from pyro.nn import PyroParam
from torch import Tensor
from torch.distributions import Distribution, constraints, kl_divergence

from mixpyro import arguments
from mixpyro.gates.base import Gate, categorical, natural_step
from mixpyro.numerics.blocks import repeated
from mixpyro.numerics.weighted_sums import column_sums
from mixpyro.pyro_internals.plates import refuse_outer_plates, sample_parameter
from mixpyro.shapes import Inputs, ObjectIndices, Responsibilities


class DirichletStatistics(NamedTuple):
    """Expected number of objects in each component [K], float64."""

    counts: Tensor


class DirichletGate(Gate):
    """π ~ Dirichlet(α), zᵢ ~ Categorical(π), with q(π) = Dirichlet(α + Σᵢ rᵢ).

    Args:
        n_components: K.
        concentration: α, a number for all components or K of them, above zero. Below one it favours few components.
        concentration_prior: a Pyro distribution over a positive number, such as ``Gamma(2., 1.)``; α is then learnt (a
            MAP estimate, by SVI on E_q[log p(π | α)] + log p(α)), starting from ``concentration``. There is no learning
            without it: one π says too little, and α would run off to infinity. Its density must be bounded at zero (a
            Gamma of shape at least 1, a LogNormal), or the α of a component without objects goes there.
        name: prefix of the Pyro sites ``<name>.weights`` and ``<name>.assignment``.
        device: where the gate lives.
        dtype: of its own state; results have the dtype of x.

    Attributes:
        prior_concentration: α [K].
        posterior_concentration: parameter of q(π) [K]; equal to α before the first update.

    References:
        Bishop (2006), Pattern Recognition and Machine Learning, eq. 10.57, 10.58, 10.66.

    Example:
        >>> gate = DirichletGate(2)
        >>> x, responsibilities = torch.zeros(3, 0), torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.5, 0.5]])
        >>> gate.update(gate.statistics(x, responsibilities))
        >>> gate.posterior_concentration.tolist()
        [3.5, 1.5]
        >>> gate.weights(x)[0].tolist()
        [0.699999988079071, 0.30000001192092896]
    """

    weights_site = "weights"
    stacked_buffers = ("prior_concentration", "posterior_concentration")

    prior_concentration: Tensor
    posterior_concentration: Tensor

    def __init__(
        self,
        n_components: int,
        *,
        concentration: float | Sequence[float] | Tensor = 1.0,
        concentration_prior: Distribution | None = None,
        name: str = "gate",
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__(n_components, name=name)
        prior = arguments.positive_vector("concentration", concentration, self.n_components)
        prior = arguments.representable("concentration", prior.to(arguments.device(device), dtype))
        self.concentration_prior = _checked_prior(concentration_prior, prior)
        if concentration_prior is None:
            self.register_buffer("prior_concentration", prior)
        else:
            self.prior_concentration = PyroParam(prior, constraints.positive)  # type: ignore[assignment]
        self.register_buffer("posterior_concentration", prior.clone())

    @property
    def can_be_stacked(self) -> bool:
        """Whether α is given, not learnt."""
        return self.concentration_prior is None

    def expected_log_weights(self, x: Inputs, *, objects: ObjectIndices | None = None) -> Float[Tensor, "*R 1 K"]:
        """ψ(mₖ) − ψ(Σm) for q = Dirichlet(m), [1, K]; Bishop (2006), eq. 10.66."""
        m = self.posterior_concentration.double()
        return (torch.digamma(m) - torch.digamma(m.sum(-1, keepdim=True))).to(x.dtype).unsqueeze(-2)

    def weights(self, x: Inputs, *, objects: ObjectIndices | None = None) -> Responsibilities:
        """m / Σm, the same row for every object, [N, K]."""
        m = self.posterior_concentration.double()
        return repeated((m / m.sum()).to(x.dtype).unsqueeze(0), len(x))

    @property
    def n_parameters(self) -> int:
        """K − 1."""
        return int(self.n_components) - 1

    def statistics(self, x: Inputs, responsibilities: Responsibilities) -> DirichletStatistics:
        """Σᵢ rᵢ [K]; see :meth:`Gate.statistics`."""
        checked = arguments.responsibilities(responsibilities, self.n_components, x.shape[0])
        return DirichletStatistics(column_sums(checked))

    def update(self, statistics: DirichletStatistics, step_size: float = 1.0) -> None:
        """q(π) = Dirichlet(α + Σᵢ rᵢ); Bishop (2006), eq. 10.58."""
        counts = arguments.tensor("statistics.counts", statistics.counts, (self.n_components,)).detach()
        old = self.posterior_concentration
        optimum = self.prior_concentration.detach() + counts.to(old).view_as(old)
        # Not as an attribute: finding out that it is a buffer takes a module longer than the sums of a hundred rows.
        self._buffers["posterior_concentration"] = natural_step(old, optimum, step_size)

    def evidence(self, x: Inputs, responsibilities: Responsibilities, *, scale: float) -> Dirichlet:
        """Dirichlet(1 + Σᵢ rᵢ), up to a constant the density exp(Σᵢₖ rᵢₖ log πₖ)."""
        return Dirichlet(1.0 + (scale * column_sums(responsibilities)).to(x.dtype))

    def kl_divergence(self) -> Float[Tensor, "*R"]:
        """KL(Dirichlet(m) ‖ Dirichlet(α)) − log p(α), the second term where α is learnt; float64."""
        prior = self.prior_concentration.double()
        # Unchecked: on a GPU the checks would wait.
        q, p = (Dirichlet(m, validate_args=False) for m in (self.posterior_concentration.double(), prior))
        divergence = kl_divergence(q, p)
        if self.concentration_prior is None:
            return divergence
        return divergence - self.concentration_prior.log_prob(prior).sum()

    def assignment_prior(self, x: Inputs, *, plate: pyro.plate) -> Categorical:
        """Sample ``<name>.weights`` outside the plate; a prior on α is scored as ``<name>.concentration_log_prior``."""
        prior = self.prior_concentration.to(x.dtype)
        if self.concentration_prior is not None:
            pyro.factor(self.site("concentration_log_prior"), self.concentration_prior.log_prob(prior).sum())
        return categorical(sample_parameter(self.site("weights"), Dirichlet(prior)))

    def weights_guide(self, x: Inputs, *, plate: pyro.plate) -> None:
        """Sample ``<name>.weights`` from Dirichlet(m)."""
        refuse_outer_plates(self.site("weights"))
        pyro.sample(self.site("weights"), Dirichlet(self.posterior_concentration.to(x.dtype)))


def _checked_prior(prior: Distribution | None, start: Tensor) -> Distribution | None:
    if prior is None:
        return None
    if not isinstance(prior, Distribution):
        raise TypeError(f"`concentration_prior` must be a distribution of Pyro or PyTorch; got {type(prior).__name__}.")
    lower = getattr(prior.support, "lower_bound", None)
    if lower != 0 or getattr(prior.support, "upper_bound", math.inf) != math.inf:
        raise ValueError(f"`concentration_prior` must be a distribution over all positive numbers; got {prior}.")
    return prior
