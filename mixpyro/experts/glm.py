"""Generalised linear models, one a component, by maximum likelihood or with a Normal prior."""

from typing import NamedTuple

import torch
from pyro.distributions import Delta, Normal
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.nn import pyro_method
from pyro.ops.indexing import Vindex
from torch import Tensor, nn

from mixpyro import validation
from mixpyro.design import standardised, with_intercept
from mixpyro.experts.base import Experts
from mixpyro.experts.families import Family
from mixpyro.gram import weighted_gram
from mixpyro.parameters import minus_log_normal_prior, refuse_shared_parameters
from mixpyro.sites import sample_parameter
from mixpyro.typing import Design, Inputs, Responsibilities, Scalar, Targets

# A step of Newton's method halves at most this often before it is given up: the objective is flat to rounding by then.
MOST_HALVINGS = 30


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
        super().__init__(n_components, n_features, 1, name=name)
        if not isinstance(family, Family):
            raise TypeError(f"`family` must be one of mixpyro.experts.families; got {type(family).__name__}.")
        self.family = family
        self.exposure = exposure
        self.prior_scale = None if prior_scale is None else validation.positive_number("prior_scale", prior_scale)
        place = torch.empty(0, device=validation.device(device), dtype=dtype)
        shape = self.n_components, family.n_predictors, self.n_features + 1
        self.coefficients_estimate = nn.Parameter(place.new_zeros(shape))
        self.log_scale = nn.Parameter(place.new_zeros(self.n_components if family.has_scale else 0))

    @property
    def n_columns(self) -> int:
        """Columns that x must have: the regressors, and the exposure if there is one."""
        return self.n_features + int(self.exposure)

    @property
    def coefficients(self) -> nn.Parameter:
        """Estimates c [K, C, 1 + D], the intercept first; the Pyro site of this name may hold other values."""
        return self.coefficients_estimate

    @property
    def scale(self) -> Tensor:
        """Noise σ [K], ones for a family without."""
        return self.log_scale.exp() if self.family.has_scale else self.coefficients.new_ones(self.n_components)

    def check_inputs(self, x: object) -> Tensor:
        """Return x [N, D], or [N, D + 1] with an exposure, if it fits these experts and is finite."""
        checked = validation.inputs(x, n_features=self.n_columns)
        if self.exposure and validation.checks_values() and not bool((checked[:, -1] > 0).all()):
            least = float(checked[:, -1].min())
            raise ValueError(f"`x` must have an exposure above 0, or trials, in its last column; got {least:.6g}.")
        return checked

    def check_data(self, x: object, y: object) -> tuple[Tensor, Tensor]:
        """Return x [N, D] or [N, D + 1] and y [N, 1] if they fit these experts and their family."""
        checked, y_checked = super().check_data(x, y)
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
        return minus_log_normal_prior([self.coefficients], self.prior_scale)

    def predictive(self, x: Inputs) -> TorchDistributionMixin:
        """p(y | x, k) at the estimates, batch shape [N, K] and event shape [1]."""
        u, exposure = self._split(x)
        eta = self._eta(u)
        return self.family.distribution(eta, exposure, self.scale.to(x.dtype).expand(eta.shape[:-1]))

    def predict(self, x: Inputs) -> Tensor:
        """Every expert's mean of y [N, K, 1], in x's dtype; the probabilities of all categories for a categorical."""
        u, exposure = self._split(x)
        return self.family.mean(self._eta(u), exposure)

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
        counts = responsibilities.sum(0)
        smallest = 10.0 * self._smallest_scale(y, responsibilities)
        return [
            f"the noise of component {k} has collapsed on {float(counts[k]):.1f} objects"
            for k in range(self.n_components)
            if counts[k] > 0 and float(self.scale[k]) <= smallest
        ]

    @staticmethod
    def _smallest_scale(y: Tensor, r: Tensor) -> float:
        """Where an estimated noise stops: a millionth of the spread of y, or what rounding leaves of its size."""
        weights = (r.sum(-1, keepdim=True) / r.sum()).double()
        mean = (weights * y).sum()
        spread = (weights * (y.double() - mean).square()).sum().sqrt()
        size = (weights * y.double().square()).sum().sqrt()
        return float(torch.maximum(1e-6 * spread, 4.0 * torch.finfo(y.dtype).eps * size)) + 1e-150

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
        (u, exposure), scale = (part.double() for part in self._split(x)), self.scale.double()
        eta = self._eta(u)
        columns, transform = standardised(x[:, : self.n_features])
        # Where an object has no part in a component, its likelihood there may overflow and is not asked for.
        part_of = (r != 0).unsqueeze(-1)
        score = torch.where(part_of, self.family.score(y.double(), eta, exposure, scale) * r.unsqueeze(-1), 0.0)
        weight = self.family.information(eta, exposure, scale) * r[..., None, None]
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
        u, _ = self._split(x)
        squared = (y - self._eta(u).squeeze(-1)).square().double()
        counts = r.sum(0, dtype=torch.float64)
        variance = (r.double() * squared).sum(0) / counts
        estimate = 0.5 * variance.clamp_min(self._smallest_scale(y, r) ** 2).log()
        self.log_scale.copy_(torch.where(counts > 0, estimate, self.log_scale.double()))

    def _objectives(self, x: Tensor, y: Tensor, r: Tensor) -> Tensor:
        """Each component's part of what is maximised [K], float64."""
        weighted = torch.where(r != 0, r * self._log_likelihood(x, y), 0.0)
        total = weighted.sum(0, dtype=torch.float64)
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
        return with_intercept(x[:, : self.n_features]), exposure.unsqueeze(-1)
