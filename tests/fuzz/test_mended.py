"""Faults that random calls have found, each as a kind: for every gate or bank that shares its mechanism."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pytest
import torch
from torch import Tensor, nn

from mixpyro import (
    BayesianMixture,
    BayesianSoftmaxGate,
    ConjugateSVI,
    GLMExperts,
    Groups,
    LinearExperts,
    MixtureOfExperts,
    MixtureOfExpertsRegressor,
    NeuralExperts,
    NeuralGate,
    RobbinsMonro,
    criteria,
    fit,
    fit_batches,
    fit_formula,
    save,
)
from mixpyro.experts.families import Gaussian
from mixpyro.hyper_models import HyperExpertNN, HyperModelDirichlet, HyperModelGateSparsed
from tests.fuzz.made import EXPERTS, GATES, Size, rows
from tests.fuzz.states import differences, picture

K, D, N = 2, 2, 6
pytestmark = [pytest.mark.usefixtures("bad_arguments"), pytest.mark.filterwarnings("ignore::RuntimeWarning")]
# Experts that read no column of x, and those that need groups or are several banks.
WITHOUT_INPUTS = ("gaussian", "diagonal", "tied", "random effects", "heterogeneous")


def x_of(n: int = N) -> Tensor:
    return torch.linspace(-1.0, 1.0, n * D, dtype=torch.float64).reshape(n, D)


def made(name: str) -> Any:
    """Return a gate or a bank of experts, of float64."""
    return GATES[name](K, D, torch.float64) if name in GATES else EXPERTS[name](K, D, torch.float64)


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("given", [{"observed": torch.zeros(1, dtype=torch.long)}, {"mask": torch.ones(N).bool()}])
def test_a_gate_draws_nothing_before_it_refuses_labels(name: str, given: dict[str, Any]) -> None:
    gate, x = made(name), x_of()
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="`observed` must"):
        gate.model(x, plate=pyro.plate("objects", N, dim=-1), **given)
    assert torch.equal(torch.get_rng_state(), before)
    assert not len(pyro.get_param_store())


@pytest.mark.parametrize("name", GATES)
def test_a_gate_draws_nothing_before_it_refuses_responsibilities(name: str) -> None:
    gate, x = made(name), x_of()
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="`responsibilities` must have shape"):
        gate.guide(x, plate=pyro.plate("objects", N, dim=-1), responsibilities=torch.ones(N + 1, K).double())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", [*GATES, *EXPERTS])
@pytest.mark.parametrize("state", ["odd", None, 1.0, torch.zeros(2)])
def test_a_state_of_another_kind_is_refused(name: str, state: object) -> None:
    part = made(name)
    before = picture(part)
    with pytest.raises(TypeError, match="`state` must be a State; got"):
        part.hold(state)
    assert not differences(before, picture(part))


def test_a_state_of_a_mixture_of_another_kind_is_refused() -> None:
    mixture = MixtureOfExperts(made("softmax"), made("linear"))
    with pytest.raises(TypeError, match="`state` must be a MixtureState; got"):
        mixture.hold({})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["dirichlet", "sticks", "object", "marginal", "linear", "gaussian"])
def test_statistics_of_another_kind_are_refused(name: str) -> None:
    part = made(name)
    before = picture(part)
    for odd in ("odd", torch.ones(2), b"", 1):
        with pytest.raises(TypeError, match="`statistics` must be what `statistics` returned; got"):
            part.update(odd)
    assert not differences(before, picture(part))


@pytest.mark.parametrize("name", [name for name in EXPERTS if name not in WITHOUT_INPUTS])
def test_experts_name_rows_of_another_shape(name: str) -> None:
    bank: Any = EXPERTS[name](K, D, torch.float64)
    x, y = rows(name, Size(K, D, N), seed=0)
    shares = torch.full((N, K), 0.5, dtype=torch.float64)
    bad: list[tuple[Callable[..., Any], tuple[Any, ...], str]] = [
        (bank.predict, (x[:, :1],), "x"),
        (bank.predict, (x[0],), "x"),
        (bank.predict, (x / 0.0,), "x"),
        (bank.partial_bound, (x, y[:2], shares), "y"),
        (bank.partial_bound, (x, y, shares[:, :1]), "responsibilities"),
        (bank.partial_bound, (x, y, "odd"), "responsibilities"),
        (bank.centre, (x, 3.0), "y"),
        (bank.centre, (x, y, shares), "weights"),
    ]
    for function, arguments, argument in bad:
        with pytest.raises((TypeError, ValueError), match=f"`{argument}` must"):
            function(*arguments)


@pytest.mark.parametrize("name", ["linear", "student", "poisson", "glm", "neural"])
def test_one_output_may_lack_its_axis_in_a_partial_bound(name: str) -> None:
    bank: Any = EXPERTS[name](K, D, torch.float64)
    x, y = rows(name, Size(K, D, N), seed=0)
    shares = torch.full((N, K), 0.5, dtype=torch.float64)
    assert bank.partial_bound(x, y, shares) == bank.partial_bound(x, y.reshape(N, 1), shares)


@pytest.mark.parametrize("objects", [torch.zeros(N), torch.zeros(N, dtype=torch.bool), torch.tensor(1), [9] * N])
def test_objects_that_are_no_indices_are_refused(objects: Any) -> None:
    mixture = MixtureOfExperts(made("object"), made("linear"))
    x, y = rows("linear", Size(K, D, N), seed=0)
    fit(mixture, x, y, n_restarts=1, n_candidates=1, max_iterations=2, progress=False)
    objects = torch.tensor(objects) if isinstance(objects, list) else objects
    with pytest.raises((TypeError, ValueError), match=r"`objects` must (be|have|hold)"):
        mixture.assign(x, y, objects=objects)


def test_an_error_of_a_program_leaves_the_posteriors_of_its_gates() -> None:
    gate = made("object")

    def model(x: Tensor) -> None:
        gate.model(x, plate=pyro.plate("objects", len(x), dim=-1))
        raise KeyError("of the user's")

    svi = ConjugateSVI(model, lambda x: None, pyro.optim.ClippedAdam({"lr": 0.01}), gates=gate)
    before = picture(gate)
    with pytest.raises(KeyError, match="of the user's"):
        svi.step(x_of())
    assert not differences(before, picture(gate))


def test_lazy_layers_are_refused_by_name() -> None:
    x, y = rows("linear", Size(K, D, N), seed=0)
    gate = NeuralGate(K, nn.LazyLinear(K, dtype=torch.float64))
    with pytest.raises(ValueError, match="`network` must have layers of known shapes"):
        fit(MixtureOfExperts(gate, LinearExperts(K, D)), x, y, progress=False)
    with pytest.raises(ValueError, match="`network` must have layers of known shapes"):
        NeuralExperts(K, D, nn.LazyLinear(K, dtype=torch.float64), Gaussian())


def test_features_of_another_width_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="`features` must take inputs of shape"):
        BayesianSoftmaxGate(K, D, features=nn.Linear(D + 1, 2).double())


def test_adapters_take_anything_for_what_they_do_not_read() -> None:
    x, z = torch.zeros(N, D), torch.full((N, K), 0.5)
    for model in (HyperExpertNN(D, 3, K, epochs=1), HyperModelDirichlet(K), HyperModelGateSparsed(K)):
        reads: Any = model
        reads.E_step(x, None, z, None)
        reads.M_step(x, None, z, None)
        assert reads.LogPiExpectation(x, None, None).shape == (N, K)
        assert reads.PredictPi(x, None).shape == (N, K)


@pytest.mark.parametrize("name", ["dirichlet", "sticks", "object", "linear", "relevance", "shared", "gaussian"])
def test_an_update_that_is_refused_leaves_nothing_in_the_part(name: str) -> None:
    part = made(name)
    x, y = rows(name if name in EXPERTS else "linear", Size(K, D, N), seed=0)
    shares = torch.full((N, K), 0.5, dtype=torch.float64)
    statistics = part.statistics(x, y, shares) if name in EXPERTS else part.statistics(x, shares)
    before = dict(vars(part))
    odd: Any
    for odd in (slice(None), [], 2.0, torch.eye(2).to_sparse()):
        with pytest.raises((TypeError, ValueError), match="`step_size` must"):
            part.update(statistics, odd)
    assert vars(part).keys() == before.keys()


@pytest.mark.parametrize("name", ["softmax", "neural"])
def test_a_gate_of_a_program_names_inputs_that_are_not_finite(name: str) -> None:
    gate, x = made(name), x_of()
    x[0, 0] = torch.nan
    with pytest.raises(ValueError, match="`x` must be finite"):
        gate.model(x, plate=pyro.plate("objects", N, dim=-1))


@pytest.mark.parametrize("name", [*GATES, *EXPERTS])
def test_a_model_without_values_is_not_saved(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`part` must have values; got tensors on the meta device"):
        save(made(name).to("meta"), tmp_path / "model.pt")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("name", [name for name in (*GATES, *EXPERTS) if "learnt" not in name and name != "neural"])
def test_a_default_device_is_not_that_of_a_part(name: str) -> None:
    with torch.device("meta"):
        part = made(name)
    assert {tensor.device.type for tensor in (*part.parameters(), *part.buffers())} == {"cpu"}


@pytest.mark.parametrize("magnitude", [1e160, 1e300, -1e300])
def test_censored_outcomes_that_are_far_away_are_impossible(magnitude: float) -> None:
    bank: Any = EXPERTS["censored"](K, D, torch.float64)
    x, y = rows("censored", Size(K, D, N), seed=0)
    y = torch.stack([magnitude + 0.0 * y[:, 0], magnitude * torch.tensor([1.0, 1.5]).double()[y[:, 1].long() % 2]], 1)
    found = bank.expected_log_likelihood(x, y.sort(1).values)
    assert bool((found == -torch.inf).all())


@pytest.mark.parametrize("value", [{1}, {}, torch.ones(2, device="meta"), iter([1]), [1.0, 2.0, 3.0]])
def test_rates_that_are_no_numbers_are_refused(value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="`noise_rate` must be"):
        LinearExperts(K, D, noise_rate=value)


def test_odd_arguments_of_small_functions_are_named() -> None:
    mixture = MixtureOfExperts(made("dirichlet"), made("linear"))
    odd_gate: Any = np.ones(2)
    groups, rows_of_two = Groups.of([1, 1, 2]), torch.ones(30, 2).double().cumsum(0)
    estimator = BayesianMixture(2).fit(rows_of_two.numpy())
    bad: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], str]] = [
        (Groups.of, ([1, 1, 2],), {"like": 10**30}, "like"),
        (Groups.of, (Tensor,), {}, "ids"),
        (Groups.of, ([1, torch.ones(2), 1],), {}, "ids"),
        (MixtureOfExpertsRegressor(gate=odd_gate).fit, (rows_of_two.numpy(), np.ones(30)), {}, "gate"),
        (groups.sum, (torch.ones(3, device="meta"),), {}, "values"),
        (RobbinsMonro(), (slice(None),), {}, "step"),
        (RobbinsMonro(), (-1,), {}, "step"),
        (fit_batches, (mixture, torch.device("cpu")), {}, "batches"),
        (estimator.sample, (-math.inf,), {}, "n_samples"),
        (made("softmax").parameter_names, (torch.tensor(1.0),), {}, "feature_names"),
        (made("glm").parameter_names, (mixture,), {}, "feature_names"),
        (mixture.predict, (x_of(),), {"responsibilities": [[10**400] * K] * N}, "responsibilities"),
        (mixture.quantile, (), {"x": x_of(), "probabilities": Tensor}, "probabilities"),
    ]
    for function, arguments, named, argument in bad:
        with pytest.raises((TypeError, ValueError), match=f"`{argument}` must"):
            function(*arguments, **named)


def test_objects_that_are_no_indices_are_refused_in_an_update() -> None:
    gate = made("object")
    shares = torch.full((N, K), 0.5, dtype=torch.float64)
    before = picture(gate)
    for objects in (torch.rand(N), torch.arange(N) * 10**9, [0] * N):
        with pytest.raises((TypeError, ValueError), match=r"`objects` must (be|hold)"):
            gate.update_objects(x_of(), shares, objects=objects, n_objects=20, step_size=1.0)
    assert not differences(before, picture(gate))


@pytest.mark.parametrize("within", [torch.tensor(1.0), 2, iter([[0], [1]]), {0: [0]}, "01"])
def test_sets_of_components_that_are_no_lists_are_refused(within: Any) -> None:
    with pytest.raises(TypeError, match="`shared_within` must be lists of components"):
        GLMExperts(K, D, Gaussian(), shared=[0], shared_within=within)


def test_reports_and_formulas_name_what_is_odd() -> None:
    x, y = rows("gaussian", Size(K, D, 20), seed=0)
    result = fit(MixtureOfExperts(made("dirichlet"), made("gaussian")), None, y, n_restarts=1, progress=False)
    with pytest.raises((TypeError, ValueError), match="`y` must have shape"):
        criteria(result, y=torch.tensor(1.0).double())
    table = {"y": y[:, 0].numpy(), "x": x[:, 0].numpy()}
    with pytest.raises(TypeError, match="`context` must be a mapping"):
        fit_formula("y ~ x", table, k=2, context=range(3))  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_mixture_in_half_precision_is_refused_and_a_network_is_not(dtype: torch.dtype) -> None:
    """Estimates that were rounded after the fit had another bound than the result."""
    x, y = rows("linear", Size(K, D, 20), seed=1)
    for gate in GATES.values():
        mixture = MixtureOfExperts(gate(K, D, torch.float64), LinearExperts(K, D)).to(dtype)
        before = picture({"mixture": mixture})
        for call in (fit, lambda *rows_: fit_batches(rows_[0], [rows_[1:]])):
            with pytest.raises(TypeError, match=r"`mixture` must have tensors of float32 or float64; got torch\."):
                call(mixture, x, y)
        assert not differences(before, picture({"mixture": mixture}))
    network = nn.Linear(D, K).to(dtype)
    found = fit(MixtureOfExperts(NeuralGate(K, network), LinearExperts(K, D)), x, y, max_iterations=2, n_restarts=1)
    assert math.isfinite(found.bound)
