"""Student-t experts."""

import numpy as np
import pytest
import torch
from pyro.infer import TraceEnum_ELBO
from scipy import optimize, stats
from torch import Tensor

from mixpyro import GLMExperts, MixtureOfExperts, NeuralExperts, SoftmaxGate, coefficients, fit
from mixpyro.experts.families import Gaussian, StudentT
from mixpyro.numerics.log_gamma import log_gamma_half_step
from tests.experts.contract import N_FEATURES, EstimatedExpertsContract, K
from tests.problems import inputs, lines, responsibilities


class TestStudentT(EstimatedExpertsContract):
    """The contract, for lines with heavy tails."""

    def make(self, n_components: int = K) -> GLMExperts:
        return GLMExperts(n_components, N_FEATURES, StudentT())

    def data(self, n_objects: int = 90) -> tuple[Tensor, Tensor, Tensor]:
        x = inputs(n_objects)
        return x, heavy_tails(x), responsibilities(n_objects, K)

    def bad_data(self, experts: GLMExperts, x: Tensor, y: Tensor) -> list[tuple[tuple[Tensor, Tensor], str]]:  # type: ignore[override]
        """As many rows as the contract says."""
        return super().bad_data(experts, x[:30], y[:30])


def heavy_tails(x: Tensor, degrees: float = 3.0) -> Tensor:
    """y [N, 1] of a line in x [N, D] with Student-t noise."""
    noise = torch.distributions.StudentT(torch.tensor(degrees).double()).sample(torch.Size([len(x), 1]))
    return 1.0 + 2.0 * x[:, :1] + 0.5 * noise


@pytest.mark.parametrize("steps", [1, 18, 19, 25, 2000])
def test_the_log_gamma_difference_keeps_its_digits(steps: int) -> None:
    """Γ(h + 1) = h Γ(h), from Γ(3/2) / Γ(1) = √π / 2, on both sides of where the series begins."""
    argument = torch.arange(1.0, steps + 1.0).double()
    expected = 0.5 * np.log(np.pi) - np.log(2.0) + torch.log1p(0.5 / argument).sum()
    found = log_gamma_half_step(torch.tensor(steps + 1.0).double())
    assert found.item() == pytest.approx(float(expected), abs=1e-13)


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize("unit", [1.0, 1e6])
def test_one_component_is_at_scipys_maximum_in_any_unit(unit: float) -> None:
    x = inputs(300, 1)
    y = heavy_tails(x) + 7.0
    mixture = MixtureOfExperts(SoftmaxGate(1, 0), GLMExperts(1, 1, StudentT()))
    result = fit(mixture, x, unit * y, gate_x=x[:, :0], tolerance=1e-12, progress=False)

    def minus_log_likelihood(theta: np.ndarray) -> float:
        location = theta[0] + theta[1] * x.numpy()[:, 0]
        return -float(stats.t(np.exp(theta[3]), location, np.exp(theta[2])).logpdf(y.numpy()[:, 0]).sum())

    found = optimize.minimize(minus_log_likelihood, [7.0, 0.0, 0.0, 1.0], method="BFGS", options={"gtol": 1e-6})
    assert result.bound + 300 * np.log(unit) == pytest.approx(-found.fun, abs=1e-6)
    table = list(coefficients(result, x, unit * y, gate_x=x[:, :0]).values())
    estimates = [
        table[0].estimate / unit,
        table[1].estimate / unit,
        table[2].estimate - np.log(unit),
        table[3].estimate,
    ]
    np.testing.assert_allclose(estimates, found.x, atol=2e-4)
    errors = np.array([row.standard_error for row in table]) / [unit, unit, 1.0, 1.0]
    steps = 1e-3 * np.eye(4)
    signs = [(a, b) for a in (-1.0, 1.0) for b in (-1.0, 1.0)]
    hessian = [
        [sum(a * b * minus_log_likelihood(found.x + a * one + b * two) for a, b in signs) / 4e-6 for one in steps]
        for two in steps
    ]
    np.testing.assert_allclose(errors, np.sqrt(np.diag(np.linalg.inv(hessian))), rtol=1e-3)


def test_normal_tails_are_the_gaussian_family_and_are_said() -> None:
    x = inputs(60)
    # Less in the tails than a Normal distribution has.
    y = x[:, :1] + torch.rand(60, 1).double()
    bounds = []
    for family in (Gaussian(), StudentT()):
        mixture = MixtureOfExperts(SoftmaxGate(1, 0), GLMExperts(1, 2, family))
        if isinstance(family, Gaussian):
            bounds.append(fit(mixture, x, y, gate_x=x[:, :0], progress=False).bound)
            continue
        with pytest.warns(RuntimeWarning, match="component 0 has degrees of freedom without limit, Normal tails"):
            bounds.append(fit(mixture, x, y, gate_x=x[:, :0], progress=False).bound)
    assert bounds[1] == pytest.approx(bounds[0], abs=1e-4)


@pytest.mark.filterwarnings("ignore:component . has the least degrees of freedom", "ignore:the noise of component")
@pytest.mark.usefixtures("without_type_checks")
def test_far_rows_do_not_move_the_lines_and_pyros_elbo_is_the_bound() -> None:
    x, y, labels = lines(120, 2, noise=0.2)
    y[::15] += 40.0
    found = {}
    for family in (Gaussian(), StudentT()):
        mixture = MixtureOfExperts(SoftmaxGate(2, 0), GLMExperts(2, 1, family))
        start = torch.nn.functional.one_hot(labels, 2).double()
        result = fit(mixture, x, y, gate_x=x[:, :0], initial_responsibilities=start, progress=False)
        own = [float(y[(labels == k) & (torch.arange(120) % 15 > 0)].mean()) for k in range(2)]
        predicted = mixture.experts.predict(x)[..., 0]
        errors = [float((predicted[labels == k, k].mean() - own[k]).abs()) for k in range(2)]
        found[type(family)] = max(errors)
    assert found[StudentT] < 0.3 < found[Gaussian]
    bound = mixture.bound(x, y, gate_x=x[:, :0]).item()
    assert bound == pytest.approx(result.bound, abs=1e-6)
    elbo = -TraceEnum_ELBO(max_plate_nesting=1).loss(mixture.model, mixture.guide, x, y, gate_x=x[:, :0])
    assert elbo == pytest.approx(bound, abs=1e-6)
    levels = torch.tensor([0.25, 0.5]).double()
    quantiles = GLMExperts(1, 1, StudentT())
    one = MixtureOfExperts(SoftmaxGate(1, 0), quantiles)
    expected = stats.t(10.0).ppf(levels.numpy())
    by_us = one.quantile(x[:1], levels, gate_x=x[:1, :0]).flatten()
    torch.testing.assert_close(by_us, torch.tensor(expected).double(), rtol=0, atol=1e-8)
    noises = mixture.experts.noises()
    assert noises is not None
    assert noises.shape == (2, 1)


def test_a_collapsed_noise_is_reported_and_networks_are_refused() -> None:
    x, y, _ = lines(20, 1)
    r = torch.zeros(20, 2).double()
    r[:2, 0], r[2:, 1] = 1.0, 1.0
    experts = GLMExperts(2, 1, StudentT())
    experts.maximise(x, y, r)
    assert experts.degeneracies(x, y, r) == ["the noise of component 0 has collapsed on 2.0 objects"]
    with pytest.raises(ValueError, match="must be a Gaussian or one without scales for networks; got a StudentT"):
        NeuralExperts(1, 2, torch.nn.Linear(2, 1), StudentT())
