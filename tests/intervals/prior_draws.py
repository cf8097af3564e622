"""Parameters and data drawn from priors, for the tests of the exact samplers."""

import scipy.stats
import torch
from torch import Tensor
from torch.distributions import Categorical, Dirichlet, Gamma, Normal, Poisson

from mixpyro.conjugate.full_covariance import Full
from mixpyro.conjugate.independent_columns import Diagonal, Spherical
from mixpyro.conjugate.normal_gamma import NormalGamma
from mixpyro.conjugate.normal_wishart import NormalWishart
from tests.intervals.gibbs import Sampler
from tests.intervals.gibbs_conjugate import Densities, DirichletWeights, Lines
from tests.intervals.gibbs_estimated import PoissonRegressions, SoftmaxWeights

B, N, K, P = 3000, 8, 3, 2
LINES = NormalGamma(
    mean=torch.tensor([[[1.0, 0.5]], [[0.0, -0.5]], [[-1.0, 0.0]]]).double(),
    precision=torch.tensor([[1.0, 0.3], [0.3, 2.0]]).double().expand(K, 2, 2),
    shape=torch.full((K,), 3.0).double(),
    rate=torch.full((K, 1), 2.0).double(),
)
CONCENTRATION = torch.tensor([1.0, 2.0, 3.0]).double()


def repeated(value: Tensor, n_data_sets: int = B) -> Tensor:
    """Repeat a tensor for each data set."""
    return value.double().expand(n_data_sets, *value.shape)


def repeated_prior(prior: NormalGamma, n_data_sets: int = B) -> NormalGamma:
    """Repeat a prior for each data set."""
    return NormalGamma(*(repeated(value, n_data_sets) for value in prior))


def simulated_gate(kind: str, design: Tensor) -> tuple[Sampler, Tensor, Tensor]:
    """Draw a gate from its prior: its sampler, its quantities, and an assignment of each row [B, N]."""
    if kind == "dirichlet":
        weights = Dirichlet(repeated(CONCENTRATION)).sample()
        z = Categorical(weights).sample((N,)).mT
        return DirichletWeights(repeated(CONCENTRATION)), (weights[:, 1:] / weights[:, :1]).log(), z
    sampler = SoftmaxWeights(0.8, design, torch.zeros(B, K - 1, 2).double())
    c = 0.8 * torch.randn(B, K - 1, 2).double()
    logits = torch.cat([torch.zeros(B, N, 1).double(), design @ c.mT], -1)
    return sampler, c.flatten(1), Categorical(logits=logits).sample()


def own(values: Tensor, z: Tensor) -> Tensor:
    """Take the entry of each row's component from [B, K, ...]."""
    return values[torch.arange(B).unsqueeze(-1), z]


def simulated_lines(design: Tensor, z: Tensor, factor: float) -> tuple[Sampler, Tensor, Tensor]:
    """Draw lines and y from the prior; the sampler's noise rate is a factor too large."""
    tau = Gamma(LINES.shape, LINES.rate.squeeze(-1)).sample((B,))
    root = torch.linalg.inv(torch.linalg.cholesky(LINES.precision)).mT
    offset = (root @ torch.randn(B, K, 2, 1).double()).squeeze(-1) / tau.sqrt().unsqueeze(-1)
    w = LINES.mean.squeeze(-2) + offset
    y = Normal((own(w, z) * design).sum(-1), own(tau, z).rsqrt()).sample()
    prior = repeated_prior(LINES._replace(rate=factor * LINES.rate))
    return Lines(prior, design, y), torch.cat([w.flatten(1), tau.log()], -1), y


def simulated_counts(design: Tensor, z: Tensor) -> tuple[Sampler, Tensor, Tensor]:
    """Draw regressions and counts from the prior."""
    c = 0.7 * torch.randn(B, K, 2).double()
    y = Poisson((own(c, z) * design).sum(-1).exp()).sample()
    sampler = PoissonRegressions(0.7, design, y, torch.zeros(B, K, 2).double())
    return sampler, c.flatten(1), y


def simulated_densities(kind: str, z: Tensor) -> tuple[Sampler, Tensor, Tensor]:
    """Draw means, precisions and y [B, N, P] from the prior."""
    degrees, beta, psi = 7.0, 0.8, torch.tensor([[2.0, 0.7], [0.7, 1.5]]).double()
    form: type[NormalWishart]
    if kind == "full":
        draws = scipy.stats.wishart.rvs(degrees, torch.linalg.inv(psi).numpy(), size=B * K, random_state=0)
        precision = torch.from_numpy(draws).unflatten(0, (B, K))
        scale, form = psi, Full
    elif kind == "diagonal":
        scale, form = psi.diagonal(), Diagonal
        precision = Gamma(torch.tensor(degrees / 2.0).double(), scale / 2.0).sample((B, K)).diag_embed()
    else:
        scale, form = torch.tensor(1.5).double(), Spherical
        tau = Gamma(torch.tensor(P * degrees / 2.0).double(), P * scale / 2.0).sample((B, K))
        precision = tau[..., None, None] * torch.eye(P).double()
    root = torch.linalg.inv(torch.linalg.cholesky(precision)).mT
    mean = 0.5 + (root @ torch.randn(B, K, P, 1).double()).squeeze(-1) / beta**0.5
    noise = (own(root, z) @ torch.randn(B, N, P, 1).double()).squeeze(-1)
    parts = (torch.full((K, P), 0.5), torch.full((K,), beta), torch.full((K,), degrees), scale.expand(K, *scale.shape))
    prior = form(*(repeated(part) for part in parts))
    # Of (y0, y1) with covariance Σ: y0's precision, y1's given y0, and the slope of y1 on y0.
    covariance = torch.linalg.inv(precision)
    log_precision = torch.stack([-covariance[..., 0, 0].log(), precision[..., 1, 1].log()], -1)
    kinds = {
        "full": [log_precision, covariance[..., 1, 0] / covariance[..., 0, 0]],
        "diagonal": [log_precision],
        "spherical": [log_precision[..., 0]],
    }[kind]
    y = own(mean, z) + noise
    return Densities(prior, y), torch.cat([mean.flatten(1), *(part.flatten(1) for part in kinds)], -1), y
