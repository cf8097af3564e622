"""The hyper model with a Dirichlet for each object."""

import pytest
import torch

from mixpyro.hyper_models import HyperModelGateSparsed
from tests.hyper_models.models import data
from tests.problems import inputs


def test_attributes_before_and_after_an_e_step() -> None:
    model = HyperModelGateSparsed(3, gamma=2.0, mu=torch.tensor([1.0, 1.0, 2.0]))
    assert (model.output_dim, model.device, model.gamma, model.gamma_posterior) == (3, "cpu", 2.0, 2.0)
    torch.testing.assert_close(model.mu, torch.tensor([0.25, 0.25, 0.5]))
    torch.testing.assert_close(model.mu_posterior, model.mu)
    x, y, z = data()
    model.E_step(x, y, z, {})
    m = 2.0 * torch.tensor([0.25, 0.25, 0.5]) + z
    torch.testing.assert_close(model.gamma_posterior, m.sum(-1, keepdim=True))
    torch.testing.assert_close(model.mu_posterior, m / m.sum(-1, keepdim=True))
    torch.testing.assert_close(model.PredictPi(x, {}), m / m.sum(-1, keepdim=True))
    expected = torch.digamma(m) - torch.digamma(m.sum(-1, keepdim=True))
    torch.testing.assert_close(model.LogPiExpectation(x, y, {}), expected)


def test_another_number_of_rows_are_new_objects_with_the_weights_of_the_population() -> None:
    model = HyperModelGateSparsed(3, mu=torch.tensor([1.0, 1.0, 2.0]))
    x, y, z = data()
    model.E_step(x, y, z, {})
    unseen = inputs(4, dtype=torch.float32)
    torch.testing.assert_close(model.PredictPi(unseen, {}), torch.tensor([[0.25, 0.25, 0.5]]).expand(4, 3))
    prior = torch.digamma(torch.tensor([0.25, 0.25, 0.5])) - torch.digamma(torch.tensor(1.0))
    torch.testing.assert_close(model.LogPiExpectation(unseen, y, {}), prior.expand(4, 3))


def test_the_rule_by_number_of_rows_is_the_adapters_alone() -> None:
    """As many rows as in the last E-step are its objects in the same order; the gate has to be told."""
    model = HyperModelGateSparsed(3)
    x, y, z = data()
    model.E_step(x, y, z, {})
    torch.testing.assert_close(model.PredictPi(x.flip(0), {}), (z + 1 / 3) / 2.0)
    torch.testing.assert_close(model.gate.weights(x), torch.full((7, 3), 1 / 3))
    torch.testing.assert_close(model.gate.weights(x, objects=slice(None)), (z + 1 / 3) / 2.0)


def test_more_than_two_components_have_a_default_mu() -> None:
    torch.testing.assert_close(HyperModelGateSparsed(output_dim=3).mu, torch.full((3,), 1 / 3))


def test_mu_is_learnt_if_asked() -> None:
    x, y, _ = data(200)
    z = torch.distributions.Dirichlet(torch.tensor([6.0, 3.0, 1.0])).sample((200,))
    model = HyperModelGateSparsed(3, gamma=3.0, learn_mu=True)
    with pytest.raises(RuntimeError, match="`Z` must have the rows of the last E_step, 0; got 200"):
        model.M_step(x, y, z, {})
    for _ in range(3):
        model.E_step(x, y, z, {})
        model.M_step(x, y, z, {})
    assert model.mu[0] > model.mu[1] > model.mu[2]
    torch.testing.assert_close(model.mu.sum(), torch.ones(()))


@pytest.mark.parametrize("learn_mu", [False, True])
def test_an_assigned_mu_is_divided_by_its_sum_and_used_in_the_next_e_step(learn_mu: bool) -> None:
    x, y, z = data(dtype=torch.float64)
    model = HyperModelGateSparsed(3, gamma=2.0, learn_mu=learn_mu)
    model.E_step(x, y, z, {})
    before = model.PredictPi(x, {})
    given = torch.tensor([1.0, 1.0, 2.0]).double()
    model.mu = given
    given.fill_(9.0)
    mu = torch.tensor([0.25, 0.25, 0.5]).double()
    torch.testing.assert_close(model.mu, mu)
    torch.testing.assert_close(model.PredictPi(x, {}), before)
    torch.testing.assert_close(model.PredictPi(x[:4], {}), mu.expand(4, 3))
    model.E_step(x, y, z, {})
    torch.testing.assert_close(model.PredictPi(x, {}), (2.0 * mu + z) / 3.0)


def test_an_assigned_gamma_is_used_in_the_next_e_step() -> None:
    x, y, z = data(dtype=torch.float64)
    model = HyperModelGateSparsed(3)
    model.gamma = 4.0
    assert (model.gamma, model.gamma_posterior) == (4.0, 4.0)
    model.E_step(x, y, z, {})
    torch.testing.assert_close(model.gamma_posterior, torch.full((7, 1), 5.0).double())


@pytest.mark.usefixtures("bad_arguments")
def test_bad_values_of_mu_and_gamma_are_refused_and_change_nothing() -> None:
    wrong_length = r"`mu` must be a number or a vector of length 3; got shape \[2\]"
    with pytest.raises(ValueError, match=wrong_length):
        HyperModelGateSparsed(output_dim=3, mu=torch.ones(2))
    with pytest.raises(ValueError, match=r"`gamma` must be finite and above 0; got 0\.0"):
        HyperModelGateSparsed(gamma=0.0)
    model = HyperModelGateSparsed(3)
    with pytest.raises(ValueError, match=wrong_length):
        model.mu = torch.ones(2)
    with pytest.raises(TypeError, match="`mu` must be a number or 3 numbers; got 'large'"):
        model.mu = "large"
    with pytest.raises(ValueError, match=r"`gamma` must be finite and above 0; got -1\.0"):
        model.gamma = -1.0
    assert model.gamma == 1.0
    torch.testing.assert_close(model.mu, torch.full((3,), 1 / 3))
