"""Generalised linear models of every family."""

import pytest
import torch
from pyro.infer import TraceEnum_ELBO
from torch import Tensor

from mixpyro import MixtureOfExperts, SoftmaxGate
from mixpyro.experts import GLMExperts
from mixpyro.experts.families import Binomial, Categorical, Family, Gaussian, NegativeBinomial, Poisson, StudentT
from mixpyro.numerics.newton import MOST_DENSE
from tests.experts.contract import N_FEATURES, EstimatedExpertsContract, K
from tests.problems import inputs, lines, responsibilities


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


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 2000.0), (1e6, 1.7e9), (1e-6, 0.0)])
@pytest.mark.parametrize("family", [Gaussian(), Poisson()])
def test_the_scale_of_the_inputs_makes_no_difference(family: Family, scale: float, offset: float) -> None:
    x, y, _ = lines(60, 1, noise=0.1)
    y = y if family.has_scale else torch.poisson((0.5 * x).exp())
    near, far = GLMExperts(2, 1, family), GLMExperts(2, 1, family)
    r = responsibilities(60, 2)
    near.maximise(x, y, r)
    far.maximise(scale * x + offset, y, r)
    torch.testing.assert_close(far.predict(scale * x + offset), near.predict(x), rtol=1e-5, atol=1e-6)


def test_a_row_that_is_not_a_components_may_overflow_there() -> None:
    x, y = torch.tensor([[0.0], [1.0], [2.0], [1e4]]).double(), torch.tensor([[1.0], [4.0], [9.0], [3.0]]).double()
    r = torch.tensor([[1.0, 0.0]] * 3 + [[0.0, 1.0]]).double()
    with_it, without = GLMExperts(2, 1, Poisson()), GLMExperts(2, 1, Poisson())
    with_it.maximise(x, y, r)
    without.maximise(x[:3], y[:3], r[:3])
    torch.testing.assert_close(with_it.coefficients[0], without.coefficients[0], rtol=1e-6, atol=1e-8)


def test_a_component_fitted_to_zeros_alone_recovers() -> None:
    """Its rate is zero to rounding, where the likelihood is flat."""
    x, y = inputs(40), torch.zeros(40, 1).double()
    emptied, fresh = GLMExperts(1, N_FEATURES, Poisson()), GLMExperts(1, N_FEATURES, Poisson())
    r = torch.ones(40, 1).double()
    emptied.maximise(x, y, r)
    assert emptied.predict(x).max() < 1e-8
    y[::3] = 1.0
    for experts in (emptied, fresh):
        experts.maximise(x, y, r)
    torch.testing.assert_close(emptied.predict(x), fresh.predict(x), rtol=1e-6, atol=1e-8)


def test_constants_take_any_x() -> None:
    constants, x = GLMExperts(2, 0, Poisson()), inputs(4)
    y = torch.ones(4, 1).double()
    assert constants.expected_log_likelihood(x, y).shape == (4, 2)
    constants.maximise(x, y, responsibilities(4, 2))
    torch.testing.assert_close(constants.predict(x[:, :0]), torch.ones(4, 2, 1).double())


@pytest.mark.parametrize("prior_scale", [None, 0.5])
@pytest.mark.parametrize(
    ("family", "n_features"), [(Categorical(6), 60), (Poisson(), MOST_DENSE), (Gaussian(), MOST_DENSE)]
)
def test_many_coefficients_reach_the_maximum(family: Family, n_features: int, prior_scale: float | None) -> None:
    """Beyond a limit no matrix of second derivatives is formed."""
    n_objects = 5 * n_features
    x, r = inputs(n_objects, n_features), responsibilities(n_objects, 2)
    y = (torch.arange(n_objects) % 6).double().unsqueeze(-1)
    experts = GLMExperts(2, n_features, family, prior_scale=prior_scale)
    experts.maximise(x, y, r)
    parameters = [parameter for parameter in experts.parameters() if parameter.numel()]
    for gradient in torch.autograd.grad(experts.partial_bound(x, y, r), parameters):
        assert gradient.abs().max() < 1e-3


def test_frozen_parameters_stay() -> None:
    x, y, _ = lines(30, 1)
    r = responsibilities(30, 2)
    experts, free = GLMExperts(2, 1, Gaussian()), GLMExperts(2, 1, Gaussian())
    free.maximise(x, y, r)
    experts.log_scale.requires_grad_(False)
    experts.maximise(x, y, r)
    assert not experts.log_scale.any()
    torch.testing.assert_close(experts.coefficients, free.coefficients)
    experts.coefficients_estimate.requires_grad_(False)
    experts.log_scale.requires_grad_(True)
    experts.maximise(x, y, r)
    torch.testing.assert_close(experts.log_scale, free.log_scale)


