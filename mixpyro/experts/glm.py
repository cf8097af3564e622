"""Generalised linear models, one a component, by maximum likelihood or with a Normal prior."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from pyro.distributions import Delta, Normal
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.nn import pyro_method
from pyro.ops.indexing import Vindex
from torch import Tensor, nn

from mixpyro import arguments
from mixpyro.experts.exponential_family import FamilyExperts, smallest_scale
from mixpyro.experts.families import Family
from mixpyro.numerics.design_matrix import standardised, with_intercept
from mixpyro.numerics.weighted_sums import weighted_gram
from mixpyro.pyro_internals.parameter_store import minus_log_normal_prior, refuse_shared_parameters
from mixpyro.pyro_internals.plates import sample_parameter
from mixpyro.shapes import Inputs, Responsibilities, Scalar, Targets

# A step of Newton's method halves at most this often before it is given up: the objective is flat to rounding by then.
MOST_HALVINGS = 30


class GLMStatistics(NamedTuple):
    """Nothing: the coefficients are fitted from the rows themselves."""


class GLMParameters(NamedTuple):
    """Every component's parameters."""

    coefficients: Tensor  # [K, C, E]
    scale: Tensor  # σ [K], ones for a family without


class GLMExperts(FamilyExperts):
    """y | x, z = k from an exponential family with linear predictors c_k'u, u = [1, x], fitted by Newton's method.

    Without a prior the experts have no latent variable: the bound of a mixture is its log likelihood and the fit is the
    EM algorithm's. With ``prior_scale`` it is the MAP estimate, the log density of the prior included in the bound.
    Where x separates the y of a binomial or categorical component, its coefficients grow without end: give it a prior.
    In MCMC the coefficients are sampled if they have a prior; all that has none, as σ, stays where it is.

    Args:
        n_components: K.
        n_features: D, the number of regressors in x; zero for a constant.
        family: ``Gaussian()``, ``Poisson()``, ``Binomial()`` or ``Categorical(n)`` of ``mixpyro.experts.families``.
        exposure: whether x has one more column, its last: the exposure of a Poisson count (its logarithm is the offset)
            or the number of trials of a binomial. Give the gate its own inputs then, or it sees that column too.
        prior_scale: s of a Normal(0, s²) prior on every coefficient; None for maximum likelihood.
        name: prefix of the Pyro sites ``<name>.y`` and, with a prior, ``<name>.coefficients``, and of the parameters
            ``<name>.coefficients_estimate`` and ``<name>.log_scale``.
        device: where the experts live.
        dtype: of the parameters; results have the dtype of x.

    Attributes:
        coefficients: c [K, C, 1 + D], the intercept first; C is one but for the categorical.
        log_scale: log σ [K] of the Gaussian; empty for the others.

    References:
        McCullagh, Nelder (1989), Generalized Linear Models, section 2.5; Grün, Leisch (2008), FlexMix version 2.

    Example:
        >>> from mixpyro.experts.families import Poisson
        >>> experts = GLMExperts(2, 1, Poisson())
        >>> experts.predict(torch.zeros(3, 1)).shape
        torch.Size([3, 2, 1])
    """

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
        place = torch.empty(0, device=arguments.device(device), dtype=dtype)
        shape = self.n_components, family.n_predictors, self.n_features + 1
        self.coefficients_estimate = nn.Parameter(place.new_zeros(shape))
        self.log_scale = nn.Parameter(place.new_zeros(self.n_components if family.has_scale else 0))

    @property
    def coefficients(self) -> nn.Parameter:
        """Estimates c [K, C, 1 + D], the intercept first; the Pyro site of this name may hold other values."""
        return self.coefficients_estimate

    @property
    def scale(self) -> Tensor:
        """Noise σ [K], ones for a family without."""
        return self.log_scale.exp() if self.family.has_scale else self.coefficients.new_ones(self.n_components)

    @property
    def _noise(self) -> Tensor:
        return self.scale.unsqueeze(-1)

    def predictors(self, x: Inputs) -> Tensor:
        """c_k'u [N, K, C], in x's dtype."""
        return torch.einsum("ne,kce->nkc", with_intercept(self._regressors(x)), self.coefficients.to(x.dtype))

    def statistics(self, x: Inputs, y: Targets, responsibilities: Responsibilities) -> GLMStatistics:
        """Nothing, after the checks of :meth:`Experts.statistics`."""
        self.check_data(x, y)
        arguments.responsibilities(responsibilities, self.n_components, len(x))
        return GLMStatistics()

    def update(self, statistics: GLMStatistics, step_size: float = 1.0) -> None:
        """Nothing: see :meth:`maximise`."""

    def kl_divergence(self) -> Scalar:
        """−log p of the coefficients under their prior, zero without one; a float64 scalar."""
        return minus_log_normal_prior([self.coefficients], self.prior_scale)

    @pyro_method
    def model(self, x: Inputs) -> GLMParameters:
        """The parameters, as Pyro parameters; with a prior the coefficients are sampled as ``<name>.coefficients``."""
        prior = Normal(x.new_zeros(self.coefficients.shape), 1.0 if self.prior_scale is None else self.prior_scale)
        return self._coefficients_site(x, prior.to_event(3))

    @pyro_method
    def guide(self, x: Inputs) -> GLMParameters:
        """The estimates; with a prior as a Delta, so that SVI of model and guide is the MAP estimate."""
        return self._coefficients_site(x, Delta(self.coefficients.to(x.dtype), event_dim=3))

    def _coefficients_site(self, x: Inputs, coefficients: TorchDistributionMixin) -> GLMParameters:
        refuse_shared_parameters(self)
        if self.prior_scale is None:
            return GLMParameters(self.coefficients.to(x.dtype), self.scale.to(x.dtype))
        return GLMParameters(sample_parameter(self.site("coefficients"), coefficients), self.scale.to(x.dtype))

    def likelihood(self, x: Inputs, parameters: GLMParameters, assignment: Tensor) -> TorchDistributionMixin:
        """The family's distribution at the predictors of z; see :meth:`Experts.likelihood`."""
        coefficients = Vindex(parameters.coefficients)[..., assignment, :, :]
        eta = (coefficients * with_intercept(self._regressors(x)).unsqueeze(-2)).sum(-1)
        scale = Vindex(parameters.scale)[..., assignment].unsqueeze(-1)
        return self.family.distribution(eta, self._exposures(x).squeeze(-1), scale)

    @torch.no_grad()
    def maximise(self, x: Inputs, y: Targets, responsibilities: Responsibilities, *, n_steps: int = 25) -> bool:
        """Newton steps for all components at once, until nothing is gained; McCullagh, Nelder (1989), section 2.5."""
        x, y = self.check_data(x, y)
        is_free = self.coefficients_estimate.requires_grad
        if is_free and n_steps > 1:
            self._start_over_if_better(x, y, responsibilities)
        for _ in range(n_steps):
            before = self._objectives(x, y, responsibilities)
            if is_free:
                self._newton_step(x, y, responsibilities, before)
            if self.family.has_scale and self.log_scale.requires_grad:
                self._estimate_scale(x, y, responsibilities)
            gained = float((self._objectives(x, y, responsibilities) - before).sum())
            if gained <= 1e-12 * (1.0 + float(before.abs().sum())):
                break
        return True

    @property
    def n_parameters(self) -> int:
        """K C (1 + D), and K noises of the Gaussian."""
        return self.coefficients.numel() + self.log_scale.numel()

    @property
    def effects(self) -> set[str]:
        """The coefficients; under a prior they are shrunk, and their distance from zero tests nothing."""
        return {"coefficients_estimate"} if self.prior_scale is None else set()

    def parameter_names(self, feature_names: Sequence[str]) -> dict[str, list[str]]:
        """``component 0, intercept`` and so on; of several predictors, which."""
        several = self.family.n_predictors > 1
        predictors = [f", predictor {c + 1}" if several else "" for c in range(self.family.n_predictors)]
        columns = ["intercept", *feature_names[: self.n_features]]
        components = [f"component {self.first_component + k}" for k in range(self.n_components)]
        return {
            "coefficients_estimate": [
                f"{k}{c}, {column}" for k in components for c in predictors for column in columns
            ],
            "log_scale": [f"{k}, log scale" for k in components] if self.family.has_scale else [],
        }

    def _start_over_if_better(self, x: Tensor, y: Tensor, r: Tensor) -> None:
        """Put coefficients back to zero where that is better: far out the likelihood is too flat to find a way."""
        start, before = self.coefficients.clone(), self._objectives(x, y, r)
        self.coefficients.zero_()
        better = self._objectives(x, y, r) > before
        self.coefficients.copy_(torch.where(better[:, None, None], self.coefficients, start))

    def _newton_step(self, x: Tensor, y: Tensor, r: Tensor, before: Tensor) -> None:
        """One step of each component, halved where it would overshoot."""
        start = self.coefficients.clone()
        step = self._newton_direction(x, y, r).to(start.dtype)
        size = torch.ones_like(before)
        for _ in range(MOST_HALVINGS):
            self.coefficients.copy_(start + size[:, None, None] * step)
            worse = ~(self._objectives(x, y, r) >= before)
            if not bool(worse.any()):
                return
            size = torch.where(worse, 0.5 * size, size)
        self.coefficients.copy_(torch.where(worse[:, None, None], start, self.coefficients))

    def _newton_direction(self, x: Tensor, y: Tensor, r: Tensor) -> Tensor:
        exposure, noise = self._exposures(x).double(), self._noise.double()
        eta = self.predictors(x.double())
        columns, transform = standardised(self._regressors(x))
        # Where an object has no part in a component, its likelihood there may overflow and is not asked for.
        part_of = (r != 0).unsqueeze(-1)
        score = torch.where(part_of, self.family.score(y.double(), eta, exposure, noise) * r.unsqueeze(-1), 0.0)
        weight = self.family.information(eta, exposure, noise) * r[..., None, None]
        weight = torch.where(part_of.unsqueeze(-1), weight, 0.0)
        gradient = (score.flatten(1).mT @ columns).unflatten(0, score.shape[1:])
        blocks = weighted_gram(weight.flatten(1), columns).unflatten(0, weight.shape[1:])
        information = blocks.transpose(2, 3).flatten(3, 4).flatten(1, 2)
        if self.prior_scale is not None:
            precision = self.prior_scale**-2
            gradient = gradient - precision * self.coefficients.double() @ transform
            n_predictors = torch.eye(self.family.n_predictors).to(transform)
            information = information + precision * torch.kron(n_predictors, transform.mT @ transform)
        # An empty component or collinear inputs leave directions without information: stay there.
        diagonal = information.diagonal(dim1=-2, dim2=-1)
        ridge = 1e-10 * diagonal.mean(-1, keepdim=True) + torch.finfo(torch.float64).tiny ** 0.5
        diagonal.add_(ridge)
        step = torch.linalg.solve(information, gradient.flatten(1)).reshape(gradient.shape)
        return step @ transform.mT

    def _estimate_scale(self, x: Tensor, y: Tensor, r: Tensor) -> None:
        """σ² = Σ r (y − η)² / Σ r; a component without objects keeps its own."""
        squared = (y - self.predictors(x).squeeze(-1)).square().double()
        counts = r.sum(0, dtype=torch.float64)
        variance = (r.double() * squared).sum(0) / counts
        estimate = 0.5 * variance.clamp_min(smallest_scale(y, r.sum(-1)).square()).log()
        self.log_scale.copy_(torch.where(counts > 0, estimate, self.log_scale.double()))

    def _objectives(self, x: Tensor, y: Tensor, r: Tensor) -> Tensor:
        """Each component's part of what is maximised [K], float64."""
        weighted = torch.where(r != 0, r * self._log_likelihood(x, y), 0.0)
        total = weighted.sum(0, dtype=torch.float64)
        if self.prior_scale is not None:
            total = total - 0.5 * (self.coefficients.double() / self.prior_scale).square().sum((-2, -1))
        return total
