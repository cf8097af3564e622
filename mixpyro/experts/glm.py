"""Experts that are generalised linear models, by maximum likelihood or with a Normal prior."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar, NamedTuple

import torch
from pyro.distributions import Delta, Normal
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.nn import pyro_method
from pyro.ops.indexing import Vindex
from torch import Tensor, nn

from mixpyro import arguments
from mixpyro.experts.exponential_family import FamilyExperts, smallest_scale
from mixpyro.experts.families import Family, Gaussian
from mixpyro.experts.scale_estimates import maximised_with_scale
from mixpyro.experts.weighted_likelihood import WeightedLikelihood
from mixpyro.numerics.design_matrix import with_intercept
from mixpyro.numerics.linear_predictors import LinearPredictors
from mixpyro.numerics.newton import maximised
from mixpyro.part import Gradient
from mixpyro.pyro_internals.parameter_store import refuse_shared_parameters
from mixpyro.pyro_internals.plates import sample_parameter
from mixpyro.shapes import Inputs, Outputs, Responsibilities

# Turns of coefficients and scales in an iteration of a fit. With three of them it takes as many iterations.
TURNS_OF_FIT = 1


class GLMParameters(NamedTuple):
    """Parameters of every component."""

    coefficients: Tensor  # [K, C, E], float64, or the dtype of the rows if they are sampled
    scale: Tensor  # σ [K, S], 1 for a family without


class GLMExperts(FamilyExperts):
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
        name: prefix of the Pyro sites ``<name>.y`` and, with a prior, ``<name>.coefficients``, and of the parameters
            ``<name>.coefficients_estimate`` and ``<name>.log_scale``.
        device: of the parameters.
        dtype: of the parameters; results have the dtype of x.

    Attributes:
        coefficients: c [K, C, 1 + D], the intercept first. C is 1 but for categories.
        log_scale: log σ [K] of the family's scales, [K, S] of several: the noise, the dispersion; empty without.

    References:
        McCullagh, Nelder (1989), Generalized Linear Models, section 2.5; Grün, Leisch (2008), FlexMix version 2.

    Example:
        >>> from mixpyro.experts.families import Poisson
        >>> experts = GLMExperts(2, 1, Poisson())
        >>> experts.predict(torch.zeros(3, 1)).shape
        torch.Size([3, 2, 1])
    """

    site_axes: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "coefficients": ("component", "output", "regressor"),
        "log_scale": ("component",),
    }
    finds_maximum = True

    def __init__(
        self,
        n_components: int,
        n_features: int,
        family: Family,
        *,
        exposure: bool = False,
        prior_scale: float | None = None,
        name: str = "experts",
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__(n_components, n_features, 1, family, exposure=exposure, prior_scale=prior_scale, name=name)
        like = torch.empty(0, device=arguments.device(device), dtype=arguments.dtype(dtype))
        shape = self.n_components, family.n_predictors, self.n_features + 1
        self.coefficients_estimate = nn.Parameter(like.new_zeros(shape))
        n_scales = len(family.scale_names)
        of_scales = (self.n_components, n_scales) if n_scales > 1 else (self.n_components * n_scales,)
        self.steps_of_fit = TURNS_OF_FIT if n_scales and not isinstance(family, Gaussian) else None
        first = like.new_tensor(family.first_scales[:n_scales]).log()
        self.log_scale = nn.Parameter(first.expand(self.n_components, n_scales).reshape(of_scales).clone())

    @property
    def component_tensors(self) -> tuple[str, ...]:
        """The parameters."""
        return ("coefficients_estimate", "log_scale") if self.log_scale.numel() else ("coefficients_estimate",)

    @property
    def coefficients(self) -> Tensor:
        """Estimates c [K, C, 1 + D], the intercept first, without a graph; the Pyro site of this name may be a draw.

        The memory is that of the parameter ``coefficients_estimate``.
        """
        return self.coefficients_estimate.detach()

    @property
    def scale(self) -> Tensor:
        """Scales σ [K], or [K, S] of several; 1 for a family without."""
        return self.log_scale.exp() if self.family.scale_names else self.coefficients.new_ones(self.n_components)

    @property
    def _noise(self) -> Tensor:
        return self.scale.reshape(self.n_components, -1)

    def predictors(self, x: Inputs) -> Tensor:
        """Return c_k'u [N, K, C], float64, with its gradient.

        Args:
            x: inputs [N, D], or [N, D + 1] with an exposure.
        """
        return torch.einsum(
            "ne,kce->nkc", with_intercept(self._regressors(x).double()), self.coefficients_estimate.double()
        )

    def linear_layers(self, x: Inputs) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield the regressors and the coefficients, unless these are frozen.

        Args:
            x: inputs [N, D], or [N, D + 1] with an exposure.
        """
        if self.coefficients_estimate.requires_grad:
            yield 0, self._regressors(x), self.coefficients

    def parameters_under_prior(self) -> Iterable[Tensor]:
        """Return the coefficients."""
        return [self.coefficients_estimate]

    @pyro_method
    def model(self, x: Inputs) -> GLMParameters:
        """Return the parameters; with a prior, sample the coefficients as ``<name>.coefficients``.

        Args:
            x: inputs [N, D], or [N, D + 1] with an exposure.
        """
        prior = Normal(x.new_zeros(self.coefficients.shape), 1.0 if self.prior_scale is None else self.prior_scale)
        return self._coefficients_site(x, prior.to_event(3))

    @pyro_method
    def guide(self, x: Inputs) -> GLMParameters:
        """Return the estimates; with a prior, sample them from a Delta, so that SVI finds the MAP estimate.

        Args:
            x: inputs [N, D], or [N, D + 1] with an exposure.
        """
        return self._coefficients_site(x, Delta(self.coefficients_estimate.to(x.dtype), event_dim=3))

    def _coefficients_site(self, x: Inputs, coefficients: TorchDistributionMixin) -> GLMParameters:
        """Parameters, the coefficients from a distribution if they have a prior."""
        refuse_shared_parameters(self)
        if self.prior_scale is None:
            return GLMParameters(self.coefficients_estimate.double(), self._noise.to(x.dtype))
        return GLMParameters(sample_parameter(self.site("coefficients"), coefficients), self._noise.to(x.dtype))

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
        likelihood = WeightedLikelihood(self.family, y, self._exposures(x), responsibilities, self._noise)
        functions = LinearPredictors(
            self._regressors(x),
            likelihood,
            n_predictors=self.family.n_predictors,
            prior_scale=self.prior_scale,
        )
        coefficients = functions.standardised_coefficients(self.coefficients)
        if self.family.scale_names and self.log_scale.requires_grad:
            smallest = smallest_scale(self.family.spread_of(y), responsibilities.sum(-1))
            moves = self.coefficients_estimate.requires_grad
            coefficients = maximised_with_scale(
                functions, likelihood, coefficients, smallest, n_steps=n_steps, moves_coefficients=moves
            )
            self.log_scale.copy_(likelihood.scale.log().reshape(self.log_scale.shape))
        elif self.coefficients_estimate.requires_grad:
            coefficients = maximised(functions, coefficients, n_steps=n_steps, bounded=functions.bounded)
        if self.coefficients_estimate.requires_grad:
            self.coefficients.copy_(functions.original_coefficients(coefficients))

    @property
    def n_parameters(self) -> int:
        """Number of coefficients, K C (1 + D), and of scales, K S."""
        return self.coefficients.numel() + self.log_scale.numel()

    @property
    def effects(self) -> set[str]:
        """Name of the coefficients; none under a prior, which shrinks them, so that no test against zero holds."""
        return {"coefficients_estimate"} if self.prior_scale is None else set()

    def parameter_names(self, feature_names: Sequence[str]) -> dict[str, list[str]]:
        """Return names such as ``component 0, intercept`` or, of several predictors, ``component 0, predictor 1, x0``.

        Args:
            feature_names: names of the columns of x.
        """
        several = self.family.n_predictors > 1
        predictors = [f", predictor {c + 1}" if several else "" for c in range(self.family.n_predictors)]
        columns = ["intercept", *feature_names[: self.n_features]]
        components = [f"component {self.first_component + k}" for k in range(self.n_components)]
        return {
            "coefficients_estimate": [
                f"{k}{c}, {column}" for k in components for c in predictors for column in columns
            ],
            "log_scale": [f"{k}, log {name}" for k in components for name in self.family.scale_names],
        }
