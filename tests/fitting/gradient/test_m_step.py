"""The M-step by SVI: which parameters it trains, and what it leaves unchanged."""

import contextlib
import copy
import pickle
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import ELBO, SVI, Trace_ELBO
from pyro.nn import PyroModule, pyro_method
from pyro.optim import PyroOptim
from torch import Tensor, nn

from mixpyro import LinearExperts, MixtureOfExperts, fit
from mixpyro.fitting.gradient.m_step import MStep
from mixpyro.gates import NeuralGate
from tests.problems import inputs, lines, responsibilities

K = 3


def gate(name: str = "gate") -> NeuralGate:
    """A linear softmax."""
    return NeuralGate(K, nn.Linear(2, K).double(), name=name)


def train(first: nn.Module, m_step: MStep, n_steps: int = 5) -> list[Tensor]:
    """Take a few steps and return the parameters."""
    for _ in range(n_steps):
        m_step.step(inputs(20), responsibilities(20, K))
    return [parameter.detach().clone() for parameter in first.parameters()]


def assert_all_equal(first: list[Tensor], second: list[Tensor]) -> None:
    """Compare bit for bit."""
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def trained_alone(seed: int) -> list[Tensor]:
    """Train a gate drawn under ``seed`` in a program that has no other module."""
    torch.manual_seed(seed)
    only = gate()
    return train(only, MStep(only))


def test_two_gates_of_one_name_each_train_their_own_weights() -> None:
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


def test_the_module_can_be_pickled_after_a_step() -> None:
    one = gate()
    train(one, MStep(one))
    twin = pickle.loads(pickle.dumps(one))
    torch.testing.assert_close(twin.weights(inputs(3)), one.weights(inputs(3)))


def test_steps_under_no_grad_are_the_same() -> None:
    expected = trained_alone(1)
    with torch.no_grad():
        assert_all_equal(trained_alone(1), expected)


def test_adam_keeps_its_state_when_the_module_changes_its_dtype() -> None:
    one = gate()
    m_step = MStep(one)
    train(one, m_step, n_steps=5)
    one.float()
    m_step.step(inputs(20).float(), responsibilities(20, K).float())
    assert one.network.weight.dtype == torch.float32
    for state in m_step.optimizer.state.values():
        assert int(state["step"]) == 6
        assert state["exp_avg"].dtype == torch.float32


def test_it_reaches_the_optimum_of_badly_scaled_inputs() -> None:
    """A column of spread 1000 and mean 5000: the same softmax and the same optimum as with a standardised one."""
    x, r = inputs(200), responsibilities(200, K)
    scaled = x * torch.tensor([1.0, 1000.0]).double() + torch.tensor([0.0, 5000.0]).double()
    reached = []
    for data in (x, scaled):
        one = gate()
        m_step = MStep(one)
        for _ in range(40):
            m_step.improve(data, r, n_steps=50)
        reached.append(one.partial_bound(data, r).item())
    assert abs(reached[0] - reached[1]) < 1e-3


def test_steps_that_lower_the_objective_are_undone() -> None:
    """Every evaluation changes the logits more than the one before; a buffer counts the evaluations."""

    class ChangingLinear(nn.Linear):
        calls: Tensor

        def __init__(self) -> None:
            super().__init__(2, K, dtype=torch.float64)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return super().forward(x) + self.calls * torch.arange(K).double()

    one = NeuralGate(K, ChangingLinear())
    x, r = inputs(20), responsibilities(20, K)
    before = {name: value.clone() for name, value in one.state_dict().items()}
    MStep(one).improve(x, r, n_steps=3)
    calls = before.pop("network.calls")
    assert one.state_dict()["network.calls"] == calls + 1  # the evaluation before the steps
    for name, value in before.items():
        assert torch.equal(one.state_dict()[name], value)


def test_gradients_from_before_change_nothing_and_are_kept() -> None:
    expected = trained_alone(1)
    torch.manual_seed(1)
    one = gate()
    one.weights(inputs(4)).sum().backward()
    gradients = [parameter.grad for parameter in one.parameters()]
    assert_all_equal(train(one, MStep(one)), expected)
    assert all(p.grad is gradient for p, gradient in zip(one.parameters(), gradients, strict=True))


def test_a_frozen_parameter_with_a_gradient_stays_unchanged() -> None:
    one = gate()
    m_step = MStep(one)
    train(one, m_step)
    one.weights(inputs(4))[:, 0].sum().backward()
    *_, bias = one.parameters()
    bias.requires_grad_(False)
    before, gradient = bias.detach().clone(), bias.grad
    train(one, m_step)
    assert torch.equal(bias, before)
    assert bias.grad is gradient


