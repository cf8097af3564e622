"""Attributes of the Dirichlet hyper models: what is written into a tensor that was read takes effect, or is refused."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mixpyro.hyper_models import HyperModelDirichlet, HyperModelGateSparsed
from tests.hyper_models.models import data


def _put_data(tensor: Tensor, values: Tensor) -> None:
    tensor.data = values.clone()


def _put_numpy(tensor: Tensor, values: Tensor) -> None:
    tensor.numpy()[...] = values.numpy()


def _multiplied(tensor: Tensor, values: Tensor) -> None:
    tensor.mul_(values / tensor)


# Ways to write into a tensor. The third and the fourth leave its version as it is.
WAYS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "copy_": lambda tensor, values: tensor.copy_(values),
    ".data =": _put_data,
    ".data[:] =": lambda tensor, values: tensor.data.copy_(values),
    "numpy": _put_numpy,
    "[:] =": lambda tensor, values: tensor.__setitem__(slice(None), values),
    "mul_": _multiplied,
    "out=": lambda tensor, values: torch.add(values, 0.0, out=tensor),
    "a view": lambda tensor, values: tensor.view(-1).copy_(values.flatten()),
}
M = torch.tensor([2.0, 3.0, 5.0])


def _expected_log(m: Tensor) -> Tensor:
    return torch.digamma(m) - torch.digamma(m.sum(-1, keepdim=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("way", list(WAYS))
def test_an_m_that_is_changed_gives_the_weights(way: str, dtype: torch.dtype) -> None:
    x, y, z = data(dtype=dtype)
    model = HyperModelDirichlet(3)
    model.E_step(x, y, z, {})
    m = M.to(dtype)
    WAYS[way](model.m, m)
    torch.testing.assert_close(model.PredictPi(x, {}), (m / m.sum()).expand(7, 3))
    torch.testing.assert_close(model.LogPiExpectation(x, y, {}), _expected_log(m).expand(7, 3))
    assert torch.equal(model.m, m)
    assert torch.equal(model.mu, torch.ones(3, dtype=dtype))
    model.E_step(x, y, z, {})
    torch.testing.assert_close(model.m, 1.0 + z.sum(0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("way", list(WAYS))
def test_a_mu_that_is_changed_is_the_prior_of_the_next_e_step(way: str, dtype: torch.dtype) -> None:
    x, y, z = data(dtype=dtype)
    model = HyperModelDirichlet(3)
    model.E_step(x, y, z, {})
    m = model.m.clone()
    WAYS[way](model.mu, M.to(dtype))
    torch.testing.assert_close(model.PredictPi(x, {})[0], m / m.sum())
    model.E_step(x, y, z, {})
    torch.testing.assert_close(model.m, M.to(dtype) + z.sum(0))


@pytest.mark.parametrize("learn_mu", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("way", list(WAYS))
def test_a_mu_that_is_changed_is_divided_by_its_sum(way: str, dtype: torch.dtype, learn_mu: bool) -> None:
    x, y, z = data(dtype=dtype)
    model = HyperModelGateSparsed(3, gamma=2.0, learn_mu=learn_mu)
    model.E_step(x, y, z, {})
    read, mu = model.mu, M.to(dtype) / 10.0
    WAYS[way](read, M.to(dtype))
    torch.testing.assert_close(model.PredictPi(x[:2], {}), mu.expand(2, 3))
    torch.testing.assert_close(model.mu, mu)
    # The tensor stays the attribute.
    WAYS[way](read, torch.ones(3, dtype=dtype))
    model.E_step(x, y, z, {})
    torch.testing.assert_close(model.mu_posterior, (2.0 / 3.0 + z) / 3.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("way", list(WAYS))
def test_posteriors_of_objects_that_are_changed_give_the_weights(way: str, dtype: torch.dtype) -> None:
    x, y, z = data(dtype=dtype)
    model = HyperModelGateSparsed(3)
    model.E_step(x, y, z, {})
    mean, concentration = z.flip(0) / z.flip(0).sum(-1, keepdim=True), torch.arange(2.0, 9.0, dtype=dtype).unsqueeze(1)
    WAYS[way](model.mu_posterior, 3.0 * mean)
    WAYS[way](torch.as_tensor(model.gamma_posterior), concentration)
    torch.testing.assert_close(model.LogPiExpectation(x, y, {}), _expected_log(mean * concentration))
    torch.testing.assert_close(model.PredictPi(x, {}), mean)
    torch.testing.assert_close(model.mu_posterior, mean)
    torch.testing.assert_close(model.gamma_posterior, concentration)
    assert torch.equal(model.mu, torch.full((3,), 1 / 3, dtype=dtype))


@pytest.mark.parametrize("gamma_first", [False, True])
def test_two_posteriors_that_are_read_first_and_changed_in_turn_both_take_effect(gamma_first: bool) -> None:
    x, y, z = data()
    model = HyperModelGateSparsed(3)
    model.E_step(x, y, z, {})
    mean, concentration = model.mu_posterior, torch.as_tensor(model.gamma_posterior)
    for of_gamma in (gamma_first, not gamma_first):
        concentration.fill_(7.0) if of_gamma else mean.copy_(M.expand(7, 3) / 10.0)
        model.PredictPi(x, {})
    torch.testing.assert_close(model.LogPiExpectation(x, y, {}), _expected_log(0.7 * M).expand(7, 3))


def test_posteriors_of_objects_can_be_assigned() -> None:
    x, y, z = data(dtype=torch.float64)
    model = HyperModelGateSparsed(3)
    model.mu_posterior = M
    model.gamma_posterior = 4.0
    torch.testing.assert_close(model.mu, M / 10.0)
    assert model.gamma == 4.0
    model.E_step(x, y, z, {})
    model.mu_posterior, model.gamma_posterior = M, 2.0
    torch.testing.assert_close(model.LogPiExpectation(x, y, {}), _expected_log(0.2 * M.double()).expand(7, 3))


def test_the_attributes_before_an_e_step_can_be_changed() -> None:
    x, y, z = data()
    model = HyperModelGateSparsed(3)
    model.mu_posterior[0] = 8.0 / 3.0
    torch.testing.assert_close(model.mu, torch.tensor([0.8, 0.1, 0.1]))
    torch.testing.assert_close(model.PredictPi(x, {}), torch.tensor([0.8, 0.1, 0.1]).expand(7, 3))
    shared = HyperModelDirichlet(3)
    shared.m.data = torch.tensor([2, 3, 5])
    assert torch.equal(shared.m, M)
    torch.testing.assert_close(shared.PredictPi(x, {})[0], M / 10.0)
    assert shared.PredictPi(x, {}).dtype == torch.float32


def test_an_attribute_is_one_tensor_until_it_is_replaced() -> None:
    x, y, z = data()
    model = HyperModelDirichlet(3)
    mu, before = model.mu, model.m
    assert model.mu is mu and model.m is before
    model.m += 1.0
    assert model.m is before and torch.equal(before, torch.full((3,), 2.0))
    model.E_step(x, y, z, {})
    after = model.m.clone()
    # A change of what was replaced is none of the attribute, as it is none of a plain one.
    before.fill_(9.0)
    assert model.mu is mu and torch.equal(model.m, after)
    replaced = model.mu
    model.mu = 3.0
    replaced.fill_(7.0)
    assert torch.equal(model.mu, torch.full((3,), 3.0))


def test_an_attribute_has_the_dtype_of_the_last_z() -> None:
    x, y, z = data(dtype=torch.float64)
    model = HyperModelDirichlet(3)
    mu = model.mu
    assert mu.dtype == torch.float32
    model.E_step(x, y, z, {})
    mu.fill_(2.0)
    assert model.mu.dtype == torch.float64 and torch.equal(model.mu, torch.full((3,), 2.0).double())
    mu.fill_(3.0)
    assert torch.equal(model.mu, torch.full((3,), 3.0).double())


def test_what_the_gate_has_got_by_another_way_is_what_is_read() -> None:
    x, _, z = data()
    model = HyperModelDirichlet(3)
    before = model.m
    model.gate.update(model.gate.statistics(x, z))
    torch.testing.assert_close(model.m, 1.0 + z.sum(0))
    assert torch.equal(before, torch.ones(3))


@pytest.mark.parametrize("pickled", [False, True])
def test_a_copy_of_a_model_does_not_share_its_attributes(pickled: bool) -> None:
    x, _, _ = data()
    model = HyperModelDirichlet(3)
    model.m.copy_(M)
    copied = pickle.loads(pickle.dumps(model)) if pickled else copy.deepcopy(model)
    assert torch.equal(copied.m, M)
    copied.m.fill_(1.0)
    torch.testing.assert_close(model.PredictPi(x, {})[0], M / 10.0)
    torch.testing.assert_close(copied.PredictPi(x, {})[0], torch.full((3,), 1 / 3))


def test_a_tensor_that_was_read_in_inference_mode_can_be_changed() -> None:
    x, _, _ = data()
    model = HyperModelDirichlet(3)
    with torch.inference_mode():
        m = model.m
    m.copy_(M)
    torch.testing.assert_close(model.PredictPi(x, {})[0], M / 10.0)


USES: dict[str, Callable[[Any, Tensor, Tensor, Tensor], Any]] = {
    "E_step": lambda model, x, y, z: model.E_step(x, y, z, {}),
    "LogPiExpectation": lambda model, x, y, z: model.LogPiExpectation(x, y, {}),
    "PredictPi": lambda model, x, y, z: model.PredictPi(x, {}),
    "mu": lambda model, x, y, z: model.mu,
}


@pytest.mark.usefixtures("bad_arguments")
@pytest.mark.parametrize("use", list(USES))
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (HyperModelDirichlet, "mu"),
        (HyperModelDirichlet, "m"),
        (HyperModelGateSparsed, "mu"),
        (HyperModelGateSparsed, "mu_posterior"),
        (HyperModelGateSparsed, "gamma_posterior"),
    ],
)
@pytest.mark.parametrize("bad", [-1.0, 0.0, torch.nan, torch.inf])
def test_a_bad_change_is_refused_at_the_next_use_until_it_is_mended(kind: Any, name: str, use: str, bad: float) -> None:
    x, y, z = data()
    model = kind(3)
    model.E_step(x, y, z, {})
    weights, good = model.PredictPi(x, {}), getattr(model, name).clone()
    getattr(model, name).view(-1)[0] = bad
    for _ in range(2):
        with pytest.raises(ValueError, match=f"`{name}` must be finite"):
            USES[use](model, x, y, z)
    setattr(model, name, good)
    torch.testing.assert_close(model.PredictPi(x, {}), weights)


@pytest.mark.usefixtures("bad_arguments")
def test_a_change_of_the_shape_is_refused() -> None:
    x, y, z = data()
    model, own = HyperModelDirichlet(3), HyperModelGateSparsed(3)
    model.m.data = torch.ones(2)
    with pytest.raises(ValueError, match=r"`m` must be a number or a vector of length 3; got shape \[2\]"):
        model.PredictPi(x, {})
    own.E_step(x, y, z, {})
    own.mu_posterior.data = torch.ones(6, 3)
    with pytest.raises(ValueError, match="`mu_posterior` must be a number or have shape"):
        own.PredictPi(x, {})


def test_a_learnt_mu_that_is_changed_is_where_the_m_step_begins() -> None:
    x, y, z = data(40)
    changed, assigned = HyperModelGateSparsed(3, learn_mu=True), HyperModelGateSparsed(3, learn_mu=True)
    for model in (changed, assigned):
        model.E_step(x, y, z, {})
    changed.mu.copy_(M)
    assigned.mu = M
    for model in (changed, assigned):
        model.M_step(x, y, z, {})
    assert torch.equal(changed.mu, assigned.mu)
    before = changed.mu
    changed.E_step(x, y, z, {})
    changed.M_step(x, y, z, {})
    assert changed.mu is not before
