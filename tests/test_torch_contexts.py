"""Autocast, inference mode and default devices around public calls: results are the same as outside of them."""

import contextlib
import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pyro
import pytest
import torch
from pyro.distributions import Normal
from pyro.optim import ClippedAdam
from torch import Tensor, nn
from torch.distributions import MixtureSameFamily

from mixpyro import SoftmaxGate, StreamingFit, coefficients, criteria, fit, load, save, to_arviz
from mixpyro.arguments import make_normal
from mixpyro.fitting.minibatches import fit_minibatches
from mixpyro.hyper_models import HyperExpertNN, HyperModelDirichlet, HyperModelGateSparsed
from mixpyro.mixture import MixtureOfExperts
from mixpyro.programs.conjugate_svi import ConjugateSVI
from tests.problems import in_plate
from tests.products import PAIRS, data, fitted, mixture

pytestmark = [
    pytest.mark.usefixtures("without_type_checks"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]
SHORT = {"n_restarts": 1, "n_candidates": 1, "max_iterations": 2, "n_gradient_steps": 2, "progress": False}
# Of these a few products are enough: they go through the same functions.
SOME = [("dirichlet", "linear"), ("neural", "glm"), ("object", "heterogeneous")]


def predictions(model: MixtureOfExperts, x: Tensor, y: Tensor, experts: str) -> Iterator[Tensor]:
    """What a user may ask a mixture for."""
    yield model.predict(x)
    yield model.log_prob(x, y)
    yield model.assign(x, y).responsibilities
    yield model.bound(x, y)
    yield model.expected_log_joint(x, y)
    yield model.gate.weights(x)
    yield model.gate.expected_log_weights(x)
    yield model.experts.predict(x)
    yield model.experts.expected_log_likelihood(x, y)
    yield drawn(model.predictive(x))
    if experts != "categorical":
        yield model.quantile(x[:2], torch.tensor([0.3], dtype=x.dtype, device=x.device))


def drawn(distribution: MixtureSameFamily) -> Tensor:
    """One draw from a seed of its own."""
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(0)
        return distribution.sample()


@functools.cache
def outside(gate: str, experts: str, dtype: torch.dtype) -> list[Tensor]:
    """The product outside of all contexts, computed once."""
    return product(gate, experts, dtype)


def product(gate: str, experts: str, dtype: torch.dtype) -> list[Tensor]:
    """A fit and the predictions of it."""
    model, (x, y) = mixture(gate, experts), data(experts, dtype)
    responsibilities = fit(model, x, y, **SHORT).responsibilities  # type: ignore[arg-type]
    return [responsibilities, *predictions(model, x, y, experts)]


def reports(gate: str, experts: str, dtype: torch.dtype, folder: Path) -> list[Tensor]:
    """All that is made of a fit, and the other ways to fit."""
    model, (x, y) = mixture(gate, experts), data(experts, dtype)
    result = fit(model, x, y, **SHORT)  # type: ignore[arg-type]
    found = [list(criteria(result, x, y))]
    if experts == "glm":
        found.append([row.standard_error for row in coefficients(result, x, y).values()])
    draws = to_arviz(result, x, y, n_draws=3)
    found += [
        draws[group]["experts.y"].values.tolist() for group in ("log_likelihood_of_guide", "posterior_predictive")
    ]
    save(model, folder / "model")
    networks = {"gate.network": model.gate.network} if gate == "neural" else {}
    found.append(load(folder / "model", networks=networks).predict(x).tolist())
    if model.gate.takes_row_weights:
        other = mixture(gate, experts)
        fit_minibatches(other, x, y, batch_size=20, n_epochs=1, **SHORT)  # type: ignore[arg-type]
        stream = StreamingFit(mixture(gate, experts), n_restarts=int(gate != "neural"))
        stream.partial_fit(x[:20], y[:20]).partial_fit(x[20:], y[20:])
        found += [other.predict(x).tolist(), stream.mixture.predict(x).tolist()]
    return [torch.tensor(values, dtype=torch.float64, device="cpu") for values in found]


def adapters(dtype: torch.dtype) -> list[Tensor]:
    """Every adapter after an E-step and an M-step."""
    x, y = data("linear", dtype)
    z = torch.stack([y.sigmoid(), 1.0 - y.sigmoid()], 1)
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(0)
        network = HyperExpertNN(input_dim=2, hidden_dim=4, output_dim=2, epochs=2).to(dtype)
        found = []
        for model in (HyperModelDirichlet(2), HyperModelGateSparsed(2, learn_mu=True), network):
            model.E_step(x, y, z, {})
            model.M_step(x, y, z, {})
            found += [model.LogPiExpectation(x, y, {}), model.PredictPi(x, {})]
    return found


def assert_same(inside: list[Tensor], outside: list[Tensor]) -> None:
    """The same values of the same dtype, on the CPU."""
    assert len(inside) == len(outside)
    for one, other in zip(inside, outside, strict=True):
        assert (one.dtype, one.device) == (other.dtype, other.device)
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def contexts() -> dict[str, AbstractContextManager[object]]:
    """What a user may have entered."""
    return {
        "autocast": torch.autocast("cpu", dtype=torch.bfloat16),
        "inference mode": torch.inference_mode(),
        "device": torch.device("meta"),
    }


@contextlib.contextmanager
def all_contexts() -> Iterator[None]:
    """Enter all of them, one in the other: each is left by a guard of its own, so a missing guard shows."""
    with contextlib.ExitStack() as stack:
        for context in contexts().values():
            stack.enter_context(context)
        yield


@pytest.mark.parametrize(("gate", "experts"), PAIRS)
def test_fits_and_predictions_are_the_same_inside(gate: str, experts: str) -> None:
    expected = outside(gate, experts, torch.float32)
    with all_contexts():
        assert_same(product(gate, experts, torch.float32), expected)


@pytest.mark.parametrize("context", contexts())
def test_fits_and_predictions_are_the_same_inside_of_each(context: str) -> None:
    expected = outside("neural", "glm", torch.float32)
    with contexts()[context]:
        assert_same(product("neural", "glm", torch.float32), expected)


@pytest.mark.parametrize(("gate", "experts"), SOME)
def test_reports_batches_and_streams_are_the_same_inside(gate: str, experts: str, tmp_path: Path) -> None:
    expected = reports(gate, experts, torch.float32, tmp_path)
    with all_contexts():
        assert_same(reports(gate, experts, torch.float32, tmp_path), expected)


@pytest.mark.parametrize("context", contexts())
def test_adapters_are_the_same_inside(context: str) -> None:
    expected = adapters(torch.float32)
    with contexts()[context]:
        assert_same(adapters(torch.float32), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
@pytest.mark.parametrize("gate", ["dirichlet", "tree"])
def test_results_do_not_depend_on_the_default_dtype(gate: str, dtype: torch.dtype) -> None:
    expected, before = product(gate, "glm", torch.float64), torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        assert_same(product(gate, "glm", torch.float64), expected)
    finally:
        torch.set_default_dtype(before)


@pytest.mark.parametrize(("gate", "experts"), SOME)
def test_rows_and_models_made_in_inference_mode_can_be_fitted(gate: str, experts: str) -> None:
    expected = outside(gate, experts, torch.float64)
    with torch.inference_mode():
        model, rows = mixture(gate, experts).double(), [part.clone() for part in data(experts)]
    x, y = rows
    responsibilities = fit(model, x, y, **SHORT).responsibilities  # type: ignore[arg-type]
    assert_same([responsibilities, *predictions(model, x, y, experts)], expected)
    slopes = torch.autograd.functional.jacobian(lambda t: model.predict(t).sum(), x.clone())
    assert not slopes.isnan().any()


def test_a_network_made_in_inference_mode_shares_its_tensors_as_before() -> None:
    with torch.inference_mode():
        first, second = nn.Linear(2, 2), nn.Linear(2, 2)
        second.weight = first.weight
        second.bias.requires_grad_(False)
    module = nn.Sequential(first, second)
    values = [parameter.clone() for parameter in module.parameters()]
    make_normal(module)
    assert second.weight is first.weight
    assert not second.bias.requires_grad
    assert not any(parameter.is_inference() for parameter in module.parameters())
    assert all(map(torch.equal, module.parameters(), values))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_refused_at_every_door(dtype: torch.dtype) -> None:
    model, (x, y) = fitted("dirichlet", "linear"), data("linear")
    half, message = x.to(dtype), r"`x` must have dtype float32 or float64; got torch\.\w+16"
    for call in (
        lambda: fit(model, half, y.to(dtype), progress=False),
        lambda: StreamingFit(model).partial_fit(half, y.to(dtype)),
        lambda: model.predict(half),
        lambda: model.log_prob(half, y),
        lambda: model.assign(half, y),
        lambda: to_arviz(model, half, y),
    ):
        with pytest.raises(TypeError, match=message):
            call()


def test_steps_of_conjugate_svi_are_the_same_inside_autocast() -> None:
    """With a gate whose logits are a matrix product, and a product of densities in the ELBO."""

    def steps() -> list[Tensor]:
        gate, (x, y) = SoftmaxGate(2, 2, prior_scale=1.0), data("linear", torch.float32)
        means = torch.tensor([-1.0, 1.0])

        def model() -> None:
            plate = pyro.plate("objects", len(x), dim=-1)
            z = gate.model(x, plate=plate)
            with plate:
                pyro.sample("y", Normal(means[z], 1.0), obs=y)

        pyro.clear_param_store()
        svi = ConjugateSVI(model, lambda: in_plate(gate.guide)(x), ClippedAdam({"lr": 0.1}), gates=gate)
        return [torch.tensor([svi.step() for _ in range(3)]), gate.coefficients, *svi.responsibilities()]

    expected = steps()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_same(steps(), expected)
