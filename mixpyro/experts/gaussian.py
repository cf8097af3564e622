"""Bayesian Gaussian densities, one a component, with conjugate updates."""

import math
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.ops.indexing import Vindex
from torch import Tensor

from mixpyro.conjugate.completion import Completion
from mixpyro.conjugate.normal_wishart import GaussianStatistics, NormalWishart
from mixpyro.experts.gaussian_prior import GaussianPrior
from mixpyro.fitted_part import State
from mixpyro.numerics.design_matrix import joined_columns
from mixpyro.pyro_internals.plates import sample_parameter
from mixpyro.shapes import Inputs, Outputs


class GaussianParameters(NamedTuple):
    """A draw of every component's parameters."""

    mean: Tensor  # μ [K, P]
    spread: Tensor  # a root of the covariance: lower triangular [K, P, P], or standard deviations [K, P] or [K]


class GaussianExperts(GaussianPrior):
    """y | z = k ~ Normal(μₖ, Λₖ⁻¹) with a conjugate prior on (μₖ, Λₖ); with a Dirichlet gate, a Gaussian mixture.

    μₖ | Λₖ ~ Normal(m₀, (β₀ Λₖ)⁻¹), and Λₖ ~ Wishart(Ψ₀⁻¹, ν₀). A diagonal Λₖ has the entries Gamma(ν₀/2, ψ₀/2), a
    spherical one, τₖ I, has τₖ ~ Gamma(Pν₀/2, Pψ₀/2). So E[Λ] = ν₀ Ψ₀⁻¹ in all three: the prior is worth ν₀ objects,
    and Ψ₀ / ν₀ is roughly the covariance expected within a component. They read no column of x. A tied covariance is a
    full one that all components share, Λₖ = Λ, to which all objects contribute. One that is also diagonal or spherical
    have LinearExperts without inputs, with ``noise_per_component=False``.

    What you leave out of the prior is weak on the location and scale of the data, as of LinearExperts:
    :mod:`mixpyro.experts.weak_prior` has the formula, and a diagonal Ψ₀. A prior that you give is used as it is, in the
    units of y and counted from zero; a component at a distance d from m₀ counts β₀ d² to its Ψ, and a caution says
    where that outweighs the data. With one column, or diagonal, these are LinearExperts without inputs, defaults
    included: there a₀ is ν₀/2 and b₀ is ψ₀/2.

    Sums of squares about zero lose the digits of a covariance that is small against the mean. So the experts count y
    from an origin, the median of the data, which :meth:`centre` sets. A prior of yours does not change with it.

    Against ``BayesianGaussianMixture`` of scikit-learn: its ``mean_prior`` is ``mean``, ``mean_precision_prior`` is
    ``mean_precision``, ``degrees_of_freedom_prior`` is ``degrees_of_freedom``, ``covariance_prior`` is ``scale``, and
    its ``covariances_`` are Ψ / ν, not posterior means. Given responsibilities the posteriors are the same in all three
    structures. Responsibilities are the same if full: for "diag" and "spherical" it keeps the Wishart's E log |Λ|,
    which is lower than that of the Gammas that its updates belong to.

    Args:
        n_components: K.
        n_outputs: P, the number of columns of y.
        covariance: of y within a component, "full", "diagonal", "spherical" or "tied".
        mean: m₀, a number or P of them, in units of y; zero if only its precision is given, on the location of the data
            if neither is.
        mean_precision: β₀, above zero: how many objects the prior mean is worth; 0.01 if only the mean is given.
        degrees_of_freedom: ν₀, above P − 1 if full or tied, else above zero. By default P + 2 if full, else 3, of which
            predictions of an empty component have a variance; one less if only the scale is given.
        scale: Ψ₀, in squared units of y, above zero: a number; also P of them for a full or diagonal covariance, and a
            positive definite matrix [P, P] for a full one. 0.02 if only ν₀ is given, on the scale of y if neither is.
        scales: location and scale of x, which is not read, then of y, for what is left out of the prior; by default
            those of the data.
        name: prefix of the Pyro sites ``<name>.mean``, ``<name>.y`` and ``<name>.precision``; instead of the last a
            full covariance has ``<name>.conditional_precision`` and ``<name>.regression``, parameters in which NUTS can
            move: each column's given those before it. :meth:`covariances_of` gives the covariances that they make.
        device: of the experts' state.
        dtype: of their state; results have the dtype of x.

    Attributes:
        centred_means: posterior m counted from the origin [K, P].
        posterior_mean_precision: β [K].
        posterior_degrees: ν [K], [1] if tied.
        posterior_scale: Ψ [K, P, P] if full, [1, P, P] if tied, [K, P] if diagonal, [K] if spherical.
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

    site_axes: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "mean": ("component", "output"),
        "precision": ("component", "output"),
        "conditional_precision": ("component", "output"),
        "regression": ("component",),
    }

    takes_incomplete_rows: ClassVar[bool] = True

    def hold_posterior(self, posterior: NormalWishart) -> None:
        """Put a posterior into the buffers, its scale positive definite in their dtype.

        Args:
            posterior: as :attr:`posterior` gives it. Its tensors may become the buffers.
        """
        scale = posterior.representable(posterior.scale, self.posterior_scale.dtype)
        super().hold_posterior(posterior._replace(scale=scale))

    def columns(self, x: Inputs, y: Outputs) -> Float[Tensor, "F N"]:
        """Return ones, then the columns of y counted from the origin, as rows [1 + P, N].

        Args:
            x: inputs [N, D], not read.
            y: outputs [N, P].
        """
        return joined_columns((y, self.y_origin), ones=True)

    def log_likelihood(self, columns: Float[Tensor, "F N"], posterior: NormalWishart) -> Float[Tensor, "*R K N"]:
        """Return ½ (E log |Λ| − P log 2π − E (y − μ)'Λ(y − μ)) in nats; Bishop (2006), eq. 10.46, 10.64 and 10.65.

        Args:
            columns: of N rows, as :meth:`columns` returns them.
            posterior: q, with any leading axes of runs.
        """
        constant, distances = self._constant(posterior), posterior.squared_distances(columns)
        return torch.sub(constant.to(columns.dtype).unsqueeze(-1), distances, alpha=0.5)

    def _constant(self, posterior: NormalWishart) -> Tensor:
        """Return ½ (E log |Λ| − P log 2π − P / β) [..., K]."""
        of_mean = math.log(2 * math.pi) + 1.0 / posterior.mean_precision
        return 0.5 * (posterior.expected_log_determinant - self.n_outputs * of_mean)

    def statistics_of(
        self, columns: Float[Tensor, "F N"], responsibilities: Float[Tensor, "*R K N"]
    ) -> GaussianStatistics:
        """Return Σ r, Σ r y and Σ r y y', of y counted from the origin.

        Args:
            columns: of N rows, as :meth:`columns` returns them.
            responsibilities: [..., K, N].
        """
        # In float64 for data of any dtype: the covariance is a small difference of these large sums.
        return self.structure.statistics(columns, responsibilities)

    def log_likelihood_without(
        self, missing: tuple[int, ...], columns: Float[Tensor, "F N"], state: State | None
    ) -> Float[Tensor, "*R K N"]:
        """Return log ∫ exp E log p(y | k) over the missing outputs; arguments as of the base class."""
        posterior = self._posterior_of(state)
        completion = Completion.of(posterior.root_of_precision, posterior.mean.unsqueeze(-1), missing)
        constant = completion.constant + self._constant(posterior)
        distances = completion.squared_distances(columns)
        return torch.sub(constant.to(columns.dtype).unsqueeze(-1), distances, alpha=0.5)

    def sums_without(
        self,
        missing: tuple[int, ...],
        columns: Float[Tensor, "F N"],
        responsibilities: Float[Tensor, "*R K N"],
        state: State | None,
    ) -> GaussianStatistics:
        """Return Σ r, Σ r E y and Σ r E y y'; arguments as of the base class."""
        posterior = self._posterior_of(state)
        completion = Completion.of(posterior.root_of_precision, posterior.mean.unsqueeze(-1), missing)
        return self.structure.statistics_of_gram(completion.gram(columns, responsibilities))

    def _posterior_of(self, state: State | None) -> NormalWishart:
        """Return the posterior of R runs, or these experts' own."""
        return self.posterior if state is None else state.posterior

    def predictive(self, x: Inputs) -> TorchDistributionMixin:
        """Return Student-t distributions, batch shape [N, K] and event shape [P], of independent columns if diagonal.

        See Bishop (2006), eq. 10.81 and 10.82.

        Args:
            x: inputs [N, D], of which only the number of rows is read.
        """
        distribution = self.posterior._replace(mean=self.means).predictive(x.dtype)
        return distribution.expand((len(x), self.n_components))

    def predict(self, x: Inputs) -> Tensor:
        """Return posterior means of the μₖ [N, K, P], the same for every object, in x's dtype.

        Args:
            x: inputs [N, D], of which only the number of rows is read.
        """
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
        return self.posterior.covariance

    def noises(self) -> Float[Tensor, "K _"]:
        """Return 1 / √E[λ] of every column, or if full the least of any direction, relative to the mean over k."""
        posterior = self.posterior
        shapes = posterior.scale / posterior.per_component(posterior.degrees)
        if self.is_tied:
            return shapes.new_ones(self.n_components, 1)
        if self.covariance != "full":
            return shapes.reshape(self.n_components, -1).sqrt()
        factor = torch.linalg.cholesky(shapes.mean(0))
        relative = torch.linalg.solve_triangular(factor, shapes, upper=False)
        relative = torch.linalg.solve_triangular(factor, relative.mT, upper=False)
        return torch.linalg.eigvalsh(relative)[:, :1].clamp_min(0.0).sqrt()

    def covariances_of(self, parameters: GaussianParameters) -> Tensor:
        """Return Λ⁻¹ [..., K, P, P] of a draw.

        Args:
            parameters: what :meth:`model` or :meth:`guide` returned.
        """
        root = self.structure.matrices(parameters.spread, self.n_outputs)
        return root @ root.mT

    def sample(self, posterior: NormalWishart, dtype: torch.dtype) -> GaussianParameters:
        """Sample precisions and ``<name>.mean``, μ for y as it is; the class's argument ``name`` lists the sites.

        Args:
            posterior: its mean counted from the origin.
            dtype: of the draws.
        """
        spread = posterior.sample_spread(self.site(""), dtype)
        mean = (posterior.mean + self.y_origin.double()).to(dtype)
        narrowed = spread / posterior.per_component(posterior.mean_precision).sqrt().to(dtype)
        normal = posterior.normal(mean, narrowed).to_event(1)
        return GaussianParameters(sample_parameter(self.site("mean"), normal), spread.expand_as(narrowed))

    def likelihood(self, x: Inputs, parameters: GaussianParameters, assignment: Tensor) -> TorchDistributionMixin:
        """Return Normal(μ_z, Λ_z⁻¹).

        Args:
            x: inputs [N, D].
            parameters: what :meth:`model` or :meth:`guide` returned.
            assignment: z [N]. Under enumeration it is [K, 1, …], and so is the batch shape.
        """
        trailing = (slice(None),) * self.prior_scale.ndim
        spread = Vindex(parameters.spread)[(..., assignment, *trailing)]
        return self.structure.normal(Vindex(parameters.mean)[..., assignment, :], spread)
