"""The hyper model with one Dirichlet for all objects."""

import pyro
import pytest
import torch
from pyro.distributions import Gamma

from mixpyro.hyper_models import HyperModelDirichlet
from tests.hyper_models.models import data


def test_attributes_before_and_after_an_e_step() -> None:
    model = HyperModelDirichlet(output_dim=3)
    assert (model.output_dim, model.device, model.N) == (3, "cpu", 0)
    assert torch.equal(model.mu, torch.ones(3))
    assert torch.equal(model.m, model.mu)
    x, y, z = data()
    model.E_step(x, y, z, {})
    assert model.N == 7
    torch.testing.assert_close(model.m, 1 + z.sum(0))
    assert torch.equal(model.mu, torch.ones(3))


def test_the_normaliser_is_the_sum_of_m() -> None:
    """ψ(K·mu + N) is wrong where mu is not one or the rows of Z carry weights."""
    model = HyperModelDirichlet(3, mu=torch.tensor([0.5, 2.0, 4.0]))
    x, y, z = data(dtype=torch.float64)
    model.E_step(x, y, 2.5 * z, {})
    m = torch.tensor([0.5, 2.0, 4.0]).double() + 2.5 * z.sum(0)
    expected = torch.digamma(m) - torch.digamma(m.sum())
    torch.testing.assert_close(model.LogPiExpectation(x, y, {}), expected.expand(7, 3))
    torch.testing.assert_close(model.PredictPi(x, {}), (m / m.sum()).expand(7, 3))


def test_mu_is_learnt_if_it_has_a_prior() -> None:
    x, y, z = data(40)
    model = HyperModelDirichlet(3, mu_prior=Gamma(2.0, 1.0))
    for _ in range(3):
        model.E_step(x, y, z, {})
        model.M_step(x, y, z, {})
    assert (model.mu - 1.0).abs().max() > 0.1
    fixed = HyperModelDirichlet(3)
    fixed.M_step(x, y, z, {})
    assert torch.equal(fixed.mu, torch.ones(3))


def test_with_validation_off_a_negative_z_is_added() -> None:
    x, y, z = data()
    model = HyperModelDirichlet(3)
    with pyro.validation_enabled(False):
        model.E_step(x, y, -0.1 * z, {})
    torch.testing.assert_close(model.m, 1 - 0.1 * z.sum(0))


@pytest.mark.parametrize("prior", [None, Gamma(2.0, 1.0)])
def test_an_assigned_mu_is_the_prior_of_the_next_e_step(prior: Gamma | None) -> None:
    x, y, z = data(dtype=torch.float64)
    model = HyperModelDirichlet(3, mu_prior=prior)
    model.E_step(x, y, z, {})
    before = model.m
    given = torch.tensor([0.5, 2.0, 4.0]).double()
    model.mu = given
    torch.testing.assert_close(model.mu, given)
    assert torch.equal(model.m, before)
    model.E_step(x, y, z, {})
    torch.testing.assert_close(model.m, given + z.sum(0))
    model.mu = 0.5
    torch.testing.assert_close(model.mu, torch.full((3,), 0.5).double())


def test_an_assigned_m_gives_the_weights() -> None:
    x, y, _ = data(dtype=torch.float64)
    model = HyperModelDirichlet(3)
    m = torch.tensor([1.0, 2.0, 5.0]).double()
    model.m = m
    torch.testing.assert_close(model.PredictPi(x, {}), (m / 8.0).expand(7, 3))
    expected = torch.digamma(m) - torch.digamma(m.sum())
    torch.testing.assert_close(model.LogPiExpectation(x, y, {}), expected.expand(7, 3))


@pytest.mark.usefixtures("bad_arguments")
@pytest.mark.parametrize("name", ["mu", "m"])
@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (torch.ones(2), ValueError, r"must be a number or a vector of length 3; got shape \[2\]"),
        (torch.tensor([1.0, 0.0, 1.0]), ValueError, r"must be finite and above 0; got \[1\.0, 0\.0, 1\.0\]"),
        (torch.tensor([1.0, torch.inf, 1.0]), ValueError, "must be finite; got"),
        ("large", TypeError, "must be a number or 3 numbers; got 'large'"),
    ],
)
def test_a_bad_assignment_is_refused_and_changes_nothing(
    name: str, bad: object, error: type[Exception], message: str
) -> None:
    model = HyperModelDirichlet(3, mu=2.0)
    with pytest.raises(error, match=f"`{name}` {message}"):
        setattr(model, name, bad)
    assert torch.equal(model.mu, torch.full((3,), 2.0))
    assert torch.equal(model.m, torch.full((3,), 2.0))
