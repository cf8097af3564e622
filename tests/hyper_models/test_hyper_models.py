"""The adapters, to the letter of what they replace."""

import copy
import inspect
import json
import pickle
from typing import Any

import pyro
import pytest
import torch
from pyro.distributions import Gamma
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from mixpyro.hyper_models import HyperExpertNN, HyperModel, HyperModelDirichlet, HyperModelGateSparsed
from tests.conftest import DATA
from tests.problems import inputs, responsibilities

KNOWN = json.loads((DATA / "hyper_models_seed_42.json").read_text())
CLASSES: dict[str, Any] = {c.__name__: c for c in (HyperModelDirichlet, HyperModelGateSparsed, HyperExpertNN)}
NO_HYPER_PARAMETERS: dict[str, Tensor] = {}


def seed_42_data() -> tuple[Tensor, Tensor, Tensor]:
    """X, Y and Z of the documentation's examples."""
    torch.random.manual_seed(42)
    w = torch.randn(2, 1)
    x = torch.randn(5, 2)
    z = torch.distributions.dirichlet.Dirichlet(torch.tensor([0.5, 0.5])).sample((5,))
    return x, x @ w + 0.1 * torch.randn(5, 1), z


def small(name: str, dtype: torch.dtype = torch.float32) -> Any:
    """One model of each class for two features and three components."""
    if name == "HyperExpertNN":
        return HyperExpertNN(input_dim=2, output_dim=3, epochs=2).to(dtype)
    return CLASSES[name](output_dim=3)


