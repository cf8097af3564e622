"""What all hyper models share: printed values, signatures, dtypes and checks."""

import inspect
import json

import pyro
import pytest
import torch
from torch import Tensor

from mixpyro.hyper_models import HyperModel
from tests.conftest import DATA
from tests.hyper_models.models import CLASSES, data, small

KNOWN = json.loads((DATA / "hyper_models_seed_42.json").read_text())


def seed_42_data() -> tuple[Tensor, Tensor, Tensor]:
    """Draw X, Y and Z of the examples in the documentation."""
    torch.random.manual_seed(42)
    w = torch.randn(2, 1)
    x = torch.randn(5, 2)
    z = torch.distributions.dirichlet.Dirichlet(torch.tensor([0.5, 0.5])).sample((5,))
    return x, x @ w + 0.1 * torch.randn(5, 1), z


@pytest.mark.parametrize("name", CLASSES)
def test_the_values_printed_in_the_documentation_are_reproduced(name: str) -> None:
    x, y, z = seed_42_data()
    model = CLASSES[name](**KNOWN[name]["arguments"])
    before, after = [torch.tensor(value) for key, value in KNOWN[name].items() if key != "arguments"]
    torch.testing.assert_close(model.LogPiExpectation(x, y, {}), before, rtol=0, atol=5.001e-5)
    model.E_step(x, y, z, {})
    if name == "HyperExpertNN":
        torch.testing.assert_close(model.LogPiExpectation(x, y, {}), before, rtol=0, atol=5.001e-5)
    model.M_step(x, y, z, {})
    torch.testing.assert_close(model.LogPiExpectation(x, y, {}), after, rtol=0, atol=5.001e-5)


def test_every_method_of_the_base_class_raises() -> None:
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


def test_results_of_the_network_have_a_gradient_and_those_of_dirichlets_have_none() -> None:
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
def test_results_have_the_dtype_of_the_data_and_may_be_changed_in_place(name: str, dtype: torch.dtype) -> None:
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


def state_of(model: HyperModel) -> list[Tensor]:
    """Copy everything that a call could have changed."""
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
def test_a_bad_z_is_refused_and_changes_nothing(name: str, bad: object, error: type[Exception], message: str) -> None:
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
@pytest.mark.parametrize("name", CLASSES)
def test_an_x_that_is_no_tensor_of_rows_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match=r"`X` must be a torch.Tensor; got list"):
        small(name).PredictPi([[0.0, 0.0]], {})
    with pytest.raises(ValueError, match="`X` must have"):
        small(name).PredictPi(torch.tensor(1.0), {})


@pytest.mark.parametrize("name", CLASSES)
def test_with_validation_off_a_negative_z_is_used(name: str) -> None:
    x, y, z = data()
    model = small(name)
    with pyro.validation_enabled(False):
        model.E_step(x, y, -0.05 * z, {})
        model.M_step(x, y, -0.05 * z, {})
    assert torch.isfinite(model.PredictPi(x, {})).all()


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


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("name", CLASSES)
def test_gpu_means_cuda(name: str) -> None:
    with pytest.raises(RuntimeError, match="`device` must be present on this machine; got 'cuda' and 0 CUDA devices"):
        CLASSES[name](device="gpu")


@pytest.mark.cuda
@pytest.mark.parametrize("name", CLASSES)
def test_results_on_cuda_are_those_on_the_cpu(name: str) -> None:
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