def test_a_step_does_not_use_the_graph_of_the_data() -> None:
    one = gate()
    x = inputs(20).requires_grad_()
    r = (one.expected_log_weights(x) + inputs(20, K)).softmax(-1)
    m_step = MStep(one)
    m_step.step(x, r)
    m_step.step(x, r)
    m_step.improve(x, r, n_steps=2)
    assert x.grad is None


@pytest.mark.parametrize("kind", [nn.Linear, PyroModule[nn.Linear]])
def test_frozen_parameters_stay_frozen(kind: type[nn.Linear]) -> None:
    network = kind(2, K, dtype=torch.float64)
    network.bias.requires_grad_(False)
    one = NeuralGate(K, network)
    bias = network.bias.detach().clone()
    m_step = MStep(one)
    m_step.step(inputs(20), responsibilities(20, K))
    m_step.improve(inputs(20), responsibilities(20, K), n_steps=3)
    assert torch.equal(network.bias, bias)
    assert not network.bias.requires_grad
    assert network.weight.requires_grad


def test_objectives_of_two_gates_with_one_name_are_refused_in_a_program() -> None:
    first, second = gate(), gate()
    for one, outcome in ((first, contextlib.nullcontext()), (second, pytest.raises(RuntimeError, match="own `name`"))):
        with outcome:
            Trace_ELBO().loss_and_grads(one.objective, lambda *_: None, inputs(4), responsibilities(4, K))


def test_the_steps_are_those_of_pyros_svi_over_all_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[object, object, set[torch.Size]]] = []
    step = SVI.step

    def spy(svi: SVI, *args: object) -> object:
        with poutine.trace(param_only=True) as trace:
            loss = step(svi, *args)  # type: ignore[no-untyped-call]
        sites = {torch.as_tensor(site["value"]).shape for site in trace.trace.nodes.values()}
        seen.append((getattr(svi.loss_and_grads, "__self__", None), svi.optim, sites))
        return loss

    monkeypatch.setattr(SVI, "step", spy)
    MStep(gate()).epoch(inputs(20), responsibilities(20, K), batch_size=10)
    assert len(seen) == 2
    for elbo, optimizer, shapes in seen:
        assert isinstance(elbo, ELBO)
        assert isinstance(optimizer, PyroOptim)
        assert optimizer.pt_optim_constructor is torch.optim.Adam
        assert shapes == {torch.Size([K, 2]), torch.Size([K])}


def test_a_step_gives_the_loss_before_it() -> None:
    one = gate()
    x, r = inputs(20), responsibilities(20, K)
    loss = -0.5 * one.partial_bound(x, r).item()
    assert MStep(one).step(x, r, scale=0.5) == pytest.approx(loss)


def test_an_assigned_optimiser_is_the_one_that_steps() -> None:
    one, twin = (NeuralGate(K, copy.deepcopy(network)) for network in [nn.Linear(2, K).double()] * 2)
    m_step, plain = MStep(one), torch.optim.SGD(twin.parameters(), lr=0.1)
    assert isinstance(m_step.optimizer, torch.optim.Adam)
    m_step.optimizer = sgd = torch.optim.SGD(one.parameters(), lr=0.1)
    assert m_step.optimizer is sgd
    for _ in range(3):
        plain.zero_grad()
        (-twin.partial_bound(inputs(20), responsibilities(20, K))).backward()
        plain.step()
    trained = train(one, m_step, n_steps=3)
    for ours, theirs in zip(trained, twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs.detach())


def test_an_assigned_optimiser_changes_its_own_parameters_only() -> None:
    one = gate()
    m_step = MStep(one)
    weight, bias = one.parameters()
    m_step.optimizer = torch.optim.SGD([bias], lr=0.1)
    before = [parameter.detach().clone() for parameter in (weight, bias)]
    train(one, m_step)
    assert torch.equal(weight, before[0])
    assert not torch.equal(bias, before[1])


@pytest.mark.usefixtures("bad_arguments")
@pytest.mark.parametrize("make", [lambda p: "adam", lambda p: torch.optim.LBFGS(p), lambda p: torch.optim.Adam])
def test_what_cannot_step_is_refused_as_an_optimiser(make: Callable[[list[nn.Parameter]], object]) -> None:
    one = gate()
    m_step = MStep(one)
    before = m_step.optimizer
    with pytest.raises(TypeError, match=r"`optimizer` must be a torch\.optim\.Optimizer whose step"):
        m_step.optimizer = make(list(one.parameters()))  # type: ignore[assignment]
    assert m_step.optimizer is before


