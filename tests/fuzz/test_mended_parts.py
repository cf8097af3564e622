"""Faults of gates, experts and mixtures that a grid of calls has found, each as a kind."""

from typing import Any

import numpy as np
import pandas as pd
import pyro
import pytest
import torch
from pyro.distributions import Normal
from pyro.optim import ClippedAdam
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from mixpyro import (
    BayesianSoftmaxGate,
    ConjugateSVI,
    DirichletGate,
    GLMExperts,
    Groups,
    LinearExperts,
    MixtureOfExperts,
    PointMassExperts,
    RandomEffectsExperts,
    RelevanceLinearExperts,
    StickBreakingGate,
    fit,
)
from mixpyro.experts.families import Binomial, NegativeBinomial, Poisson
from tests.fuzz.made import EXPERTS, GATES, Size, rows
from tests.fuzz.odd_networks import ReturnsTuple
from tests.fuzz.targets.fitted import QUICK

K, D, N = 2, 2, 6
pytestmark = pytest.mark.usefixtures("bad_arguments")
READING = [name for name in GATES if GATES[name](K, D, torch.float64).reads_inputs]
INTEGERS = (torch.int8, torch.int16, torch.int32, torch.uint8, torch.uint16, torch.uint32, torch.uint64)
FLOATS = (torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)
# PyTorch stores them, and computes nothing with them.
STORED = tuple(getattr(torch, name) for name in ("bits8", "int4", "uint1") if hasattr(torch, name))


def x_of(n: int = N) -> Tensor:
    return torch.linspace(-1.0, 1.0, n * D, dtype=torch.float64).reshape(n, D)


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("odd", [10**30, "odd", [1.0]])
def test_what_is_no_posterior_is_named(name: str, odd: Any) -> None:
    gate = GATES[name](K, D, torch.float64)
    if hasattr(gate, "posterior"):
        with pytest.raises(TypeError, match="`posterior` must be "):
            gate.expected_log_weights(x_of(), objects=slice(None), posterior=odd)  # type: ignore[call-arg]