def mixture_of(experts: GLMExperts) -> MixtureOfExperts:
    """A mixture whose weights do not depend on x."""
    return MixtureOfExperts(SoftmaxGate(K, 0), experts)


@pytest.mark.parametrize("prior_scale", [None, 1.5])
@pytest.mark.parametrize("case", [TestGLMExperts(), TestPoisson(), TestBinomial(), TestCategorical()])
def test_the_elbo_of_the_joint_model_is_the_bound(case: TestGLMExperts, prior_scale: float | None) -> None:
    """The parameters are points: Pyro's ELBO with z enumerated has no noise."""
    x, y, r = case.data()
    exposure = case.make().exposure
    experts = GLMExperts(K, N_FEATURES, case.family, exposure=exposure, prior_scale=prior_scale)
    mixture, nothing = mixture_of(experts), x[:, :0]
    experts.maximise(x, y, r)
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    loss = elbo.loss(mixture.model, mixture.guide, x, y, gate_x=nothing)
    assert -loss == pytest.approx(mixture.bound(x, y, gate_x=nothing).item(), abs=1e-8)
    summed_out = elbo.loss(mixture.model, lambda x, y, **_: experts.guide(x), x, y, gate_x=nothing)
    assert summed_out == pytest.approx(loss, abs=1e-8)


@pytest.mark.parametrize("case", [TestPoisson(), TestBinomial()])
def test_predictions_use_the_exposure(case: TestGLMExperts) -> None:
    x, y, r = case.data()
    experts = case.make()
    experts.maximise(x, y, r)
    mixture, nothing = mixture_of(experts), x[:, :0]
    doubled = x * torch.tensor([1.0, 1.0, 2.0]).double()
    once, twice = (mixture.predict(one, gate_x=nothing) for one in (x, doubled))
    torch.testing.assert_close(twice, 2.0 * once)
    torch.testing.assert_close(mixture.predictive(x, gate_x=nothing).mean, once)
    assert torch.isfinite(mixture.log_prob(x, y, gate_x=nothing)).all()
    with pytest.raises(ValueError, match=r"`x` must have shape \[N, 3\].*got \[30, 2\]"):
        mixture.predict(x[:, :2], gate_x=nothing)
    with pytest.raises(ValueError, match="`gate_x` must have 0 columns; got none, and `x` has 3"):
        mixture.predict(x)
    with pytest.raises(ValueError, match="exposure above 0, or trials, in its last column; got 0"):
        mixture.predict(0.0 * x, gate_x=nothing)


def test_categories_have_probabilities() -> None:
    case = TestCategorical()
    x, y, r = case.data()
    experts = case.make()
    experts.maximise(x, y, r)
    probabilities = mixture_of(experts).predict(x, gate_x=x[:, :0])
    assert probabilities.shape == (30, 3)
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(30).double())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_a_collapsed_noise_is_reported(dtype: torch.dtype, offset: float) -> None:
    x, y, _ = lines(20, 1)
    x, y = x.to(dtype), (y + offset).to(dtype)
    r = torch.zeros(20, 2, dtype=dtype)
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
        experts.check_data(x, torch.full((4, 1), y).double())


@pytest.mark.usefixtures("bad_arguments")
def test_bad_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match=r"`family` must be one of mixpyro\.experts\.families; got str"):
        GLMExperts(2, 1, "poisson")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`n_categories` must be at least 2; got 1"):
        Categorical(1)
    with pytest.raises(ValueError, match="`prior_scale` must be finite and above 0"):
        GLMExperts(2, 1, Poisson(), prior_scale=0.0)


@pytest.mark.usefixtures("bad_arguments")
@pytest.mark.parametrize("family", [Gaussian(), StudentT(), Poisson(), NegativeBinomial(), Binomial(), Categorical(3)])
def test_formulas_of_families_name_what_is_no_tensor(family: Family) -> None:
    scale = torch.ones(2, max(1, len(family.scale_names))).double()
    good = {"y": torch.ones(5, 1).double(), "eta": torch.zeros(5, 2, family.n_predictors).double()}
    good |= {"exposure": torch.ones(5, 1, 1).double(), "scale": scale}
    assert family.log_prob(**good).shape == (5, 2)
    for name in ("y", "eta"):
        for odd in ("odd", None, {}, object()):
            with pytest.raises((TypeError, ValueError), match=f"^`{name}` must"):
                family.log_prob(**{**good, name: odd})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^`y` and `eta` and .* must have shapes"):
        family.log_prob(**{**good, "eta": torch.zeros(4, 2, family.n_predictors).double()})
