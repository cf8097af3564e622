"""Experts that are generalised linear models, by maximum likelihood or with a Normal prior."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from pyro.distributions import Delta, Normal
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.nn import pyro_method
from pyro.ops.indexing import Vindex
from torch import Tensor

from mixpyro.experts.exponential_family import smallest_scale
from mixpyro.experts.glm_streams import GLMStreams
from mixpyro.experts.scale_estimates import maximised_all
from mixpyro.fitted_part import Gradient
from mixpyro.numerics.design_matrix import with_intercept
from mixpyro.pyro_internals.parameter_store import refuse_shared_parameters
from mixpyro.pyro_internals.plates import sample_parameter
from mixpyro.shapes import Inputs, Outputs, Responsibilities


class GLMParameters(NamedTuple):
    """Parameters of every component."""

    coefficients: Tensor  # [K, C, E], float64, or the dtype of the rows if they are sampled
    scale: Tensor  # σ [K, S], 1 for a family without


class GLMExperts(GLMStreams):
    """y | x, z = k from a family of densities with linear predictors c_k'u, u = [1, x], fitted by Newton's method.

    Without a prior the experts have no latent variable: the bound of a mixture is its log likelihood, and the fit is
    the EM algorithm. With ``prior_scale`` the estimates are MAP, and the bound includes the log density of the prior.
    Where x separates the y of a binomial or categorical component, its coefficients grow without limit; a prior keeps
    them finite. In MCMC, coefficients with a prior are sampled. All other parameters, such as σ, keep their estimates.

    Args:
        n_components: K, at least 1.
        n_features: D, the number of regressors in x; 0 for predictors that do not depend on x.
        family: of ``mixpyro.experts.families``: ``Gaussian()``, ``StudentT()``, ``CensoredGaussian()``, ``Poisson()``,
            ``NegativeBinomial()``, ``ZeroTruncatedPoisson()``, ``Binomial()``, ``Categorical(n)`` or
            ``Multinomial(n)``.
        exposure: whether x has one more column, its last: the exposure of a Poisson count, whose logarithm is the
            offset, or the number of trials of a binomial. Give the gate inputs of its own then: by default it reads
            that column too.
        prior_scale: s of a Normal(0, s²) prior on every coefficient, above 0; None for maximum likelihood.
        shared: what all components have in common: numbers of columns of x, "intercept", and "scale" for the noise of a
            Gaussian. A shared coefficient is one parameter: it has one standard error, and counts once.
        shared_within: sets of components that have it in common each, such as ``[[0, 1], [2]]``; one set of all by
            default.
        name: prefix of the Pyro sites ``<name>.y`` and, with a prior, ``<name>.coefficients``, and of the parameters
            ``<name>.coefficients_estimate`` and ``<name>.log_scale``. These are of what is not shared; the rest are
            ``<name>.shared_coefficients`` and ``<name>.shared_coefficients_estimate``.
        device: of the parameters.
        dtype: of the parameters; results have the dtype of x.

    Attributes:
        coefficients: c [K, C, 1 + D], the intercept first. C is 1 but for categories.
        log_scale: log σ [K] of the family's scales, [K, S] of several: the noise, the dispersion; empty without. A
            noise that components share has one entry for each set of them.

    References:
        McCullagh, Nelder (1989), Generalized Linear Models, section 2.5; Grün, Leisch (2008), FlexMix version 2:
        finite mixtures with concomitant variables and varying and constant parameters, for what components share.

    Example:
        >>> from mixpyro.experts.families import Poisson
        >>> experts = GLMExperts(2, 1, Poisson())
        >>> experts.predict(torch.zeros(3, 1)).shape
        torch.Size([3, 2, 1])
    """

    finds_maximum = True

    def predictors(self, x: Inputs) -> Tensor:
        """Return c_k'u [N, K, C], float64, with its gradient.

        Args:
            x: inputs [N, D], or [N, D + 1] with an exposure.
        """
        coefficients = self._joined(self.coefficients_estimate, self.shared_coefficients_estimate).double()
        return torch.einsum("ne,kce->nkc", with_intercept(self._regressors(x).double()), coefficients)

    @pyro_method
    def model(self, x: Inputs) -> GLMParameters:
        """Return the parameters; with a prior, sample the coefficients as ``<name>.coefficients``.

        Args:
            x: inputs [N, D], or [N, D + 1] with an exposure.
        """
        scale = 1.0 if self.prior_scale is None else self.prior_scale
        return self._sampled(x, lambda estimate: Normal(x.new_zeros(estimate.shape), scale).to_event(3))

    @pyro_method
    def guide(self, x: Inputs) -> GLMParameters:
        """Return the estimates; with a prior, sample them from a Delta, so that SVI finds the MAP estimate.

        Args:
            x: inputs [N, D], or [N, D + 1] with an exposure.
        """
        return self._sampled(x, lambda estimate: Delta(estimate.to(x.dtype), event_dim=3))

    def _sampled(self, x: Inputs, of: Callable[[Tensor], TorchDistributionMixin]) -> GLMParameters:
        """Return the parameters, the coefficients from a distribution if they have a prior."""
        refuse_shared_parameters(self)
        own, common = self.coefficients_estimate, self.shared_coefficients_estimate
        if self.prior_scale is None:
            return GLMParameters(self._joined(own, common).double(), self._noise.to(x.dtype))
        drawn = sample_parameter(self.site("coefficients"), of(own))
        shared = None if common is None else sample_parameter(self.site("shared_coefficients"), of(common))
        return GLMParameters(self._joined(drawn, shared), self._noise.to(x.dtype))

    def likelihood(self, x: Inputs, parameters: GLMParameters, assignment: Tensor) -> TorchDistributionMixin:
        """Return the family's distribution at the predictors of z; see :meth:`Experts.likelihood`.

        Args:
            x: inputs [N, D], or [N, D + 1] with an exposure.
            parameters: what :meth:`model` or :meth:`guide` returned.
            assignment: z [N]. Under enumeration it is [K, 1, …], and so is the batch shape.
        """
        coefficients = Vindex(parameters.coefficients)[..., assignment, :, :].double()
        eta = (coefficients * with_intercept(self._regressors(x).double()).unsqueeze(-2)).sum(-1)
        scale = Vindex(parameters.scale)[..., assignment, :]
        return self.family.distribution(eta, self._exposures(x).squeeze(-1), scale)

    @torch.no_grad()
    def maximise(  # type: ignore[override]
        self,
        x: Inputs,
        y: Outputs,
        responsibilities: Responsibilities,
        *,
        by_gradient: Gradient | None = None,
        n_steps: int = 25,
    ) -> None:
        """Set the parameters to the maximum of :meth:`partial_bound`; McCullagh, Nelder (1989), section 2.5.

        Newton's method for all components at once. Coefficients and scales take turns.

        Args:
            x: inputs [N, D], or [N, D + 1] with an exposure.
            y: outputs [N, 1].
            responsibilities: [N, K], non-negative; a row that does not sum to one carries a weight.
            by_gradient: not called: Newton's method leaves nothing to a gradient M-step.
            n_steps: most steps, at least 1.
        """
        functions, likelihood = self._functions(x, y, responsibilities)
        moves_coefficients, moves_scales = self._has_free_coefficients, self._has_free_scales
        coefficients = maximised_all(
            functions,
            likelihood,
            functions.standardised_coefficients(self.coefficients),
            smallest_scale(self.family.spread_of(y), responsibilities.sum(-1)),
            moves_coefficients=moves_coefficients,
            moves_scales=moves_scales,
            n_steps=n_steps,
        )
        if moves_scales:
            scale = likelihood.scale[self.sharing.firsts] if self.sharing.has_scale else likelihood.scale
            self.log_scale.copy_(scale.log().reshape(self.log_scale.shape))
        if moves_coefficients:
            self._take(functions.original_coefficients(coefficients))
