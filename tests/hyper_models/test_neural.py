"""The hyper model whose weights a neural network computes."""

import copy
import pickle
from collections.abc import Callable

import pyro
import pytest
import torch
from torch import Tensor

from mixpyro.hyper_models import HyperExpertNN
from tests.hyper_models.models import data, plain_m_step, small
from tests.problems import inputs, responsibilities

Optimisers = Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_the_m_step_gives_the_weights_of_the_plain_loop(dtype: torch.dtype, tolerance: float) -> None:
    """To a tolerance relative to the largest weight of each layer; the minibatches are the same ones."""
    x, z = inputs(1000, 5, dtype=dtype), responsibilities(1000, 3, dtype=dtype)
    model = HyperExpertNN(input_dim=5, output_dim=3, epochs=4).to(dtype)
    reference = copy.deepcopy(model)
    optimizer = torch.optim.Adam(reference.parameters())
    torch.manual_seed(1)
    for _ in range(3):
        model.M_step(x, x, z, {})
    state = torch.get_rng_state()
    torch.manual_seed(1)
    for _ in range(3):
        plain_m_step(reference, optimizer, x, z, epochs=4)
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance * float(theirs.detach().abs().max()))
    assert torch.equal(state, torch.get_rng_state())


def test_layers_state_and_logits() -> None:
    model = HyperExpertNN(input_dim=4, hidden_dim=6, output_dim=3, epochs=5)
    assert (model.input_dim, model.output_dim, model.epochs, model.device) == (4, 3, 5, "cpu")
    assert list(model.state_dict()) == [f"linear{i}.{part}" for i in (1, 2, 3) for part in ("weight", "bias")]
    x = inputs(5, 4, dtype=torch.float32)
    expected = model.linear3(torch.relu(model.linear2(torch.relu(model.linear1(x)))))
    assert torch.equal(model(x), expected)
    torch.testing.assert_close(model.PredictPi(x, {}), expected.softmax(-1))
    twin = HyperExpertNN(input_dim=4, hidden_dim=6, output_dim=3)
    twin.load_state_dict(model.state_dict())
    assert torch.equal(twin(x), expected)
    assert len(list(model.parameters())) == 6


def test_a_float32_network_takes_float64_data_and_returns_float64() -> None:
    x, y, z = data(dtype=torch.float64)
    model = small("HyperExpertNN")
    model.M_step(x, y, z, {})
    assert model.PredictPi(x, {}).dtype == torch.float64


def test_a_copy_and_a_pickle_have_the_state_and_train_alone() -> None:
    """Adam's state is copied, and the gate of a copy holds the copy."""
    x, y, z = data(40)
    model = HyperExpertNN(input_dim=2, output_dim=3, epochs=2)
    model.M_step(x, y, z, {})
    twins = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    results = []
    for one in (model, *twins):
        torch.manual_seed(9)
        one.M_step(x, y, z, {})
        results.append(one.PredictPi(x, {}))
        pyro.clear_param_store()
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_the_default_optimizer_is_adam_over_the_three_layers() -> None:
    model = small("HyperExpertNN")
    optimizer = model.optimizer
    assert isinstance(optimizer, torch.optim.Adam)
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert {id(parameter) for parameter in held} == {id(parameter) for parameter in model.parameters()}
    x, y, z = data()
    model.M_step(x, y, z, {})
    assert model.optimizer is optimizer
    assert {int(state["step"]) for state in optimizer.state.values()} == {2}


OPTIMISERS: dict[str, Optimisers] = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=0.01),
    "one layer": lambda parameters: torch.optim.Adam(parameters[-2:], lr=0.01),
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_the_m_step_uses_an_optimizer_that_is_assigned(name: str) -> None:
    x, z = inputs(300, 2), responsibilities(300, 3)
    model = small("HyperExpertNN", torch.float64)
    reference = copy.deepcopy(model)
    model.optimizer = assigned = OPTIMISERS[name](list(model.parameters()))
    assert model.optimizer is assigned
    optimizer = OPTIMISERS[name](list(reference.parameters()))
    torch.manual_seed(1)
    for _ in range(2):
        model.M_step(x, x, z, {})
    torch.manual_seed(1)
    for _ in range(2):
        plain_m_step(reference, optimizer, x, z, epochs=2)
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_a_changed_step_size_and_a_scheduler_take_effect() -> None:
    x, y, z = data()
    model, reference = small("HyperExpertNN"), small("HyperExpertNN")
    reference.load_state_dict(model.state_dict())
    model.optimizer.param_groups[0]["lr"] = 0.02
    scheduler = torch.optim.lr_scheduler.ExponentialLR(model.optimizer, gamma=0.5)
    optimizer = torch.optim.Adam(reference.parameters(), lr=0.02)
    for rate in (0.02, 0.01):
        optimizer.param_groups[0]["lr"] = rate
        model.M_step(x, y, z, {})
        scheduler.step()
        plain_m_step(reference, optimizer, x, z, epochs=2)
    torch.testing.assert_close(model.linear1.weight, reference.linear1.weight, rtol=1e-6, atol=1e-6)


@pytest.mark.usefixtures("bad_arguments")
def test_what_is_no_optimizer_is_refused_and_changes_nothing() -> None:
    model = small("HyperExpertNN")
    before = model.optimizer
    for bad in ("adam", torch.optim.Adam, torch.optim.LBFGS(model.parameters())):
        with pytest.raises(TypeError, match=r"`optimizer` must be a torch\.optim\.Optimizer whose step"):
            model.optimizer = bad
    assert model.optimizer is before


@pytest.mark.usefixtures("bad_arguments")
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.ones(7, 3), r"`X` must have shape \[N, 2\].*got \[7, 3\]"),
        (torch.full((7, 2), float("nan")), "`X` must be finite; got 14 NaN"),
        (torch.ones(2), r"`X` must have shape \[N, 2\].*got \[2\]"),
    ],
)
def test_a_bad_x_is_refused_and_changes_nothing(bad: Tensor, message: str) -> None:
    _, y, z = data()
    model = small("HyperExpertNN")
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=message):
        model.M_step(bad, y, z, {})
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


def test_a_z_with_its_graph_is_taken_as_numbers() -> None:
    """Such a Z comes from ``LogPiExpectation``, whose result has a gradient."""
    x, y, z = data(dtype=torch.float64)
    network = small("HyperExpertNN", torch.float64)
    twin = copy.deepcopy(network)
    attached = (network.LogPiExpectation(x, y, {}) + z).softmax(-1)
    for model, weights in ((network, attached), (twin, attached.detach())):
        torch.manual_seed(1)
        model.M_step(x, y, weights, {})
    assert torch.equal(network.PredictPi(x, {}), twin.PredictPi(x, {}))


def test_with_validation_off_a_negative_z_is_used_as_it_is() -> None:
    x, y, z = data()
    model = small("HyperExpertNN")
    reference = copy.deepcopy(model)
    torch.manual_seed(1)
    with pyro.validation_enabled(False):
        model.M_step(x, y, -z, {})
    torch.manual_seed(1)
    plain_m_step(reference, torch.optim.Adam(reference.parameters()), x, -z, epochs=2)
    torch.testing.assert_close(model.linear1.weight, reference.linear1.weight, rtol=1e-6, atol=1e-7)


@pytest.mark.usefixtures("bad_arguments")
def test_a_negative_number_of_epochs_is_refused() -> None:
    with pytest.raises(ValueError, match="`epochs` must be at least 0; got -1"):
        HyperExpertNN(epochs=-1)