def data(n_objects: int = 7, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """X, Y and Z for it."""
    return (
        inputs(n_objects, dtype=dtype),
        inputs(n_objects, 1, dtype=dtype),
        responsibilities(n_objects, 3, dtype=dtype),
    )


def plain_m_step(network: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, z: Tensor, epochs: int) -> None:
    """The loop that HyperExpertNN.M_step describes, in PyTorch alone."""
    for _ in range(epochs):
        for x_batch, z_batch in DataLoader(TensorDataset(x, z), batch_size=128, shuffle=True):
            optimizer.zero_grad()
            loss = -(z_batch * torch.log_softmax(network(x_batch), dim=-1)).mean()
            loss.backward()
            optimizer.step()


@pytest.mark.parametrize("name", CLASSES)
def test_the_documentations_values(name: str) -> None:
    x, y, z = seed_42_data()
    model = CLASSES[name](**KNOWN[name]["arguments"])
    before, after = [torch.tensor(value) for key, value in KNOWN[name].items() if key != "arguments"]
    torch.testing.assert_close(model.LogPiExpectation(x, y, {}), before, rtol=0, atol=5.001e-5)
    model.E_step(x, y, z, {})
    if name == "HyperExpertNN":
        torch.testing.assert_close(model.LogPiExpectation(x, y, {}), before, rtol=0, atol=5.001e-5)
    model.M_step(x, y, z, {})
    torch.testing.assert_close(model.LogPiExpectation(x, y, {}), after, rtol=0, atol=5.001e-5)


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


def test_the_base_class_only_raises() -> None:
    x, y, z = data()
    with pytest.raises(NotImplementedError):
        HyperModel().E_step(x, y, z, {})
    with pytest.raises(NotImplementedError):
        HyperModel().M_step(x, y, z, {})
    with pytest.raises(NotImplementedError):
        HyperModel().LogPiExpectation(x, y, {})
    with pytest.raises(NotImplementedError):
        HyperModel().PredictPi(x, {})


@pytest.mark.parametrize("name", CLASSES)
def test_signatures_are_kept(name: str) -> None:
    expected = {
        "HyperModelDirichlet": ["output_dim", "device"],
        "HyperModelGateSparsed": ["output_dim", "gamma", "mu", "device"],
        "HyperExpertNN": ["input_dim", "hidden_dim", "output_dim", "epochs", "device"],
    }[name]
    parameters = inspect.signature(CLASSES[name]).parameters.values()
    assert [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY] == expected
    assert all(p.default is not p.empty for p in parameters)
    assert isinstance(CLASSES[name](), HyperModel)
    for method, arguments in {
        "E_step": ["X", "Y", "Z", "HyperParameters"],
        "M_step": ["X", "Y", "Z", "HyperParameters"],
        "LogPiExpectation": ["X", "Y", "HyperParameters"],
        "PredictPi": ["X", "HyperParameters"],
    }.items():
        assert list(inspect.signature(getattr(CLASSES[name], method)).parameters)[1:] == arguments


def test_dirichlet_attributes() -> None:
    model = HyperModelDirichlet(output_dim=3)
    assert (model.output_dim, model.device, model.N) == (3, "cpu", 0)
    assert torch.equal(model.mu, torch.ones(3))
    assert torch.equal(model.m, model.mu)
    x, y, z = data()
    model.E_step(x, y, z, {})
    assert model.N == 7
    torch.testing.assert_close(model.m, 1 + z.sum(0))
    assert torch.equal(model.mu, torch.ones(3))


def test_the_dirichlet_normaliser_is_the_sum_of_m() -> None:
    """Where mu is not one and rows of Z carry weights, ψ(K·mu + N) is another number."""
    model = HyperModelDirichlet(3, mu=torch.tensor([0.5, 2.0, 4.0]))
    x, y, z = data(dtype=torch.float64)
    model.E_step(x, y, 2.5 * z, {})
    m = torch.tensor([0.5, 2.0, 4.0]).double() + 2.5 * z.sum(0)
    expected = torch.digamma(m) - torch.digamma(m.sum())
    torch.testing.assert_close(model.LogPiExpectation(x, y, {}), expected.expand(7, 3))
    torch.testing.assert_close(model.PredictPi(x, {}), (m / m.sum()).expand(7, 3))


def test_gate_sparsed_attributes() -> None:
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


def test_gate_sparsed_gives_unseen_objects_the_populations_weights() -> None:
    model = HyperModelGateSparsed(3, mu=torch.tensor([1.0, 1.0, 2.0]))
    x, y, z = data()
    model.E_step(x, y, z, {})
    unseen = inputs(4, dtype=torch.float32)
    torch.testing.assert_close(model.PredictPi(unseen, {}), torch.tensor([[0.25, 0.25, 0.5]]).expand(4, 3))
    prior = torch.digamma(torch.tensor([0.25, 0.25, 0.5])) - torch.digamma(torch.tensor(1.0))
    torch.testing.assert_close(model.LogPiExpectation(unseen, y, {}), prior.expand(4, 3))


def test_a_gate_sparsed_of_more_than_two_components_has_a_default_mu() -> None:
    torch.testing.assert_close(HyperModelGateSparsed(output_dim=3).mu, torch.full((3,), 1 / 3))


def test_expert_nn_layers_and_state() -> None:
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


def test_expert_nn_keeps_the_gradient_and_the_dirichlets_have_none() -> None:
    x, y, z = data()
    network = small("HyperExpertNN")
    network.LogPiExpectation(x, y, {})[:, 0].sum().backward()
    assert network.linear1.weight.grad is not None
    assert network.PredictPi(x, {}).requires_grad
    for name in ("HyperModelDirichlet", "HyperModelGateSparsed"):
        model = small(name)
        model.E_step(x, y, z.requires_grad_(), {})
        assert not model.LogPiExpectation(x, y, {}).requires_grad
        assert not model.PredictPi(x, {}).requires_grad


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_results_have_the_dtype_of_the_data_and_may_be_changed(name: str, dtype: torch.dtype) -> None:
    x, y, z = data(dtype=dtype)
    model = small(name, dtype)
    for _ in range(2):
        for result in (model.LogPiExpectation(x, y, {}), model.PredictPi(x, {})):
            assert result.shape == (7, 3)
            assert result.dtype == dtype
            with torch.no_grad():
                kept = result.detach().clone()
                result[0] += 1.0
                torch.testing.assert_close(result[1:], kept[1:])
        model.E_step(x, y, z, {})
        model.M_step(x, y, z, {})


def test_a_float32_network_takes_float64_data() -> None:
    x, y, z = data(dtype=torch.float64)
    model = small("HyperExpertNN")
    model.M_step(x, y, z, {})
    assert model.PredictPi(x, {}).dtype == torch.float64


def test_a_copy_and_a_pickle_go_on_alone() -> None:
    """Adam's state goes with them; the copies' gates hold the copies."""
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


def test_mu_of_the_dirichlet_is_learnt_on_demand() -> None:
    x, y, z = data(40)
    model = HyperModelDirichlet(3, mu_prior=Gamma(2.0, 1.0))
    for _ in range(3):
        model.E_step(x, y, z, {})
        model.M_step(x, y, z, {})
    assert (model.mu - 1.0).abs().max() > 0.1
    fixed = HyperModelDirichlet(3)
    fixed.M_step(x, y, z, {})
    assert torch.equal(fixed.mu, torch.ones(3))


def test_mu_of_gate_sparsed_is_learnt_on_demand() -> None:
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


def state_of(model: HyperModel) -> list[Tensor]:
    """Everything that a call could have changed."""
    gate = model.gate  # type: ignore[attr-defined]
    return [tensor.detach().clone() for tensor in (*gate.buffers(), *gate.parameters())]


@pytest.mark.usefixtures("bad_arguments")
@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (-torch.ones(7, 3), ValueError, "`Z` must be finite and non-negative; got values from -1 to -1"),
        (torch.full((7, 3), float("nan")), ValueError, "`Z` must be finite and non-negative; got values from nan"),
        (torch.full((7, 3), float("inf")), ValueError, "`Z` must be finite and non-negative; got values from inf"),
        (torch.ones(7, 4), ValueError, r"`Z` must have shape \[7, 3\].*got \[7, 4\]"),
        (torch.ones(6, 3), ValueError, r"`Z` must have shape \[7, 3\].*got \[6, 3\]"),
        (torch.ones(7), ValueError, r"`Z` must have shape \[7, 3\].*got \[7\]"),
        ([[1.0] * 3] * 7, TypeError, "`Z` must be a torch.Tensor; got list"),
    ],
)
def test_bad_z_is_refused(name: str, bad: object, error: type[Exception], message: str) -> None:
    x, y, z = data()
    model = small(name)
    model.E_step(x, y, z, {})
    state, random_state = state_of(model), torch.get_rng_state()
    for method in (model.M_step,) if name == "HyperExpertNN" else (model.E_step,):
        with pytest.raises(error, match=message):
            method(x, y, bad, {})
    for before, after in zip(state, state_of(model), strict=True):
        assert torch.equal(before, after)
    assert torch.equal(random_state, torch.get_rng_state())