def pyro_linear(kind: Callable[..., nn.Module]) -> nn.Module:
    """Make a layer of a class derived by PyroModule."""
    return kind(2, K).double()


def test_networks_of_pyro_modules_take_the_same_steps() -> None:
    torch.manual_seed(1)
    one = NeuralGate(K, pyro_linear(PyroModule[nn.Linear]))
    assert_all_equal(train(one, MStep(one)), trained_alone(1))


def test_the_objective_of_a_subclass_is_the_one_maximised() -> None:
    class TowardsThree(NeuralGate):
        @pyro_method
        def objective(self, *rows: Tensor) -> None:
            pyro.factor(self.site("objective"), -(linear.weight - 3.0).square().sum())

    linear = nn.Linear(2, K).double()
    one = TowardsThree(K, linear)
    m_step = MStep(one)
    before = (linear.weight - 3.0).abs().max()
    bias = linear.bias.detach().clone()
    for _ in range(20):
        m_step.step(inputs(20), responsibilities(20, K), lr=0.1)
    assert (linear.weight - 3.0).abs().max() < before - 1.0
    assert torch.equal(linear.bias, bias)


def test_tied_weights_stay_tied_and_lazy_ones_get_their_shape() -> None:
    torch.manual_seed(1)
    layer = nn.Linear(K, K).double()
    tied = NeuralGate(K, nn.Sequential(nn.LazyLinear(K, dtype=torch.float64), layer, nn.Tanh(), layer))
    m_step = MStep(tied)
    losses = [m_step.step(inputs(20), responsibilities(20, K), lr=0.05) for _ in range(20)]
    m_step.epoch(inputs(20), responsibilities(20, K), batch_size=8)
    assert losses[-1] < losses[0]
    assert tied.network[1] is tied.network[3]  # type: ignore[index]
    assert len(list(tied.parameters())) == 4


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


def test_an_m_step_can_be_pickled_with_its_state() -> None:
    one = gate()
    m_step = MStep(one)
    train(one, m_step)
    twin = pickle.loads(pickle.dumps(m_step))
    assert_all_equal(train(twin.module, twin), train(one, m_step))


def many_rows() -> tuple[Tensor, Tensor]:
    """Make enough rows for subsamples of them."""
    x = inputs(8000)
    return x, (2.0 * x @ torch.ones(2, K).double().cumsum(1) + inputs(8000, K)).softmax(-1)


def optimum(x: Tensor, r: Tensor) -> float:
    """Maximise the same objective over all rows in plain torch."""
    linear = nn.Linear(2, K).double()
    lbfgs = torch.optim.LBFGS(linear.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        lbfgs.zero_grad()
        mean = -(r * linear(x).log_softmax(-1)).sum() / len(x)
        mean.backward()
        return mean

    lbfgs.step(loss)
    return -len(x) * loss().item()


class RowCounter(nn.Linear):
    """A linear layer that records how many rows each evaluation has.

    Attributes:
        n_rows: one number per evaluation since it was last emptied.
    """

    def __init__(self) -> None:
        super().__init__(2, K, dtype=torch.float64)
        self.n_rows: set[int] = set()

    def forward(self, x: Tensor) -> Tensor:
        """Evaluate and record."""
        self.n_rows.add(len(x))
        return super().forward(x)


def test_steps_on_subsamples_lead_to_the_optimum_of_all_rows() -> None:
    x, r = many_rows()
    counter = RowCounter()
    one = NeuralGate(K, counter)
    MStep(one).improve(x, r, n_steps=100, tolerance=1e-12)
    assert counter.n_rows == {2000, 8000}
    assert one.partial_bound(x, r).item() == pytest.approx(optimum(x, r), abs=1e-6 * len(x))


def test_steps_on_subsamples_that_lower_the_objective_are_undone_and_not_repeated() -> None:
    x, r = many_rows()
    counter = RowCounter()
    one = NeuralGate(K, counter)
    m_step = MStep(one)
    for _ in range(3):
        before = one.partial_bound(x, r).item()
        counter.n_rows.clear()
        m_step.improve(x, r, n_steps=100)
        assert one.partial_bound(x, r).item() >= before
    assert counter.n_rows == {8000}


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


def test_a_graph_from_before_an_m_step_is_refused_after_it() -> None:
    """The parameters that it was made with have changed, so its gradients would be wrong."""
    network = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, K)).double()
    one = NeuralGate(K, network)
    before = one.expected_log_weights(inputs(20))
    MStep(one).epoch(inputs(20), responsibilities(20, K), batch_size=5)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        before.sum().backward()
