"""Generalised linear models of every family."""

import pytest
import torch
from torch import Tensor

from mixpyro.experts import GLMExperts
from mixpyro.experts.families import Binomial, Categorical, Family, Gaussian, Poisson
from tests.experts.contract import N_FEATURES, EstimatedExpertsContract, K
from tests.problems import lines, responsibilities


def rates(n_objects: int) -> tuple[Tensor, Tensor]:
    """x [N, 2] and linear predictors [N, 1] of a moderate size."""
    x, eta, _ = lines(n_objects, K, n_features=N_FEATURES, noise=0.0)
    return x, 0.5 * eta.clamp(-3.0, 3.0)


class TestGLMExperts(EstimatedExpertsContract):
    """The contract, for the Gaussian."""

    family: Family = Gaussian()

    def make(self, n_components: int = K) -> GLMExperts:
        return GLMExperts(n_components, N_FEATURES, self.family)


class TestPoisson(TestGLMExperts):
    """The contract, with an exposure."""

    family = Poisson()

    def make(self, n_components: int = K) -> GLMExperts:
        return GLMExperts(n_components, N_FEATURES, self.family, exposure=True)

    def data(self, n_objects: int = 30) -> tuple[Tensor, Tensor, Tensor]:
        x, eta = rates(n_objects)
        exposure = 1.0 + torch.arange(n_objects).double().unsqueeze(-1) % 4
        return torch.cat([x, exposure], 1), torch.poisson(exposure * eta.exp()), responsibilities(n_objects, K)


class TestBinomial(TestGLMExperts):
    """The contract, with totals."""

    family = Binomial()

    def make(self, n_components: int = K) -> GLMExperts:
        return GLMExperts(n_components, N_FEATURES, self.family, exposure=True)

    def data(self, n_objects: int = 30) -> tuple[Tensor, Tensor, Tensor]:
        x, eta = rates(n_objects)
        totals = 5.0 + torch.arange(n_objects).double().unsqueeze(-1) % 4
        return torch.cat([x, totals], 1), torch.binomial(totals, eta.sigmoid()), responsibilities(n_objects, K)


class TestCategorical(TestGLMExperts):
    """The contract, with a prior, for few rows separate easily."""

    family = Categorical(3)

    def make(self, n_components: int = K) -> GLMExperts:
        return GLMExperts(n_components, N_FEATURES, self.family, prior_scale=2.0)

    def data(self, n_objects: int = 30) -> tuple[Tensor, Tensor, Tensor]:
        x, eta = rates(n_objects)
        logits = torch.cat([torch.zeros_like(eta), eta, -eta], 1)
        y = torch.distributions.Categorical(logits=logits).sample().double().unsqueeze(-1)
        return x, y, responsibilities(n_objects, K)


def test_the_gaussian_is_weighted_least_squares() -> None:
    x, y, _ = lines(50, 1, n_features=2, noise=0.5)
    r = responsibilities(50, 2)
    experts = GLMExperts(2, 2, Gaussian())
    experts.maximise(x, y, r)
    u = torch.cat([torch.ones(50, 1).double(), x], 1)
    for k in range(2):
        solution = torch.linalg.lstsq(r[:, k : k + 1].sqrt() * u, r[:, k : k + 1].sqrt() * y).solution
        torch.testing.assert_close(experts.coefficients[k, 0], solution[:, 0])
        variance = (r[:, k] * (y - u @ solution)[:, 0].square()).sum() / r[:, k].sum()
        torch.testing.assert_close(experts.scale[k] ** 2, variance)


def test_an_offset_multiplies_the_rate() -> None:
    """Counts over exposure, and no regressor: the rate is total over total."""
    y, exposure = torch.tensor([[3.0], [10.0], [2.0]]).double(), torch.tensor([[1.0], [4.0], [3.0]]).double()
    experts = GLMExperts(1, 0, Poisson(), exposure=True)
    experts.maximise(exposure, y, torch.ones(3, 1).double())
    torch.testing.assert_close(experts.coefficients.exp().squeeze(), torch.tensor(15.0 / 8.0).double())


def test_a_collapsed_noise_is_reported() -> None:
    x, y, _ = lines(20, 1)
    r = torch.zeros(20, 2).double()
    r[:2, 0], r[2:, 1] = 1.0, 1.0
    experts = GLMExperts(2, 1, Gaussian())
    experts.maximise(x, y, r)
    assert experts.degeneracies(x, y, r) == ["the noise of component 0 has collapsed on 2.0 objects"]


@pytest.mark.parametrize(
    ("family", "y", "message"),
    [
        (Poisson(), -1.0, "`y` must hold whole numbers from 0 on; got values from -1 to -1"),
        (Poisson(), 0.5, "`y` must hold whole numbers"),
        (Binomial(), 2.0, "`y` must not exceed the trials"),
        (Categorical(3), 3.0, "`y` must be a category below 3; got 3"),
    ],
)
def test_values_outside_the_family_are_refused(family: Family, y: float, message: str) -> None:
    experts, x = GLMExperts(2, 1, family), torch.zeros(4, 1).double()
    with pytest.raises(ValueError, match=message):
        experts.statistics(x, torch.full((4, 1), y).double(), torch.ones(4, 2).double())


@pytest.mark.usefixtures("bad_arguments")
def test_bad_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match=r"`family` must be one of mixpyro\.experts\.families; got str"):
        GLMExperts(2, 1, "poisson")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`n_categories` must be at least 2; got 1"):
        Categorical(1)
    with pytest.raises(ValueError, match="`prior_scale` must be finite and above 0"):
        GLMExperts(2, 1, Poisson(), prior_scale=0.0)