@pytest.mark.usefixtures("bad_arguments")
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.ones(7, 3), r"`X` must have shape \[N, 2\].*got \[7, 3\]"),
        (torch.full((7, 2), float("nan")), "`X` must be finite; got 14 NaN"),
        (torch.ones(2), r"`X` must have shape \[N, 2\].*got \[2\]"),
    ],
)
def test_bad_x_is_refused_by_the_network(bad: Tensor, message: str) -> None:
    _, y, z = data()
    model = small("HyperExpertNN")
    state = state_of(model)
    with pytest.raises(ValueError, match=message):
        model.M_step(bad, y, z, {})
    for before, after in zip(state, state_of(model), strict=True):
        assert torch.equal(before, after)


def test_an_em_loop_may_pass_z_with_its_graph() -> None:
    """Z from LogPiExpectation, which keeps its gradient."""
    x, y, z = data(dtype=torch.float64)
    network = small("HyperExpertNN", torch.float64)
    twin = copy.deepcopy(network)
    attached = (network.LogPiExpectation(x, y, {}) + z).softmax(-1)
    for model, weights in ((network, attached), (twin, attached.detach())):
        torch.manual_seed(1)
        model.M_step(x, y, weights, {})
    assert torch.equal(network.PredictPi(x, {}), twin.PredictPi(x, {}))


