"""Dirichlet process mixtures against scikit-learn's, and against a plain loop in NumPy."""

import numpy as np
import pytest
import torch
from scipy.special import digamma, gammaln
from sklearn.mixture import BayesianGaussianMixture
from torch import Tensor

from mixpyro import GaussianExperts, MixtureOfExperts, StickBreakingGate, fit
from tests.experts.test_gaussian import clusters

K, CONCENTRATION = 5, 0.8
SCALE = torch.tensor([[1.5, 0.4], [0.4, 0.8]], dtype=torch.float64)


class FromGiven(BayesianGaussianMixture):
    """Their mixture from responsibilities of ours, in their order."""

    def __init__(self, start: np.ndarray | None = None, **options: object) -> None:
        super().__init__(**options)
        self.start = start

    def _initialize_parameters(self, X: np.ndarray, *args: object, **options: object) -> None:
        assert self.start is not None
        self._initialize(X, self.start)


def theirs(y: Tensor, start: Tensor) -> BayesianGaussianMixture:
    """Their Dirichlet process, fitted until its bound no longer changes."""
    mixture = FromGiven(
        start.numpy(),
        n_components=K,
        covariance_type="full",
        weight_concentration_prior_type="dirichlet_process",
        weight_concentration_prior=CONCENTRATION,
        mean_prior=[0.3, -0.1],
        mean_precision_prior=0.4,
        degrees_of_freedom_prior=3.3,
        covariance_prior=SCALE.numpy(),
        reg_covar=0.0,
        tol=2e-13,
        max_iter=20_000,
    )
    return mixture.fit(y.numpy())


def ours() -> MixtureOfExperts:
    """The same prior in our arguments."""
    experts = GaussianExperts(K, 2, mean=[0.3, -0.1], mean_precision=0.4, degrees_of_freedom=3.3, scale=SCALE)
    return MixtureOfExperts(StickBreakingGate(K, concentration=CONCENTRATION), experts)


@pytest.mark.filterwarnings("ignore:the prior of the means is far", "ignore:the noise of component")
@pytest.mark.parametrize("apart", [6.0, 2.5])
def test_where_their_components_are_in_order_the_posteriors_are_theirs(apart: float) -> None:
    """To 1e-6: a fit of ours, and theirs begun there with the components in our order."""
    _, y = clusters(150, 2, apart=apart, seed=1)
    mixture = ours()
    start = torch.rand(150, K, generator=torch.Generator().manual_seed(0)).double()
    start = start / start.sum(-1, keepdim=True)
    result = fit(mixture, y, y, initial_responsibilities=start, tolerance=1e-14, max_iterations=20_000, progress=False)
    order = mixture.gate.posterior_rank.argsort()
    other = theirs(y, result.responsibilities[:, order])
    own, rest = (torch.as_tensor(value) for value in other.weight_concentration_)
    assert own.diff().max() < 1e-6, "largest first"
    for mine, their in (
        (mixture.gate.posterior_own[order], own),
        (mixture.gate.posterior_rest[order], rest),
        (mixture.gate.weights(y)[0][order], torch.as_tensor(other.weights_)),
        (mixture.experts.means.squeeze()[order], torch.as_tensor(other.means_)),
        (mixture.experts.posterior_degrees[order], torch.as_tensor(other.degrees_of_freedom_)),
    ):
        torch.testing.assert_close(mine, their, rtol=1e-6, atol=1e-6)


def test_their_order_is_not_sorted_and_ours_has_a_higher_bound() -> None:
    """From responsibilities whose smallest component comes first they keep that order."""
    _, y = clusters(150, 2, apart=6.0, seed=1)
    labels = torch.as_tensor(theirs(y, torch.eye(K).double()[torch.arange(150) % K]).predict(y.numpy()))
    counts = torch.bincount(labels, minlength=K)
    r = torch.eye(K).double()[labels][:, counts.argsort()]
    own = theirs(y, r).weight_concentration_[0]
    assert (np.diff(own) > 1e-6).any()
    gate = StickBreakingGate(K, concentration=CONCENTRATION)
    gate.update(gate.statistics(y, r))
    assert gate.posterior_own.diff().max() > 0.0
    assert float(gate.partial_bound(y, r)) > _bound_in_order(r.sum(0).numpy()) + 0.1


def _bound_in_order(counts: np.ndarray) -> float:
    """The gate's share of the bound with components in the order given, by a loop; Blei, Jordan (2006), eq. 16."""
    total = 0.0
    for k, count in enumerate(counts):
        a, b = 1.0 + count, CONCENTRATION + counts[k + 1 :].sum()
        taken, left = digamma(a) - digamma(a + b), digamma(b) - digamma(a + b)
        total += count * taken + counts[k + 1 :].sum() * left
        total += np.log(CONCENTRATION) + (CONCENTRATION - 1.0) * left
        total -= gammaln(a + b) - gammaln(a) - gammaln(b) + (a - 1.0) * taken + (b - 1.0) * left
    return float(total)


def test_the_gates_share_of_the_bound_is_that_of_a_loop() -> None:
    r = torch.rand(30, K, generator=torch.Generator().manual_seed(3)).double() ** 3
    r = (r / r.sum(-1, keepdim=True))[:, torch.argsort(r.sum(0))]
    gate = StickBreakingGate(K, concentration=CONCENTRATION)
    gate.update(gate.statistics(torch.zeros(30, 0), r))
    expected = _bound_in_order(r.sum(0).sort(descending=True).values.numpy())
    assert float(gate.partial_bound(torch.zeros(30, 0).double(), r)) == pytest.approx(expected, abs=1e-10)
