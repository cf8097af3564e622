"""A gate that is the same for every object: one Dirichlet over the weights."""

import math
from collections.abc import Sequence

import pyro
import torch
from pyro.distributions import Categorical
from pyro.distributions import Dirichlet as DirichletDistribution
from pyro.nn import PyroParam
from torch import Tensor
from torch.distributions import Distribution, constraints

from mixpyro import arguments
from mixpyro.conjugate.dirichlet import Dirichlet
from mixpyro.gates.common_weights import CommonWeightsGate
from mixpyro.numerics.prior_pull import MANY
from mixpyro.numerics.weighted_sums import column_sums
from mixpyro.pyro_internals.expected_weights import GateRecord
from mixpyro.shapes import Inputs, Responsibilities


class DirichletGate(CommonWeightsGate):
    """π ~ Dirichlet(α), zᵢ ~ Categorical(π), with q(π) = Dirichlet(α + Σᵢ rᵢ).

    With a ``batch_shape`` there are weights for each of several parts, for Pyro programs: topics of each document, the
    next state after each state. Plates around the call are its leading axes, the outermost first; the rest is indexed
    by the ``parent`` of an assignment, see :meth:`sample_weights`.

    A small concentration e₀ for all components is a sparse finite mixture: of a K that is too large, the components
    that the data do not ask for are left without objects. The bound is highest there for e₀ below about (M + 1) / 2,
    with M parameters in a component, and more where clusters are clear: of six components for two clusters up to 1 for
    M = 2, to 3.6 for M = 5, and beyond 9 for M = 8. But runs end before they are there: of 18 fits of four restarts all
    had superfluous components with e₀ of ½ or 1, and 5 with 0.01 or 0.1. Take 0.01, or a
    :class:`~mixpyro.StickBreakingGate`, with which a fit merges and deletes components.

    Args:
        n_components: K.
        batch_shape: number of parts, on one axis or several.
        concentration: α, a number for all components, K of them or [*batch_shape, K], above zero. Below one it favours
            few components.
        concentration_prior: a Pyro distribution over a positive number, such as ``Gamma(2., 1.)``; α is then learnt (a
            MAP estimate, by SVI on E_q[log p(π | α)] + log p(α)), starting from ``concentration``. There is no learning
            without it: one π says too little, and α would go to infinity. Its density must be bounded at zero (a
            Gamma of shape at least 1, a LogNormal), or the α of a component without objects goes there. Not for a gate
            with parts.
        name: prefix of the Pyro sites ``<name>.weights`` and ``<name>.assignment``.
        device: where the gate lives.
        dtype: of its own state; results have the dtype of x.

    Attributes:
        prior_concentration: α [*batch_shape, K].
        posterior_concentration: parameter of q(π) [*batch_shape, K]; equal to α before the first update.

    References:
        Bishop (2006), Pattern Recognition and Machine Learning, eq. 10.57, 10.58, 10.66;
        Watanabe, Watanabe (2006), Stochastic complexities of Gaussian mixtures in variational Bayesian approximation,
        JMLR 7, theorem 1 (the threshold);
        Frühwirth-Schnatter, Malsiner-Walli (2019), From here to infinity, Adv. Data Anal. Classif. 13 (sparse
        mixtures).

    Example:
        >>> gate = DirichletGate(2)
        >>> x, responsibilities = torch.zeros(3, 0), torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.5, 0.5]])
        >>> gate.update(gate.statistics(x, responsibilities))
        >>> gate.posterior_concentration.tolist()
        [3.5, 1.5]
        >>> gate.weights(x)[0].tolist()
        [0.699999988079071, 0.30000001192092896]
    """

    reads_inputs = False

    prior_concentration: Tensor
    posterior_concentration: Tensor

    def __init__(
        self,
        n_components: int,
        *,
        batch_shape: Sequence[int] = (),
        concentration: float | Sequence[float] | Tensor = 1.0,
        concentration_prior: Distribution | None = None,
        name: str = "gate",
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__(n_components, name=name)
        if not isinstance(batch_shape, Sequence) or isinstance(batch_shape, str | bytes):
            kind = type(batch_shape).__name__
            raise TypeError(f"`batch_shape` must be a sequence of integers; got {kind}.")
        self.batch_shape = tuple(arguments.size("batch_shape", size) for size in batch_shape)
        prior = _positive("concentration", concentration, (*self.batch_shape, self.n_components))
        prior = arguments.representable("concentration", prior.to(arguments.device(device), arguments.dtype(dtype)))
        self.concentration_prior = _checked_prior(concentration_prior)
        if self.batch_shape and concentration_prior is not None:
            raise ValueError("`concentration_prior` must be None for a gate with a `batch_shape`; got a distribution.")
        if concentration_prior is None:
            self.register_buffer("prior_concentration", prior)
        else:
            self.prior_concentration = PyroParam(prior, constraints.positive)  # type: ignore[assignment]
        self.register_posterior(Dirichlet(prior), like=prior)

    @property
    def prior(self) -> Dirichlet:
        """Dirichlet(α), float64."""
        # Not as an attribute: to find out that it is a buffer takes a PyroModule longer than a small update.
        given = self._buffers.get("prior_concentration")
        return Dirichlet((self.prior_concentration if given is None else given).double())

    @property
    def prior_kinds(self) -> list[tuple[float, ...]]:
        """The prior's concentration of every component."""
        return [(concentration,) for concentration in self.prior.concentration.tolist()]

    def weights_distribution(self, posterior: Dirichlet, dtype: torch.dtype) -> DirichletDistribution:
        """Return Dirichlet(m) as a Pyro distribution.

        Args:
            posterior: with the concentration m [K].
            dtype: of its draws.
        """
        return DirichletDistribution(posterior.concentration.to(dtype))

    @property
    def start(self) -> Dirichlet:
        """Where a fit of a program starts by default: the prior, times what makes its smallest α one."""
        prior = self.prior.concentration
        start = prior * (1.0 / prior.amin(-1, keepdim=True)).clamp_min(1.0)
        return Dirichlet(start.to(self._buffers["posterior_concentration"]).double())

    @torch.no_grad()
    def initialise(
        self,
        x: Inputs | None = None,
        responsibilities: Responsibilities | None = None,
        *,
        weights: Sequence[float] | Tensor | None = None,
    ) -> None:
        """Set where a fit by :class:`~mixpyro.ConjugateSVI` starts, which by default calls this without arguments.

        At a sparse prior, such as Dirichlet(0.99, 0.01), E log π of the rarer component is −100, and the first step
        would leave it empty for good.

        Args:
            x: gate inputs [N, D].
            responsibilities: the start is the posterior given these, [N, K]; not for a gate with parts.
            weights: the start has these weights [*batch_shape, K], as firmly as one object in the rarest component. By
                default they are the prior's mean where the posterior is the prior and an α is below one.

        Raises:
            ValueError: if a shape or a value does not fit.
        """
        if responsibilities is not None:
            self.update(self.statistics(self.posterior_concentration if x is None else x, responsibilities))
            return
        prior, own = self.prior.concentration, self.posterior.concentration
        if weights is not None:
            shares = _positive("weights", weights, tuple(own.shape)).to(own)
            shares = shares / shares.sum(-1, keepdim=True)
            firmness = (1.0 / shares.amin(-1, keepdim=True)).maximum(prior.sum(-1, keepdim=True))
            self.hold_posterior(Dirichlet(firmness * shares))
        elif self.is_new:
            self.hold_posterior(self.start)

    @torch.no_grad()
    def update_seen(self, record: GateRecord, step_size: float) -> None:
        """Go part of the way to the optimum; a part that the program did not visit stays as it is.

        Where it visits a subsample of the parts, and all objects of these, they go to their optimum, as a posterior of
        each object does.

        Args:
            record: of the program, after the bound has been differentiated.
            step_size: in (0, 1].
        """
        if not self.batch_shape:
            super().update_seen(record, step_size)
            return
        seen = record.seen_counts()
        after = self.posterior.concentration.clone()
        n_plates = 1 + after.ndim - seen.counts.ndim
        parts = after.flatten(0, n_plates - 1) if n_plates else after.unsqueeze(0)
        prior = self.prior.concentration.reshape(parts.shape)[seen.parts]
        if n_plates and len(seen.parts) < len(parts) and not record.is_subsample:
            step_size = 1.0  # A part that few steps visit has all its objects in each of them.
        parts[seen.parts] = torch.lerp(parts[seen.parts], prior + seen.counts, step_size)
        self.hold_posterior(Dirichlet(parts.reshape(after.shape)))

    def kl(self, posterior: Dirichlet) -> Tensor:
        """Return KL(Dirichlet(m) ‖ Dirichlet(α)) − log p(α) in nats, the second term where α is learnt; float64.

        Args:
            posterior: q, with any leading axes of runs.
        """
        divergence = super().kl(posterior)
        if self.concentration_prior is None:
            return divergence
        return divergence - self.concentration_prior.log_prob(self.prior_concentration.double()).sum()

    def prior_in_words(self) -> str:
        """Return the prior of the weights in a few words."""
        values = ", ".join(f"{value:.4g}" for value in self.prior.concentration.tolist())
        return f"Dirichlet({values}){' by its own prior' if self.concentration_prior is not None else ''}"

    def prior_warnings(self, x: Inputs, responsibilities: Responsibilities) -> list[str]:
        """Return whether the prior is worth more objects than there are; arguments as :meth:`Gate.prior_warnings`."""
        prior, seen = float(self.prior.concentration.sum()), float(responsibilities.sum())
        if self.concentration_prior is not None or seen <= MANY or prior <= seen:
            return []
        return [
            f"the prior says more of the weights than the data do: `concentration` sums to {prior:.6g} objects, and "
            f"there are {seen:.6g}. Make it smaller."
        ]

    def evidence(self, x: Inputs, responsibilities: Responsibilities, *, scale: float) -> DirichletDistribution:
        """Return Dirichlet(1 + Σᵢ rᵢ), up to a constant the density exp(Σᵢₖ rᵢₖ log πₖ).

        Args:
            x: gate inputs [B, D].
            responsibilities: [B, K].
            scale: how many objects each row stands for.
        """
        return DirichletDistribution(1.0 + (scale * column_sums(responsibilities)).to(x.dtype))

    def assignment_prior(self, x: Inputs, *, plate: pyro.plate | None) -> Categorical:
        """Sample ``<name>.weights`` outside the plate; a prior on α is scored as ``<name>.concentration_log_prior``.

        Args:
            x: gate inputs [N, D].
            plate: over the objects, not entered.
        """
        if self.concentration_prior is not None:
            log_prior = self.concentration_prior.log_prob(self.prior_concentration.to(x.dtype)).sum()
            pyro.factor(self.site("concentration_log_prior"), log_prior)
        return super().assignment_prior(x, plate=plate)


def _positive(name: str, value: float | Sequence[float] | Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return numbers above zero, repeated to a shape."""
    if len(shape) == 1:
        return arguments.positive_vector(name, value, shape[0])
    numbers = arguments.filled(name, value, shape)
    if not bool((numbers > 0.0).all()):
        raise ValueError(f"`{name}` must be above zero; got {float(numbers.min()):.6g}.")
    return numbers


def _checked_prior(prior: Distribution | None) -> Distribution | None:
    """Return the prior of α if it is a distribution over all positive numbers."""
    if prior is None:
        return None
    if not isinstance(prior, Distribution):
        raise TypeError(f"`concentration_prior` must be a distribution of Pyro or PyTorch; got {type(prior).__name__}.")
    lower = getattr(prior.support, "lower_bound", None)
    if lower != 0 or getattr(prior.support, "upper_bound", math.inf) != math.inf:
        raise ValueError(f"`concentration_prior` must be a distribution over all positive numbers; got {prior}.")
    return arguments.normal_distribution(prior)