@pytest.mark.parametrize("name", READING)
@pytest.mark.parametrize("method", ["weights", "expected_log_weights", "predictive_assignment"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_gate_refuses_rows_that_are_not_finite(name: str, method: str, value: float) -> None:
    x = x_of()
    x[1, 0] = value
    with pytest.raises(ValueError, match=r"`x` must be finite; got 1 NaN or infinite values of 12"):
        getattr(GATES[name](K, D, torch.float64), method)(x)


@pytest.mark.parametrize("name", GATES)
def test_the_sum_of_rows_may_overflow(name: str) -> None:
    x = torch.full((N, D), 1.7e308, dtype=torch.float64)
    assert bool(GATES[name](K, D, torch.float64).weights(x).isfinite().all())


@pytest.mark.filterwarnings("ignore:trying to observe")
@pytest.mark.parametrize("name", READING)
def test_a_gate_draws_nothing_before_it_refuses_rows(name: str) -> None:
    gate, before = GATES[name](K, D, torch.float64), torch.get_rng_state()
    for x in (x_of().unsqueeze(-1), x_of()[:, :1], x_of() * torch.nan):
        with pytest.raises(ValueError, match="`"):
            gate.model(x, plate=pyro.plate("objects", N, dim=-1))
    assert torch.equal(torch.get_rng_state(), before)
    pyro.clear_param_store()


def test_a_gate_of_objects_refuses_what_is_no_posterior() -> None:
    gate: Any = GATES["object"](K, D, torch.float64)
    for odd, shown in ((0.5, "0.5"), (StickBreakingGate(K).posterior, "Sticks")):
        with pytest.raises(TypeError, match=rf"`posterior` must be what `posterior` of the part is; got {shown}"):
            gate.expected_log_weights(x_of(), objects=slice(None), posterior=odd)


def test_a_distribution_of_no_rows_has_none() -> None:
    assert DirichletGate(K).predictive_assignment(x_of(0)).probs.shape == (0, K)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_labels_may_have_any_dtype_of_integers(dtype: torch.dtype) -> None:
    gate, x = DirichletGate(K), x_of()
    labels, mask = torch.tensor([0, 1, 1, 0, 1, 0]).to(dtype), torch.tensor([1, 1, 0, 1, 1, 1]).bool()
    mixture = MixtureOfExperts(DirichletGate(K), LinearExperts(K, D))
    given: dict[str, Any]
    for given in ({}, {"mask": mask}):
        gate.model(x, plate=pyro.plate("objects", N, dim=-1), observed=labels, **given)
        torch.manual_seed(0)
        trace = pyro.poutine.trace(mixture.model).get_trace(x, x[:, 0], observed=labels, mask=given.get("mask"))
        torch.manual_seed(0)
        of_long = pyro.poutine.trace(mixture.model).get_trace(
            x, x[:, 0], observed=labels.long(), mask=given.get("mask")
        )
        torch.testing.assert_close(trace.log_prob_sum(), of_long.log_prob_sum())


@pytest.mark.parametrize("dtype", (*INTEGERS, *FLOATS))
def test_ids_of_groups_may_have_any_dtype_of_numbers(dtype: torch.dtype) -> None:
    found = Groups.of(torch.tensor([2, 2, 1]).to(dtype))
    assert found.ids == (2, 1) and found.index.tolist() == [0, 0, 1]


@pytest.mark.filterwarnings("ignore:ComplexHalf")
def test_ids_may_be_complex_numbers_of_half_precision() -> None:
    assert Groups.of(torch.tensor([1j, 1j, 2.0]).to(torch.complex32)).index.tolist() == [0, 0, 1]


def test_a_name_in_a_message_is_not_empty() -> None:
    with pytest.raises(ValueError, match="`name` must be the name of an argument; got ''"):
        Groups.of([1, 1]).shared("", torch.tensor([1.0, 2.0]))


def without_values(x: Tensor) -> list[Any]:
    """Return tensors like x whose numbers cannot be read."""
    return [x.to("meta"), x.to_sparse(), FakeTensorMode().from_tensor(x), x.to(torch.complex64).to_sparse()]


def test_tensors_without_values_are_refused_in_lists_too() -> None:
    mixture = MixtureOfExperts(DirichletGate(K), LinearExperts(K, D))
    for one in without_values(x_of()[0]):
        with pytest.raises(TypeError, match="`x` must be a dense tensor"):
            mixture.predict([one, one])
    for one in without_values(x_of()):
        with pytest.raises(TypeError, match="`x` must"):
            mixture.predict(one)
        with pytest.raises((TypeError, ValueError), match="`gate_x` must"):
            mixture.predict(x_of(), gate_x=one)


@pytest.mark.parametrize("dtype", STORED)
def test_dtypes_without_arithmetic_are_refused(dtype: torch.dtype) -> None:
    stored, x = torch.zeros(N, dtype=torch.uint8).view(dtype), x_of()
    mixture = MixtureOfExperts(DirichletGate(K), LinearExperts(K, D))
    for argument, call in (
        ("ids", lambda: Groups.of(stored)),
        ("x", lambda: mixture.gate.weights(stored)),
        ("y", lambda: mixture.assign(x, stored)),
        ("observed", lambda: mixture.model(x, x[:, 0], observed=stored)),
        ("objects", lambda: mixture.assign(x, x[:, 0], objects=stored)),
        ("values", lambda: PointMassExperts(N, stored)),
    ):
        with pytest.raises(TypeError, match=rf"`{argument}` must"):
            call()


@pytest.mark.parametrize("one", [torch.ones((), device="meta"), pd.NA, None, float("nan")])
def test_single_ids_must_be_there(one: object) -> None:
    with pytest.raises((TypeError, ValueError), match="`ids` must"):
        Groups.of([one, 2, 2])


def test_the_rate_of_relevance_may_be_a_tensor() -> None:
    rate = torch.tensor([1.0, 2.0])
    assert RelevanceLinearExperts(K, D, column_precision_rate=rate).column_prior_rate.tolist() == [1.0, 2.0]
    for name in ("column_precision_shape", "column_precision_rate"):
        with pytest.raises(TypeError, match=f"`{name}` must be a dense tensor"):
            RelevanceLinearExperts(K, D, **{name: torch.ones((), device="meta")})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "one", [np.array([1.0, 2.0]), torch.ones(2), torch.ones((), device="meta"), pd.NA, True, 0.5, None, {"a": 1}]
)
def test_random_effects_are_columns_or_the_intercept(one: Any) -> None:
    with pytest.raises(
        ValueError, match="`random_effects` must be different columns of x, from 0 to 1, or 'intercept'"
    ):
        RandomEffectsExperts(K, D, random_effects=[one, 0])
    columns: Any = np.arange(1, 2)
    assert RandomEffectsExperts(K, D, random_effects=[columns[0], 0]).random_effects == (1, 0)


def test_features_must_be_a_network_of_known_layers_that_returns_a_tensor() -> None:
    with pytest.raises(ValueError, match="`features` must have layers of known shapes"):
        BayesianSoftmaxGate(K, D, features=nn.LazyLinear(2))
    with pytest.raises(TypeError, match="`features` must return a tensor; got tuple"):
        BayesianSoftmaxGate(K, D, features=ReturnsTuple(nn.Linear(D, 2)))


# What reads x with uncertain coefficients, and what has coefficients of zero before it is fitted.
@pytest.mark.parametrize(
    ("bank", "name"),
    [
        *((bank, name) for bank in ("linear", "relevance", "shared", "random effects") for name in "xy"),
        *(("glm", "y"), ("student", "y"), ("diagonal", "y"), ("tied", "y")),
    ],
)
def test_what_is_too_far_away_for_a_density_is_said(bank: str, name: str) -> None:
    given: dict[str, Any] = dict(zip("xy", rows(bank, Size(K, D, N), 1), strict=True))
    given[name].reshape(-1)[:1] = 1e300
    given |= {"groups": range(N)} if bank == "random effects" else {}
    mixture = MixtureOfExperts(DirichletGate(K), EXPERTS[bank](K, D, torch.float64))
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="`x` and `y` must have"):
        mixture.bound(**given)
    with pytest.raises(ValueError, match=r"`[xy]` "):
        mixture.guide(**given)
    if bank == "random effects" and name == "x":
        with pytest.raises(ValueError, match="`x` and `y` must have log densities that are numbers"):
            mixture.model(**given)
    assert torch.equal(torch.get_rng_state(), before)
    pyro.clear_param_store()


