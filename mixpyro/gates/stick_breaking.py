"""A gate of as many components as the data ask for: a Dirichlet process, or a Pitman–Yor process."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pyro
import torch
from pyro.distributions import Gamma
from torch import Tensor
from torch.distributions import Distribution

from mixpyro import arguments
from mixpyro.arguments.concentrations import concentration as checked_concentration
from mixpyro.conjugate.dirichlet import Counts
from mixpyro.conjugate.sticks import LearntSticks, StickBreaking, Sticks, sum_of_earlier
from mixpyro.distributions.shares import Shares
from mixpyro.distributions.unnormalised_categorical import UnnormalisedCategorical
from mixpyro.gates.common_weights import CommonWeightsGate
from mixpyro.gates.parts import Parts
from mixpyro.numerics.weighted_sums import column_sums
from mixpyro.pyro_internals.names import module_name
from mixpyro.pyro_internals.plates import sample_parameter
from mixpyro.shapes import Inputs, Responsibilities


class StickBreakingGate(CommonWeightsGate):
    """Infinitely many components, K of which may have objects: πₖ = vₖ Πⱼ (1 − vⱼ), vₜ ~ Beta(1 − d, α + t d).

    With d = 0 it is a Dirichlet process, else a Pitman–Yor process, whose sizes fall off by a power law. Choose a K
    that is surely too large: components that the data do not ask for end up without objects, and :func:`~mixpyro.fit`
    merges, deletes and splits some while the bound rises: :func:`~mixpyro.fit_minibatches` on its sample, a stream not
    at all. See ``result.n_used``; take ``result.without_empty()`` for intervals and draws, where components without
    objects are as wide as their prior.

    K is where the posterior is truncated, not the prior: q(z > K) = 0. The last share is not one, so bounds of
    different K are bounds on one evidence, and can be compared. What E π leaves beyond K is :attr:`weight_beyond`;
    :meth:`weights` are those of an object of one of the K components, and sum to one. In a Pyro program
    ``<name>.weights`` are π themselves, and every assignment is scored by π: that no object is beyond K is an event of
    the model.

    The order in which components break the stick is a part of the posterior: largest first, anew at each update. The
    gate keeps the rank of each component and the experts stay where they are. No other order has a higher bound. Where
    experts have different priors the order is an estimate; otherwise it is one of the ways to number the components.

    Args:
        n_components: K.
        concentration: α, a number above zero (at zero too, with a discount), or a Gamma distribution over it, whose
            posterior is then analytic: ``Gamma(1.0, 1.0)``. It is independent of the shares, somewhat too narrow,
            and lowers the bound by about 0.1 nats for each empty component. A larger α expects more components, about
            α log(1 + N / α) for N objects. One with a prior is for d = 0: else it has no closed form.
        discount: d, at least 0 and below 1.
        name: prefix of the Pyro sites ``<name>.sticks``, ``<name>.concentration`` where that has a prior,
            ``<name>.weights``, which the others determine, and ``<name>.assignment``.
        device: where the gate lives.
        dtype: of its own state; results have the dtype of x.

    Attributes:
        posterior_own, posterior_rest: q(vₖ) = Beta(own, rest) of each component [K].
        posterior_rank: place of each component in the order, from 0, as floating numbers [K].
        posterior_concentration_shape, posterior_concentration_rate: of q(α), where it has a prior.

    References:
        Blei, Jordan (2006), Variational inference for Dirichlet process mixtures, section 3;
        Ishwaran, James (2001), Gibbs sampling methods for stick-breaking priors, section 2 (Pitman–Yor);
        Kurihara, Welling, Teh (2007), Collapsed variational Dirichlet process mixture models, section 3.2 (the order);
        Hughes, Sudderth (2013), Memoized online variational inference for Dirichlet process mixture models, section 2
        (the truncation).

    Example:
        >>> gate = StickBreakingGate(3)
        >>> x, responsibilities = torch.zeros(3, 0), torch.tensor([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
        >>> gate.update(gate.statistics(x, responsibilities))
        >>> gate.posterior_rank.tolist()
        [1.0, 0.0, 2.0]
        >>> gate.weights(x)[0].tolist(), round(gate.weight_beyond, 4)
        ([0.2857142984867096, 0.6428571343421936, 0.0714285746216774], 0.0667)
    """

    site_axes: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "sticks": ("component",),
        "weights": ("component",),
        "concentration": (),
    }
    weights_site = "sticks"
    is_normalised = False
    reads_inputs = False
    finds_components = True
    prior_rest: Tensor

    def __init__(
        self,
        n_components: int,
        *,
        concentration: float | Distribution = 1.0,
        discount: float = 0.0,
        name: str = "gate",
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__(n_components, name=name)
        self.discount = arguments.positive_number("discount", discount, zero=True)
        if self.discount >= 1.0:
            raise ValueError(f"`discount` must be below 1; got {discount}.")
        self.concentration = checked_concentration(concentration, discount=self.discount)
        alpha = self.concentration.mean if isinstance(self.concentration, Distribution) else self.concentration
        breaks = torch.arange(1, self.n_components + 1, dtype=torch.float64, device="cpu")
        rest = float(alpha) + self.discount * breaks
        rest = arguments.representable("concentration", rest.to(arguments.device(device), arguments.dtype(dtype)))
        self.register_buffer("prior_rest", rest, persistent=False)
        self.register_posterior(self.prior, like=rest)

    @property
    def prior(self) -> StickBreaking:
        """Beta(1 − d, α + t d) of the shares by rank; with a prior of α that prior, and its mean for α."""
        rest = self._buffers["prior_rest"]
        assert rest is not None
        rest = rest.double()
        ranks = torch.arange(len(rest), dtype=torch.float64, device=rest.device)
        sticks = Sticks(torch.full_like(rest, 1.0 - self.discount), rest, ranks)
        if not isinstance(self.concentration, Distribution):
            return sticks
        gamma: Gamma = self.concentration
        shape, rate = (value.to(rest) for value in (gamma.concentration, gamma.rate))
        return LearntSticks(*sticks, shape, rate)

    @property
    def prior_in_order(self) -> StickBreaking:
        """The prior of each component's share, at its rank in the posterior."""
        prior, rank = self.prior, self._buffers["posterior_rank"]
        assert rank is not None
        return prior._replace(rest=prior.rest[rank.long()], rank=rank.double())

    @property
    def start(self) -> StickBreaking:
        """Where a fit of a program starts by default: the prior, with the weights of the K components all alike."""
        prior = self.prior
        return prior._replace(rest=prior.own * (len(prior.rank) - prior.rank))

    @torch.no_grad()
    def initialise(self) -> None:
        """Set where a fit by :class:`~mixpyro.ConjugateSVI` starts: at alike weights, for a prior may hold K to one."""
        if self.is_new:
            self.hold_posterior(self.start)

    @property
    def has_free_weights(self) -> bool:
        """Whether weights vary: of a single component too, by what is beyond it."""
        return True

    @property
    def weights_sites(self) -> list[str]:
        """Full names of the latent sites that weights follow from."""
        own = ["concentration"] if isinstance(self.concentration, Distribution) else []
        return [self.site(name) for name in ("sticks", *own)]

    @property
    def weight_beyond(self) -> float:
        """Expected weight of all components beyond K, from 0 to 1: of an object unlike those of the K components."""
        return float(self.posterior.weight_beyond)

    def updated(self, statistics: Counts, before: StickBreaking) -> StickBreaking:
        """Return the posterior that is optimal given the counts, with its concentration.

        Args:
            statistics: counts [..., K], with any leading axes of runs.
            before: the posterior whose E α to start from.
        """
        prior: StickBreaking = self.fixed_prior
        if isinstance(prior, Sticks) or not isinstance(before, LearntSticks):
            return prior.updated(statistics)
        return prior.updated(statistics, before.concentration.mean)

    def weights_distribution(self, posterior: StickBreaking, dtype: torch.dtype) -> Shares:
        """Return the distribution of the shares vₖ, event shape [K]; of a prior with the concentration at its mean.

        Args:
            posterior: without leading axes of runs.
            dtype: of its draws.
        """
        return Shares(posterior.own.to(dtype), posterior.rest.to(dtype))

    def prior_in_words(self) -> str:
        """Return the prior of the weights in a few words."""
        kind = "Dirichlet process" if self.discount == 0.0 else f"Pitman–Yor process, discount {self.discount:.4g}"
        if not isinstance(self.concentration, Distribution):
            return f"{kind}, concentration {self.concentration:.4g}"
        shape, rate = (float(value) for value in (self.concentration.concentration, self.concentration.rate))
        return f"{kind}, concentration Gamma({shape:.4g}, {rate:.4g})"

    def evidence(self, x: Inputs, responsibilities: Responsibilities, *, scale: float) -> Shares:
        """Return the likelihood of the shares in the order of the posterior, a Beta of each.

        Args:
            x: gate inputs [B, D].
            responsibilities: [B, K].
            scale: how many objects each row stands for.
        """
        counts = scale * column_sums(responsibilities)
        later = counts.sum() - counts - sum_of_earlier(counts, self.posterior.rank)
        return Shares((1.0 + counts).to(x.dtype), (1.0 + later.clamp_min(0.0)).to(x.dtype))

    def log_weights_of_logs(self, taken: Tensor, left: Tensor) -> Tensor:
        """Return log π of the logarithms of shares, in the order of the posterior.

        Args:
            taken: log v [..., K].
            left: log(1 − v) [..., K].
        """
        return taken + sum_of_earlier(left, self.posterior.rank)

    def sample_log_weights(self, x: Tensor, parts: Parts, *, is_prior: bool) -> Tensor:
        """Sample ``<name>.concentration`` if it has a prior, and ``<name>.sticks``; return log π [..., K].

        Args:
            x: gate inputs, of which the dtype is read.
            parts: not read: a gate of one part.
            is_prior: whether from the prior, rather than the posterior.
        """
        value: StickBreaking = self.prior_in_order if is_prior else self.posterior
        shares = self.weights_distribution(value, x.dtype)
        if isinstance(value, LearntSticks):
            shape, rate = (part.to(x.dtype) for part in value.concentration)
            alpha = sample_parameter(self.site("concentration"), Gamma(shape, rate))
            if is_prior:
                rest = alpha.unsqueeze(-1).expand(*alpha.shape, len(value.own))
                shares = Shares(value.own.to(x.dtype).expand(rest.shape), rest)
        v = sample_parameter(self.site("sticks"), shares)
        log_weights = self.log_weights_of_logs(v.log(), (-v).log1p())
        if is_prior:  # A guide has latent sites alone.
            pyro.deterministic(self.site("weights"), log_weights.exp(), event_dim=1)
        return log_weights

    def with_components(self, kept: Sequence[int]) -> "StickBreakingGate":
        """Return a new gate of some of the components, updated by their counts; arguments as of :class:`Gate`."""
        own, name = self.prior_rest, module_name(self)
        options: dict[str, Any] = {"concentration": self.concentration, "discount": self.discount}
        fewer = StickBreakingGate(len(kept), **options, name=name, device=own.device, dtype=own.dtype)
        counts = self.posterior.statistics_beyond(self.prior).counts[list(kept)]
        fewer.hold_posterior(fewer.updated(Counts(counts.clamp_min(0.0)), fewer.posterior))
        return fewer

    def derived(self, sites: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return π [S, K], where there are draws of the shares.

        Args:
            sites: draws [S, …] by the full name of the site.
        """
        v = sites.get(self.site("sticks"))
        return {} if v is None else {self.site("weights"): self.log_weights_of_logs(v.log(), (-v).log1p()).exp()}

    def assignments(self, log_weights: Tensor) -> UnnormalisedCategorical:
        """Return p(z | π), whose probabilities sum to what is not beyond K.

        Args:
            log_weights: log π [..., K].
        """
        return UnnormalisedCategorical(log_weights)
