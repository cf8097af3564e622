"""Generalised linear models, one a component, by maximum likelihood or with a Normal prior."""

import math
from typing import NamedTuple

import pyro
import torch
from pyro.distributions import Delta, Normal
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.nn import pyro_method
from pyro.ops.indexing import Vindex
from torch import Tensor, nn

from mixpyro import validation
from mixpyro.experts.base import Experts
from mixpyro.experts.families import Family
from mixpyro.gram import weighted_gram
from mixpyro.typing import Design, Inputs, Responsibilities, Scalar, Targets

# A step of Newton's method halves at most this often before it is given up: the objective is flat to rounding by then.
MOST_HALVINGS = 30

# Noise, relative to the spread of y, below which it is taken to be on its way to zero.
SMALLEST_NOISE = 1e-5


class GLMStatistics(NamedTuple):
    """Nothing: the coefficients are fitted from the rows themselves."""


class GLMParameters(NamedTuple):
    """Every component's parameters."""

    coefficients: Tensor  # [K, C, E]
    scale: Tensor  # σ [K], ones for a family without


class GLMExperts(Experts):
    """y | x, z = k from an exponential family with linear predictors c_k'u, u = [1, x], fitted by Newton's method.

    Without a prior the experts have no latent variable: the bound of a mixture is its log likelihood and the fit is the
    EM algorithm's. With ``prior_scale`` it is the MAP estimate, the log density of the prior included in the bound.

    Args:
        n_components: K.
        n_features: D, the number of regressors in x; zero for a constant.
        family: ``Gaussian()``, ``Poisson()``, ``Binomial()`` or ``Categorical(n)`` of ``mixpyro.experts.families``.
        exposure: whether x has one more column, its last: the exposure of a Poisson count (its logarithm is the offset)
            or the number of trials of a binomial.
        prior_scale: s of a Normal(0, s²) prior on every coefficient; None for maximum likelihood.
        name: prefix of the Pyro sites ``<name>.coefficients`` and ``<name>.y``.
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
        super().__init__(n_components, n_features, 1, name=name)
        if not isinstance(family, Family):
            raise TypeError(f"`family` must be one of mixpyro.experts.families; got {type(family).__name__}.")
        self.family = family
        self.exposure = exposure
        self.prior_scale = None if prior_scale is None else validation.positive_number("prior_scale", prior_scale)
        place = torch.empty(0, device=validation.device(device), dtype=dtype)
        shape = self.n_components, family.n_predictors, self.n_features + 1
        self.coefficients = nn.Parameter(place.new_zeros(shape))
        self.log_scale = nn.Parameter(place.new_zeros(self.n_components if family.has_scale else 0))

    @property
    def n_columns(self) -> int:
        """Columns that x must have: the regressors, and the exposure if there is one."""
        return self.n_features + int(self.exposure)

    @property
    def scale(self) -> Tensor:
        """Noise σ [K], ones for a family without."""
        return self.log_scale.exp() if self.family.has_scale else self.coefficients.new_ones(self.n_components)

    def check_data(self, x: object, y: object) -> tuple[Tensor, Tensor]:
        """Return x [N, D] or [N, D + 1] and y [N, 1] if they fit these experts and their family."""
        checked = validation.inputs(x, n_features=self.n_columns)
        y_checked = validation.outputs(y, checked, n_outputs=1)
        self.family.check(y_checked, self._split(checked)[1])
        return checked, y_checked

    def expected_log_likelihood(self, x: Inputs, y: Targets) -> Responsibilities:
        """log p(yᵢ | xᵢ, k) at the estimates [N, K]."""
        x, y = self.check_data(x, y)
        return self._log_likelihood(x, y)

    def statistics(self, x: Inputs, y: Targets, responsibilities: Responsibilities) -> GLMStatistics:
        """Nothing, after the checks of :meth:`Experts.statistics`."""
        self.check_data(x, y)
        validation.responsibilities(responsibilities, self.n_components, len(x))
        return GLMStatistics()

    def update(self, statistics: GLMStatistics, step_size: float = 1.0) -> None:
        """Nothing: see :meth:`maximise`."""

    def kl_divergence(self) -> Scalar:
        """−log p of the coefficients under their prior, zero without one; a float64 scalar."""
        theta = self.coefficients.double().flatten()
        if self.prior_scale is None:
            return torch.zeros((), dtype=torch.float64, device=theta.device)
        scaled = theta / self.prior_scale
        return 0.5 * scaled.dot(scaled) + len(theta) * math.log(self.prior_scale * math.sqrt(2 * math.pi))

    def predictive(self, x: Inputs) -> TorchDistributionMixin:
        """p(y | x, k) at the estimates, batch shape [N, K, 1]."""
        u, exposure = self._split(x)
        eta = self._eta(u)
        return self.family.distribution(eta, exposure, self.scale.to(x.dtype).expand(eta.shape[:-1])).base_dist

    def predict(self, x: Inputs) -> Tensor:
        """Every expert's mean of y [N, K, 1], in x's dtype; probabilities [N, K, C] for a categorical."""
        u, exposure = self._split(x)
        return self.family.mean(self._eta(u), exposure)

    @pyro_method
    def model(self, x: Inputs) -> GLMParameters:
        """Sample ``<name>.coefficients`` from the prior; without one they are parameters."""
        coefficients = self.coefficients.to(x.dtype)
        if self.prior_scale is not None:
            prior = Normal(torch.zeros_like(coefficients), self.prior_scale).to_event(3)
            coefficients = pyro.sample(self.site("coefficients"), prior)
        return GLMParameters(coefficients, self.scale.to(x.dtype))

    @pyro_method
    def guide(self, x: Inputs) -> GLMParameters:
        """``<name>.coefficients`` at their estimates, a Delta where there is a prior."""
        coefficients = self.coefficients.to(x.dtype)
        if self.prior_scale is not None:
            coefficients = pyro.sample(self.site("coefficients"), Delta(coefficients, event_dim=3))
        return GLMParameters(coefficients, self.scale.to(x.dtype))

    def likelihood(self, x: Inputs, parameters: GLMParameters, assignment: Tensor) -> TorchDistributionMixin:
        """The family's distribution at the predictors of z; see :meth:`Experts.likelihood`."""
        u, exposure = self._split(x)
        coefficients = Vindex(parameters.coefficients)[..., assignment, :, :]
        eta = (coefficients * u.unsqueeze(-2)).sum(-1)
        return self.family.distribution(eta, exposure.squeeze(-1), Vindex(parameters.scale)[..., assignment])

    @torch.no_grad()
    def maximise(self, x: Inputs, y: Targets, responsibilities: Responsibilities) -> bool:
        """Newton steps for all components at once, until nothing is gained; McCullagh, Nelder (1989), section 2.5."""
        x, y = self.check_data(x, y)
        for _ in range(25):
            before = self._objectives(x, y, responsibilities)
            self._newton_step(x, y, responsibilities, before)
            if self.family.has_scale:
                self._estimate_scale(x, y, responsibilities)
            gained = float((self._objectives(x, y, responsibilities) - before).sum())
            if gained <= 1e-12 * (1.0 + float(before.abs().sum())):
                break
        return True

    @property
    def n_parameters(self) -> int:
        """K C (1 + D), and K noises of the Gaussian."""
        return self.coefficients.numel() + self.log_scale.numel()

    @torch.no_grad()
    def degeneracies(self, x: Inputs, y: Targets, responsibilities: Responsibilities) -> list[str]:
        """Noise that has collapsed on a few points, where the likelihood is unbounded."""
        if not self.family.has_scale:
            return []
        _, y = self.check_data(x, y)
        spread = float((y - y.mean()).double().square().mean().sqrt())
        counts = responsibilities.sum(0)
        return [
            f"the noise of component {k} has collapsed on {float(counts[k]):.1f} objects"
            for k in range(self.n_components)
            if counts[k] > 0 and float(self.scale[k]) < SMALLEST_NOISE * spread
        ]

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
        u, exposure = (part.double() for part in self._split(x))
        eta, scale = self._eta(u), self.scale.double()
        score = self.family.score(y.double(), eta, exposure, scale) * r.double().unsqueeze(-1)
        weight = self.family.information(eta, exposure, scale) * r.double()[..., None, None]
        gradient = (score.flatten(1).mT @ u).unflatten(0, score.shape[1:])
        blocks = weighted_gram(weight.flatten(1), u).unflatten(0, weight.shape[1:])
        information = blocks.transpose(2, 3).flatten(3, 4).flatten(1, 2)
        if self.prior_scale is not None:
            gradient = gradient - self.coefficients.double() / self.prior_scale**2
            information.diagonal(dim1=-2, dim2=-1).add_(self.prior_scale**-2)
        # An empty component or collinear inputs leave directions without information: stay there.
        diagonal = information.diagonal(dim1=-2, dim2=-1)
        ridge = 1e-10 * diagonal.mean(-1, keepdim=True) + torch.finfo(torch.float64).tiny ** 0.5
        diagonal.add_(ridge)
        return torch.linalg.solve(information, gradient.flatten(1)).reshape(gradient.shape)

    def _estimate_scale(self, x: Tensor, y: Tensor, r: Tensor) -> None:
        """σ² = Σ r (y − η)² / Σ r; a component without objects keeps its own."""
        u, _ = self._split(x)
        squared = (y - self._eta(u).squeeze(-1)).square().double()
        counts = r.sum(0, dtype=torch.float64)
        variance = (r.double() * squared).sum(0) / counts
        smallest = torch.finfo(y.dtype).eps ** 1.5 * float(y.double().square().mean()) + torch.finfo(torch.float32).tiny
        estimate = 0.5 * variance.clamp_min(smallest).log()
        self.log_scale.copy_(torch.where(counts > 0, estimate, self.log_scale.double()))

    def _objectives(self, x: Tensor, y: Tensor, r: Tensor) -> Tensor:
        """Each component's part of what is maximised [K], float64."""
        total = (r * self._log_likelihood(x, y)).sum(0, dtype=torch.float64)
        if self.prior_scale is not None:
            total = total - 0.5 * (self.coefficients.double() / self.prior_scale).square().sum((-2, -1))
        return total

    def _log_likelihood(self, x: Tensor, y: Tensor) -> Tensor:
        u, exposure = self._split(x)
        return self.family.log_prob(y, self._eta(u), exposure, self.scale.to(x.dtype))

    def _eta(self, u: Design) -> Tensor:
        """Linear predictors [N, K, C]."""
        return torch.einsum("ne,kce->nkc", u, self.coefficients.to(u.dtype))

    def _split(self, x: Inputs) -> tuple[Tensor, Tensor]:
        """u = [1, regressors] [N, 1 + D] and the exposure [N, 1, 1], ones where there is none."""
        ones = x.new_ones(len(x), 1)
        exposure = x[:, -1:] if self.exposure else ones
        return torch.cat([ones, x[:, : self.n_features]], dim=1), exposure.unsqueeze(-1)