def test_every_row_has_an_index_of_an_object() -> None:
    mixture = MixtureOfExperts(DirichletGate(K), LinearExperts(K, D))
    with pytest.raises(ValueError, match="`objects` must have an index for each of 6 rows; got 1"):
        mixture.assign(x_of(), x_of()[:, 0], objects=torch.tensor([0]))


def test_complex_densities_of_a_program_are_named() -> None:
    gate = DirichletGate(K)

    def model(x: Tensor) -> None:
        plate = pyro.plate("objects", len(x), dim=-1)
        z = gate.model(x, plate=plate)
        with plate:
            pyro.sample("y", Normal(z.double(), 1.0, validate_args=False), obs=x[:, 0] * 1j)

    with pytest.raises(TypeError, match="`model` must have log densities of real numbers"):
        ConjugateSVI(model, lambda x: None, ClippedAdam({}), gates=gate).step(x_of())


def test_a_step_of_a_program_that_fails_is_undone() -> None:
    gate = DirichletGate(K)

    def model(x: Any, far: float = 0.0) -> None:
        scale = pyro.sample("scale", Normal(1.0, 1.0)).exp()
        plate = pyro.plate("objects", len(x), dim=-1)
        z = gate.model(x, plate=plate)
        with plate:
            pyro.sample("y", Normal(z.double() + far, scale), obs=x[:, 0])

    svi = ConjugateSVI(model, lambda x, far=0.0: pyro.sample("scale", Normal(0.0, 1.0)), ClippedAdam({}), gates=gate)
    svi.step(x_of())
    before, n_steps = torch.get_rng_state(), svi.n_steps
    for method in (svi.step, svi.evaluate_loss):
        with pytest.raises(ValueError, match="Expected parameter loc"):
            method(x_of(), torch.nan)
    assert svi.n_steps == n_steps
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("bank", ["linear", "linear, two outputs", "glm", "categorical", "multinomial", "outputs"])
def test_predictions_where_sums_overflow_are_refused(bank: str) -> None:
    x, y = rows(bank, Size(K, D, 20), seed=3)
    mixture = MixtureOfExperts(DirichletGate(K), EXPERTS[bank](K, D, torch.float64))
    fit(mixture, x, y, **QUICK)
    far = x.sign() * 1.7e308
    given = {"predict": (far,), "predictive": (far,), "log_prob": (far, y)}
    refused = 0
    for name, tables in given.items():
        try:
            found = getattr(mixture, name)(*tables)
        except ValueError as error:
            refused += 1
            assert str(error).startswith(("`x` must give", "`x` and `y` must have"))
        else:
            assert not isinstance(found, Tensor) or not bool(found.isnan().any())
    assert refused


@pytest.mark.parametrize("far", [1e308, 1e200, -1e308])
@pytest.mark.parametrize("name", EXPERTS)
def test_expected_densities_of_far_rows_are_numbers_or_refused(name: str, far: float) -> None:
    bank: Any = EXPERTS[name](K, D, torch.float64)
    for parameter in bank.parameters():
        nn.init.normal_(parameter, generator=torch.Generator().manual_seed(0))
    x, y = rows(name, Size(K, D, N), seed=0)
    doors = [bank.expected_log_likelihood, MixtureOfExperts(DirichletGate(K), bank).expected_log_joint]
    for door in doors[: 1 if name == "random effects" else 2]:  # which read groups of rows in mixtures
        try:
            found = door(torch.full_like(x, far), y)
        except ValueError as error:
            assert str(error).startswith(("`x` ", "`y` "))
        else:
            assert not bool(found.isnan().any())


@pytest.mark.parametrize("family", ["poisson", "negative binomial", "binomial"])
def test_outputs_that_a_family_cannot_have_are_refused_by_a_bound(family: str) -> None:
    families = {"poisson": Poisson(), "negative binomial": NegativeBinomial(), "binomial": Binomial()}
    bank = GLMExperts(K, D, families[family])
    shares = torch.full((N, K), 1.0 / K, dtype=torch.float64)
    with pytest.raises(ValueError, match="`y` must"):
        bank.partial_bound(x_of(), torch.full((N, 1), -3.0, dtype=torch.float64), shares)