@pytest.mark.usefixtures("bad_arguments")
@pytest.mark.parametrize("name", CLASSES)
def test_an_x_that_is_no_table_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match=r"`X` must be a torch.Tensor; got list"):
        small(name).PredictPi([[0.0, 0.0]], {})
    with pytest.raises(ValueError, match="`X` must have"):
        small(name).PredictPi(torch.tensor(1.0), {})


def test_with_validation_off_z_is_used_as_it_is() -> None:
    x, y, z = data()
    for name in CLASSES:
        model = small(name)
        with pyro.validation_enabled(False):
            model.E_step(x, y, -0.05 * z, {})
            model.M_step(x, y, -0.05 * z, {})
    network = small("HyperExpertNN")
    reference = copy.deepcopy(network)
    torch.manual_seed(1)
    with pyro.validation_enabled(False):
        network.M_step(x, y, -z, {})
    torch.manual_seed(1)
    plain_m_step(reference, torch.optim.Adam(reference.parameters()), x, -z, epochs=2)
    torch.testing.assert_close(network.linear1.weight, reference.linear1.weight, rtol=1e-6, atol=1e-7)
    dirichlet = HyperModelDirichlet(3)
    with pyro.validation_enabled(False):
        dirichlet.E_step(x, y, -0.1 * z, {})
    torch.testing.assert_close(dirichlet.m, 1 - 0.1 * z.sum(0))


@pytest.mark.usefixtures("bad_arguments")
@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"output_dim": 0}, ValueError, "`output_dim` must be at least 1; got 0"),
        ({"output_dim": 2.0}, TypeError, "`output_dim` must be an integer; got 2.0"),
        ({"device": "tpu"}, ValueError, "`device` must be 'cpu', 'cuda'.*got 'tpu'"),
        ({"device": 5}, TypeError, "`device` must be a string or a torch.device; got 5"),
        ({"device": "cuda:99"}, RuntimeError, "`device` must be present on this machine; got 'cuda:99'"),
    ],
)
def test_bad_constructor_arguments_are_refused(
    name: str, arguments: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        CLASSES[name](**arguments)


@pytest.mark.usefixtures("bad_arguments")
def test_a_mu_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`mu` must be a number or a vector of length 3; got shape \[2\]"):
        HyperModelGateSparsed(output_dim=3, mu=torch.ones(2))
    with pytest.raises(ValueError, match=r"`gamma` must be finite and above 0; got 0\.0"):
        HyperModelGateSparsed(gamma=0.0)
    with pytest.raises(ValueError, match="`epochs` must be at least 0; got -1"):
        HyperExpertNN(epochs=-1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("name", CLASSES)
def test_gpu_means_cuda(name: str) -> None:
    with pytest.raises(RuntimeError, match="`device` must be present on this machine; got 'cuda' and 0 CUDA devices"):
        CLASSES[name](device="gpu")


@pytest.mark.cuda
@pytest.mark.parametrize("name", CLASSES)
def test_on_cuda_as_on_cpu(name: str) -> None:
    x, y, z = data()
    torch.manual_seed(0)
    on_cpu = small(name)
    torch.manual_seed(0)
    on_cuda = CLASSES[name](**{"output_dim": 3, "device": "gpu"} | ({"input_dim": 2} if "NN" in name else {}))
    on_cuda.epochs = 2
    for model in (on_cpu, on_cuda):
        torch.manual_seed(1)
        model.E_step(x, y, z, {})
        model.M_step(x, y, z, {})
    for method, arguments in (("PredictPi", (x, {})), ("LogPiExpectation", (x, y, {}))):
        result = getattr(on_cuda, method)(*arguments)
        assert result.is_cuda
        torch.testing.assert_close(result.cpu(), getattr(on_cpu, method)(*arguments), rtol=1e-4, atol=1e-5)
