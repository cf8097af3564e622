"""Bayesian linear regressions, one a component, with conjugate updates."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float
from pyro.distributions import Gamma, Independent, Normal
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.nn import pyro_method
from pyro.ops.indexing import Vindex
from torch import Tensor

from mixpyro.conjugate.completion import Completion
from mixpyro.conjugate.normal_gamma import LinearStatistics, NormalGamma
from mixpyro.distributions.checked_values import IndependentOutputs
from mixpyro.distributions.multivariate_normal import multivariate_normal
from mixpyro.distributions.student_t import PreciseStudentT, SharedStudentT
from mixpyro.experts.linear_prior import LinearPrior
from mixpyro.fitted_part import State
from mixpyro.numerics.design_matrix import joined_columns, with_intercept
from mixpyro.numerics.weighted_sums import weighted_gram
from mixpyro.pyro_internals.plates import sample_parameter
from mixpyro.shapes import Design, Inputs, Outputs


class LinearParameters(NamedTuple):
    """A draw of every component's parameters."""

    precision: Tensor  # τ [K, P]
    coefficients: Tensor  # w [K, P, E]


class LinearExperts(LinearPrior):
    """y | x, z = k ~ Normal(wₖ'u, 1/τₖ) with u = [1, x] and a conjugate Normal-Gamma prior on (wₖ, τₖ).

    wₖ | τₖ ~ Normal(m₀, (τₖ Λ₀)⁻¹), τₖ ~ Gamma(a₀, b₀); several outputs are independent given z and the parameters,
    each with its own w. Every component and output has a noise of its own, or shares one τ with the others.

    What you leave out of the prior is weak on the location and scale of the data: :mod:`mixpyro.experts.weak_prior` has
    the formula. :func:`mixpyro.fit`, minibatches and streams set it from their (first) rows, :meth:`for_data` from rows
    of yours, and ``scales`` from numbers; until then it is that of data of location 0 and scale 1. It makes a fit
    equivariant: other units and origins of x and y change no responsibility. A prior that you give is used as it is.
    Its units are those of x and y, counted from zero, and b₀ / a₀ is roughly the noise variance expected; a caution
    says where it outweighs the data.

    Sums of squares about zero lose the digits of a noise that is small against the mean. So the experts count x and y
    from an origin, the median of the data, which :meth:`centre` sets. A prior of yours does not change with it.

    Args:
        n_components: K.
        n_features: D, the number of columns of x; zero for a constant.
        n_outputs: P, the number of columns of y.
        intercept: whether u has a leading column of ones; then E = D + 1, else E = D.
        coefficient_mean: m₀, a number, or numbers [E], [P, E] or [K, P, E], the intercept first; zero if only the
            precision is given, on the location of the data if neither is.
        coefficient_precision: Λ₀, a number, E of them for a diagonal, or a positive definite matrix [E, E]; 0.01 if
            only the mean is given, on the scale of x if neither is.
        noise_per_component: whether every component has its own noise; one for all otherwise.
        noise_per_output: whether every output has its own noise; one for all otherwise.
        noise_shape: a₀, above zero; 1 if only the rate is given.
        noise_rate: b₀, above zero, in squared units of y, a number or P of them; 0.01 if only the shape is given, on
            the scale of y if neither is.
        scales: location and scale of x, then of y, for what is left out of the prior; by default those of the data.
        name: prefix of the Pyro sites ``<name>.precision``, ``<name>.coefficients`` and ``<name>.y``.
        device: of the experts' state.
        dtype: of their state; results have the dtype of x.

    Attributes:
        posterior_shape: a [K], or [1] with one noise for all components.
        posterior_rate: b [K, P], an axis of length one where there is one noise for all.
        centred_coefficients: posterior mean of the wₖ counted from the origin [K, P, E].
        centred_precision: Λ of the same [K, E, E].
        x_origin: [D], and y_origin [P]: where x and y are counted from.
        prior_x_origin: [D], and prior_y_origin [P]: where the coefficients of ``prior_mean`` [K, P, E] and
            ``prior_precision`` [E, E] are counted from, zero if you gave them.

    References:
        Bishop (2006), Pattern Recognition and Machine Learning, section 3.3 and eq. 10.60 (the same algebra for a
        density);
        Murphy (2012), Machine Learning: a Probabilistic Perspective, eq. 7.69 to 7.73.

    Example:
        >>> experts = LinearExperts(1, 1, coefficient_precision=1e-6)
        >>> x = torch.tensor([[0.0], [1.0], [2.0]])
        >>> experts.update(experts.statistics(x, 1 + 2 * x, torch.ones(3, 1)))
        >>> [round(value, 3) for value in experts.coefficients[0, 0].tolist()]
        [1.0, 2.0]
    """

    takes_incomplete_rows: ClassVar[bool] = True
    site_axes: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "precision": ("component", "output"),
        "coefficients": ("component", "output", "regressor"),
    }

    @property
    def component_tensors(self) -> tuple[str, ...]:
        """The prior means, and the posterior, but for a noise that components share."""
        own = ("prior_mean", "centred_coefficients", "centred_precision")
        return (*own, "posterior_shape", "posterior_rate") if self.noise_per_component else own

    def with_components(self, kept: Sequence[int]) -> "LinearExperts":
        """Return a new bank of some of the components; arguments as :meth:`Experts.with_components`."""
        fewer = super().with_components(kept)
        assert isinstance(fewer, LinearExperts)
        given = fewer.coefficient_mean
        if given is not None and torch.as_tensor(given).ndim == 3:
            fewer.coefficient_mean = torch.as_tensor(given)[list(kept)]
        return fewer

    @property
    def posterior_from_zero(self) -> NormalGamma:
        """The posterior of coefficients and noises for x and y as they are, float64."""
        return self.regression.from_zero(self._origin)

    def columns(self, x: Inputs, y: Outputs) -> Float[Tensor, "F N"]:
        """Return the columns of u and y [E + P, N], from the origin; arguments as :meth:`Experts.columns`."""
        return joined_columns((x, self.x_origin), (y, self.y_origin), ones=self.intercept)

    def log_likelihood(self, columns: Float[Tensor, "F N"], posterior: NormalGamma) -> Float[Tensor, "*R K N"]:
        """Return ½ Σₚ (E log τ − log 2π − E τ (y − m'u)²) − ½ P u'Λ⁻¹u; Bishop (2006), eq. 10.64 for a regression.

        Args:
            columns: of N rows, as :meth:`columns` returns them.
            posterior: q, with any leading axes of runs.
        """
        squares = posterior.expected_squared_residuals(columns)
        log_precision = posterior.noise.expected_log.expand(posterior.mean.shape[:-1]).sum(-1)
        constant = 0.5 * (log_precision - self.n_outputs * math.log(2 * math.pi))
        return torch.sub(constant.to(columns.dtype).unsqueeze(-1), squares, alpha=0.5)

    def statistics_of(
        self, columns: Float[Tensor, "F N"], responsibilities: Float[Tensor, "*R K N"]
    ) -> LinearStatistics:
        """Return Σ r, Σ r u u', Σ r u y' and Σ r y²; arguments as :meth:`ConjugateExperts.statistics_of`."""
        # In float64 for data of any dtype: the noise is a small difference of these large sums.
        sums = weighted_gram(responsibilities.flatten(0, -2).mT, columns.mT).unflatten(0, responsibilities.shape[:-1])
        return self._statistics_of_gram(sums, responsibilities)

    def _statistics_of_gram(
        self, sums: Float[Tensor, "*R K F F"], responsibilities: Float[Tensor, "*R K N"]
    ) -> LinearStatistics:
        """Return the statistics from Σ r [u, y][u, y]'."""
        of_u, of_y = sums.split([self.n_columns, self.n_outputs], dim=-2)
        uu, uy = of_u.split([self.n_columns, self.n_outputs], dim=-1)
        yy = of_y[..., self.n_columns :].diagonal(dim1=-2, dim2=-1)
        r = uu[..., 0, 0] if self.intercept else responsibilities.sum(-1, dtype=torch.float64)
        return LinearStatistics(r, uu, uy, yy)

    def log_likelihood_without(
        self, missing: tuple[int, ...], columns: Float[Tensor, "F N"], state: State | None
    ) -> Float[Tensor, "*R K N"]:
        """Return log ∫ exp E log p(y | x, k) over the missing outputs; arguments as of the base class."""
        posterior = self._regression_of(state)
        completion = self._completion(posterior, missing)
        log_precision = posterior.noise.expected_log.expand(posterior.mean.shape[:-1]).sum(-1)
        constant = completion.constant + 0.5 * (log_precision - self.n_outputs * math.log(2 * math.pi))
        squares = completion.squared_distances(columns)
        squares = torch.add(squares, posterior.leverage(columns[: self.n_columns]), alpha=self.n_outputs)
        return torch.sub(constant.to(columns.dtype).unsqueeze(-1), squares, alpha=0.5)

    def sums_without(
        self,
        missing: tuple[int, ...],
        columns: Float[Tensor, "F N"],
        responsibilities: Float[Tensor, "*R K N"],
        state: State | None,
    ) -> LinearStatistics:
        """Return the statistics with the missing outputs under their q; arguments as of the base class."""
        sums = self._completion(self._regression_of(state), missing).gram(columns, responsibilities)
        return self._statistics_of_gram(sums, responsibilities)

    def _completion(self, posterior: NormalGamma, missing: tuple[int, ...]) -> Completion:
        """Return what is expected of missing outputs."""
        root = posterior.noise.mean.sqrt().expand(posterior.mean.shape[:-1]).diag_embed()
        return Completion.of(root, posterior.mean, missing)

    def _regression_of(self, state: State | None) -> NormalGamma:
        """Return the posterior of coefficients and noises of R runs, or these experts' own."""
        posterior: Any = self.posterior if state is None else state.posterior
        regression: NormalGamma = getattr(posterior, "regression", posterior)
        return regression

    def predictive(self, x: Inputs) -> TorchDistributionMixin:
        """Return Student-t distributions of every expert's y, batch shape [N, K] and event shape [P].

        They have 2a degrees of freedom, location m'u and scale² (1 + u'Λ⁻¹u) b / a; Murphy (2012), eq. 7.76. Outputs
        that share a noise are uncorrelated but not independent: their distribution is the multivariate one.

        Args:
            x: inputs [N, D].
        """
        q, means = self.regression, self.predict(x)
        # In float64: squares of a far row overflow float32, their roots do not.
        leverage = q.leverage(self._design_columns(x).double()).mT
        deviation = (self._of_each(q.noise.mean.reciprocal()) * (1.0 + leverage).unsqueeze(-1)).sqrt().to(x.dtype)
        freedom = 2.0 * q.shape.to(x.dtype)
        if self.noise_per_output:
            return IndependentOutputs(PreciseStudentT(freedom.unsqueeze(-1), means, deviation))
        root = deviation.diag_embed()
        return SharedStudentT(freedom.expand(self.n_components), means, root)

    def predict(self, x: Inputs) -> Tensor:
        """Return m'u [N, K, P], in x's dtype; arguments as :meth:`Experts.predict`."""
        centred = torch.einsum("ne,kpe->nkp", self._design_columns(x).mT, self.regression.mean.to(x.dtype))
        return (centred.double() + self.y_origin.double()).to(x.dtype)

    def design(self, x: Inputs) -> Design:
        """Return u = [1, x − origin] [N, E], or x itself without an intercept.

        Args:
            x: inputs [N, D].
        """
        return self._design_columns(self.check_inputs(x)).mT

    @property
    def coefficients(self) -> Tensor:
        """Posterior mean of the wₖ [K, P, E] for y as it is on [1, x] as it is, the intercept first."""
        return self.posterior_from_zero.mean

    @property
    def coefficient_standard_deviations(self) -> Tensor:
        """Posterior standard deviations of the coefficients [K, P, E]; infinite where a ≤ 1."""
        shift, precision = self._origin.shift, self.regression.precision
        variance = (shift @ torch.linalg.inv(precision) @ shift.mT).diagonal(dim1=-2, dim2=-1).unsqueeze(1)
        return (self._of_each(self.regression.expected_noise_variance).unsqueeze(-1) * variance).sqrt()

    @property
    def noise_standard_deviations(self) -> Tensor:
        """Square root of the posterior mean of the noise variance 1/τ [K, P]; infinite where a ≤ 1."""
        return self._of_each(self.regression.expected_noise_variance).sqrt()

    def noises(self) -> Float[Tensor, "K P"]:
        """Return 1 / √E[τ], which is finite for every posterior."""
        return self._of_each(self.regression.noise.mean.rsqrt())

    @pyro_method
    def model(self, x: Inputs) -> LinearParameters:
        """Sample ``<name>.precision`` and ``<name>.coefficients`` from their prior; see :meth:`Experts.model`."""
        # Not by way of the origin: the conversion there and back loses digits of a weak prior.
        return self._parameter_sites(self.prior_from_zero, x.dtype)

    def sample(self, posterior: NormalGamma, dtype: torch.dtype) -> LinearParameters:
        """Sample τ and the coefficients for x and y as they are; arguments as :meth:`ConjugateExperts.sample`."""
        return self._parameter_sites(posterior.from_zero(self._origin), dtype)

    def likelihood(self, x: Inputs, parameters: LinearParameters, assignment: Tensor) -> Independent:
        """Return Normal(w_z'u, 1/τ_z) of all outputs; arguments as :meth:`Experts.likelihood`."""
        coefficients = Vindex(parameters.coefficients)[..., assignment, :, :]
        precision = Vindex(parameters.precision)[..., assignment, :]
        u = with_intercept(x) if self.intercept else x
        return Normal((coefficients * u.unsqueeze(-2)).sum(-1), precision.rsqrt()).to_event(1)

    def _parameter_sites(self, q: NormalGamma, dtype: torch.dtype) -> LinearParameters:
        """Sample τ and w from a distribution for x and y as they are."""
        noise = Gamma(q.shape.unsqueeze(-1).expand_as(q.rate).to(dtype), q.rate.to(dtype)).to_event(2)
        precision = self._of_each(sample_parameter(self.site("precision"), noise))
        matrices = precision[..., None, None] * q.precision.to(dtype).unsqueeze(-3)
        normal = multivariate_normal(q.mean.to(dtype), precision_matrix=matrices).to_event(2)
        return LinearParameters(precision, sample_parameter(self.site("coefficients"), normal))

    def _of_each(self, noise: Tensor) -> Tensor:
        """Repeat a shared noise for every component and output, [..., K, P]."""
        return noise.expand(*noise.shape[:-2], self.n_components, self.n_outputs)

    def _design_columns(self, x: Inputs) -> Tensor:
        """Return the columns of u, counted from the origin, as rows [E, N]: ones with an intercept, then x."""
        return joined_columns((x, self.x_origin), ones=self.intercept)
