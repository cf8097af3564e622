"""Bayesian Gaussian densities, one a component, with conjugate updates."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.nn import pyro_method
from pyro.ops.indexing import Vindex
from torch import Tensor

from mixpyro import arguments
from mixpyro.conjugate.full_covariance import Diagonal, Full, Spherical
from mixpyro.conjugate.normal_wishart import GaussianStatistics, NormalWishart
from mixpyro.experts.base import Experts
from mixpyro.numerics.origin import columns_from
from mixpyro.numerics.weighted_sums import column_means
from mixpyro.pyro_internals.plates import sample_parameter
from mixpyro.shapes import Inputs, Responsibilities, Scalar, Targets

STRUCTURES: dict[str, type[NormalWishart]] = {"full": Full, "diagonal": Diagonal, "spherical": Spherical}
POSTERIOR = ("centred_means", "posterior_mean_precision", "posterior_degrees", "posterior_scale")


class GaussianParameters(NamedTuple):
    """A draw of every component's parameters."""

    mean: Tensor  # μ [K, P]
    spread: Tensor  # a root of the covariance: lower triangular [K, P, P], or standard deviations [K, P] or [K]


class GaussianExperts(Experts):
    """y | z = k ~ Normal(μₖ, Λₖ⁻¹) with a conjugate prior on (μₖ, Λₖ); with a Dirichlet gate, a Gaussian mixture.

    μₖ | Λₖ ~ Normal(m₀, (β₀ Λₖ)⁻¹), and Λₖ ~ Wishart(Ψ₀⁻¹, ν₀). A diagonal Λₖ has the entries Gamma(ν₀/2, ψ₀/2), a
    spherical one, τₖ I, has τₖ ~ Gamma(Pν₀/2, Pψ₀/2). So E[Λ] = ν₀ Ψ₀⁻¹ in all three: the prior is worth ν₀ objects,
    and Ψ₀ / ν₀ is roughly the covariance expected within a component. They look at no column of x.

    The prior speaks of y on the scale and about the zero it comes with. For data far from zero give ``mean`` (their
    mean, say): a component at a distance d from m₀ counts β₀ d² to its Ψ. For data that vary by much less than one
    give ``scale``. With one column, or diagonal, these are LinearExperts without inputs, defaults included: there a₀ is
    ν₀/2 and b₀ is ψ₀/2.

    Sums of squares about zero would drown a small covariance under a large mean. So the experts count y from an origin,
    which :meth:`centre` puts into the data and :func:`mixpyro.fit` calls first; the model, its prior included, is the
    same.

    Against ``BayesianGaussianMixture`` of scikit-learn: its ``mean_prior`` is ``mean``, ``mean_precision_prior`` is
    ``mean_precision``, ``degrees_of_freedom_prior`` is ``degrees_of_freedom``, ``covariance_prior`` is ``scale``, and
    its ``covariances_`` are Ψ / ν, not posterior means. Given responsibilities the posteriors are the same in all three
    structures. Responsibilities are the same if full: for "diag" and "spherical" it keeps the Wishart's E log |Λ|,
    which is lower than that of the Gammas that its updates belong to.

    Args:
        n_components: K.
        n_outputs: P, the number of columns of y.
        covariance: of y within a component, "full", "diagonal" or "spherical".
        mean: m₀, a number or P of them, in units of y.
        mean_precision: β₀, above zero: how many objects the prior mean is worth.
        degrees_of_freedom: ν₀, above P − 1 if full and above zero otherwise; None for P + 1, of which correlations are
            uniform, and for 2 if not full.
        scale: Ψ₀, in squared units of y, above zero: a number; also P of them for a full or diagonal covariance, and a
            positive definite matrix [P, P] for a full one.
        name: prefix of the Pyro sites ``<name>.mean``, ``<name>.y`` and ``<name>.precision``; in place of the last a
            full covariance has ``<name>.conditional_precision`` and ``<name>.regression``, parameters in which NUTS can
            move: each column's given those before it. :meth:`covariances_of` gives the covariances that they make.
        device: where the experts live.
        dtype: of their state; results have the dtype of x.

    Attributes:
        centred_means: posterior m counted from the origin [K, P].
        posterior_mean_precision: β [K].
        posterior_degrees: ν [K].
        posterior_scale: Ψ [K, P, P] if full, [K, P] if diagonal, [K] if spherical.
        y_origin: where y is counted from [P].

    References:
        Bishop (2006), Pattern Recognition and Machine Learning, section 10.2;
        Murphy (2012), Machine Learning: a Probabilistic Perspective, section 4.6.3.

    Example:
        >>> experts = GaussianExperts(1, 2, mean_precision=1e-6)
        >>> y = torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 8.0]])
        >>> experts.update(experts.statistics(torch.zeros(3, 0), y, torch.ones(3, 1)))
        >>> [round(value, 3) for value in experts.means[0].tolist()]
        [2.0, 4.0]
    """

    component_buffers = POSTERIOR

    prior_mean: Tensor
    prior_mean_precision: Tensor
    prior_degrees: Tensor
    prior_scale: Tensor
    y_origin: Tensor
    centred_means: Tensor
    posterior_mean_precision: Tensor
    posterior_degrees: Tensor
    posterior_scale: Tensor

    def __init__(
        self,
        n_components: int,
        n_outputs: int,
        *,
        covariance: str = "full",
        mean: float | Sequence[float] | Tensor = 0.0,
        mean_precision: float = 0.01,
        degrees_of_freedom: float | None = None,
        scale: float | Sequence[float] | Tensor = 0.02,
        name: str = "experts",
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__(n_components, 0, n_outputs, name=name)
        if not isinstance(covariance, str) or covariance not in STRUCTURES:
            raise ValueError(f"`covariance` must be one of {', '.join(map(repr, STRUCTURES))}; got {covariance!r}.")
        self.covariance, self.structure = covariance, STRUCTURES[covariance]
        place = torch.empty(0, device=arguments.device(device), dtype=dtype)
        priors = {
            "prior_mean": arguments.vector("mean", mean, self.n_outputs),
            "prior_mean_precision": _scalar(arguments.positive_number("mean_precision", mean_precision)),
            "prior_degrees": _scalar(_degrees(degrees_of_freedom, self.structure, self.n_outputs)),
            "prior_scale": self.structure.checked_scale("scale", scale, self.n_outputs),
        }
        for buffer, value in priors.items():
            self.register_buffer(buffer, value.to(place))
        arguments.representable("mean_precision", self.prior_mean_precision)
        arguments.representable("scale", self.prior_scale.diagonal() if covariance == "full" else self.prior_scale)
        self.register_buffer("y_origin", place.new_zeros(self.n_outputs))
        for buffer in POSTERIOR:
            self.register_buffer(buffer, place)
        self._set_posterior(self.prior)

    def centre(self, x: Inputs, y: Targets) -> None:
        """Count y from its mean, and forget the data seen so far."""
        _, y = self.check_data(x, y)
        self.y_origin = column_means(y).to(self.y_origin)
        self._set_posterior(self.prior)

    def expected_log_likelihood(self, x: Inputs, y: Targets) -> Responsibilities:
        """½ (E log |Λ| − P log 2π − E (y − μ)'Λ(y − μ)) [N, K]; Bishop (2006), eq. 10.46, 10.64 and 10.65."""
        _, y = self.check_data(x, y)
        q = self.posterior
        constant = q.expected_log_determinant - self.n_outputs * math.log(2 * math.pi)
        return 0.5 * (constant.to(y.dtype) - q.expected_squared_distances(columns_from(y, self.y_origin)))

    def statistics(self, x: Inputs, y: Targets, responsibilities: Responsibilities) -> GaussianStatistics:
        """Σ r, Σ r y and Σ r y y', of y counted from the origin.

        Args:
            x: [N, D], any; not looked at.
            y: [N, P].
            responsibilities: [N, K], non-negative; a row that does not sum to one carries a weight.

        Raises:
            ValueError: if a shape does not fit, or a value is negative or not finite.
        """
        x, y = self.check_data(x, y)
        r = arguments.responsibilities(responsibilities, self.n_components, len(x))
        # In float64, whatever the data: the covariance is what a difference of these sums leaves over.
        return self.structure.statistics(r, columns_from(y, self.y_origin))

    @torch.no_grad()
    def update(self, statistics: GaussianStatistics, step_size: float = 1.0) -> None:
        """Posterior of the prior and the statistics; Bishop (2006), eq. 10.60 to 10.63, in natural parameters."""
        size = arguments.step_size(step_size)
        arguments.tensor("statistics.yy", statistics.yy, self.posterior_scale.shape)
        if size < 1.0:
            seen = self.prior.statistics_behind(self.posterior)
            statistics = GaussianStatistics(*(torch.lerp(a, b, size) for a, b in zip(seen, statistics, strict=True)))
        self._set_posterior(self.prior.posterior(statistics))

    def kl_divergence(self) -> Scalar:
        """KL of the posteriors from their prior, summed over components, float64."""
        return self.posterior.kl_divergence(self.prior)

    def divergences(self) -> Float[Tensor, " K"]:
        """KL of each component's posterior from its prior, float64."""
        return self.posterior.divergences(self.prior)

    @property
    def n_parameters(self) -> int:
        """K (P + P (P + 1) / 2) if full, K 2 P if diagonal, K (P + 1) if spherical."""
        return self.n_components * (self.n_outputs + self.structure.n_parameters(self.n_outputs))

    def predictive(self, x: Inputs) -> TorchDistributionMixin:
        """Student-t, batch shape [N, K] and event shape [P], of independent columns if diagonal.

        Bishop (2006), eq. 10.81 and 10.82.
        """
        q = self.posterior
        distribution = self.structure(self.means.double(), q.mean_precision, q.degrees, q.scale).predictive(x.dtype)
        return distribution.expand((len(x), self.n_components))

    def predict(self, x: Inputs) -> Tensor:
        """Posterior means of the μₖ [N, K, P], the same for every object, in x's dtype."""
        return self.means.to(x.dtype).expand(len(x), -1, -1)

    @property
    def means(self) -> Tensor:
        """Posterior mean of the μₖ [K, P], float64, for y as it is."""
        return self.posterior.mean + self.y_origin.double()

    @property
    def mean_standard_deviations(self) -> Tensor:
        """Posterior standard deviation of the μₖ [K, P], infinite where there are too few data to tell."""
        variance = self.covariances.diagonal(dim1=-2, dim2=-1)
        return (variance / self.posterior.mean_precision.unsqueeze(-1)).sqrt()

    @property
    def covariances(self) -> Tensor:
        """Posterior mean of the Λₖ⁻¹ [K, P, P], float64, infinite where there are too few data to tell."""
        return self.posterior.covariance()

    @pyro_method
    def model(self, x: Inputs) -> GaussianParameters:
        """Sample precisions and ``<name>.mean`` from their prior; see the argument ``name``."""
        return self._parameter_sites(self.prior, x.dtype)

    @pyro_method
    def guide(self, x: Inputs) -> GaussianParameters:
        """Sample precisions and ``<name>.mean`` from their posterior."""
        return self._parameter_sites(self.posterior, x.dtype)

    def likelihood(self, x: Inputs, parameters: GaussianParameters, assignment: Tensor) -> TorchDistributionMixin:
        """Normal(μ_z, Λ_z⁻¹); see :meth:`Experts.likelihood`."""
        trailing = (slice(None),) * self.prior_scale.ndim
        spread = Vindex(parameters.spread)[(..., assignment, *trailing)]
        return self.structure.normal(Vindex(parameters.mean)[..., assignment, :], spread)

    def covariances_of(self, parameters: GaussianParameters) -> Tensor:
        """Λ⁻¹ [..., K, P, P] of a draw of :meth:`model` or :meth:`guide`."""
        root = self.structure.matrices(parameters.spread, self.n_outputs)
        return root @ root.mT

    def _parameter_sites(self, q: NormalWishart, dtype: torch.dtype) -> GaussianParameters:
        """Sample Λ and μ; the site holds μ for y as it is."""
        spread = q.sample_spread(self.site(""), dtype)
        mean = (q.mean + self.y_origin.double()).to(dtype)
        narrowed = spread / q.per_component(q.mean_precision).sqrt().to(dtype)
        return GaussianParameters(sample_parameter(self.site("mean"), q.normal(mean, narrowed).to_event(1)), spread)

    @property
    def prior(self) -> NormalWishart:
        """The prior of every component, float64, its mean counted from the origin as the posterior's is."""
        mean = self.prior_mean.double() - self.y_origin.double()
        parts = (mean, self.prior_mean_precision, self.prior_degrees, self.prior_scale)
        return self.structure(*(part.double().expand(self.n_components, *part.shape) for part in parts))

    @property
    def posterior(self) -> NormalWishart:
        """The posterior of every component, float64, its mean counted from the origin."""
        return self.structure(*(getattr(self, buffer).double() for buffer in POSTERIOR))

    def _set_posterior(self, q: NormalWishart) -> None:
        arguments.finite_posterior((q.mean, q.scale))
        scale = q.representable(q.scale, self.prior_scale.dtype)
        for buffer, value in zip(POSTERIOR, (q.mean, q.mean_precision, q.degrees, scale), strict=True):
            setattr(self, buffer, value.to(self.prior_scale.dtype).clone())


def _scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def _degrees(value: float | None, structure: type[NormalWishart], n_outputs: int) -> float:
    """ν₀, by default two more than the least."""
    least = structure.least_degrees(n_outputs)
    if value is None:
        return least + 2.0
    number = arguments.positive_number("degrees_of_freedom", value)
    if number <= least:
        raise ValueError(f"`degrees_of_freedom` must be above {least:g}, the columns of y less one; got {number:g}.")
    return number
