"""An M-step trains its own module only, and leaves everything else of the user's unchanged."""

import contextlib
import copy
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor

import pyro
import pytest
import torch
from pyro.infer import Trace_ELBO
from torch import nn

from mixpyro import LinearExperts, MixtureOfExperts, fit
from mixpyro.fitting.gradient.m_step import MStep
from mixpyro.gates import NeuralGate
from tests.fitting.gradient.linear_gates import K, assert_all_equal, gate, train, trained_alone
from tests.problems import inputs, lines, responsibilities


def test_two_gates_of_one_name_train_their_own_weights() -> None:
    expected = trained_alone(1), trained_alone(2)
    gates = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        gates.append(gate())
    steps = [MStep(one) for one in gates]
    for _ in range(5):
        results = [train(one, m_step, n_steps=1) for one, m_step in zip(gates, steps, strict=True)]
    for result, wanted in zip(results, expected, strict=True):
        assert_all_equal(result, wanted)


def test_a_deep_copy_trains_its_own_weights() -> None:
    expected = trained_alone(1)
    torch.manual_seed(1)
    original = gate()
    m_step = MStep(original)
    train(original, m_step, n_steps=2)
    before = [parameter.detach().clone() for parameter in original.parameters()]
    twin_step = copy.deepcopy(m_step)
    twin = twin_step.module
    assert_all_equal(train(twin, twin_step, n_steps=3), expected)
    assert_all_equal([parameter.detach() for parameter in original.parameters()], before)
    assert_all_equal(train(original, m_step, n_steps=3), expected)


def test_clearing_the_parameter_store_between_steps_changes_nothing() -> None:
    expected = trained_alone(1)
    torch.manual_seed(1)
    one = gate()
    m_step = MStep(one)
    for _ in range(5):
        result = train(one, m_step, n_steps=1)
        pyro.clear_param_store()
    assert_all_equal(result, expected)


def test_parameters_of_the_user_with_the_same_name_stay_unchanged() -> None:
    theirs = torch.ones(K, 2, dtype=torch.float64)
    pyro.param("gate.network$$$weight", theirs)
    one = gate()
    before = one.network.weight.detach().clone()  # type: ignore[operator]
    train(one, MStep(one))
    assert list(pyro.get_param_store()) == ["gate.network$$$weight"]
    assert torch.equal(pyro.param("gate.network$$$weight"), theirs)
    assert not torch.equal(one.network.weight, before)  # type: ignore[arg-type]


def test_module_local_parameters_change_nothing() -> None:
    expected = trained_alone(1)
    with pyro.settings.context(module_local_params=True):
        assert_all_equal(trained_alone(1), expected)


def test_objectives_of_two_gates_with_one_name_are_refused_in_a_program() -> None:
    first, second = gate(), gate()
    for one, outcome in ((first, contextlib.nullcontext()), (second, pytest.raises(RuntimeError, match="own `name`"))):
        with outcome:
            Trace_ELBO().loss_and_grads(one.objective, lambda *_: None, inputs(4), responsibilities(4, K))


def test_steps_under_no_grad_are_the_same() -> None:
    expected = trained_alone(1)
    with torch.no_grad():
        assert_all_equal(trained_alone(1), expected)


def test_gradients_from_before_change_nothing_and_are_kept() -> None:
    expected = trained_alone(1)
    torch.manual_seed(1)
    one = gate()
    one.expected_log_weights(inputs(4)).sum().backward()
    gradients = [parameter.grad for parameter in one.parameters()]
    assert_all_equal(train(one, MStep(one)), expected)
    assert all(p.grad is gradient for p, gradient in zip(one.parameters(), gradients, strict=True))


def test_a_step_does_not_use_the_graph_of_the_data() -> None:
    one = gate()
    x = inputs(20).requires_grad_()
    r = (one.expected_log_weights(x) + inputs(20, K)).softmax(-1)
    m_step = MStep(one)
    m_step.step(x, r)
    m_step.step(x, r)
    m_step.improve(x, r, n_steps=2)
    assert x.grad is None


def test_parameters_stay_in_their_storage_and_share_none() -> None:
    one = gate()
    snapshot = one.state_dict()
    m_step = MStep(one)
    train(one, m_step)
    for name, parameter in one.named_parameters():
        assert snapshot[name].data_ptr() == parameter.data_ptr()
    assert len({p.untyped_storage().data_ptr() for p in one.parameters()}) == 2
    one.load_state_dict({name: torch.zeros_like(value) for name, value in snapshot.items()})
    m_step.step(inputs(20), responsibilities(20, K), lr=0.0)
    assert all((parameter == 0.0).all() for parameter in one.parameters())


def test_a_graph_from_before_an_m_step_is_refused_after_it() -> None:
    """The parameters that it was made with have changed, so its gradients would be wrong."""
    network = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, K)).double()
    one = NeuralGate(K, network)
    before = one.expected_log_weights(inputs(20))
    MStep(one).epoch(inputs(20), responsibilities(20, K), batch_size=5)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        before.sum().backward()


def test_the_module_can_be_pickled_after_a_step() -> None:
    one = gate()
    train(one, MStep(one))
    twin = pickle.loads(pickle.dumps(one))
    torch.testing.assert_close(twin.weights(inputs(3)), one.weights(inputs(3)))


def test_an_m_step_can_be_pickled_with_its_state() -> None:
    one = gate()
    m_step = MStep(one)
    train(one, m_step)
    twin = pickle.loads(pickle.dumps(m_step))
    assert_all_equal(train(twin.module, twin), train(one, m_step))


def test_fits_in_several_threads_agree() -> None:
    """Pyro's store and stack of handlers belong to the process, so M-steps wait for each other."""

    def run(number: int) -> float:
        network = nn.Linear(1, 2).double()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.fill_(0.1)
        x, y, _ = lines(40, 2)
        mixture = MixtureOfExperts(NeuralGate(2, network, prior_scale=1.0), LinearExperts(2, 1))
        return fit(mixture, x, y, n_restarts=1, max_iterations=5, progress=False).bound

    with warnings.catch_warnings(), ThreadPoolExecutor(3) as pool:
        warnings.simplefilter("ignore")
        bounds = list(pool.map(run, range(6)))
    assert len(set(bounds)) == 1
    assert not len(pyro.get_param_store())
